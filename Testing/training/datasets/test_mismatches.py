from __future__ import annotations

import csv
import io
import math

import numpy as np
import pytest

from CMBDetectorLib.errors import UsageError
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.volume import Volume
from training.datasets.growing import grow_masks
from training.datasets.mismatches import (
    MISMATCH_COLUMNS,
    Mismatch,
    compare_listed_found,
    format_mismatches,
    mismatches_of_growing,
)

HERE, NEAR, FAR = [0.0, 0.0, 0.0], [3.0, 0.0, 0.0], [40.0, 0.0, 0.0]


def summary(mismatches: tuple[Mismatch, ...]) -> list[tuple[str, int | None, int | None]]:
    return [(entry.code, entry.listed, entry.found) for entry in mismatches]


def test_nothing_to_report() -> None:
    assert compare_listed_found("s", [HERE, FAR], [FAR, NEAR]) == ()
    assert compare_listed_found("s", [], np.empty((0, 3))) == ()


def test_missing_on_either_side() -> None:
    mismatches = compare_listed_found("s", [HERE, FAR], [NEAR])
    assert summary(mismatches) == [("listed-not-found", 2, None), ("count-differs", 2, 1)]
    assert mismatches[0].point_ras_mm == tuple(FAR)
    assert math.isnan(mismatches[0].distance_mm)
    mismatches = compare_listed_found("s", [], [NEAR, FAR])
    assert summary(mismatches)[:2] == [("found-not-listed", None, 1), ("found-not-listed", None, 2)]
    # As many on both sides, and still none of them the same.
    mismatches = compare_listed_found("s", [HERE], [FAR])
    assert [entry.code for entry in mismatches] == ["listed-not-found", "found-not-listed"]


def test_two_on_one() -> None:
    mismatches = compare_listed_found(
        "s", [NEAR, HERE], [[0.5, 0, 0]], listed_numbers=[7, 8], found_numbers=[4]
    )
    assert summary(mismatches) == [("merged", 7, 4), ("count-differs", 2, 1)]
    assert mismatches[0].distance_mm == pytest.approx(2.5)
    assert "listed lesion 8" in mismatches[0].message
    mismatches = compare_listed_found("s", [[0.5, 0, 0]], [NEAR, HERE])
    assert summary(mismatches) == [("split", 1, 1), ("count-differs", 1, 2)]
    assert mismatches[0].distance_mm == pytest.approx(2.5)


def test_tolerance_and_its_own_count() -> None:
    assert compare_listed_found("s", [HERE], [[5.0, 0, 0]]) == ()
    assert len(compare_listed_found("s", [HERE], [[5.1, 0, 0]])) == 2
    assert len(compare_listed_found("s", [HERE], [NEAR], tolerance_mm=2.0)) == 2
    (count,) = compare_listed_found("s", [HERE], [NEAR], n_listed=3)
    assert (count.code, count.listed, count.found) == ("count-differs", 3, 1)
    assert count.point_ras_mm is None
    with pytest.raises(UsageError):
        compare_listed_found("s", [HERE], [NEAR], tolerance_mm=-1)
    with pytest.raises(UsageError):
        compare_listed_found("s", [[0.0, math.nan, 0.0]], [NEAR])


def grown_image() -> Volume:
    geometry = Geometry((40, 40, 20), np.diag([0.5, 0.5, 1.0, 1.0]))
    array = np.random.default_rng(0).normal(800, 5, geometry.shape)
    array[9:12, 9:12, 9:12] = 200
    array[29:32, 29:32, 9:12] = 200
    return Volume(array, geometry)


def test_what_did_not_grow_is_listed() -> None:
    seeds = [[5.0, 5.0, 10.0], [5.5, 5.0, 10.0], [15.0, 5.0, 10.0], [15.0, 15.0, 10.0], FAR]
    grown = grow_masks(grown_image(), seeds)
    mismatches = mismatches_of_growing("scan", grown)
    assert summary(mismatches) == [
        ("merged", 2, 1),
        ("refused", 3, None),
        ("outside", 5, None),
        ("count-differs", 5, 2),
    ]
    assert mismatches[0].distance_mm == pytest.approx(0.5)
    assert mismatches[1].point_ras_mm == (15.0, 5.0, 10.0)
    assert "darker" in mismatches[1].message
    drawn = mismatches_of_growing(
        "scan", grow_masks(grown_image(), seeds[2:3], keep_refused="ball")
    )
    assert summary(drawn) == [("drawn-as-ball", 1, 1)]
    fine = grow_masks(grown_image(), seeds[3:4])
    assert mismatches_of_growing("scan", fine) == ()
    assert summary(mismatches_of_growing("scan", fine, n_listed=2)) == [("count-differs", 2, 1)]


def test_table() -> None:
    mismatches = compare_listed_found("sub-1, odd", [HERE, FAR], [NEAR], n_listed=1)
    rows = list(csv.DictReader(io.StringIO(format_mismatches(mismatches), newline="")))
    assert tuple(rows[0]) == MISMATCH_COLUMNS
    assert rows == [entry.to_row() for entry in mismatches]
    assert rows[0]["scan_id"] == "sub-1, odd"
    assert rows[0]["x_ras_mm"] == "40.000"
    assert rows[0]["found"] == rows[0]["distance_mm"] == "n/a"
    assert format_mismatches([]).strip() == ",".join(MISMATCH_COLUMNS)
