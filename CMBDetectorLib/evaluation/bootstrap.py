"""Intervals by drawing scans, because lesions of one patient are alike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from CMBDetectorLib.errors import UsageError
from CMBDetectorLib.geometry import FloatArray

LEVEL = 0.95


@dataclass(frozen=True, eq=False)
class ScanBootstrap:
    """How often each resample of a cohort holds each scan.

    A figure that is computed from sums over scans is computed for all resamples at once, from
    ``totals`` of what each scan adds to these sums.

    Attributes
    ----------
    weights
        Whole numbers, shape (resamples, scans); each row sums to the number of scans.

    References
    ----------
    Efron, "Bootstrap methods: another look at the jackknife", The Annals of Statistics 7, 1979.
    """

    weights: FloatArray

    @property
    def n_scans(self) -> int:
        """Number of scans of the cohort."""
        return int(self.weights.shape[1])

    def totals(self, per_scan: FloatArray) -> FloatArray:
        """Sums over the scans of each resample, shape (resamples,) or (resamples, k).

        Parameters
        ----------
        per_scan
            What each scan adds, shape (scans,) or (scans, k).
        """
        return self.weights @ np.asarray(per_scan, dtype=np.float64)


def draw_resamples(n_scans: int, *, resamples: int, seed: int) -> ScanBootstrap:
    """Draw as many scans as there are, with replacement, ``resamples`` times.

    The same seed gives the same resamples, whatever else runs. No resamples, no intervals.

    Raises
    ------
    UsageError
        If there is no scan, or the number of resamples is negative.
    """
    if n_scans < 1:
        raise UsageError("a bootstrap draws scans, and there is none")
    if resamples < 0:
        raise UsageError(f"the number of bootstrap resamples is 0 or more, got {resamples}")
    drawn = np.random.default_rng(seed).integers(n_scans, size=(resamples, n_scans))
    drawn += n_scans * np.arange(resamples)[:, None]
    weights = np.bincount(drawn.ravel(), minlength=resamples * n_scans)
    return ScanBootstrap(weights.reshape(resamples, n_scans).astype(np.float64))


def interval(values: FloatArray) -> list[float] | None:
    """The central 95 % of a figure over the resamples, by percentiles.

    Resamples in which the figure is undefined (NaN) are left out; None where that leaves none.
    """
    defined = np.asarray(values, dtype=np.float64)
    defined = defined[np.isfinite(defined)]
    if not defined.size:
        return None
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(defined, [tail, 100 - tail]).tolist()
    return [low, high]
