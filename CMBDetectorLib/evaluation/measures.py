"""Means over a cohort of what is measured on matched pairs and on whole scans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from CMBDetectorLib.evaluation.bootstrap import ScanBootstrap, interval
from CMBDetectorLib.evaluation.figures import ScanCounts, plain_number, ratio
from CMBDetectorLib.evaluation.lesions import IntArray
from CMBDetectorLib.evaluation.outcomes import ScanOutcome
from CMBDetectorLib.geometry import FloatArray

PAIR_MEASURES = (
    "dice",
    "volume_error_mm3",
    "absolute_volume_error_mm3",
    "surface_distance_mm",
    "hausdorff_95_mm",
)


@dataclass(frozen=True, eq=False)
class Measured:
    """Values of one measure, shape (n,), and the row in the cohort of the scan each is from."""

    values: FloatArray
    scans: IntArray

    def per_scan(self, n_scans: int) -> FloatArray:
        """Sum and number of the values of each scan, shape (scans, 2)."""
        sums = np.bincount(self.scans, weights=self.values, minlength=n_scans)
        return np.stack([sums, np.bincount(self.scans, minlength=n_scans)], axis=1)


def pair_measure(outcomes: Sequence[ScanOutcome], name: str) -> Measured:
    """A measure of all matched pairs that have it; pairs without a mask on both sides have none."""
    field = name.removeprefix("absolute_")
    measured = [
        (getattr(entry, field), row)
        for row, outcome in enumerate(outcomes)
        for entry in outcome.of("true")
    ]
    values = np.array([value for value, _ in measured], dtype=np.float64)
    scans = np.array([row for _, row in measured], dtype=np.int64)
    return _finite(np.abs(values) if name != field else values, scans)


def summarize_segmentation(
    outcomes: Sequence[ScanOutcome], counts: ScanCounts, bootstrap: ScanBootstrap
) -> dict[str, Any]:
    """Spread of each measure over pairs or scans, with the interval of its mean, as plain JSON.

    Pairs are pooled over the cohort, each with the same weight. Where no scan has a mask on both
    sides there is the absolute difference of the counts only, which needs none.
    """
    rows = np.arange(counts.n_scans, dtype=np.int64)
    differences = np.abs(counts.predicted_lesions - counts.true_lesions).astype(np.float64)
    by_count = _describe(Measured(differences, rows), bootstrap)
    whole = np.array([outcome.whole_mask_dice for outcome in outcomes], dtype=np.float64)
    of_masks = _finite(whole, rows)
    if not len(of_masks.values):
        return {"pairs": 0, "absolute_count_difference": by_count}
    pairs = {name: pair_measure(outcomes, name) for name in PAIR_MEASURES}
    return {
        "pairs": len(pairs["dice"].values),
        **{name: _describe(measured, bootstrap) for name, measured in pairs.items()},
        "whole_mask_dice": _describe(of_masks, bootstrap),
        "absolute_count_difference": by_count,
    }


def _describe(measured: Measured, bootstrap: ScanBootstrap) -> dict[str, Any]:
    values, n = measured.values, len(measured.values)
    drawn = bootstrap.totals(measured.per_scan(bootstrap.n_scans))
    quartiles = np.percentile(values, [25, 50, 75]).tolist() if n else [None] * 3
    return {
        "mean": plain_number(values.mean()) if n else None,
        "sd": plain_number(values.std(ddof=1)) if n > 1 else None,
        "median": quartiles[1],
        "p25": quartiles[0],
        "p75": quartiles[2],
        "n": n,
        "interval": interval(ratio(drawn[:, 0], drawn[:, 1])),
    }


def _finite(values: FloatArray, scans: IntArray) -> Measured:
    known = np.isfinite(values)
    return Measured(values[known], scans[known])
