"""Rows, their order and the filter, without a widget."""

from __future__ import annotations

from dataclasses import replace

import pytest
from CMBDetectorSlicer.lesion_rows import (
    COLUMNS,
    EXPLANATIONS,
    TITLES,
    LesionRow,
    RowFilter,
    cellText,
    chosenPlaces,
    ownReadRow,
    placeText,
    rowOf,
    rowsOf,
    sortedIds,
)

from CMBDetectorLib.anatomy.schemes import REGIONS
from CMBDetectorLib.results import Detection
from CMBDetectorLib.review.changes import Change
from CMBDetectorLib.review.lesions import ReviewedLesion

NAN = float("nan")


def detection(label: int, **changes: object) -> Detection:
    base = Detection(
        label=label,
        center_ras_mm=(0.0, 0.0, 0.0),
        center_ijk=(0.0, 0.0, 0.0),
        axial_slice=1,
        volume_mm3=20.06,
        n_voxels=20,
        equivalent_diameter_mm=3.37,
        max_diameter_mm=4.0,
        elongation=0.9,
        mean_probability=0.6,
        peak_probability=0.9,
    )
    return replace(base, **changes)


def row(lesionId: int, **changes: object) -> LesionRow:
    base = LesionRow(
        lesionId, "lobar", "left", "frontal", 3.0, 14.1, 0.5, "unreviewed", "", "model"
    )
    return replace(base, **changes)


def test_everyColumnHasATitleAnExplanationAndAText() -> None:
    assert set(TITLES) == set(EXPLANATIONS) == set(COLUMNS)
    texts = [cellText(row(7, comment="near a vessel"), column) for column in COLUMNS]
    assert texts == [
        "7",
        "unreviewed",
        "lobar",
        "left",
        "frontal",
        "3.0",
        "0.50",
        "14.1",
        "near a vessel",
    ]


def test_rowHoldsWhatTheLesionSays() -> None:
    zone, regions = next(iter(REGIONS.items()))
    lesion = ReviewedLesion(
        detection=detection(4, region=regions[0], hemisphere="right"),
        origin="model",
        verdict="uncertain",
        comment="calcified?",
    )
    made = rowOf(lesion)
    assert (made.id, made.zone, made.side, made.region) == (4, zone, "right", regions[0])
    assert (made.diameterMm, made.volumeMm3, made.score) == (3.37, 20.06, 0.75)
    assert (made.verdict, made.comment, made.origin) == ("uncertain", "calcified?", "model")
    assert rowsOf([lesion, lesion]) == (made, made)


def test_lesionOfAReaderHasNoScoreAndAMark() -> None:
    bare = detection(9, mean_probability=NAN, peak_probability=NAN)
    made = rowOf(ReviewedLesion(detection=bare, origin="reader", verdict="accepted"))
    assert made.score is None
    assert cellText(made, "score") == "–"
    assert cellText(made, "number") == "9 +"
    assert [cellText(made, column) for column in ("zone", "side", "region")] == ["–"] * 3


LOCATED = {
    "region": "insula",
    "hemisphere": "left",
    "structure": "ctx-lh-insula",
    "structure_shares": (("ctx-lh-insula", 0.5), ("Left-Putamen", 0.5)),
    "distance_to_ventricle_mm": 20.0,
    "location_confidence": "low",
    "region_is_approximate": True,
}


def test_whatTheSoftwareIsNotSureOfIsMarked() -> None:
    places = [
        [cellText(made, column) for column in ("zone", "side", "region")]
        for made in (
            rowOf(ReviewedLesion(detection=detection(1, **LOCATED | changes), origin="model"))
            for changes in (
                {},
                {"location_confidence": "high"},
                {"location_confidence": "high", "region_is_approximate": False},
                {"region_is_approximate": False},
            )
        )
    ]
    assert places == [
        ["lobar ?", "left", "insula ~?"],
        ["lobar", "left", "insula ~"],
        ["lobar", "left", "insula"],
        ["lobar ?", "left", "insula ?"],
    ]
    made = rowOf(ReviewedLesion(detection=detection(1, **LOCATED), origin="model"))
    assert "Left-Putamen 50 %" in made.placeNote
    assert placeText(made).splitlines()[0] == "left, lobar ?, insula ~?"
    assert placeText(made).splitlines()[1:] == made.placeNote.splitlines()
    assert placeText(replace(made, side="not assessed", placeNote="")) == "lobar ?, insula ~?"
    bare = rowOf(ReviewedLesion(detection=detection(1), origin="model"))
    assert placeText(bare) == ""
    assert RowFilter(zone="lobar").accepts(made), "filters go by the zone, marked or not"
    rows = [row(2, zone="deep"), row(3, zone="lobar"), replace(made, id=9)]
    assert sortedIds(rows, "zone") == (3, 9, 2)


