"""Precision, recall and what belongs to them, of a cohort as a whole and per scan."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from CMBDetectorLib.evaluation.bootstrap import ScanBootstrap, interval
from CMBDetectorLib.evaluation.lesions import IntArray
from CMBDetectorLib.evaluation.outcomes import ScanOutcome
from CMBDetectorLib.geometry import FloatArray

PER_SCAN_EXPLANATION = (
    "Mean and standard deviation (n - 1) over scans. Precision is undefined in a scan without a "
    "prediction, recall in a scan without a true lesion, F1 where precision or recall is. "
    "'Undefined skipped' leaves such scans out of that figure, n says how many stay; 'zero-filled' "
    "counts them as 0, even a scan without lesions in which rightly nothing was found."
)


@dataclass(frozen=True, eq=False)
class ScanCounts:
    """Counts of each scan of a cohort, arrays of shape (scans,) in the cohort's order.

    Attributes
    ----------
    false_positives
        Second hits included.
    ignored_truths, ignored_predictions
        Below the smallest volume that counts; in none of the other numbers.
    """

    true_positives: IntArray
    false_positives: IntArray
    false_negatives: IntArray
    second_hits: IntArray
    ignored_truths: IntArray
    ignored_predictions: IntArray

    @property
    def n_scans(self) -> int:
        """Number of scans, those without any lesion included."""
        return len(self.true_positives)

    @property
    def true_lesions(self) -> IntArray:
        """Lesions of the truth that count."""
        return self.true_positives + self.false_negatives

    @property
    def predicted_lesions(self) -> IntArray:
        """Predictions that count."""
        return self.true_positives + self.false_positives

    @property
    def detection_table(self) -> FloatArray:
        """True positives, false positives, false negatives: shape (scans, 3)."""
        columns = (self.true_positives, self.false_positives, self.false_negatives)
        return np.stack(columns, axis=1).astype(np.float64)


def count_scans(outcomes: Sequence[ScanOutcome]) -> ScanCounts:
    """Count what became of the lesions of each scan."""
    rows = []
    for outcome in outcomes:
        n = Counter((entry.side, entry.outcome) for entry in outcome.lesions)
        second_hits = n["prediction", "second hit"]
        rows.append(
            (
                n["prediction", "true"],
                n["prediction", "false"] + second_hits,
                n["truth", "missed"],
                second_hits,
                n["truth", "ignored"],
                n["prediction", "ignored"],
            )
        )
    return ScanCounts(*np.array(rows, dtype=np.int64).reshape(-1, 6).T)


def ratio(part: npt.ArrayLike, whole: npt.ArrayLike) -> FloatArray:
    """``part / whole``; NaN where the whole is 0."""
    above = np.asarray(part, dtype=np.float64)
    below = np.asarray(whole, dtype=np.float64)
    undefined = np.full(np.broadcast_shapes(above.shape, below.shape), math.nan)
    quotient: FloatArray = np.divide(above, below, out=undefined, where=below != 0)
    return quotient


def detection_figures(table: npt.ArrayLike, n_scans: npt.ArrayLike) -> dict[str, FloatArray]:
    """Figures of pooled counts, for one cohort or for many resamples at once.

    Parameters
    ----------
    table
        True positives, false positives and false negatives, shape (..., 3).
    n_scans
        Number of scans they come from, negatives included; of the shape of the others, or one.

    Returns
    -------
    dict
        ``precision`` TP / (TP + FP); ``recall`` TP / (TP + FN); ``f1`` 2 TP / (2 TP + FP + FN),
        which is 0 where there are lesions and nothing was predicted;
        ``false_positives_per_scan`` over all scans; ``false_positives_per_true_lesion``. Each NaN
        where there is nothing to divide by.
    """
    tp, fp, fn = np.moveaxis(np.asarray(table, dtype=np.float64), -1, 0)
    return {
        "precision": ratio(tp, tp + fp),
        "recall": ratio(tp, tp + fn),
        "f1": ratio(2 * tp, 2 * tp + fp + fn),
        "false_positives_per_scan": ratio(fp, n_scans),
        "false_positives_per_true_lesion": ratio(fp, tp + fn),
    }


def pooled_figures(counts: ScanCounts, bootstrap: ScanBootstrap) -> dict[str, Any]:
    """Counts of the cohort as a whole, its figures, and their intervals, as plain JSON."""
    table = counts.detection_table
    resampled = detection_figures(bootstrap.totals(table), counts.n_scans)
    return {
        "true_positives": int(counts.true_positives.sum()),
        "false_positives": int(counts.false_positives.sum()),
        "false_negatives": int(counts.false_negatives.sum()),
        "second_hits": int(counts.second_hits.sum()),
        "ignored_truths": int(counts.ignored_truths.sum()),
        "ignored_predictions": int(counts.ignored_predictions.sum()),
        **plain_figures(detection_figures(table.sum(axis=0), counts.n_scans)),
        "intervals": {name: interval(values) for name, values in resampled.items()},
    }


def per_scan_figures(counts: ScanCounts) -> dict[str, Any]:
    """Mean and spread of precision, recall and F1 over scans, in both conventions, as plain JSON.

    Which scans are skipped is told in ``PER_SCAN_EXPLANATION``. Published figures are often of
    this kind, without saying which.
    """
    figures = detection_figures(counts.detection_table, 1)
    f1 = np.where(np.isnan(figures["precision"] + figures["recall"]), math.nan, figures["f1"])
    by_scan = {"precision": figures["precision"], "recall": figures["recall"], "f1": f1}
    return {
        "undefined_skipped": {
            name: _mean_and_spread(values[~np.isnan(values)]) for name, values in by_scan.items()
        },
        "zero_filled": {
            name: _mean_and_spread(np.nan_to_num(values, nan=0.0))
            for name, values in by_scan.items()
        },
        "explanation": PER_SCAN_EXPLANATION,
    }


def plain_number(value: npt.ArrayLike) -> float | None:
    """A Python float for JSON; None where it is undefined."""
    number = float(np.asarray(value, dtype=np.float64))
    return number if math.isfinite(number) else None


def plain_figures(figures: Mapping[str, npt.ArrayLike]) -> dict[str, float | None]:
    """Each figure as :func:`plain_number`."""
    return {name: plain_number(value) for name, value in figures.items()}


def _mean_and_spread(values: FloatArray) -> dict[str, Any]:
    n = len(values)
    return {
        "mean": plain_number(values.mean()) if n else None,
        "sd": plain_number(values.std(ddof=1)) if n > 1 else None,
        "n": n,
    }
