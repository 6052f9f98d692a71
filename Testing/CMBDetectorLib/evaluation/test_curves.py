"""FROC and precision-recall curves, against counting again at every threshold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from CMBDetectorLib.evaluation.bootstrap import draw_resamples
from CMBDetectorLib.evaluation.curves import (
    MAX_POINTS,
    Curve,
    average_precision,
    average_precisions,
    scored_predictions,
    summarize_curves,
    thin,
    threshold_curve,
)


def summarize(outcomes, resamples=20):
    return summarize_curves(outcomes, draw_resamples(len(outcomes), resamples=resamples, seed=0))


def counts_at(outcomes, threshold: float) -> tuple[int, int, int]:
    """The definition: found truths, false positives and missed truths at a threshold."""
    found = predicted = 0
    for outcome in outcomes:
        there = [e for e in outcome.lesions if e.side == "prediction" and e.outcome != "ignored"]
        there = [entry for entry in there if entry.lesion.score >= threshold]
        predicted += len(there)
        found += len({e.partner for e in there if e.outcome in ("true", "second hit")})
    return found, predicted - found, sum(outcome.n_true for outcome in outcomes) - found


def naive_average_precision(outcomes) -> float:
    """Sum of (gain in recall) x precision over all thresholds, best first."""
    scores = {e.lesion.score for o in outcomes for e in o.lesions if e.side == "prediction"}
    total, last = 0.0, 0.0
    for threshold in sorted(scores, reverse=True):
        tp, fp, fn = counts_at(outcomes, threshold)
        total += (tp / (tp + fn) - last) * tp / (tp + fp)
        last = tp / (tp + fn)
    return total


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_every_point_is_what_counting_again_gives(any_cohort, data) -> None:
    outcomes = data.draw(any_cohort)
    predictions = scored_predictions(outcomes)
    curve = threshold_curve(predictions)
    scores = {e.lesion.score for o in outcomes for e in o.lesions if e.side == "prediction"}
    assert curve.thresholds.tolist() == sorted(scores, reverse=True)
    for row, threshold in enumerate(curve.thresholds):
        tp, fp, _ = counts_at(outcomes, threshold)
        assert (curve.true_positives[row], curve.false_positives[row]) == (tp, fp)
    assert (np.diff(curve.true_positives) >= 0).all()
    assert (np.diff(curve.false_positives) >= 0).all()


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_average_precision_and_operating_point(any_cohort, data) -> None:
    outcomes = data.draw(any_cohort)
    curves = summarize(outcomes)
    tp = sum(outcome.n_true_positive for outcome in outcomes)
    fp = sum(outcome.n_false_positive for outcome in outcomes)
    n_true = sum(outcome.n_true for outcome in outcomes)
    point = curves["operating_point"]
    assert point["false_positives_per_scan"] == pytest.approx(fp / len(outcomes))
    assert point["precision"] == (pytest.approx(tp / (tp + fp)) if tp + fp else None)
    if n_true == 0:
        assert curves["average_precision"] is point["recall"] is None
        return
    assert point["recall"] == pytest.approx(tp / n_true)
    assert curves["average_precision"] == pytest.approx(naive_average_precision(outcomes))
    assert 0 <= curves["average_precision"] <= point["recall"] + 1e-12


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_weights_are_repeated_scans(any_cohort, data) -> None:
    outcomes = data.draw(any_cohort)
    predictions = scored_predictions(outcomes)
    weights = data.draw(st.lists(st.integers(0, 3), min_size=len(outcomes), max_size=len(outcomes)))
    row = np.array([weights], dtype=float)
    value = average_precisions(predictions, row, row @ predictions.true_lesions)[0]
    repeated = [o for o, times in zip(outcomes, weights, strict=True) for _ in range(times)]
    if sum(outcome.n_true for outcome in repeated) == 0:
        assert np.isnan(value)
    else:
        assert value == pytest.approx(naive_average_precision(repeated))


def test_a_worked_example(make_outcome) -> None:
    """Five truths, four found: ranks 1, 2, 4 and 6 of six."""
    outcomes = [
        make_outcome("a", (2, 1, 1), scores=[0.9, 0.6, 0.7]),
        make_outcome("b", (2, 1, 0), scores=[0.8, 0.4, 0.5]),
    ]
    curves = summarize(outcomes)
    assert curves["thresholds"] == [0.9, 0.8, 0.7, 0.6, 0.5, 0.4]
    assert curves["recall"] == pytest.approx([0.2, 0.4, 0.4, 0.6, 0.6, 0.8])
    assert curves["false_positives_per_scan"] == [0, 0, 0.5, 0.5, 1, 1]
    assert curves["precision"] == pytest.approx([1, 1, 2 / 3, 3 / 4, 3 / 5, 4 / 6])
    assert curves["average_precision"] == pytest.approx(0.2 * (1 + 1 + 3 / 4 + 4 / 6))
    recalls = curves["recall_at_false_positives_per_scan"]
    assert recalls == {"0.5": pytest.approx(0.6), "1": pytest.approx(0.8), "2": None, "4": None}


def test_second_hits_take_the_place_of_their_better(make_outcome) -> None:
    """The match has .4; the second hit .9, so the truth is found from .9 on."""
    outcomes = [make_outcome("a", (1, 1, 0), second_hits=[1], scores=[0.4, 0.9])]
    curves = summarize(outcomes)
    assert curves["recall"] == [1, 1]
    assert curves["precision"] == [1, 0.5]
    assert curves["average_precision"] == 1


def test_equal_scores_move_together(make_outcome) -> None:
    curves = summarize([make_outcome("a", (2, 2, 0), scores=[0.5, 0.5, 0.5, 0.5])])
    assert curves["thresholds"] == [0.5]
    assert curves["average_precision"] == 0.5


def test_recall_before_the_first_true_positive(make_outcome) -> None:
    """All false positives come first, three per scan: recall is 0 up to there."""
    curves = summarize([make_outcome("a", (1, 3, 0), scores=[0.1, 0.7, 0.7, 0.7])])
    recalls = curves["recall_at_false_positives_per_scan"]
    assert recalls == {"0.5": 0.0, "1": 0.0, "2": 0.0, "4": None}


def test_without_scores_there_is_no_curve(make_outcome) -> None:
    scored = make_outcome("a", (1, 0, 0), scores=[0.5])
    assert summarize([scored, make_outcome("b", (1, 0, 0))]) is None
    assert summarize([scored, make_outcome("b", (1, 0, 0), scores=[float("nan")])]) is None
    assert summarize([scored, make_outcome("b", (0, 0, 1), scores=[])]) is not None


def test_nothing_predicted(make_outcome) -> None:
    curves = summarize([make_outcome("a", (0, 0, 2), scores=[])])
    assert curves["thresholds"] == curves["recall"] == []
    assert curves["average_precision"] == 0
    assert curves["operating_point"] == {
        "false_positives_per_scan": 0.0,
        "recall": 0.0,
        "precision": None,
    }


def test_the_interval_is_that_of_a_plain_loop(make_outcome) -> None:
    rng = np.random.default_rng(2)
    outcomes = []
    for number in range(12):
        tp, fp, fn = rng.integers(0, 4, 3).tolist()
        scores = np.round(rng.random(tp + fp), 1).tolist()
        outcomes.append(make_outcome(str(number), (tp, fp, fn), scores=scores))
    curves = summarize_curves(outcomes, draw_resamples(12, resamples=100, seed=6))
    draws = np.random.default_rng(6).integers(12, size=(100, 12))
    naive = [naive_average_precision([outcomes[row] for row in draw]) for draw in draws]
    expected = np.quantile(naive, [0.025, 0.975])
    assert curves["average_precision_interval"] == pytest.approx(expected)


def random_curve(n: int, share_true: float) -> tuple[Curve, np.ndarray]:
    finds = np.random.default_rng(n).random(n) < share_true
    tp = np.cumsum(finds)
    curve = Curve(np.linspace(1, 0, n), tp, np.arange(1, n + 1) - tp)
    return curve, tp / np.arange(1, n + 1)


def test_few_points_are_all_drawn() -> None:
    curve, precision = random_curve(MAX_POINTS, 0.5)
    assert thin(curve, precision).tolist() == list(range(MAX_POINTS))


def test_long_runs_keep_their_corners() -> None:
    """Of a curve with few corners nothing is lost: between them it is straight."""
    curve, precision = random_curve(20_000, 0.005)
    kept = thin(curve, precision)
    assert 50 < len(kept) <= MAX_POINTS
    for values in (curve.true_positives, curve.false_positives):
        drawn = np.interp(np.arange(20_000), kept, values[kept])
        assert np.abs(drawn - values).max() < 1e-6
    everywhere = set(range(20_000))
    assert {0, 19_999} <= set(kept.tolist()) < everywhere


def test_many_corners_are_thinned_evenly() -> None:
    curve, precision = random_curve(100_000, 0.5)
    kept = thin(curve, precision)
    assert 300 <= len(kept) <= MAX_POINTS
    assert kept[0] == 0
    assert kept[-1] == 99_999
    at = np.arange(100_000)
    for values in (curve.true_positives, curve.false_positives):
        drawn = np.interp(at, kept, values[kept])
        assert np.abs(drawn - values).max() <= 0.01 * values[-1]


def test_many_predictions(make_outcome) -> None:
    rng = np.random.default_rng(1)
    outcomes = [
        make_outcome(str(n), (40, 60, 20), scores=rng.random(100).tolist()) for n in range(200)
    ]
    curves = summarize(outcomes, resamples=5)
    assert len(curves["thresholds"]) <= MAX_POINTS
    predictions = scored_predictions(outcomes)
    curve = threshold_curve(predictions)
    gains = np.diff(curve.true_positives, prepend=0)
    precision = curve.true_positives / (curve.true_positives + curve.false_positives)
    assert average_precision(predictions) == pytest.approx((gains * precision).sum() / 12_000)
