from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from scipy.spatial.transform import Rotation

from CMBDetectorLib.errors import UsageError
from CMBDetectorLib.evaluation.matching import Candidates, assign, match_centers

# On whole millimeters many distances are equal, and many are the tolerance.
WHOLE_MM = st.lists(st.tuples(*[st.integers(0, 9)] * 3), max_size=6).map(
    lambda rows: np.array(rows, dtype=float).reshape(-1, 3)
)


def total_mm(result) -> float:
    return sum(pair.distance_mm for pair in result.pairs)


def best_by_trying(distance: np.ndarray, feasible: np.ndarray) -> tuple[int, float]:
    """Most pairs, then least total, over all ways to give each row a column or none."""
    n_rows, n_columns = distance.shape
    best = (0, 0.0)
    for columns in itertools.permutations([*range(n_columns), *[-1] * n_rows], n_rows):
        pairs = [(row, column) for row, column in enumerate(columns) if column >= 0]
        pairs = [pair for pair in pairs if feasible[pair]]
        best = min(best, (-len(pairs), float(sum(distance[pair] for pair in pairs))))
    return -best[0], best[1]


def test_number_of_matches_comes_before_distance() -> None:
    """The nearest pair (0, 0) would leave both others alone."""
    result = match_centers([[0, 0, 0], [-4, 0, 0]], [[1, 0, 0], [5, 0, 0]])
    assert [(pair.prediction, pair.truth) for pair in result.pairs] == [(0, 1), (1, 0)]
    assert [pair.distance_mm for pair in result.pairs] == [5.0, 5.0]


def test_among_equally_many_matches_the_shortest_total_distance_wins() -> None:
    result = match_centers([[0, 0, 0], [3, 0, 0]], [[2.5, 0, 0], [0.5, 0, 0]])
    assert [(pair.prediction, pair.truth) for pair in result.pairs] == [(0, 1), (1, 0)]


@pytest.mark.parametrize("seed", range(8))
def test_is_optimal_against_trying_every_assignment(seed: int) -> None:
    rng = np.random.default_rng(seed)
    predicted, true = rng.uniform(0, 12, (4, 3)), rng.uniform(0, 12, (5, 3))
    distance = np.linalg.norm(predicted[:, None] - true, axis=-1)
    best = (0, 0.0)
    for columns in itertools.permutations(range(5), 4):
        kept = [distance[row, column] for row, column in enumerate(columns)]
        kept = [value for value in kept if value <= 5]
        best = min(best, (-len(kept), sum(kept)))
    result = match_centers(predicted, true)
    assert len(result.pairs) == -best[0]
    assert sum(pair.distance_mm for pair in result.pairs) == pytest.approx(best[1])


def test_tolerance_is_included() -> None:
    assert match_centers([[0, 0, 5]], [[0, 0, 0]]).n_true_positive == 1
    assert match_centers([[0, 0, 5.001]], [[0, 0, 0]]).n_true_positive == 0
    assert match_centers([[0, 0, 5.001]], [[0, 0, 0]], tolerance_mm=6).n_true_positive == 1
    assert match_centers([[1, 2, 3]], [[1, 2, 3]], tolerance_mm=0).n_true_positive == 1


def test_second_hit_is_a_named_false_positive() -> None:
    result = match_centers([[3, 0, 0], [1, 0, 0], [30, 0, 0]], [[0, 0, 0], [60, 0, 0]])
    assert [(pair.prediction, pair.truth) for pair in result.pairs] == [(1, 0)]
    assert result.false_positives == (0, 2)
    assert [(hit.prediction, hit.truth) for hit in result.second_hits] == [(0, 0)]
    assert result.second_hits[0].distance_mm == 3.0
    assert result.missed == (1,)
    assert (result.n_true_positive, result.n_false_positive, result.n_false_negative) == (1, 2, 1)


@pytest.mark.parametrize("bad", [[[0, 0]], [0, 0, 0], [[0, 0, math.nan]]])
def test_centers_that_are_no_triples_are_refused(bad: list[object]) -> None:
    with pytest.raises(UsageError, match="predicted"):
        match_centers(bad, [[0, 0, 0]])


@pytest.mark.parametrize("tolerance_mm", [-1.0, math.nan, math.inf])
def test_senseless_tolerance_is_refused(tolerance_mm: float) -> None:
    with pytest.raises(UsageError, match="tolerance"):
        match_centers([[0, 0, 0]], [[0, 0, 0]], tolerance_mm=tolerance_mm)


@settings(max_examples=30, deadline=None)
@given(predicted=WHOLE_MM, true=WHOLE_MM)
def test_is_optimal_where_distances_tie(predicted: np.ndarray, true: np.ndarray) -> None:
    predicted, true = predicted[:3], true[:4]
    distance = cdist(predicted, true)
    n_pairs, total = best_by_trying(distance, distance <= 5 + 1e-9)
    result = match_centers(predicted, true)
    assert result.n_true_positive == n_pairs
    assert total_mm(result) == pytest.approx(total)


