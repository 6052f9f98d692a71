"""All figures of a cohort, as they stand in the file of figures and in the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from CMBDetectorLib.errors import UsageError
from CMBDetectorLib.evaluation.agreement import count_agreement
from CMBDetectorLib.evaluation.bootstrap import draw_resamples
from CMBDetectorLib.evaluation.classification import classify_scans
from CMBDetectorLib.evaluation.curves import summarize_curves
from CMBDetectorLib.evaluation.figures import count_scans, per_scan_figures, pooled_figures
from CMBDetectorLib.evaluation.measures import summarize_segmentation
from CMBDetectorLib.evaluation.outcomes import ScanOutcome
from CMBDetectorLib.evaluation.strata import summarize_strata


def summarize_cohort(
    outcomes: Sequence[ScanOutcome],
    *,
    resamples: int = 2000,
    seed: int = 0,
    strata: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Detection, segmentation, classification and strata of a cohort, as plain JSON.

    What is undefined is None. Intervals are 95 % of a bootstrap over scans: the same resamples of
    all scans for every figure, a resample left out where the figure is undefined in it.

    Parameters
    ----------
    outcomes
        One per scan, scans without any lesion included.
    resamples, seed
        Of the bootstrap; without resamples all intervals are None.
    strata
        Attributes of the scans to form strata of, beside the usual ones.

    Returns
    -------
    dict
        ``cohort``, ``detection``, ``segmentation``, ``classification`` and ``strata``.

    Raises
    ------
    UsageError
        If there is no scan, a scan is there twice, or a stratum cannot be formed.
    """
    check_scans(outcomes)
    bootstrap = draw_resamples(len(outcomes), resamples=resamples, seed=seed)
    counts = count_scans(outcomes)
    return {
        "cohort": {
            "scans": counts.n_scans,
            "scans_with_lesions": int(np.count_nonzero(counts.true_lesions)),
            "true_lesions": int(counts.true_lesions.sum()),
            "predicted_lesions": int(counts.predicted_lesions.sum()),
        },
        "detection": {
            "pooled": pooled_figures(counts, bootstrap),
            "per_scan": per_scan_figures(counts),
            "curves": summarize_curves(outcomes, bootstrap),
        },
        "segmentation": summarize_segmentation(outcomes, counts, bootstrap),
        "classification": {
            "at_least": classify_scans(counts, bootstrap),
            "agreement": count_agreement(counts, bootstrap),
            "counts": {
                "true": counts.true_lesions.tolist(),
                "predicted": counts.predicted_lesions.tolist(),
            },
        },
        "strata": summarize_strata(outcomes, counts, bootstrap, strata or ()),
    }


def check_scans(outcomes: Sequence[ScanOutcome]) -> None:
    """Refuse a cohort without a scan, and one that has a scan twice.

    Raises
    ------
    UsageError
        Naming the scan.
    """
    if not outcomes:
        raise UsageError("there is no scan to evaluate; check that the names of the files match")
    scan_id, n = Counter(outcome.scan_id for outcome in outcomes).most_common(1)[0]
    if n > 1:
        raise UsageError(f"scan {scan_id!r} is there {n} times; each scan counts once")
