from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from CMBDetectorLib.errors import UsageError
from CMBDetectorLib.evaluation.matching import match_centers


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
    assert (result.precision, result.recall) == (1 / 3, 1 / 2)
    assert result.f1 == pytest.approx(2 / 5)


def test_what_is_undefined_is_nan() -> None:
    nothing = match_centers([], [])
    assert math.isnan(nothing.precision)
    assert math.isnan(nothing.recall)
    assert math.isnan(nothing.f1)
    only_false = match_centers([[0, 0, 0]], np.empty((0, 3)))
    assert (only_false.precision, only_false.n_false_positive) == (0.0, 1)
    assert math.isnan(only_false.recall)
    assert math.isnan(only_false.f1)
    only_missed = match_centers([], [[0, 0, 0]])
    assert (only_missed.recall, only_missed.missed) == (0.0, (0,))
    assert math.isnan(only_missed.precision)
    assert match_centers([[0, 0, 0]], [[50, 0, 0]]).f1 == 0.0


@pytest.mark.parametrize("bad", [[[0, 0]], [0, 0, 0], [[0, 0, math.nan]]])
def test_centers_that_are_no_triples_are_refused(bad: list[object]) -> None:
    with pytest.raises(UsageError, match="predicted"):
        match_centers(bad, [[0, 0, 0]])


@pytest.mark.parametrize("tolerance_mm", [-1.0, math.nan, math.inf])
def test_senseless_tolerance_is_refused(tolerance_mm: float) -> None:
    with pytest.raises(UsageError, match="tolerance"):
        match_centers([[0, 0, 0]], [[0, 0, 0]], tolerance_mm=tolerance_mm)
