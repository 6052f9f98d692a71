"""A result's nodes on the real scene: made, changed, saved, read again, moved, removed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import slicer
import slicer.util
import vtk
from CMBDetectorSlicer.result_nodes import RESULT_ATTRIBUTE, ResultNodes
from CMBDetectorSlicer.segments import layersOf, segmentIdOf, segmentsOfLesions
from CMBDetectorSlicer.volumes import imageArray, worldFromLocal
from sessions import (
    addResult,
    addTransform,
    addVolume,
    ball,
    imageOf,
    makeGeometry,
    makeSession,
    removeNode,
)
from sessions import tilt as turn

from CMBDetectorLib.errors import InputError
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.reporting.terminology import VERDICT_COLORS

CENTERS = [(8, 9, 4), (30, 12, 7), (20, 33, 14), (34, 36, 5)]
MOVE = turn(25, 0) @ turn(-40, 2)
MOVE[:3, 3] = (-7.0, 3.5, 60.0)


@pytest.fixture
def result(scene: Any) -> Any:
    return addResult(makeGeometry(), CENTERS)


def derived(nodes: ResultNodes) -> list[Any]:
    return [nodes.segmentationNode, nodes.pointsNode, nodes.tableNode]


def segmentCenter(nodes: ResultNodes, lesionId: int) -> np.ndarray:
    """In the world, as Slicer itself computes it."""
    center = nodes.segmentationNode.GetSegmentCenterRAS(segmentIdOf(lesionId))
    assert center is not None
    return np.array(center)


@pytest.mark.parametrize("isMoved", [False, True], ids=["as it is", "under a transform"])
def testSegmentsAndPointsLieOnTheLesionsInEveryAxisOrder(
    scene: Any, axis_order_affine: np.ndarray, isMoved: bool
) -> None:
    affine = turn(11, 1) @ turn(6, 2) @ axis_order_affine
    geometry = Geometry((24, 20, 12), affine)
    centers = np.array([(5, 5, 3), (17, 6, 8), (9, 14, 6)])
    session = makeSession(geometry, centers, radiusMm=1.1)
    volume = addVolume(imageOf(session))
    move = MOVE if isMoved else np.eye(4)
    if isMoved:
        addTransform(move, volume)

    nodes = ResultNodes.create(volume, session)

    wanted = Geometry(geometry.shape, move @ affine).ijk_to_ras_mm(centers)
    points = [nodes.pointsNode.GetNthControlPointPositionWorld(n) for n in range(3)]
    segments = [segmentCenter(nodes, n + 1) for n in range(3)]
    toVoxels = np.linalg.inv((move @ affine)[:3, :3])
    for found in (points, segments):
        assert np.abs(toVoxels @ (np.array(found) - wanted).T).max() < 0.1


def testFiveHundredLesionsMakeOneLayer(scene: Any) -> None:
    geometry = makeGeometry((100, 100, 40))
    grid = np.mgrid[3:97:10, 3:97:10, 2:38:7].reshape(3, -1).T[:500]
    nodes, session = addResult(geometry, grid, radiusMm=1.0)

    segmentation = nodes.segmentationNode.GetSegmentation()
    assert segmentation.GetNumberOfSegments() == 500
    assert segmentation.GetNumberOfLayers() == 1
    assert nodes.pointsNode.GetNumberOfControlPoints() == 500
    assert nodes.tableNode.GetNumberOfRows() == 500
    np.testing.assert_array_equal(nodes.loadSession().label_map.array, session.label_map.array)


def testOnlyWhatAnEffectNamesIsTouched(result: Any) -> None:
    nodes, session = result
    segmentation = nodes.segmentationNode.GetSegmentation()
    layer = layersOf(segmentation)[0][0]
    written = layer.GetMTime()
    segmentation.GetSegment(segmentIdOf(1)).SetName("renamed")

    nodes.refresh(session, session.set_verdict([2], "accepted"))

    assert layersOf(segmentation)[0][0] is layer
    assert layer.GetMTime() == written
    assert segmentation.GetSegment(segmentIdOf(1)).GetName() == "renamed"
    assert segmentation.GetSegment(segmentIdOf(2)).GetColor() == VERDICT_COLORS["accepted"]


def testARejectedLesionLeavesTheOverlayAndStaysInTheTable(result: Any) -> None:
    nodes, session = result

    nodes.refresh(session, session.set_verdict([2], "rejected"))

    display = nodes.segmentationNode.GetDisplayNode()
    shown = [display.GetSegmentVisibility(segmentIdOf(n)) for n in (1, 2, 3, 4)]
    assert shown == [True, False, True, True]
    assert not nodes.pointsNode.GetNthControlPointVisibility(1)
    assert nodes.tableNode.GetNumberOfRows() == 4
    assert nodes.tableNode.GetCellText(1, 1) == "rejected"

    nodes.refresh(session, session.undo())
    assert display.GetSegmentVisibility(segmentIdOf(2))
    assert nodes.pointsNode.GetNthControlPointVisibility(1)


def testEditsOfTheSessionReachTheSegments(result: Any) -> None:
    nodes, session = result
    segmentation = nodes.segmentationNode.GetSegmentation()

    newId, effect = session.add(ball(session.label_map.geometry, (12, 34, 10), 2.0))
    nodes.refresh(session, effect)
    mergedId, effect = session.merge([1, 2])
    nodes.refresh(session, effect)
    nodes.refresh(session, session.remove(3))

    assert set(segmentsOfLesions(segmentation)) == {4, newId, mergedId}
    assert segmentation.GetNumberOfLayers() == 1
    np.testing.assert_array_equal(nodes.loadSession().label_map.array, session.label_map.array)

    for _ in range(3):
        nodes.refresh(session, session.undo())
    assert set(segmentsOfLesions(segmentation)) == {1, 2, 3, 4}
    np.testing.assert_array_equal(nodes.loadSession().label_map.array, session.label_map.array)


def testSegmentsBearTheirTerminology(result: Any) -> None:
    nodes, _ = result
    segment = nodes.segmentationNode.GetSegmentation().GetSegment(segmentIdOf(1))
    entry = slicer.vtkSlicerTerminologyEntry()
    logic = slicer.modules.terminologies.logic()
    text = vtk.reference("")
    assert segment.GetTag(slicer.vtkSegment.GetTerminologyEntryTagName(), text)
    assert logic.DeserializeTerminologyEntry(str(text), entry)
    category, kind = entry.GetCategoryObject(), entry.GetTypeObject()
    assert (category.GetCodingSchemeDesignator(), category.GetCodeValue()) == ("SCT", "49755003")
    assert (kind.GetCodingSchemeDesignator(), kind.GetCodeValue()) == ("SCT", "50960005")
    assert kind.GetCodeMeaning() == "Hemorrhage"


def testEverythingLiesBesideTheImageUnderItsStudy(scene: Any) -> None:
    session = makeSession(makeGeometry(), CENTERS)
    volume = addVolume(imageOf(session))
    hierarchy = scene.GetSubjectHierarchyNode()
    study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "a study")
    hierarchy.CreateItem(study, volume)

    nodes = ResultNodes.create(volume, session)

    for node in [nodes.textNode, *derived(nodes)]:
        assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) == study


def testAVolumeThatIsMovedLaterTakesTheResultAlong(result: Any) -> None:
    nodes, session = result
    addTransform(MOVE, nodes.volumeNode)

    nodes.refresh(session, session.set_verdict([1], "accepted"))

    wanted = worldFromLocal(nodes.volumeNode, session.lesion(3).detection.center_ras_mm)
    np.testing.assert_allclose(nodes.pointsNode.GetNthControlPointPositionWorld(2), wanted)
    np.testing.assert_allclose(segmentCenter(nodes, 3), wanted, atol=0.05)


def testAHardenedTransform(result: Any) -> None:
    nodes, session = result
    addTransform(MOVE, nodes.volumeNode)
    nodes.refresh(session, None)
    nodes.volumeNode.HardenTransform()

    with pytest.raises(InputError, match="select the result again"):
        nodes.refresh(session, None)

    again = nodes.loadSession()
    nodes.refresh(again, None)
    assert again.changes == session.changes
    np.testing.assert_array_equal(again.label_map.array, session.label_map.array)
    center = np.array([*session.lesion(2).detection.center_ras_mm, 1.0])
    np.testing.assert_allclose(again.lesion(2).detection.center_ras_mm, (MOVE @ center)[:3])
    np.testing.assert_allclose(
        nodes.pointsNode.GetNthControlPointPositionWorld(1), (MOVE @ center)[:3]
    )


def testAScaledImageIsRefused(result: Any) -> None:
    nodes, session = result
    addTransform(np.diag([2.0, 1.0, 1.0, 1.0]), nodes.volumeNode)
    nodes.refresh(session, None)
    nodes.volumeNode.HardenTransform()

    with pytest.raises(InputError, match=r"were .* mm³ when the lesions were measured"):
        nodes.loadSession()


def testNodesThatWereRemovedAreMadeAnew(result: Any) -> None:
    nodes, session = result
    # Kept until the end: the subject hierarchy trips over a new node at the address of an old one.
    removed = derived(nodes)
    for node in removed:
        removeNode(node)
    assert derived(nodes) == [None, None, None]

    with pytest.raises(InputError, match=r"the segmentation of .* is no longer in the scene"):
        nodes.loadSession()
    nodes.refresh(session, session.set_verdict([1], "accepted"))

    assert None not in derived(nodes)
    assert nodes.loadSession().lesion(1).verdict == "accepted"


def testARemovedImageIsSaid(result: Any) -> None:
    nodes, session = result
    removeNode(nodes.volumeNode)

    for action in (nodes.loadSession, lambda: nodes.refresh(session, None)):
        with pytest.raises(InputError, match=r"the image of .* is no longer in the scene"):
            action()


def testADamagedTextIsSaid(result: Any) -> None:
    nodes, _ = result
    nodes.textNode.SetText("{")
    with pytest.raises(InputError, match="is damaged"):
        nodes.loadSession()
    nodes.textNode.SetText('{"schema": "cmbdetector-review", "schema_version": 1}')
    with pytest.raises(InputError):
        nodes.loadSession()


def testAnotherTextIsNoResult(scene: Any) -> None:
    note = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTextNode", "a note")

    assert ResultNodes.all(scene) == []
    with pytest.raises(InputError, match="'a note' is no result"):
        ResultNodes.fromTextNode(note)
    with pytest.raises(InputError, match="nothing is no result"):
        ResultNodes.fromTextNode(None)


def testTwoResultsOfOneImageStayApart(result: Any) -> None:
    first, session = result
    second = ResultNodes.create(first.volumeNode, makeSession(session.label_map.geometry, []))

    assert second.textNode.GetName() != first.textNode.GetName()
    assert second.textNode.GetAttribute(RESULT_ATTRIBUTE)
    assert [n.textNode for n in ResultNodes.all(slicer.mrmlScene)] == [
        first.textNode,
        second.textNode,
    ]
    second.remove()
    assert first.loadSession().to_dict() == session.to_dict()


def testRemovingAResultLeavesOnlyTheImage(scene: Any) -> None:
    session = makeSession(makeGeometry(), CENTERS)
    volume = addVolume(imageOf(session))
    before = storable(scene)
    nodes = ResultNodes.create(volume, session, picture=b"\x89PNG\x00\xff")
    nodes.setOneSegment(True)

    nodes.remove()

    assert storable(scene) == before


def testThePictureIsKept(scene: Any) -> None:
    session = makeSession(makeGeometry(), CENTERS)
    nodes = ResultNodes.create(addVolume(imageOf(session)), session, picture=b"\x89PNG\x00\xff")

    assert nodes.picture == b"\x89PNG\x00\xff"


def testOneSegmentShowsWhatCounts(result: Any) -> None:
    nodes, session = result
    nodes.refresh(session, session.set_verdict([2], "rejected"))

    nodes.setOneSegment(True)

    assert combined(nodes).sum() == (session.counted_label_map().array > 0).sum()
    assert nodes.combinedNode.GetDisplayNode().GetVisibility()
    assert not nodes.segmentationNode.GetDisplayNode().GetVisibility()

    nodes.refresh(session, session.undo())
    nodes.refresh(session, session.remove(1))
    np.testing.assert_array_equal(combined(nodes) > 0, session.label_map.array > 0)

    nodes.setOneSegment(False)
    assert nodes.combinedNode is None
    assert nodes.segmentationNode.GetDisplayNode().GetVisibility()
    np.testing.assert_array_equal(nodes.loadSession().label_map.array, session.label_map.array)


def testNoLesionAtAll(scene: Any) -> None:
    nodes, session = addResult(makeGeometry(), [])

    assert nodes.segmentationNode.GetSegmentation().GetNumberOfSegments() == 0
    assert nodes.tableNode.GetNumberOfRows() == 0
    assert nodes.loadSession().lesions == ()
    nodes.setOneSegment(True)
    nodes.refresh(session, session.add(ball(session.label_map.geometry, (12, 34, 10), 2.0))[1])
    assert combined(nodes).any()
    assert len(nodes.loadSession().lesions) == 1


def combined(nodes: ResultNodes) -> np.ndarray:
    (layer, ids), *others = layersOf(nodes.combinedNode.GetSegmentation())
    assert len(ids) == 1
    assert others == []
    return imageArray(layer)


def storable(scene: Any) -> list[str]:
    nodes = slicer.util.getNodesByClass("vtkMRMLNode")
    kinds = ("Text", "Segmentation", "Markups", "Table", "Volume")
    return sorted(n.GetID() for n in nodes if any(kind in n.GetClassName() for kind in kinds))
