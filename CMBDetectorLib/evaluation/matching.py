"""Which predicted lesion is which true lesion."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from CMBDetectorLib.errors import UsageError
from CMBDetectorLib.geometry import FloatArray

VALDO_TOLERANCE_MM = 5.0


@dataclass(frozen=True)
class CenterPair:
    """A prediction and a truth, as row numbers of the input, and the distance between them."""

    prediction: int
    truth: int
    distance_mm: float


@dataclass(frozen=True)
class MatchResult:
    """Outcome of matching the lesions of one scan, or of scans pooled.

    Attributes
    ----------
    pairs
        True positives, in the order of the predictions.
    missed
        Rows of the truths without a prediction (false negatives).
    false_positives
        Rows of the predictions without a truth, second hits included.
    second_hits
        Those false positives that lie within the tolerance of a truth which another prediction
        has been matched to, each with the nearest such truth.
    """

    pairs: tuple[CenterPair, ...]
    missed: tuple[int, ...]
    false_positives: tuple[int, ...]
    second_hits: tuple[CenterPair, ...]

    @property
    def n_true_positive(self) -> int:
        """Number of matched pairs."""
        return len(self.pairs)

    @property
    def n_false_positive(self) -> int:
        """Number of predictions without a truth, second hits included."""
        return len(self.false_positives)

    @property
    def n_false_negative(self) -> int:
        """Number of truths without a prediction."""
        return len(self.missed)

    @property
    def precision(self) -> float:
        """TP / (TP + FP); NaN where nothing was predicted."""
        return _ratio(self.n_true_positive, self.n_true_positive + self.n_false_positive)

    @property
    def recall(self) -> float:
        """TP / (TP + FN); NaN where there is no true lesion."""
        return _ratio(self.n_true_positive, self.n_true_positive + self.n_false_negative)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; NaN where either is undefined."""
        if math.isnan(self.precision) or math.isnan(self.recall):
            return math.nan
        tp, fp, fn = self.n_true_positive, self.n_false_positive, self.n_false_negative
        return 2 * tp / (2 * tp + fp + fn)


def match_centers(
    predicted_ras_mm: npt.ArrayLike,
    true_ras_mm: npt.ArrayLike,
    *,
    tolerance_mm: float = VALDO_TOLERANCE_MM,
) -> MatchResult:
    """Match centres one to one: as many pairs as possible, then the smallest total distance.

    The default is the rule of the VALDO challenge (Sudre et al., Medical Image Analysis 2024):
    centres of mass at most 5 mm apart, each lesion matched at most once.

    Parameters
    ----------
    predicted_ras_mm, true_ras_mm
        Centres in RAS mm, shape (n, 3) and (m, 3); either may be empty.
    tolerance_mm
        Largest distance of a pair, itself included.

    Raises
    ------
    UsageError
        If the centres are not finite triples or the tolerance is not a finite number from 0 on.
    """
    predicted = _checked(predicted_ras_mm, "predicted")
    true = _checked(true_ras_mm, "true")
    if not 0 <= tolerance_mm < math.inf:
        raise UsageError(f"the matching tolerance is 0 mm or more, got {tolerance_mm}")
    distance_mm = cdist(predicted, true)
    feasible = distance_mm <= tolerance_mm
    # One infeasible pair costs more than all feasible ones together, so their number comes first.
    forbidden = (tolerance_mm + 1) * (min(distance_mm.shape) + 1)
    rows, columns = linear_sum_assignment(np.where(feasible, distance_mm, forbidden))
    pairs = tuple(
        CenterPair(row, column, float(distance_mm[row, column]))
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
        if feasible[row, column]
    )
    matched_truths = {pair.truth for pair in pairs}
    false_positives = sorted(set(range(len(predicted))) - {pair.prediction for pair in pairs})
    return MatchResult(
        pairs=pairs,
        missed=tuple(sorted(set(range(len(true))) - matched_truths)),
        false_positives=tuple(false_positives),
        second_hits=_second_hits(false_positives, distance_mm, feasible),
    )


def _second_hits(
    false_positives: list[int], distance_mm: FloatArray, feasible: npt.NDArray[np.bool_]
) -> tuple[CenterPair, ...]:
    # A truth near an unmatched prediction is itself matched, else the two would make a pair.
    hits = []
    for row in false_positives:
        if feasible[row].any():
            truth = int(np.argmin(distance_mm[row]))
            hits.append(CenterPair(row, truth, float(distance_mm[row, truth])))
    return tuple(hits)


def _checked(centers_ras_mm: npt.ArrayLike, name: str) -> FloatArray:
    centers = np.asarray(centers_ras_mm, dtype=np.float64)
    if centers.size == 0:
        return np.empty((0, 3))
    if centers.ndim != 2 or centers.shape[1] != 3 or not np.isfinite(centers).all():
        raise UsageError(
            f"{name} centres are finite (x, y, z) triples in RAS mm, "
            f"got an array of shape {centers.shape}; check the list of lesions"
        )
    return centers


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
