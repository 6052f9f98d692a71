"""The whole of a cohort: its schema, and what must not change it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from CMBDetectorLib.errors import UsageError
from CMBDetectorLib.evaluation.summary import summarize_cohort


def without_intervals(value):
    """The same without intervals, which depend on the order of the scans."""
    if isinstance(value, dict):
        kept = {key: entry for key, entry in value.items() if "interval" not in key}
        return {key: without_intervals(entry) for key, entry in kept.items()}
    return [without_intervals(entry) for entry in value] if isinstance(value, list) else value


def numbers(value):
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [number for entry in value for number in numbers(entry)]
    return [value] if isinstance(value, int | float) else []


def test_the_published_cohort(dou_outcomes) -> None:
    summary = summarize_cohort(dou_outcomes, resamples=200)
    assert list(summary) == ["cohort", "detection", "segmentation", "classification", "strata"]
    assert summary["cohort"] == {
        "scans": 20,
        "scans_with_lesions": 20,
        "true_lesions": 74,
        "predicted_lesions": 61,
    }
    pooled = summary["detection"]["pooled"]
    assert set(pooled["intervals"]) == {
        "precision",
        "recall",
        "f1",
        "false_positives_per_scan",
        "false_positives_per_true_lesion",
    }
    for name, (low, high) in pooled["intervals"].items():
        assert low < pooled[name] < high
    assert summary["detection"]["curves"] is None
    assert summary["segmentation"]["pairs"] == 0
    assert summary["segmentation"]["absolute_count_difference"]["n"] == 20
    assert [row["lesions"] for row in summary["classification"]["at_least"]] == [1, 3, 5, 11]
    assert summary["classification"]["counts"]["true"][:5] == [1, 1, 4, 1, 1]
    assert summary["classification"]["counts"]["predicted"][:5] == [1, 1, 4, 0, 3]
    assert summary["strata"] == []


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_plain_json_whatever_the_cohort(any_cohort, data) -> None:
    outcomes = data.draw(any_cohort)
    summary = summarize_cohort(outcomes, resamples=20)
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_the_order_of_the_scans_does_not_matter(any_cohort, data) -> None:
    outcomes = data.draw(any_cohort)
    shuffled = data.draw(st.permutations(outcomes))
    here = without_intervals(summarize_cohort(outcomes, resamples=0))
    there = without_intervals(summarize_cohort(shuffled, resamples=0))
    for summary in (here, there):
        # In the order of the scans by intention.
        del summary["classification"]["counts"]
    assert numbers(here) == pytest.approx(numbers(there), rel=1e-9, abs=1e-9)


def test_the_seed_says_everything(dou_outcomes) -> None:
    first = summarize_cohort(dou_outcomes, resamples=50, seed=1)
    assert first == summarize_cohort(dou_outcomes, resamples=50, seed=1)
    assert first != summarize_cohort(dou_outcomes, resamples=50, seed=2)


def test_no_scan_and_a_scan_twice(make_outcome) -> None:
    with pytest.raises(UsageError, match="no scan"):
        summarize_cohort([])
    with pytest.raises(UsageError, match="'a' is there 2 times"):
        summarize_cohort([make_outcome("a", (1, 0, 0))] * 2)


def test_strata_are_passed_on(make_outcome) -> None:
    outcomes = [make_outcome("a", (1, 0, 0), attributes={"sex": "F"})]
    assert summarize_cohort(outcomes, resamples=5)["strata"] == []
    named = summarize_cohort(outcomes, resamples=5, strata=["sex"])["strata"]
    assert [stratum["name"] for stratum in named] == ["sex"]
    with pytest.raises(UsageError, match="'age'"):
        summarize_cohort(outcomes, resamples=5, strata=["age"])
