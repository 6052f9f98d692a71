"""Figures by kinds of lesions and of scans, on cohorts that can be counted by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from CMBDetectorLib.errors import UsageError
from CMBDetectorLib.evaluation.bootstrap import draw_resamples
from CMBDetectorLib.evaluation.figures import count_scans
from CMBDetectorLib.evaluation.strata import counted_lesions, scan_stratum, summarize_strata


def strata_of(outcomes, names=(), resamples=50):
    bootstrap = draw_resamples(len(outcomes), resamples=resamples, seed=0)
    strata = summarize_strata(outcomes, count_scans(outcomes), bootstrap, names)
    return {
        stratum["name"]: {entry["class"]: entry for entry in stratum["classes"]}
        for stratum in strata
    }


def counts(entry) -> list[int]:
    return [entry[f"{kind}s"] for kind in ("true_positive", "false_positive", "false_negative")]


def test_by_size_of_the_lesions(make_outcome) -> None:
    """Truths by their own size, false positives by theirs."""
    outcomes = [
        make_outcome("a", (2, 1, 1), features={"equivalent_diameter_mm": [1.0, 4.0, 1.5, 2.5]}),
        make_outcome("b", (1, 1, 0), features={"equivalent_diameter_mm": [1.8, 1.9]}),
        make_outcome("c", (0, 0, 0)),
    ]
    by_size = strata_of(outcomes)["equivalent_diameter_mm"]
    assert {name: counts(entry) for name, entry in by_size.items()} == {
        "0 to 2": [2, 1, 1],
        "2 to 3": [0, 1, 0],
        "3 to 5": [1, 0, 0],
    }
    small = by_size["0 to 2"]
    assert small["scans"] is None
    assert small["lesions"] == 3
    assert small["recall"] == pytest.approx(2 / 3)
    assert small["precision"] == pytest.approx(2 / 3)
    # Over all three scans.
    assert small["false_positives_per_scan"] == pytest.approx(1 / 3)
    assert by_size["2 to 3"]["recall"] is None


def test_by_zone_in_the_order_of_the_scheme(make_outcome) -> None:
    zones = ["infratentorial", "not assessed", "lobar", "deep"]
    by_zone = strata_of([make_outcome("a", (2, 1, 1), features={"zone": zones})])["zone"]
    assert list(by_zone) == ["lobar", "deep", "infratentorial", "unknown"]
    assert counts(by_zone["lobar"]) == [0, 0, 1]
    assert counts(by_zone["deep"]) == [0, 1, 0]
    assert counts(by_zone["unknown"]) == [1, 0, 0]


def test_features_that_nobody_knows_are_left_out(make_outcome) -> None:
    assert strata_of([make_outcome("a", (2, 1, 1))]) == {}


def test_sizes_of_one_side_only(make_outcome) -> None:
    """Truths are points, predictions masks: no precision of what is not known to be that size."""
    sizes = [math.nan, math.nan, 2.5]
    outcomes = [make_outcome("a", (1, 1, 1), features={"equivalent_diameter_mm": sizes})]
    by_size = strata_of(outcomes)["equivalent_diameter_mm"]
    assert by_size["2 to 3"]["false_positives_per_scan"] == 1
    assert by_size["2 to 3"]["precision"] is by_size["2 to 3"]["f1"] is None
    assert by_size["2 to 3"]["intervals"]["precision"] is None
    assert by_size["unknown"]["recall"] == 0.5
    assert by_size["unknown"]["precision"] is None


def test_by_attributes_of_the_scans(make_outcome) -> None:
    outcomes = [
        make_outcome("a", (3, 1, 0), attributes={"slice_thickness_mm": 1.0, "center": "B"}),
        make_outcome("b", (1, 2, 3), attributes={"slice_thickness_mm": 5.0, "center": "A"}),
        make_outcome("c", (0, 3, 0), attributes={"slice_thickness_mm": 1.5}),
    ]
    strata = strata_of(outcomes)
    assert set(strata) == {"slice_thickness_mm", "center"}
    thin = strata["slice_thickness_mm"]["0 to 1.5"]
    assert (thin["scans"], thin["lesions"], counts(thin)) == (2, 3, [3, 4, 0])
    assert thin["false_positives_per_scan"] == 2
    assert thin["precision"] == pytest.approx(3 / 7)
    assert list(strata["center"]) == ["A", "B", "unknown"]
    assert strata["center"]["unknown"]["recall"] is None
    assert strata["center"]["unknown"]["scans"] == 1


def test_other_columns_on_request(make_outcome) -> None:
    outcomes = [
        make_outcome(str(n), (1, 0, 0), attributes={"age": 50.0 + n, "sex": "FM"[n % 2]})
        for n in range(20)
    ]
    strata = strata_of(outcomes, ["sex", "age"])
    assert {name: entry["scans"] for name, entry in strata["sex"].items()} == {"F": 10, "M": 10}
    assert [entry["scans"] for entry in strata["age"].values()] == [5, 5, 5, 5]


def test_a_column_that_is_not_there(make_outcome) -> None:
    with pytest.raises(UsageError, match=r"'agee'.*age"):
        strata_of([make_outcome("a", (1, 0, 0), attributes={"age": 50.0})], ["agee"])


def test_a_column_without_a_value_is_shown_where_it_was_asked_for(make_outcome) -> None:
    outcomes = [make_outcome("a", (1, 0, 0), attributes={"center": "n/a"})]
    assert strata_of(outcomes) == {}
    by_center = strata_of(outcomes, ["center"])["center"]
    assert by_center["unknown"]["scans"] == 1
    assert list(strata_of(outcomes, ["zone"])["zone"]) == ["unknown"]


def test_a_column_of_names_is_no_stratum(make_outcome) -> None:
    outcomes = [make_outcome(str(n), (1, 0, 0), attributes={"patient": f"p{n}"}) for n in range(60)]
    with pytest.raises(UsageError, match=r"'patient'.*60.*50"):
        strata_of(outcomes, ["patient"])


def test_intervals_are_those_of_a_plain_loop(make_outcome) -> None:
    rng = np.random.default_rng(5)
    outcomes = [
        make_outcome(
            str(n), rng.integers(0, 4, 3).tolist(), attributes={"center": "AB"[n % 3 == 0]}
        )
        for n in range(15)
    ]
    bootstrap = draw_resamples(15, resamples=80, seed=2)
    stratum = scan_stratum(outcomes, count_scans(outcomes), "center", bootstrap)
    rates, recalls = [], []
    for draw in np.random.default_rng(2).integers(15, size=(80, 15)):
        scans = [outcomes[row] for row in draw if outcomes[row].attributes["center"] == "B"]
        if scans:
            rates.append(sum(scan.n_false_positive for scan in scans) / len(scans))
        n_true = sum(scan.n_true for scan in scans)
        if n_true:
            recalls.append(sum(scan.n_true_positive for scan in scans) / n_true)
    intervals = stratum["classes"][1]["intervals"]
    for name, values in (("false_positives_per_scan", rates), ("recall", recalls)):
        assert intervals[name] == pytest.approx(np.quantile(values, [0.025, 0.975]))


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_the_classes_make_up_the_cohort(any_cohort, data) -> None:
    outcomes = data.draw(any_cohort)
    by_slice = strata_of(outcomes, resamples=5)["slice_thickness_mm"]
    assert sum(entry["scans"] for entry in by_slice.values()) == len(outcomes)
    total = count_scans(outcomes).detection_table.sum(axis=0).tolist()
    assert np.sum([counts(entry) for entry in by_slice.values()], axis=0).tolist() == total
    assert np.bincount(counted_lesions(outcomes).columns, minlength=3).tolist() == total
