"""Scans with at least so many lesions, on counts that can be checked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from CMBDetectorLib.evaluation.bootstrap import draw_resamples
from CMBDetectorLib.evaluation.classification import classify_scans
from CMBDetectorLib.evaluation.figures import count_scans


def classify(outcomes, resamples=200):
    bootstrap = draw_resamples(len(outcomes), resamples=resamples, seed=0)
    return classify_scans(count_scans(outcomes), bootstrap)


def test_by_hand(make_outcome) -> None:
    """True counts 0, 0, 1, 3, 6, 12; predicted 0, 1, 0, 3, 4, 11."""
    counts = [(0, 0, 0), (0, 1, 0), (0, 0, 1), (1, 2, 2), (4, 0, 2), (10, 1, 2)]
    rows = classify([make_outcome(str(n), each) for n, each in enumerate(counts)])
    tables = {
        row["lesions"]: [
            row["true_positives"],
            row["false_positives"],
            row["false_negatives"],
            row["true_negatives"],
        ]
        for row in rows
    }
    assert tables == {1: [3, 1, 1, 1], 3: [3, 0, 0, 3], 5: [1, 0, 1, 4], 11: [1, 0, 0, 5]}
    first = rows[0]
    assert first["sensitivity"] == 0.75
    assert first["specificity"] == 0.5
    assert first["positive_predictive_value"] == 0.75
    assert first["negative_predictive_value"] == 0.5
    assert rows[2]["negative_predictive_value"] == 0.8
    low, high = first["intervals"]["sensitivity"]
    assert 0 <= low < 0.75 < high <= 1


def test_a_class_that_nobody_has(make_outcome) -> None:
    rows = classify([make_outcome(str(n), (1, 0, 0)) for n in range(3)])
    assert rows[3]["sensitivity"] is None
    assert rows[3]["intervals"]["sensitivity"] is None
    assert rows[3]["specificity"] == 1
    assert rows[0]["specificity"] is None


def test_the_interval_is_that_of_a_plain_loop(dou_outcomes) -> None:
    row = classify(dou_outcomes, resamples=150)[1]
    assert row["lesions"] == 3
    naive = []
    for draw in np.random.default_rng(0).integers(20, size=(150, 20)):
        scans = [dou_outcomes[n] for n in draw]
        positive = [scan for scan in scans if scan.n_true >= 3]
        naive.append(sum(scan.n_predicted >= 3 for scan in positive) / len(positive))
    expected = np.quantile(naive, [0.025, 0.975])
    assert row["intervals"]["sensitivity"] == pytest.approx(expected)


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_every_scan_is_in_one_cell(any_cohort, data) -> None:
    outcomes = data.draw(any_cohort)
    for row in classify(outcomes, resamples=5):
        right = row["true_positives"] + row["true_negatives"]
        assert right + row["false_positives"] + row["false_negatives"] == len(outcomes)
        positive = sum(outcome.n_true >= row["lesions"] for outcome in outcomes)
        assert row["true_positives"] + row["false_negatives"] == positive
