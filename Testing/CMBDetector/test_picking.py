"""Clicks in slice views, and the lesions they hit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import slicer
from CMBDetectorSlicer import views
from CMBDetectorSlicer.picking import SlicePicker, lesionAt
from CMBDetectorSlicer.result_nodes import ResultNodes
from CMBDetectorSlicer.volumes import worldFromLocal
from rendering import SliceViews
from sessions import addResult, addTransform, addVolume, imageOf, makeGeometry, makeSession, tilt

from CMBDetectorLib.geometry import Geometry

CENTERS = [(10, 9, 6), (30, 30, 12)]


@pytest.mark.parametrize("isMoved", [False, True], ids=["as it is", "under a transform"])
def testEveryVoxelOfALesionIsTheLesionInEveryAxisOrder(
    scene: Any, axis_order_affine: np.ndarray, isMoved: bool
) -> None:
    geometry = Geometry((20, 18, 10), tilt(14, 0) @ axis_order_affine)
    session = makeSession(geometry, [(5, 5, 3), (14, 12, 6)], 1.6)
    volume = addVolume(imageOf(session))
    if isMoved:
        addTransform(tilt(50, 1), volume)
    nodes = ResultNodes.create(volume, session)

    for lesionId in (1, 2):
        local = geometry.ijk_to_ras_mm(session.voxels_ijk(lesionId))
        for point in worldFromLocal(volume, local):
            assert lesionAt(nodes, session, point) == lesionId


def testTheClosestLesionWithinReach(scene: Any) -> None:
    geometry = Geometry((40, 20, 20), np.diag([0.5, 1.0, 1.0, 1.0]))
    nodes, session = addResult(geometry, [(10, 10, 10), (26, 10, 10)], 1.0)
    # The balls reach from 3.75 to 6.25 mm and from 11.75 to 14.25 mm, counting whole voxels.

    assert lesionAt(nodes, session, (8.0, 10.0, 10.0)) == 1
    assert lesionAt(nodes, session, (10.0, 10.0, 10.0)) == 2
    assert lesionAt(nodes, session, (8.4, 10.0, 10.0)) is None
    assert lesionAt(nodes, session, (9.1, 10.0, 10.0), reachMm=3.0) == 2
    assert lesionAt(nodes, session, (-500.0, 10.0, 10.0)) is None


def testARejectedLesionCanStillBePicked(scene: Any) -> None:
    nodes, session = addResult(makeGeometry(), CENTERS)
    nodes.refresh(session, session.set_verdict([1], "rejected"))

    assert lesionAt(nodes, session, session.lesion(1).detection.center_ras_mm) == 1


@pytest.fixture
def clicks(scene: Any, drawing: None) -> Iterator[Any]:
    """A view with an interactor, its picker, and what it reported."""
    nodes, session = addResult(makeGeometry(), CENTERS)
    slices = SliceViews(slicer.mrmlScene, slicer.app.applicationLogic())
    slices.show(nodes.volumeNode)
    slices.resize("Green", (300, 200))
    views.jumpTo(session.lesion(2).detection.center_ras_mm, 30.0)
    view = slices.view("Green")
    points: list[Any] = []
    picker = SlicePicker(points.append)
    picker.watch(view.interactor, view.node)

    def press(start: tuple[int, int], end: tuple[int, int]) -> list[Any]:
        points.clear()
        view.interactor.SetEventPosition(*start)
        view.interactor.InvokeEvent("LeftButtonPressEvent")
        view.interactor.SetEventPosition(*end)
        view.interactor.InvokeEvent("LeftButtonReleaseEvent")
        return list(points)

    yield nodes, session, press, picker
    picker.stop()
    slices.close()


def testAClickInTheMiddleIsThePointJumpedTo(clicks: Any) -> None:
    nodes, session, press, _ = clicks

    (point,) = press((150, 100), (151, 99))

    np.testing.assert_allclose(point, session.lesion(2).detection.center_ras_mm, atol=0.3)
    assert lesionAt(nodes, session, point) == 2


def testADragIsNoClick(clicks: Any) -> None:
    _, _, press, _ = clicks

    assert press((150, 100), (150, 140)) == []


def testAClickThatPlacesAMarkupIsNotOurs(clicks: Any) -> None:
    _, _, press, _ = clicks
    interaction = slicer.app.applicationLogic().GetInteractionNode()
    interaction.SetCurrentInteractionMode(slicer.vtkMRMLInteractionNode.Place)
    try:
        assert press((150, 100), (150, 100)) == []
    finally:
        interaction.SetCurrentInteractionMode(slicer.vtkMRMLInteractionNode.ViewTransform)
    assert len(press((150, 100), (150, 100))) == 1


def testNothingIsReportedAfterTheEnd(clicks: Any) -> None:
    _, _, press, picker = clicks
    assert picker.isOn

    picker.stop()

    assert not picker.isOn
    assert press((150, 100), (150, 100)) == []


def testAllViewsOfTheLayoutAreWatchedOnce(scene: Any, drawing: None) -> None:
    points: list[Any] = []
    picker = SlicePicker(points.append)
    picker.start()
    picker.start()
    manager = slicer.app.layoutManager()
    for name in manager.sliceViewNames():
        interactor = manager.sliceWidget(name).sliceView().interactor()
        for event in ("LeftButtonPressEvent", "LeftButtonReleaseEvent"):
            interactor.InvokeEvent(event)
    assert len(points) == len(manager.sliceViewNames()) > 0
    picker.stop()
