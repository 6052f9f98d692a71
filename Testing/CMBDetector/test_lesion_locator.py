"""Where a lesion lies that a reader adds: by the anatomy in the scene, as the command line says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import review_scene
import slicer
from CMBDetectorSlicer.anatomy_overlay import anatomySegmentation
from CMBDetectorSlicer.lesion_locator import LesionLocator
from CMBDetectorSlicer.lesion_rows import COLUMNS
from CMBDetectorSlicer.result_nodes import ResultNodes
from CMBDetectorSlicer.segments import imageArray
from review_scene import MISSED_IJK, OpenResult
from sessions import addResult, addTransform, makeAnatomy, makeGeometry, tilt
from test_anatomy_input import addSegment

from CMBDetectorLib.anatomy.located import located
from CMBDetectorLib.anatomy.location import locate_lesions
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.results import NOT_ASSESSED, Detection
from CMBDetectorLib.volume import Volume

SHAPE = (40, 44, 20)
DISTANCES = ("distance_to_ventricle_mm", "distance_to_brain_surface_mm")
PLACES = ([[9, 9, 4], [9, 10, 4]], [[30, 30, 12]], [[3, 40, 2]], [[20, 22, 10], [25, 22, 10]])


def anatomy(grid: Geometry) -> Volume:
    """That of both sides with a margin of nothing around it, and a hole of the ventricle."""
    made = makeAnatomy(grid)
    middle = tuple(n // 2 for n in made.array.shape)
    made.array[middle[0] - 1 : middle[0] + 1, middle[1] : middle[1] + 2, middle[2]] = 4
    for axis in range(3):
        ends = np.moveaxis(made.array, axis, 0)
        ends[0] = ends[-1] = 0
    return made


def check(locator: LesionLocator, grid: Geometry, known: Volume, detection: Detection) -> None:
    """Each place as the library locates it by the map itself."""
    for voxels in PLACES:
        points = grid.ijk_to_ras_mm(voxels)
        (location,) = locate_lesions([points], known, slack_mm=max(grid.spacing_mm))
        found, expected = locator(detection, points), located(detection, location)
        for key in DISTANCES:
            assert getattr(found, key) == pytest.approx(getattr(expected, key), abs=1e-6)
        rounded = {key: getattr(expected, key) for key in DISTANCES}
        assert replace(found, **rounded) == expected
    assert location.region != NOT_ASSESSED


@pytest.mark.parametrize("isMoved", [False, True])
def testAsTheLibraryDoesInAllAxisOrders(
    scene: object, axis_order_affine: np.ndarray, isMoved: bool
) -> None:
    grid = Geometry(SHAPE, axis_order_affine)
    known = anatomy(grid)
    nodes, session = addResult(grid, [(8, 9, 4)], anatomy=known)
    if isMoved:
        addTransform(tilt(30, 1), nodes.volumeNode)
        nodes.refresh(session)
    check(LesionLocator(nodes), grid, known, session.model_detections[0])


def testAnAnatomyThatWasCroppedWhenItWasSavedIsTheSame(scene: object) -> None:
    grid = makeGeometry(SHAPE)
    known = anatomy(grid)
    nodes, session = addResult(grid, [(8, 9, 4)], anatomy=known)
    low, high = (1, 1, 1), tuple(n - 1 for n in known.array.shape)
    cropped = Volume(
        np.ascontiguousarray(known.array[1:-1, 1:-1, 1:-1]), known.geometry.cropped(low, high)
    )
    nodes.anatomyNode.SetAndObserveSegmentation(anatomySegmentation(cropped))
    check(LesionLocator(nodes), grid, known, session.model_detections[0])


def testItFollowsWhatBecomesOfTheAnatomy(scene: object) -> None:
    grid = makeGeometry(SHAPE)
    nodes, session = addResult(grid, [(8, 9, 4)], anatomy=anatomy(grid))
    locator, found = LesionLocator(nodes), session.model_detections[0]
    points = grid.ijk_to_ras_mm([[9, 9, 4]])
    before = locator(found, points)
    assert before.region == "thalamus"

    segmentation = nodes.anatomyNode.GetSegmentation()
    for index in range(segmentation.GetNumberOfSegments()):
        segmentation.GetNthSegment(index).SetName(f"renamed {index}")
    assert locator(found, points) == before

    layer = segmentation.GetNthSegment(0).GetRepresentation("Binary labelmap")
    array = imageArray(layer)
    array[(array == 10) | (array == 49)] = 3
    layer.Modified()
    assert locator(found, points).region != "thalamus", "as it was drawn in"

    array[...] = 0
    layer.Modified()
    assert locator(found, points) == found
    slicer.mrmlScene.RemoveNode(nodes.anatomyNode)
    assert locator(found, points) == found


@pytest.fixture
def result(scene: Any) -> Iterator[OpenResult]:
    """With an anatomy."""
    opened = OpenResult()
    opened.session = review_scene.found(opened.grid)
    opened.nodes = ResultNodes.create(
        opened.volumeNode, opened.session, anatomy=makeAnatomy(opened.grid)
    )
    opened.open()
    yield opened
    opened.close()


def texts(result: OpenResult, row: int) -> list[str]:
    columns = (COLUMNS.index(name) for name in ("zone", "side", "region"))
    return [result.ui.lesionTable.item(row, column).text() for column in columns]


def side(result: OpenResult, ijk: tuple[int, int, int]) -> str:
    isRight = result.grid.ijk_to_ras_mm(ijk)[0] > result.grid.center_ras_mm[0]
    return "right" if isRight else "left"


def testALesionThatTheReaderAddsIsLocated(result: OpenResult) -> None:
    result.press("A")
    result.pick(MISSED_IJK)
    assert texts(result, 5) == ["deep", side(result, MISSED_IJK), "thalamus"]
    assert "-Thalamus 100 %" in result.ui.lesionTable.item(5, COLUMNS.index("region")).toolTip()
    stored = result.stored().lesions[5]
    assert (stored.origin, stored.detection.location_confidence) == ("reader", "high")
    assert texts(result, 0) == ["–", "–", "–"], "the run has said nothing of the others"
    result.press("Z", control=True)
    assert result.ui.lesionTable.rowCount == 5


def testALesionThatIsDrawnIsLocated(result: OpenResult) -> None:
    drawn = np.zeros(result.grid.shape, np.uint8)
    drawn[review_scene.ball(result.grid, MISSED_IJK)] = 1
    addSegment(result.nodes.segmentationNode, "mine", Volume(drawn, result.grid))
    slicer.app.processEvents()
    (made,) = [lesion for lesion in result.session.lesions if lesion.origin == "reader"]
    assert made.detection.region == "thalamus"
    assert made.detection.hemisphere == side(result, MISSED_IJK)


def testTheOwnReadDoesNotTellWhereItLies(result: OpenResult) -> None:
    result.ui.afterOwnReadCheckBox.click()
    result.press("A")
    result.pick(MISSED_IJK)
    assert texts(result, 0) == ["–", "–", "–"], "a lesion of the model's would not have them either"
    assert "halamus" not in result.told
    result.ui.revealButton.click()
    assert texts(result, 5) == ["deep", side(result, MISSED_IJK), "thalamus"]
