"""Figures of constructed scans with known answers."""

from __future__ import annotations

import numpy as np
import pytest

from CMBDetectorLib.evaluation.lesions import MarkedLesion
from CMBDetectorLib.evaluation.outcomes import LesionOutcome, ScanOutcome
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.volume import Volume
from training.measures.figures import Figure, measure_figures, summarize_measure
from training.measures.scans import slice_class
from training.measures.tables import table


def scan(
    tp: int = 0, fp: int = 0, fn: int = 0, *, diameter_mm: float = 3.0, faint: int = 0, **known
) -> ScanOutcome:
    kinds = ["found"] * tp + ["missed"] * fn + ["ignored"] * faint + ["true"] * tp + ["false"] * fp
    lesions = [
        LesionOutcome(
            "truth" if kind in ("found", "missed", "ignored") else "prediction",
            MarkedLesion(
                number,
                (0.0, 0.0, 0.0),
                score=0.7,
                equivalent_diameter_mm=diameter_mm,
                region="superficial",
            ),
            kind,
        )
        for number, kind in enumerate(kinds, start=1)
    ]
    attributes = {"image": "magnitude", "slice_class": "up to 2 mm"} | known
    return ScanOutcome("x", tuple(lesions), attributes=attributes)


def named(measure: str, outcomes: list[ScanOutcome]) -> dict[str, Figure]:
    return {figure.name: figure for figure in measure_figures(measure, outcomes)}


@pytest.mark.parametrize(
    ("spacing_mm", "expected"),
    [
        (1.0, "up to 2 mm"),
        (2.0, "up to 2 mm"),
        (2.1, "2 to 3.5 mm"),
        (3.5, "2 to 3.5 mm"),
        (4.0, "over 3.5 mm"),
    ],
)
def test_slice_classes_hold_their_upper_end(spacing_mm: float, expected: str) -> None:
    for axis in range(3):
        spacing = [0.5, 0.5, 0.5]
        spacing[axis] = spacing_mm
        grid = Geometry((2, 2, 2), np.diag([*spacing, 1.0]))
        assert slice_class(Volume(np.zeros((2, 2, 2)), grid)) == expected


def test_drawn_volume_is_the_median_over_found_lesions() -> None:
    def pair(number: int, true_mm3: float, drawn_mm3: float) -> list[LesionOutcome]:
        sides = (("truth", "found", true_mm3, 0), ("prediction", "true", drawn_mm3, 50))
        return [
            LesionOutcome(
                side,
                MarkedLesion(number + more, (0.0, 0.0, 0.0), score=0.7, volume_mm3=volume_mm3),
                fate,
                partner=number + 50 - more,
            )
            for side, fate, volume_mm3, more in sides
        ]

    attributes = {"image": "magnitude", "slice_class": "up to 2 mm"}
    missed = LesionOutcome("truth", MarkedLesion(9, (0.0, 0.0, 0.0), volume_mm3=1.0), "missed")
    lesions = [*pair(1, 10, 5), *pair(2, 10, 10), *pair(3, 10, 30), missed]
    outcome = ScanOutcome("x", tuple(lesions), attributes=attributes)
    for measure in "ac":
        figure = named(measure, [outcome])["drawn over true volume, median"]
        assert (figure.value, figure.basis) == (1.0, "3 lesions found")
    assert named("a", [scan(0, 1, 1)])["drawn over true volume, median"].value is None


def test_simulated_heads_by_slices() -> None:
    figures = named(
        "a",
        [
            scan(9, 1, 1),
            scan(9, 0, 1),
            scan(7, 3, 3, slice_class="over 3.5 mm"),
        ],
    )
    thin = figures["F1, slices up to 2 mm"]
    assert thin.value == pytest.approx(36 / (36 + 1 + 2))
    assert thin.met is True
    assert thin.basis == "18 TP, 1 FP, 2 FN, 2 scans"
    thick = figures["F1, slices over 3.5 mm"]
    assert thick.value == pytest.approx(0.7)
    assert thick.met is False  # 3 false positives in its scan
    middle = figures["F1, slices 2 to 3.5 mm"]
    assert (middle.value, middle.met, middle.basis) == (None, None, "no scan")
    assert figures["FP/scan, all slices"].value == pytest.approx(4 / 3)


def test_healthy_head_by_image() -> None:
    figures = named("b", [scan(fp=1), scan(fp=2, image="SWI"), scan(image="SWI, thick slices")])
    assert (figures["FP, magnitude"].value, figures["FP, magnitude"].met) == (1.0, True)
    assert (figures["FP, SWI"].value, figures["FP, SWI"].met) == (2.0, False)
    assert figures["FP, SWI, thick slices"].aim == ""
    # an interval of one scan would say that it is sure
    assert figures["FP, SWI"].interval is None


def test_recall_over_a_size_leaves_small_and_faint_lesions_out() -> None:
    thick = {"image": "magnitude, thick slices", "slice_class": "2 to 3.5 mm"}
    figures = named(
        "c",
        [
            scan(3, 1, 1, diameter_mm=2.6, faint=2),
            scan(1, 0, 4, diameter_mm=2.5),
            scan(0, 0, 5, diameter_mm=4.0, **thick),
        ],
    )
    large = figures["recall over 2.5 mm"]
    assert large.value == pytest.approx(0.75)
    assert large.met is False
    assert large.basis == "3 of 4 lesions, 2 scans, 2 too faint to count"
    assert figures["recall, all sizes"].value == pytest.approx(4 / 9)
    assert figures["recall over 2.5 mm, magnitude, thick slices"].value == 0.0
    assert figures["FP/scan, all images"].value == pytest.approx(1 / 3)


def test_real_scans_meet_the_aim_only_within_its_false_positives() -> None:
    few = named("d", [scan(1, 1, 0), scan(1, 0, 1)])["F1"]
    assert few.value == pytest.approx(2 / 3)
    assert few.met is True
    low, high = few.interval
    assert low <= few.value <= high
    many = named("d", [scan(9, 5, 0)])["F1"]
    assert many.value > 0.5
    assert many.met is False
    assert named("d", [scan()])["F1"].value is None


def test_summary_tells_false_positives_and_places() -> None:
    summary = summarize_measure([scan(2, 1, 1, faint=1), scan(1, 0, 0, image="SWI")])
    assert (summary["true_positives"], summary["false_negatives"]) == (3, 1)
    assert summary["rows"][0]["invisible"] == 1
    assert summary["rows"][0]["false"] == [
        {"center_ras_mm": [0.0, 0.0, 0.0], "score": 0.7, "diameter_mm": 3.0}
    ]
    place = {one["class"]: one for one in summary["by_lesion"]["region"]}["superficial"]
    assert (place["lesions"], place["recall"]) == (4, 0.75)
    assert [one["class"] for one in summary["by_scan"]["image"]] == ["SWI", "magnitude"]


def test_columns_line_up() -> None:
    lines = table(["a", "long"], [["wide one", "b"]])
    assert lines == ["| a        | long |", "| -------- | ---- |", "| wide one | b    |"]
