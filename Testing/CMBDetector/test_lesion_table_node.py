"""The table and the point list of a result."""

from __future__ import annotations

import math
from typing import Any

import pytest
from CMBDetectorSlicer.lesion_points import fillPoints
from CMBDetectorSlicer.lesion_table_node import fillTable
from sessions import ball, makeGeometry, makeSession

CENTERS = [(8, 9, 4), (30, 12, 7)]


@pytest.fixture
def session(scene: Any) -> Any:
    session = makeSession(makeGeometry(), CENTERS)
    session.set_region([1], "thalamus")
    session.set_hemisphere([1], "left")
    session.set_comment(1, "next to a vessel")
    session.set_verdict([2], "rejected")
    session.add(ball(makeGeometry(), (20, 33, 14), 1.7))
    return session


def column(table: Any, name: str) -> list[str]:
    index = table.GetColumnIndex(name)
    assert index >= 0, name
    return [table.GetCellText(row, index) for row in range(table.GetNumberOfRows())]


def testTheTableHoldsAllLesionsAndWhatWasDecided(scene: Any, session: Any) -> None:
    table = scene.AddNewNodeByClass("vtkMRMLTableNode")

    fillTable(table, session.lesions)

    assert column(table, "lesion") == ["1", "2", "3"]
    assert column(table, "verdict") == ["unreviewed", "rejected", "accepted"]
    assert column(table, "origin") == ["model", "model", "reader"]
    assert column(table, "zone") == ["deep", "not assessed", "not assessed"]
    assert column(table, "region")[0] == "thalamus"
    assert column(table, "bombs_region")[0] == "thalamus"
    assert column(table, "location_confidence")[0] == "", "a reader has chosen it"
    assert math.isnan(float(column(table, "distance_to_ventricle_mm")[0]))
    assert column(table, "hemisphere")[0] == "left"
    assert column(table, "comment")[0] == "next to a vessel"
    first = session.lesion(1).detection
    numbers = ("x_ras_mm", "y_ras_mm", "z_ras_mm")
    for name, value in zip(numbers, first.center_ras_mm, strict=True):
        assert float(column(table, name)[0]) == pytest.approx(value, abs=1e-3)
    assert float(column(table, "volume_mm3")[0]) == pytest.approx(first.volume_mm3, rel=1e-3)
    assert float(column(table, "score")[0]) == pytest.approx(first.score, rel=1e-3)
    assert math.isnan(float(column(table, "score")[2]))
    assert table.GetLocked()


def testTheTableFollows(scene: Any, session: Any) -> None:
    table = scene.AddNewNodeByClass("vtkMRMLTableNode")
    fillTable(table, session.lesions)
    session.remove(2)

    fillTable(table, session.lesions)

    assert column(table, "lesion") == ["1", "3"]


def testPointsAreNamedLockedAndHiddenWhereRejected(scene: Any, session: Any) -> None:
    points = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode")

    fillPoints(points, session.lesions)

    assert points.GetLocked()
    assert [points.GetNthControlPointLabel(n) for n in range(3)] == ["CMB 1", "CMB 2", "CMB 3"]
    assert [points.GetNthControlPointVisibility(n) for n in range(3)] == [True, False, True]
    assert points.GetNthControlPointDescription(1) == "rejected"
    for index, lesion in enumerate(session.lesions):
        found = tuple(points.GetNthControlPointPosition(index))
        assert found == pytest.approx(lesion.detection.center_ras_mm)

    session.remove(1)
    fillPoints(points, session.lesions)
    assert [points.GetNthControlPointLabel(n) for n in range(2)] == ["CMB 2", "CMB 3"]
    assert points.GetNumberOfControlPoints() == 2
