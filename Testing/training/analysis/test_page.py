"""The page, from rows: whatever datasets are called, and whatever they lack."""

from __future__ import annotations

import numpy as np
import pytest

from training.analysis.columns import BY_NAME
from training.analysis.distributions import compare_features
from training.analysis.overview import make_overview
from training.analysis.page import format_page
from training.analysis.plots import REFERENCE_COLOR, dataset_colors
from training.analysis.scan_analysis import ScanRecord
from training.analysis.tables import (
    distribution_table,
    lesion_table,
    overview_table,
    scan_table,
)

HOSTILE = '<script>alert("x")</script>, $a_{b}$ & "c"\n\x00\ud800 ]]> --'


def records(dataset: str, numbers: list[float], column: str) -> list[ScanRecord]:
    rows = tuple({"dataset": dataset, "scan_id": "a", column: number} for number in numbers)
    return [ScanRecord(dataset, "a", {"dataset": dataset, "scan_id": "a"}, rows)]


def page_of(given: list[ScanRecord], datasets: list[str], reference: str | None) -> str:
    overview = make_overview(given, datasets)
    features = compare_features(given, datasets, reference)
    for table in (
        lesion_table(given),
        scan_table(given),
        overview_table(overview, datasets),
        distribution_table(features, reference),
    ):
        assert "nan" not in table
    return format_page(given, datasets, reference, overview, features)


def test_hostile_names(check_page) -> None:
    given = [
        *records(HOSTILE, [1.0, 2.0, 3.0, 4.0, 5.0], "n_slices"),
        *records("b", [2.0] * 30, "n_slices"),
        ScanRecord(HOSTILE, HOSTILE, {"problem": HOSTILE}, problem=HOSTILE, exit_code=3),
    ]
    text = check_page(page_of(given, [HOSTILE, "b"], "b"))
    text.encode("utf-8")
    assert "<script>alert" not in text
    assert text.count("&lt;script&gt;alert") >= 4


@pytest.mark.parametrize("column", ["n_slices", "n_lesions", "depth_to_noise", "echo_time_ms"])
@pytest.mark.parametrize("numbers", [[3.0], [3.0] * 40, [-2.0, 0.0, 5.0], [1e-3, 1e6]])
def test_values_of_every_kind_are_drawn(check_page, column: str, numbers: list[float]) -> None:
    assert BY_NAME[column].is_drawn
    if column in ("n_lesions", "echo_time_ms"):
        given = [ScanRecord("a", f"{n}", {column: value}) for n, value in enumerate(numbers)]
    else:
        given = records("a", numbers, column)
    text = check_page(page_of(given, ["a"], None))
    assert text.count("<svg") == 1
    assert "nan" not in text.lower()


def test_datasets_without_lesions_or_values(check_page) -> None:
    nothing = [ScanRecord("a", "1", {"n_lesions": 0.0}), ScanRecord("b", "2", {})]
    text = check_page(page_of(nothing, ["a", "b"], "b"))
    assert "nothing is compared" in text


def test_a_difference_is_told_with_its_sign(check_page) -> None:
    rng = np.random.default_rng(0)
    given = [
        *records("real", rng.normal(5, 1, 60).tolist(), "mean_contrast"),
        *records("simulated", rng.normal(8, 1, 60).tolist(), "mean_contrast"),
    ]
    text = check_page(page_of(given, ["real", "simulated"], "simulated"))
    (feature,) = compare_features(given, ["real", "simulated"], "simulated")
    assert feature.differences["real"].standardized_difference < -2
    assert "Where datasets differ from simulated" in text
    assert (
        f"standardized difference -{-feature.differences['real'].standardized_difference:.2f}"
        in text
    )


def test_colors_tell_datasets_apart() -> None:
    colors = dataset_colors(["a", "b", "simulated"], "simulated")
    assert colors["simulated"] == REFERENCE_COLOR
    assert len(set(colors.values())) == 3
    assert set(dataset_colors([f"{n}" for n in range(20)], None)) == {f"{n}" for n in range(20)}
