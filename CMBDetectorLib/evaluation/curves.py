"""What a method would find at other thresholds of its lesion score: FROC, precision and recall.

The matching is that of all predictions given, and is not made again at each threshold. At threshold
t the predictions with a score of t or more exist. A truth is found at t if its match or one of its
second hits exists; the best of these is its true positive, the others are false positives. So a
second hit takes the place of a match with a lower score. What this leaves out: a prediction between
two truths, which at a higher threshold could have been given to the other one; and ignored
predictions stay ignored. Predictions of equal scores come and go together. With all predictions the
counts are those of the matching.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from CMBDetectorLib.evaluation.bootstrap import ScanBootstrap, interval
from CMBDetectorLib.evaluation.figures import plain_number, ratio
from CMBDetectorLib.evaluation.lesions import IntArray
from CMBDetectorLib.evaluation.outcomes import ScanOutcome
from CMBDetectorLib.geometry import FloatArray

RATES_FALSE_PER_SCAN = (0.5, 1.0, 2.0, 4.0)
MAX_POINTS = 500
# Few enough to stay in a processor's cache.
_BLOCK_NUMBERS = 100_000


@dataclass(frozen=True, eq=False)
class ScoredPredictions:
    """All predictions of a cohort that count, best score first.

    Attributes
    ----------
    scores
        Falling, shape (n,).
    scans
        Row of the scan in the cohort, shape (n,).
    finds
        Whether the prediction is the first that hits its truth as the threshold falls, shape (n,).
    true_lesions
        Of each scan, shape (scans,); those that no prediction hits are in it.
    """

    scores: FloatArray
    scans: IntArray
    finds: npt.NDArray[np.bool_]
    true_lesions: IntArray

    @property
    def steps(self) -> IntArray:
        """Of each prediction the number of its distinct score, from 0 for the best."""
        changes = np.diff(self.scores, prepend=self.scores[:1]) != 0
        return np.cumsum(changes, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Curve:
    """Counts at each distinct score, from the highest threshold to the lowest; shape (n,)."""

    thresholds: FloatArray
    true_positives: IntArray
    false_positives: IntArray


def scored_predictions(outcomes: Sequence[ScanOutcome]) -> ScoredPredictions | None:
    """The predictions of a cohort by their scores; None where one has no (finite) score."""
    if not all(outcome.has_scores for outcome in outcomes):
        return None
    scores: list[float] = []
    scans: list[int] = []
    first_hits: list[int] = []
    for row, outcome in enumerate(outcomes):
        best: dict[int | None, int] = {}
        matched = {entry.partner for entry in outcome.of("true")}
        for entry in outcome.of("true", "false", "second hit"):
            if entry.outcome != "false" and entry.partner in matched:
                rival = best.get(entry.partner)
                if rival is None or entry.lesion.score > scores[rival]:
                    best[entry.partner] = len(scores)
            scores.append(entry.lesion.score)
            scans.append(row)
        first_hits.extend(best.values())
    by_score = np.array(scores, dtype=np.float64)
    if not np.isfinite(by_score).all():
        return None
    finds = np.zeros(len(scores), dtype=np.bool_)
    finds[first_hits] = True
    order = np.argsort(-by_score, kind="stable")
    return ScoredPredictions(
        by_score[order],
        np.array(scans, dtype=np.int64)[order],
        finds[order],
        np.array([outcome.n_true for outcome in outcomes], dtype=np.int64),
    )


def threshold_curve(predictions: ScoredPredictions) -> Curve:
    """Pooled counts at every threshold that changes something."""
    steps = predictions.steps
    last = np.flatnonzero(np.diff(steps, append=-1))
    found = np.cumsum(predictions.finds, dtype=np.int64)[last]
    return Curve(predictions.scores[last], found, last + 1 - found)


def average_precisions(
    predictions: ScoredPredictions, weights: FloatArray, true_lesions: FloatArray
) -> FloatArray:
    """Average precision of many weighted cohorts at once.

    The sum over thresholds of (gain in recall) × precision, without interpolation. Recall is over
    all true lesions, so those that no prediction hits lower it: a method that stops at a recall of
    .7 has at most .7.

    Parameters
    ----------
    predictions
        Their ``scans`` are columns of ``weights``.
    weights
        How often each scan is there, shape (cohorts, columns).
    true_lesions
        Of each cohort, shape (cohorts,).

    Returns
    -------
    FloatArray
        Shape (cohorts,); NaN where there is no true lesion, 0 where nothing was predicted.

    References
    ----------
    Zhu, "Recall, precision and average precision", University of Waterloo, 2004.
    """
    # Recall rises only at the steps that find something; all between them belong to the next one.
    steps, finds = predictions.steps, predictions.finds
    rising = np.unique(steps[finds])
    segments = np.searchsorted(rising, steps)
    inside = segments < len(rising)
    shape = (len(rising), weights.shape[1])
    found_in = _counts(segments[finds], predictions.scans[finds], shape)
    predicted_in = _counts(segments[inside], predictions.scans[inside], shape)
    sums = np.zeros(len(weights))
    block = max(16, _BLOCK_NUMBERS // max(1, len(rising)))
    for start in range(0, len(weights), block):
        part = np.ascontiguousarray(weights[start : start + block].T)
        found, predicted = found_in @ part, predicted_in @ part
        gain = found.copy()
        np.cumsum(found, axis=0, out=found)
        np.cumsum(predicted, axis=0, out=predicted)
        # Where nothing is predicted yet there is no gain either.
        np.maximum(predicted, 1, out=predicted)
        np.divide(found, predicted, out=found)
        sums[start : start + block] = np.einsum("sc,sc->c", gain, found)
    return ratio(sums, true_lesions)


def average_precision(predictions: ScoredPredictions) -> float:
    """Of the cohort as it is; see :func:`average_precisions`."""
    weights = np.ones((1, len(predictions.true_lesions)))
    total = np.array([predictions.true_lesions.sum()], dtype=np.float64)
    return float(average_precisions(predictions, weights, total)[0])


def summarize_curves(
    outcomes: Sequence[ScanOutcome], bootstrap: ScanBootstrap
) -> dict[str, Any] | None:
    """The curves, thinned, and what is read off them, as plain JSON; None without scores.

    ``recall_at_false_positives_per_scan`` is the best recall with at most that many false positives
    per scan; None where even all predictions together make fewer, since nothing is known of
    the method there. The operating point is that of all predictions given.
    """
    predictions = scored_predictions(outcomes)
    if predictions is None:
        return None
    n_scans, n_true = len(outcomes), int(predictions.true_lesions.sum())
    curve = threshold_curve(predictions)
    recall = ratio(curve.true_positives, n_true)
    rate = curve.false_positives / n_scans
    precision = ratio(curve.true_positives, curve.true_positives + curve.false_positives)
    kept = thin(curve, precision)
    resampled = average_precisions(
        predictions,
        bootstrap.weights,
        bootstrap.totals(predictions.true_lesions.astype(np.float64)),
    )
    nothing = {
        "false_positives_per_scan": 0.0,
        "recall": plain_number(ratio(0, n_true)),
        "precision": None,
    }
    return {
        "thresholds": curve.thresholds[kept].tolist(),
        "false_positives_per_scan": rate[kept].tolist(),
        "recall": [plain_number(value) for value in recall[kept]],
        "precision": precision[kept].tolist(),
        "average_precision": plain_number(average_precision(predictions)),
        "average_precision_interval": interval(resampled),
        "recall_at_false_positives_per_scan": {
            f"{limit:g}": _recall_at(limit, rate, recall) for limit in RATES_FALSE_PER_SCAN
        },
        "operating_point": {
            "false_positives_per_scan": plain_number(rate[-1]),
            "recall": plain_number(recall[-1]),
            "precision": plain_number(precision[-1]),
        }
        if len(rate)
        else nothing,
    }


def thin(curve: Curve, precision: FloatArray, max_points: int = MAX_POINTS) -> IntArray:
    """Rows to draw: all while they are few, then the corners, then an even choice of the corners.

    A corner is where a run of true or of false positives ends; between corners both curves are
    straight or nearly so. The even choice goes by the way along recall, false positives and
    precision, so it is densest where the curves bend. The first and the last row always stay.
    """
    n = len(curve.thresholds)
    if n <= max_points:
        return np.arange(n, dtype=np.int64)
    gained = np.stack(
        [np.diff(curve.true_positives, prepend=0), np.diff(curve.false_positives, prepend=0)]
    )
    runs_on = ((gained[:, :-1] > 0) == (gained[:, 1:] > 0)).all(axis=0) & (gained == 0).any(axis=0)[
        1:
    ]
    corners = np.flatnonzero(~np.append(runs_on, False)).astype(np.int64)
    corners = np.union1d(corners, [0])
    if len(corners) <= max_points:
        return corners
    way = np.zeros(len(corners) - 1)
    for values in (curve.true_positives, curve.false_positives, precision):
        moved = np.abs(np.diff(values[corners]))
        way += moved / max(float(moved.sum()), 1e-12)
    along = np.concatenate([[0.0], np.cumsum(way)])
    chosen = np.searchsorted(along, np.linspace(0, along[-1], max_points))
    return np.unique(np.append(corners[np.minimum(chosen, len(corners) - 1)], corners[[0, -1]]))


def _recall_at(limit: float, rate: FloatArray, recall: FloatArray) -> float | None:
    if not len(rate) or rate[-1] < limit:
        return None
    within = np.searchsorted(rate, limit, side="right")
    return plain_number(recall[within - 1]) if within else plain_number(0 * recall[-1])


def _counts(segments: IntArray, columns: IntArray, shape: tuple[int, int]) -> sparse.csr_array:
    ones = np.ones(len(segments))
    return sparse.csr_array(sparse.coo_array((ones, (segments, columns)), shape=shape))
