"""Which predicted lesion is which true lesion: one to one, by whatever rule makes candidates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components, min_weight_full_bipartite_matching
from scipy.spatial import cKDTree

from CMBDetectorLib.errors import UsageError
from CMBDetectorLib.evaluation.lesions import IntArray
from CMBDetectorLib.evaluation.rule import VALDO_TOLERANCE_MM
from CMBDetectorLib.geometry import FloatArray

_ROUNDING_MM = 1e-6
_LARGEST_DENSE = 40_000


@dataclass(frozen=True)
class CenterPair:
    """A prediction and a truth, as row numbers of the input, and the distance of their centers."""

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
        Those false positives that satisfy the rule with a truth which another prediction has been
        matched to, each with the best such truth: the nearest, or the one it overlaps most.
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


@dataclass(frozen=True, eq=False)
class Candidates:
    """Every prediction and truth that satisfy a rule together; all arrays have the shape (c,).

    Attributes
    ----------
    predictions, truths
        Rows of the two sides; no pair comes twice.
    distance_mm
        Between the two centers.
    cost
        What a matching keeps small in total, finite and of any sign: the distance itself, or the
        negative overlap.
    """

    predictions: IntArray
    truths: IntArray
    distance_mm: FloatArray
    cost: FloatArray

    def where(self, keep: npt.NDArray[np.bool_]) -> Candidates:
        """Some of the candidates."""
        return Candidates(
            self.predictions[keep], self.truths[keep], self.distance_mm[keep], self.cost[keep]
        )


def match_centers(
    predicted_ras_mm: npt.ArrayLike,
    true_ras_mm: npt.ArrayLike,
    *,
    tolerance_mm: float = VALDO_TOLERANCE_MM,
) -> MatchResult:
    """Match centers one to one: as many pairs as possible, then the smallest total distance.

    The default is the rule of the VALDO challenge (Sudre et al., Medical Image Analysis 2024):
    centers of mass at most 5 mm apart, each lesion matched at most once.

    Parameters
    ----------
    predicted_ras_mm, true_ras_mm
        Centers in RAS mm, shape (n, 3) and (m, 3); either may be empty.
    tolerance_mm
        Largest distance of a pair, itself included, also where rounding makes it a millionth of
        a millimeter more.

    Raises
    ------
    UsageError
        If the centers are not finite triples or the tolerance is not a finite number from 0 on.
    """
    predicted = checked_centers(predicted_ras_mm, "predicted")
    true = checked_centers(true_ras_mm, "true")
    candidates = center_candidates(predicted, true, tolerance_mm)
    return assign(candidates, range(len(predicted)), range(len(true)))


def center_candidates(
    predicted_ras_mm: FloatArray, true_ras_mm: FloatArray, tolerance_mm: float
) -> Candidates:
    """Pairs of centers, shapes (n, 3) and (m, 3), that are at most ``tolerance_mm`` apart.

    Raises
    ------
    UsageError
        If the tolerance is not a finite number from 0 on.
    """
    if not 0 <= tolerance_mm < math.inf:
        raise UsageError(f"the matching tolerance is 0 mm or more, got {tolerance_mm}")
    predictions = truths = np.empty(0, dtype=np.int64)
    if len(predicted_ras_mm) and len(true_ras_mm):
        # The tree compares squares, which round differently: it is asked for a little more.
        tree, asked_mm = cKDTree(true_ras_mm), tolerance_mm + 2 * _ROUNDING_MM
        near = np.asarray(tree.query_ball_point(predicted_ras_mm, asked_mm, return_sorted=True))
        counts = [len(rows) for rows in near]
        predictions = np.repeat(np.arange(len(near)), counts)
        truths = np.concatenate(near).astype(np.int64)
    distance_mm = np.linalg.norm(predicted_ras_mm[predictions] - true_ras_mm[truths], axis=1)
    candidates = Candidates(predictions, truths, distance_mm, distance_mm)
    return candidates.where(distance_mm <= tolerance_mm + _ROUNDING_MM)


def assign(
    candidates: Candidates, predictions: Sequence[int], truths: Sequence[int]
) -> MatchResult:
    """Match one to one: as many pairs as possible, then the smallest total cost.

    Parameters
    ----------
    candidates
        Pairs that satisfy the rule; those with a row that does not take part are left out.
    predictions, truths
        The rows that take part, in rising order.
    """
    taking_part = np.isin(candidates.predictions, predictions)
    candidates = candidates.where(taking_part & np.isin(candidates.truths, truths))
    chosen = _cheapest(candidates)
    chosen = chosen[np.argsort(candidates.predictions[chosen])]
    matched = candidates.predictions[chosen]
    matched_truths = set(candidates.truths[chosen].tolist())
    false_positives = sorted(set(predictions) - set(matched.tolist()))

    # A truth that satisfies the rule with an unmatched prediction is itself matched, else the two
    # would make a pair. The best one stands first in this order.
    order = np.lexsort((candidates.truths, candidates.cost, candidates.predictions))
    order = order[~np.isin(candidates.predictions[order], matched)]
    _, first = np.unique(candidates.predictions[order], return_index=True)
    return MatchResult(
        pairs=_pairs(candidates, chosen),
        missed=tuple(sorted(set(truths) - matched_truths)),
        false_positives=tuple(false_positives),
        second_hits=_pairs(candidates, order[first]),
    )


def checked_centers(centers_ras_mm: npt.ArrayLike, name: str) -> FloatArray:
    """Centers as an array, shape (n, 3); ``name`` says in the message which ones they are.

    Raises
    ------
    UsageError
        If they are not finite triples.
    """
    centers = np.asarray(centers_ras_mm, dtype=np.float64)
    if centers.size == 0:
        return np.empty((0, 3))
    if centers.ndim != 2 or centers.shape[1] != 3 or not np.isfinite(centers).all():
        raise UsageError(
            f"{name} centers are finite (x, y, z) triples in RAS mm, "
            f"got an array of shape {centers.shape}; check the list of lesions"
        )
    return centers


def _pairs(candidates: Candidates, which: IntArray) -> tuple[CenterPair, ...]:
    columns = (candidates.predictions, candidates.truths, candidates.distance_mm)
    rows = zip(*(column[which].tolist() for column in columns), strict=True)
    return tuple(CenterPair(prediction, truth, distance) for prediction, truth, distance in rows)


def _cheapest(candidates: Candidates) -> IntArray:
    """Which candidates make the largest matching of the least cost, as their indices.

    Lesions that are tied together by candidates, directly or over others, are solved on their
    own: mostly one or two, so that no matrix of all predictions by all truths is needed.
    """
    if len(candidates.predictions) == 0:
        return np.empty(0, dtype=np.int64)
    _, rows = np.unique(candidates.predictions, return_inverse=True)
    _, columns = np.unique(candidates.truths, return_inverse=True)
    n_rows, n_all = int(rows.max()) + 1, int(rows.max() + columns.max()) + 2
    graph = coo_array((np.ones(len(rows)), (rows, columns + n_rows)), shape=(n_all, n_all))
    _, group_of = connected_components(graph, directed=False)
    group = group_of[rows]
    row, column = (
        _place_in_group(group_of[:n_rows])[rows],
        _place_in_group(group_of[n_rows:])[columns],
    )
    order = np.argsort(group, kind="stable")
    chosen = []
    for members in np.split(order, np.flatnonzero(np.diff(group[order])) + 1):
        if len(members) == 1:
            chosen.append(members)
            continue
        # From 1 on: it is the differences that matter, and a sparse matrix has no zeros.
        cost = candidates.cost[members] - candidates.cost[members].min() + 1
        chosen.append(members[_solve(row[members], column[members], cost)])
    return np.concatenate(chosen)


def _solve(row: IntArray, column: IntArray, cost: FloatArray) -> IntArray:
    """The chosen ones of candidates, shape (c,), that are tied together."""
    n_rows, n_columns = int(row.max()) + 1, int(column.max()) + 1
    # One pair less costs more than all pairs together, so their number comes first.
    forbidden = float(cost.max()) * (min(n_rows, n_columns) + 1)
    partner = np.full(n_rows, -1, dtype=np.int64)
    if n_rows * n_columns <= _LARGEST_DENSE:
        matrix = np.full((n_rows, n_columns), forbidden)
        matrix[row, column] = cost
        matched_rows, matched_columns = linear_sum_assignment(matrix)
        partner[matched_rows] = matched_columns
    else:
        # Each row may stay alone, with a column of its own.
        alone = np.arange(n_rows)
        weights = np.concatenate([cost, np.full(n_rows, forbidden)])
        places = np.concatenate([row, alone]), np.concatenate([column, n_columns + alone])
        sparse = csr_array((weights, places), shape=(n_rows, n_columns + n_rows))
        all_rows, all_columns = min_weight_full_bipartite_matching(sparse)
        partner[all_rows] = all_columns
    return np.flatnonzero(partner[row] == column)


def _place_in_group(group: npt.NDArray[np.integer]) -> IntArray:
    """Of each member its number within its group, from 0."""
    order = np.argsort(group, kind="stable")
    _, starts, counts = np.unique(group[order], return_index=True, return_counts=True)
    place = np.empty(len(group), dtype=np.int64)
    place[order] = np.arange(len(group)) - np.repeat(starts, counts)
    return place
