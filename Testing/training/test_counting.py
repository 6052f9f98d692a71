"""Counting what was found: constructed scans with known answers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from CMBDetectorLib.evaluation.lesions import MarkedLesion
from CMBDetectorLib.evaluation.outcomes import LesionOutcome, ScanOutcome
from training.counting import count_scan, f1_score, scan_row, summarize, true_lesions

AFFINE = np.diag([-0.5, 0.5, 2.0, 1.0])
BALLS = [((6, 6, 0), 3.0, 15.0), ((-6, -6, 0), 3.0, 15.0), ((6, -8, 4), 3.0, 0.5)]


@pytest.fixture
def case(make_case):
    return make_case("15-a", "15", affine=AFFINE, shape=(60, 60, 14), balls=BALLS)


def at(case, offset_mm) -> tuple[float, ...]:
    return tuple(case.image.geometry.center_ras_mm + np.array(offset_mm))


def predictions(case, *offsets_mm) -> list[MarkedLesion]:
    return [MarkedLesion(n, at(case, offset)) for n, offset in enumerate(offsets_mm, start=1)]


def test_true_lesions_are_measured_in_the_truth(case) -> None:
    lesions = true_lesions(case, 2.0)
    assert [lesion.counts for lesion in lesions] == [True, True, False]
    for lesion, (center_mm, diameter_mm, _) in zip(lesions, BALLS, strict=True):
        assert np.linalg.norm(np.subtract(lesion.lesion.center_ras_mm, at(case, center_mm))) < 1.0
        assert lesion.lesion.equivalent_diameter_mm == pytest.approx(diameter_mm, rel=0.3)


def test_lesions_without_a_voxel_stand_where_they_were_meant(case) -> None:
    truth = case.truth.array.copy()
    truth[truth == 2] = 0
    case = replace(case, truth=case.truth.with_array(truth))
    lesion = true_lesions(case, 2.0)[1]
    assert not lesion.counts
    assert lesion.lesion.center_ras_mm == pytest.approx(at(case, BALLS[1][0]))


def test_hits_misses_second_hits_and_faint_ones(case) -> None:
    predicted = predictions(
        case,
        (6, 5, 0),  # the first lesion
        (6, 8, 0),  # a second hit on it
        (0, 0, 0),  # nothing there
        (6, -8, 5),  # the faint one
    )
    outcome = count_scan(case, predicted, true_lesions(case, 2.0))
    assert [(entry.side, entry.outcome, entry.partner) for entry in outcome.lesions] == [
        ("truth", "found", 1),
        ("truth", "missed", None),
        ("truth", "ignored", 4),
        ("prediction", "true", 1),
        ("prediction", "second hit", 1),
        ("prediction", "false", None),
        ("prediction", "ignored", 3),
    ]
    row = scan_row(outcome)
    assert (row["n_true_positive"], row["n_false_positive"], row["n_false_negative"]) == (1, 2, 1)
    assert row["n_uncounted"] == 1
    assert [hit for _, hit in row["found"]] == [True, False]
    assert row["slice_spacing_mm"] == 2.0
    assert row["case_id"] == "15-a"


def test_nothing_predicted(case) -> None:
    outcome = count_scan(case, [], true_lesions(case, 2.0))
    assert (outcome.n_true_positive, outcome.n_false_positive, outcome.n_false_negative) == (
        0,
        0,
        2,
    )
    assert summarize([outcome])["on_faint_lesions"] == 0


def scan(tp: int, fp: int, fn: int, *, slices_mm: float = 1.0, diameter_mm: float = 2.5):
    origin = (0.0, 0.0, 0.0)
    kinds = ["found"] * tp + ["missed"] * fn + ["true"] * tp + ["false"] * fp
    lesions = [
        LesionOutcome(
            "truth" if kind in ("found", "missed") else "prediction",
            MarkedLesion(number, origin, equivalent_diameter_mm=diameter_mm),
            kind,
        )
        for number, kind in enumerate(kinds, start=1)
    ]
    attributes = {"head": "15", "sequence": "SWI", "slice_thickness_mm": slices_mm}
    return ScanOutcome("x", tuple(lesions), attributes=attributes)


def test_summary_pools_over_all_scans() -> None:
    summary = summarize([scan(3, 1, 1), scan(0, 0, 0), scan(1, 2, 3, slices_mm=5, diameter_mm=1.5)])
    assert (summary["true_positives"], summary["false_positives"]) == (4, 3)
    assert summary["precision"] == pytest.approx(4 / 7, abs=1e-4)
    assert summary["recall"] == pytest.approx(4 / 8)
    assert summary["f1"] == pytest.approx(8 / 15, abs=1e-4)
    assert summary["false_positives_per_scan"] == pytest.approx(1.0)
    assert summary["recall_by_diameter_mm"]["2 to 3"] == {"lesions": 4, "recall": 0.75}
    assert summary["recall_by_diameter_mm"]["over 5"] == {"lesions": 0, "recall": None}
    assert summary["recall_by_slice_mm"]["over 3"] == {"lesions": 4, "recall": 0.25}
    assert summary["by_slice_mm"]["0 to 1.5"]["scans"] == 2
    low, high = summary["f1_95"]
    assert low <= summary["f1"] <= high


def test_what_is_undefined_is_none_and_never_a_number() -> None:
    summary = summarize([scan(0, 0, 0)])
    assert summary["precision"] is None
    assert summary["recall"] is None
    assert summary["f1"] is None
    assert summary["f1_95"] == [None, None]
    assert summary["false_positives_per_scan"] == 0.0
    assert f1_score([scan(0, 0, 0)]) == 0.0
