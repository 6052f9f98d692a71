"""Whether a scan has at least so many microbleeds: the decision that follows from a count."""

from __future__ import annotations

from typing import Any

import numpy as np

from CMBDetectorLib.evaluation.bootstrap import ScanBootstrap, interval
from CMBDetectorLib.evaluation.figures import ScanCounts, plain_figures, ratio
from CMBDetectorLib.geometry import FloatArray

AT_LEAST = (1, 3, 5, 11)


def classify_scans(counts: ScanCounts, bootstrap: ScanBootstrap) -> list[dict[str, Any]]:
    """Scans with at least 1, 3, 5 and 11 lesions by the truth and by the prediction, as plain JSON.

    A scan counts as positive by how many lesions each side has, wherever they lie. A figure is None
    where there is nothing to divide by, such as the sensitivity without a positive scan.
    """
    true, predicted = counts.true_lesions, counts.predicted_lesions
    rows = []
    for lesions in AT_LEAST:
        is_true, is_predicted = true >= lesions, predicted >= lesions
        table = np.stack(
            [
                is_true & is_predicted,
                ~is_true & is_predicted,
                is_true & ~is_predicted,
                ~is_true & ~is_predicted,
            ],
            axis=1,
        ).astype(np.float64)
        tp, fp, fn, tn = (int(n) for n in table.sum(axis=0))
        resampled = _figures(bootstrap.totals(table))
        rows.append(
            {
                "lesions": lesions,
                "true_positives": tp,
                "false_positives": fp,
                "false_negatives": fn,
                "true_negatives": tn,
                **plain_figures(_figures(table.sum(axis=0))),
                "intervals": {name: interval(values) for name, values in resampled.items()},
            }
        )
    return rows


def _figures(table: FloatArray) -> dict[str, FloatArray]:
    tp, fp, fn, tn = np.moveaxis(table, -1, 0)
    return {
        "sensitivity": ratio(tp, tp + fn),
        "specificity": ratio(tn, tn + fp),
        "positive_predictive_value": ratio(tp, tp + fp),
        "negative_predictive_value": ratio(tn, tn + fn),
    }
