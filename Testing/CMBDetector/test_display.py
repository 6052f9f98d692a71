"""Overlay, frame and surfaces, as Slicer's own slice and 3D views draw them."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import slicer
import slicer.util
from CMBDetectorSlicer import display, views
from CMBDetectorSlicer.segments import segmentIdOf, surfaceName
from CMBDetectorSlicer.volumes import worldFromLocal
from rendering import SliceViews
from sessions import addResult, addTransform, makeGeometry, tilt

from CMBDetectorLib.reporting.terminology import VERDICT_COLORS

SIZE = (400, 300)
CENTERS = [(40, 40, 15), (60, 60, 20), (80, 50, 20), (62, 70, 24)]
FOV_MM = 40.0
NAMES = ("Red", "Yellow", "Green")


@pytest.fixture
def result(scene: Any) -> tuple[Any, Any]:
    nodes, session = addResult(makeGeometry((120, 110, 40)), CENTERS, radiusMm=2.2)
    addTransform(tilt(20, 2), nodes.volumeNode)
    session.set_verdict([3], "uncertain")
    nodes.refresh(session, None)
    window = nodes.volumeNode.GetDisplayNode()
    window.AutoWindowLevelOff()
    window.SetWindowLevel(160, 60)
    return nodes, session


@pytest.fixture
def drawn(result: tuple[Any, Any], drawing: None) -> Iterator[SimpleNamespace]:
    """The result in slice views, centered on its second lesion."""
    nodes, session = result
    slices = SliceViews(slicer.mrmlScene, slicer.app.applicationLogic())
    slices.show(nodes.volumeNode)
    views.showVolume(nodes.volumeNode)
    for name in NAMES:
        slices.resize(name, SIZE)
    world = worldFromLocal(nodes.volumeNode, session.lesion(2).detection.center_ras_mm)
    views.jumpTo(world, FOV_MM)
    picture = lambda name="Red": slices.render(name, SIZE).astype(int)  # noqa: E731
    yield SimpleNamespace(
        nodes=nodes, session=session, picture=picture, picture3D=lambda: slices.render3D(SIZE)
    )
    slices.close()


def colored(picture: np.ndarray) -> np.ndarray:
    """Pixels that are not gray."""
    return np.ptp(picture, axis=-1) > 30


def middle(picture: np.ndarray) -> np.ndarray:
    return picture[SIZE[1] // 2, SIZE[0] // 2]


@pytest.mark.parametrize("name", NAMES)
def testAFilledLesionIsInTheMiddleOfEveryViewInItsColor(drawn: Any, name: str) -> None:
    red, green, blue = middle(drawn.picture(name))
    wanted = np.array(VERDICT_COLORS["unreviewed"])

    assert red > 1.5 * blue
    assert abs(green / red - wanted[1] / wanted[0]) < 0.15


@pytest.mark.parametrize("name", NAMES)
def testAnOutlineLeavesTheLesionItself(drawn: Any, name: str) -> None:
    filled = colored(drawn.picture(name)).sum()
    display.setOverlay(drawn.nodes, "outline")
    picture = drawn.picture(name)

    assert display.overlay(drawn.nodes) == "outline"
    assert not middle(colored(picture))
    assert 0 < colored(picture).sum() < filled


def testHiddenIsThePlainImage(drawn: Any) -> None:
    display.highlight(drawn.nodes, 2)
    display.setOverlay(drawn.nodes, "hidden")

    assert display.overlay(drawn.nodes) == "hidden"
    for name in NAMES:
        assert not colored(drawn.picture(name)).any()

    display.highlight(drawn.nodes, 1)
    assert not colored(drawn.picture()).any()
    display.setOverlay(drawn.nodes, "filled")
    assert middle(colored(drawn.picture()))


def testARejectedLesionIsNotDrawn(drawn: Any) -> None:
    drawn.nodes.refresh(drawn.session, drawn.session.set_verdict([2], "rejected"))
    assert not middle(colored(drawn.picture()))

    drawn.nodes.refresh(drawn.session, drawn.session.undo())
    assert middle(colored(drawn.picture()))


def testTheVerdictsColorIsDrawn(drawn: Any) -> None:
    drawn.nodes.refresh(drawn.session, drawn.session.set_verdict([2], "accepted"))

    red, green, blue = middle(drawn.picture())
    assert green > blue > red


@pytest.mark.parametrize("name", NAMES)
def testTheFrameSurroundsTheLesionAndLeavesIt(drawn: Any, name: str) -> None:
    before = drawn.picture(name)
    display.highlight(drawn.nodes, 2)
    changed = np.abs(drawn.picture(name) - before).max(axis=-1) > 30

    rows, columns = np.nonzero(changed)
    pixelsPerMm = SIZE[1] / FOV_MM
    for places, length in ((rows, SIZE[1]), (columns, SIZE[0])):
        assert abs((places.min() + places.max()) / 2 - length / 2) < 4
        assert abs(np.ptp(places) / pixelsPerMm - 14) < 1
    half = int(5 * pixelsPerMm)
    y, x = SIZE[1] // 2, SIZE[0] // 2
    assert not changed[y - half : y + half, x - half : x + half].any()

    display.highlight(drawn.nodes, None)
    np.testing.assert_array_equal(drawn.picture(name), before)


def testTheFrameIsNeitherSavedNorListedAndThereIsOne(result: Any) -> None:
    nodes, _ = result
    display.highlight(nodes, 2)
    display.highlight(nodes, 3)

    frames = slicer.util.getNodesByClass("vtkMRMLMarkupsROINode")
    assert len(frames) == 1
    assert frames[0].GetHideFromEditors()
    assert frames[0].GetLocked()
    assert not frames[0].GetSaveWithScene()
    assert not frames[0].GetDisplayNode().GetSaveWithScene()

    nodes.remove()
    assert slicer.util.getNodesByClass("vtkMRMLMarkupsROINode") == []
    assert slicer.util.getNodesByClass("vtkMRMLMarkupsROIDisplayNode") == []


def testOneSegmentInOneColor(drawn: Any) -> None:
    orange = np.array(VERDICT_COLORS["uncertain"]) * 255
    isOrange = lambda p: (p[..., 0] > 2.5 * p[..., 2] + 40) & (p[..., 1] < 0.7 * p[..., 0])  # noqa: E731
    assert isOrange(orange[None])
    assert isOrange(drawn.picture()).any()
    before = colored(drawn.picture())

    drawn.nodes.setOneSegment(True)
    after = drawn.picture()

    assert not isOrange(after).any()
    assert (colored(after) == before).mean() > 0.99
    display.setOverlay(drawn.nodes, "hidden")
    assert not colored(drawn.picture()).any()
    display.setOverlay(drawn.nodes, "outline")
    drawn.nodes.setOneSegment(False)
    assert display.overlay(drawn.nodes) == "outline"
    assert isOrange(drawn.picture()).any()


def testSurfacesInThe3DView(drawn: Any) -> None:
    def isYellow() -> bool:
        picture = drawn.picture3D().astype(int)
        return bool(((picture[..., 0] > 150) & (picture[..., 2] < 100)).any())

    assert not display.show3D(drawn.nodes)
    assert not isYellow()
    display.setShow3D(drawn.nodes, True)
    assert display.show3D(drawn.nodes)
    assert isYellow()
    display.setShow3D(drawn.nodes, False)
    assert not isYellow()


def testASurfaceIsAsLargeAsItsLesionAndWhereItIs(result: Any) -> None:
    nodes, session = result
    display.setShow3D(nodes, True)

    for lesion in session.lesions:
        surface = surfaceOf(nodes, lesion.id)
        found = np.array(surface.GetBounds()).reshape(3, 2)
        np.testing.assert_allclose(found.mean(axis=1), lesion.detection.center_ras_mm, atol=0.3)
        assert 3.0 < np.ptp(found, axis=1).max() < 7.5


def testOnlyChangedLesionsGetANewSurface(result: Any) -> None:
    nodes, session = result
    display.setShow3D(nodes, True)
    kept, old = surfaceOf(nodes, 1), surfaceOf(nodes, 2)

    voxels = session.voxels_ijk(2)[:6]
    nodes.refresh(session, session.redraw({2: voxels}))

    assert surfaceOf(nodes, 1) is kept
    assert surfaceOf(nodes, 2) is not old
    assert surfaceOf(nodes, 2).GetNumberOfPoints() < old.GetNumberOfPoints()


def testSurfacesFollowFromOneSegmentationToTheOther(result: Any) -> None:
    nodes, _ = result
    display.setShow3D(nodes, True)

    nodes.setOneSegment(True)
    assert nodes.combinedNode.GetSegmentation().ContainsRepresentation(surfaceName())
    assert not nodes.segmentationNode.GetSegmentation().ContainsRepresentation(surfaceName())
    nodes.setOneSegment(False)
    assert surfaceOf(nodes, 1).GetNumberOfPoints() > 0


def surfaceOf(nodes: Any, lesionId: int) -> Any:
    segmentation = nodes.segmentationNode.GetSegmentation()
    return segmentation.GetSegment(segmentIdOf(lesionId)).GetRepresentation(surfaceName())