@settings(max_examples=40, deadline=None)
@given(predicted=WHOLE_MM, true=WHOLE_MM, data=st.data())
def test_does_not_depend_on_motion_order_and_sides(
    predicted: np.ndarray, true: np.ndarray, data: st.DataObject
) -> None:
    result = match_centers(predicted, true)
    assert result.n_true_positive + result.n_false_positive == len(predicted)
    assert result.n_true_positive + result.n_false_negative == len(true)
    assert len({pair.truth for pair in result.pairs}) == len(result.pairs)
    assert all(pair.distance_mm <= 5 + 1e-6 for pair in result.pairs)

    angles = data.draw(st.tuples(*[st.floats(-180, 180)] * 3), label="angles")
    axes, shift = Rotation.from_euler("xyz", angles, degrees=True).as_matrix(), [90.0, -120.0, 33.3]
    moved = match_centers(predicted @ axes.T + shift, true @ axes.T + shift)
    rows = data.draw(st.permutations(range(len(predicted))), label="order")
    shuffled = match_centers(predicted[list(rows)], true[::-1])
    for other in (moved, shuffled):
        assert other.n_true_positive == result.n_true_positive
        assert len(other.second_hits) == len(result.second_hits)
        assert total_mm(other) == pytest.approx(total_mm(result))

    swapped = match_centers(true, predicted)
    assert swapped.n_true_positive == result.n_true_positive
    assert swapped.n_false_positive == result.n_false_negative
    assert swapped.n_false_negative == result.n_false_positive
    assert total_mm(swapped) == pytest.approx(total_mm(result))


@pytest.mark.parametrize(("n_predicted", "n_true"), [(400, 700), (700, 400), (500, 500)])
def test_crowds_are_matched_as_by_one_matrix_of_all(n_predicted: int, n_true: int) -> None:
    """So dense that hundreds are tied together, which is solved in another way than a few are."""
    rng = np.random.default_rng(n_predicted)
    predicted = rng.uniform(0, 30, (n_predicted, 3))
    true = rng.uniform(0, 30, (n_true, 3))
    distance = cdist(predicted, true)
    cost = np.where(distance <= 3.5, distance, 1e6)
    rows, columns = linear_sum_assignment(cost)
    kept = cost[rows, columns][cost[rows, columns] < 1e6]
    result = match_centers(predicted, true, tolerance_mm=3.5)
    assert len(kept) < min(n_predicted, n_true)
    assert result.n_true_positive == len(kept)
    assert total_mm(result) == pytest.approx(kept.sum())


def test_ten_thousand_against_ten_thousand_on_a_lattice() -> None:
    """Each prediction is nearest to its own truth, so the answer is known."""
    index = np.arange(10_000)
    true = np.stack([index % 25, index // 25 % 20, index // 500], axis=1) * 6.0
    result = match_centers(true[::-1] + np.array([0.5, 0, 0]), true)
    assert [(pair.prediction, pair.truth) for pair in result.pairs] == list(
        zip(range(10_000), range(9_999, -1, -1), strict=True)
    )
    assert total_mm(result) == pytest.approx(5000)


def test_rounding_of_an_oblique_grid_does_not_decide() -> None:
    """Five voxels of 1 mm are 5 mm, in whatever direction the axes of the image point."""
    for seed in range(20):
        axes = Rotation.random(random_state=seed).as_matrix().astype(np.float32)
        centers = np.array([[100, 120, 60], [100, 120, 65], [105, 120, 60]]) @ axes.T
        assert match_centers(centers[1:], centers[:1]).n_true_positive == 1
        assert len(match_centers(centers[1:], centers[:1]).second_hits) == 1


def test_only_rows_that_take_part_are_assigned() -> None:
    """Costs of any sign: here the second truth costs less than the first."""
    rows, columns = np.array([0, 0, 1, 2]), np.array([0, 1, 1, 2])
    candidates = Candidates(rows, columns, np.full(4, 9.0), np.array([-1.0, -3.0, -2.0, 0.0]))
    both = assign(candidates, [0, 1, 2], [0, 1, 2])
    assert [(pair.prediction, pair.truth) for pair in both.pairs] == [(0, 0), (1, 1), (2, 2)]
    some = assign(candidates, [0, 2], [0, 1])
    assert [(pair.prediction, pair.truth) for pair in some.pairs] == [(0, 1)]
    assert (some.false_positives, some.missed, some.second_hits) == ((2,), (0,), ())
    hit = assign(candidates, [0, 1], [1])
    assert [(pair.prediction, pair.truth) for pair in hit.pairs] == [(0, 1)]
    assert [(pair.prediction, pair.truth) for pair in hit.second_hits] == [(1, 1)]
