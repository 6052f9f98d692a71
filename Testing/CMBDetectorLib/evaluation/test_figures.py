"""Figures of a cohort: the published DOU test set to the printed digits, and what always holds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from CMBDetectorLib.evaluation.bootstrap import draw_resamples
from CMBDetectorLib.evaluation.figures import (
    count_scans,
    detection_figures,
    per_scan_figures,
    pooled_figures,
    ratio,
)


def pooled(outcomes, resamples=50):
    return pooled_figures(
        count_scans(outcomes), draw_resamples(len(outcomes), resamples=resamples, seed=0)
    )


def test_published_dou_figures_pooled(dou_outcomes) -> None:
    figures = pooled(dou_outcomes)
    counts = [figures[f"{kind}s"] for kind in ("true_positive", "false_positive")]
    assert [*counts, figures["false_negatives"]] == [51, 10, 23]
    assert round(figures["precision"], 3) == 0.836
    assert round(figures["recall"], 3) == 0.689
    assert round(figures["f1"], 3) == 0.756
    assert figures["false_positives_per_scan"] == 0.5
    # Published as "FP per scan" of 0.13, cut off after two digits: it is per true lesion.
    assert figures["false_positives_per_true_lesion"] == 10 / 74
    assert int(100 * figures["false_positives_per_true_lesion"]) == 13


def test_published_dou_figures_per_scan(dou_outcomes) -> None:
    figures = per_scan_figures(count_scans(dou_outcomes))
    skipped, filled = figures["undefined_skipped"], figures["zero_filled"]
    printed = {
        name: (round(values["mean"], 3), round(values["sd"], 3), values["n"])
        for name, values in skipped.items()
    }
    assert printed["precision"] == (0.912, 0.187, 18)
    assert printed["f1"] == (0.870, 0.185, 18)
    assert printed["recall"] == (0.794, 0.338, 20)
    assert filled["recall"] == skipped["recall"]
    for name in ("precision", "f1"):
        assert filled[name]["n"] == 20
        assert filled[name]["mean"] == pytest.approx(skipped[name]["mean"] * 18 / 20)
        assert filled[name]["sd"] > skipped[name]["sd"]


def test_what_is_undefined_per_scan(make_outcome) -> None:
    """No prediction, no truth, neither; and one scan that has both."""
    outcomes = [
        make_outcome(str(n), counts)
        for n, counts in enumerate([(0, 0, 2), (0, 3, 0), (0, 0, 0), (1, 1, 0)])
    ]
    figures = per_scan_figures(count_scans(outcomes))
    skipped, filled = figures["undefined_skipped"], figures["zero_filled"]
    assert skipped["precision"] == {"mean": 0.25, "sd": pytest.approx(0.5**1.5), "n": 2}
    assert skipped["recall"] == {"mean": 0.5, "sd": pytest.approx(0.5**0.5), "n": 2}
    assert skipped["f1"] == {"mean": pytest.approx(2 / 3), "sd": None, "n": 1}
    assert {name: entry["n"] for name, entry in filled.items()} == dict.fromkeys(filled, 4)
    assert filled["f1"]["mean"] == pytest.approx(2 / 3 / 4)


def test_a_method_that_finds_nothing(make_outcome) -> None:
    figures = pooled([make_outcome("a", (0, 0, 3)), make_outcome("b", (0, 0, 0))])
    assert figures["precision"] is None
    assert figures["intervals"]["precision"] is None
    assert figures["recall"] == 0
    assert figures["f1"] == 0
    nothing = pooled([make_outcome("b", (0, 0, 0))])
    assert nothing["f1"] is nothing["recall"] is nothing["false_positives_per_true_lesion"] is None
    assert nothing["false_positives_per_scan"] == 0


def test_second_hits_are_false_and_the_ignored_are_neither(make_outcome) -> None:
    counts = count_scans([make_outcome("a", (2, 3, 1), second_hits=[1, 1], ignored=(4, 5))])
    assert counts.false_positives.tolist() == [3]
    assert counts.second_hits.tolist() == [2]
    assert counts.ignored_truths.tolist() == [4]
    assert counts.ignored_predictions.tolist() == [5]
    assert counts.true_lesions.tolist() == [3]
    assert counts.predicted_lesions.tolist() == [5]


def test_counts_are_those_of_the_scans(dou_outcomes) -> None:
    counts = count_scans(dou_outcomes)
    assert counts.true_positives.tolist() == [o.n_true_positive for o in dou_outcomes]
    assert counts.false_positives.tolist() == [o.n_false_positive for o in dou_outcomes]
    assert counts.false_negatives.tolist() == [o.n_false_negative for o in dou_outcomes]
    assert counts.true_lesions.tolist() == [o.n_true for o in dou_outcomes]


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_bounds_identities_and_order(any_cohort, data) -> None:
    outcomes = data.draw(any_cohort)
    figures = pooled(outcomes, resamples=20)
    shuffled = pooled(data.draw(st.permutations(outcomes)), resamples=20)
    without = {"intervals"}
    assert {k: v for k, v in figures.items() if k not in without} == {
        k: v for k, v in shuffled.items() if k not in without
    }
    precision, recall, f1 = figures["precision"], figures["recall"], figures["f1"]
    for value in (precision, recall, f1):
        assert value is None or 0 <= value <= 1
    if precision and recall:
        assert f1 == pytest.approx(2 * precision * recall / (precision + recall))
    if recall is not None:
        n_true = figures["true_positives"] + figures["false_negatives"]
        per_scan = figures["false_positives_per_true_lesion"] * n_true / len(outcomes)
        assert figures["false_positives_per_scan"] == pytest.approx(per_scan)
    for low, high in filter(None, figures["intervals"].values()):
        assert 0 <= low <= high


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_swapping_truth_and_prediction_swaps_precision_and_recall(make_outcome, data) -> None:
    counts = data.draw(st.lists(st.tuples(*[st.integers(0, 5)] * 3), min_size=1, max_size=6))
    here = pooled([make_outcome(str(n), (tp, fp, fn)) for n, (tp, fp, fn) in enumerate(counts)])
    there = pooled([make_outcome(str(n), (tp, fn, fp)) for n, (tp, fp, fn) in enumerate(counts)])
    assert (here["precision"], here["recall"]) == (there["recall"], there["precision"])
    assert here["f1"] == there["f1"]


def test_many_tables_at_once() -> None:
    tables = np.random.default_rng(0).integers(0, 5, (7, 4, 3))
    figures = detection_figures(tables, 6)
    for place in np.ndindex(7, 4):
        alone = detection_figures(tables[place], 6)
        for name, values in figures.items():
            np.testing.assert_equal(values[place], alone[name])


def test_ratio_is_undefined_over_nothing() -> None:
    np.testing.assert_array_equal(ratio([1, 0, 3], [2, 0, 0]), [0.5, np.nan, np.nan])
    np.testing.assert_array_equal(ratio([1, 3], 4), [0.25, 0.75])