def test_ownReadRowDoesNotTellWhatTheModelFound() -> None:
    found = detection(3, **LOCATED)
    byModel = ReviewedLesion(detection=found, origin="model", verdict="accepted")
    bare = detection(41, mean_probability=NAN, peak_probability=NAN)
    byReader = ReviewedLesion(detection=bare, origin="reader", verdict="accepted")
    one, other = ownReadRow(byModel), ownReadRow(byReader)
    assert [cellText(one, c) for c in COLUMNS] == [cellText(other, c) for c in COLUMNS]
    assert one.placeNote == other.placeNote == ""
    chosen = ownReadRow(byModel, {("region", 3), ("hemisphere", 41)})
    assert [cellText(chosen, column) for column in ("side", "region")] == ["–", "insula"]


def test_whatTheReaderHasChosenOfPlaces() -> None:
    def change(action: str, *ids: int, of: str = "") -> Change:
        return Change("2025-01-01T00:00:00Z", "", action, ids, {"of": of} if of else {})

    changes = [
        change("verdict", 1),
        change("region", 1, 2),
        change("hemisphere", 2),
        change("undo", 2, of="set the hemisphere of CMB 2"),
        change("undo", 1, 2, of="set the region of 2 lesions"),
    ]
    assert chosenPlaces(changes[:3]) == {("region", 1), ("region", 2), ("hemisphere", 2)}
    assert chosenPlaces(changes) == set()
    twice = [*changes[:2], change("region", 1), change("undo", 1, of="set the region of CMB 1")]
    assert chosenPlaces(twice) == {("region", 1), ("region", 2)}, "the first choice stands"
    again = change("redo", 1, 2, of="set the region of 2 lesions")
    assert chosenPlaces([*changes, again]) == {("region", 1), ("region", 2)}


@pytest.mark.parametrize(
    ("column", "ascending", "descending"),
    [
        ("number", (1, 2, 3, 10), (10, 3, 2, 1)),
        ("score", (3, 1, 2, 10), (1, 3, 2, 10)),  # 2 and 10 have none
        ("diameter", (2, 1, 3, 10), (10, 1, 3, 2)),  # 1 and 3 are equal
        ("verdict", (3, 10, 1, 2), (2, 1, 3, 10)),
        ("zone", (2, 10, 3, 1), (3, 2, 10, 1)),  # 1 is not assessed
        ("comment", (10, 2, 1, 3), (2, 10, 1, 3)),
    ],
)
def test_order(column: str, ascending: tuple[int, ...], descending: tuple[int, ...]) -> None:
    rows = [
        row(10, score=None, diameterMm=10.0, zone="lobar", comment="a"),
        row(2, score=None, diameterMm=2.0, zone="lobar", verdict="rejected", comment="B"),
        row(1, score=0.9, diameterMm=5.0, zone="not assessed", verdict="accepted"),
        row(3, score=0.2, diameterMm=5.0, zone="deep"),
    ]
    assert sortedIds(rows, column) == ascending
    assert sortedIds(rows, column, descending=True) == descending
    assert sortedIds(rows[::-1], column) == ascending


def test_filter() -> None:
    assert RowFilter().accepts(row(1, score=0.0))
    assert RowFilter(zone="lobar").accepts(row(1))
    assert not RowFilter(zone="deep").accepts(row(1))
    assert RowFilter(verdict="unreviewed").accepts(row(1))
    assert not RowFilter(verdict="accepted").accepts(row(1))
    assert RowFilter(minScore=0.5).accepts(row(1, score=0.497)), "the table shows 0.50"
    assert not RowFilter(minScore=0.5).accepts(row(1, score=0.494))
    assert RowFilter(minScore=1.0).accepts(row(1, score=None)), "a reader's own lesion stays"


def test_verdictsAreTheLibrarysOwn() -> None:
    from typing import get_args

    from CMBDetectorSlicer.lesion_rows import VERDICTS

    from CMBDetectorLib.review.lesions import Verdict

    assert set(VERDICTS) == set(get_args(Verdict))
