"""Edits as the Segment Editor makes them, by Slicer's own logic, and the review that follows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import slicer
import slicer.util
from CMBDetectorSlicer.segment_edits import SegmentEditObserver
from CMBDetectorSlicer.segments import (
    layersOf,
    orientedImage,
    segmentIdOf,
    segmentsOfLesions,
)
from sessions import addResult, addTransform, ball, makeGeometry, tilt

from CMBDetectorLib.volume import Volume

CENTERS = [(8, 9, 4), (30, 12, 7), (20, 33, 14)]


@pytest.fixture
def edited(scene: Any) -> Iterator[SimpleNamespace]:
    """A watched result; ``settle`` lets the current event be over."""
    nodes, session = addResult(makeGeometry(), CENTERS)
    addTransform(tilt(30, 2), nodes.volumeNode)
    nodes.refresh(session, None)
    waiting: list[Callable[[], None]] = []
    effects: list[Any] = []
    observer = SegmentEditObserver(nodes, session, effects.append, waiting.append)
    observer.start()

    def settle() -> list[Any]:
        effects.clear()
        # What the observer does itself asks for another look, which has to find nothing.
        for _ in range(3):
            calls, waiting[:] = list(waiting), []
            for call in calls:
                call()
        assert waiting == []
        return list(effects)

    yield SimpleNamespace(
        nodes=nodes,
        session=session,
        observer=observer,
        settle=settle,
        waiting=waiting,
        segmentation=nodes.segmentationNode.GetSegmentation(),
        geometry=session.label_map.geometry,
    )
    observer.stop()


def paint(edited: Any, segmentId: str, voxels: np.ndarray, mode: str = "MODE_MERGE_MAX") -> None:
    """What a stroke ends in."""
    mask = np.zeros(edited.geometry.shape, dtype=np.uint8)
    mask[tuple(np.asarray(voxels).T)] = edited.segmentation.GetSegment(segmentId).GetLabelValue()
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    assert logic.SetBinaryLabelmapToSegment(
        orientedImage(Volume(mask, edited.geometry)),
        edited.nodes.segmentationNode,
        segmentId,
        getattr(logic, mode),
    )


def inSession(edited: Any, lesionId: int) -> set[tuple[int, ...]]:
    return set(map(tuple, edited.session.voxels_ijk(lesionId).tolist()))


def asSet(voxels: np.ndarray) -> set[tuple[int, ...]]:
    return set(map(tuple, np.asarray(voxels).tolist()))


def assertInStep(edited: Any) -> None:
    """The segments show what the session has, in one layer, and nothing is left to take over."""
    again = edited.nodes.loadSession()
    np.testing.assert_array_equal(again.label_map.array, edited.session.label_map.array)
    lesions = [lesion.id for lesion in edited.session.lesions]
    assert edited.nodes.tableNode.GetNumberOfRows() == len(lesions)
    edited.observer.collect()
    assert [lesion.id for lesion in edited.session.lesions] == lesions


def testAStrokeChangesItsLesionAlone(edited: Any) -> None:
    before = {n: inSession(edited, n) for n in (1, 2, 3)}
    stroke = ball(edited.geometry, (10, 9, 4), 1.7)

    paint(edited, segmentIdOf(1), stroke)
    (effect,) = edited.settle()

    assert effect.voxel_ids == {1}
    assert inSession(edited, 1) == before[1] | asSet(stroke)
    assert inSession(edited, 2) == before[2]
    assert edited.session.changes[-1].action == "redraw"
    assert edited.session.lesion(1).detection.n_voxels == len(inSession(edited, 1))
    assertInStep(edited)


def testErasing(edited: Any) -> None:
    kept = ball(edited.geometry, (8, 9, 4), 0.7)

    paint(edited, segmentIdOf(1), kept, "MODE_REPLACE")
    edited.settle()

    assert inSession(edited, 1) == asSet(kept)
    assertInStep(edited)


def testPaintingOverAnotherLesionTakesItsVoxels(edited: Any) -> None:
    taken = edited.session.voxels_ijk(2)[:5]
    rest = inSession(edited, 2) - asSet(taken)

    paint(edited, segmentIdOf(1), taken)
    (effect,) = edited.settle()

    assert effect.voxel_ids == {1, 2}
    assert asSet(taken) <= inSession(edited, 1)
    assert inSession(edited, 2) == rest
    assert edited.segmentation.GetNumberOfLayers() == 1
    assertInStep(edited)


def testErasedWhollyAndDrawnAgain(edited: Any) -> None:
    paint(edited, segmentIdOf(1), np.empty((0, 3), dtype=int), "MODE_REPLACE")
    edited.settle()
    assert [lesion.id for lesion in edited.session.lesions] == [2, 3]
    assert edited.segmentation.GetSegment(segmentIdOf(1)) is not None

    stroke = ball(edited.geometry, (12, 20, 9), 1.7)
    paint(edited, segmentIdOf(1), stroke)
    edited.settle()

    assert inSession(edited, 1) == asSet(stroke)
    assert edited.session.lesion(1).origin == "model"
    assertInStep(edited)


def testANewSegmentIsANewLesionOnceItHasVoxels(edited: Any) -> None:
    segmentId = edited.segmentation.AddEmptySegment("", "drawn")
    assert edited.settle() == []
    assert len(edited.session.lesions) == 3

    stroke = ball(edited.geometry, (12, 20, 9), 1.7)
    paint(edited, segmentId, stroke)
    edited.settle()

    new = edited.session.lesions[-1]
    assert (new.id, new.origin, new.verdict) == (4, "reader", "accepted")
    assert inSession(edited, 4) == asSet(stroke)
    assert segmentsOfLesions(edited.segmentation)[4] == segmentId
    assert edited.segmentation.GetSegment(segmentId).GetName() == "CMB 4"
    assertInStep(edited)


def testACopiedSegmentIsALesionOfItsOwn(edited: Any) -> None:
    copy = slicer.vtkSegment()
    copy.DeepCopy(edited.segmentation.GetSegment(segmentIdOf(1)))
    edited.segmentation.AddSegment(copy, "copy")
    paint(edited, "copy", ball(edited.geometry, (12, 20, 9), 1.7), "MODE_REPLACE")
    before = inSession(edited, 1)

    edited.settle()

    assert [lesion.id for lesion in edited.session.lesions] == [1, 2, 3, 4]
    assert inSession(edited, 1) == before
    assert inSession(edited, 4) == asSet(ball(edited.geometry, (12, 20, 9), 1.7))
    assertInStep(edited)


def testARemovedSegment(edited: Any) -> None:
    edited.segmentation.RemoveSegment(segmentIdOf(2))
    (effect,) = edited.settle()

    assert effect.lesion_ids == {2}
    assert [lesion.id for lesion in edited.session.lesions] == [1, 3]
    assertInStep(edited)


def testUndoInTheSegmentEditor(edited: Any) -> None:
    before = inSession(edited, 1)
    history = slicer.vtkSegmentationHistory()
    history.SetSegmentation(edited.segmentation)
    history.SaveState()
    paint(edited, segmentIdOf(1), ball(edited.geometry, (10, 9, 4), 1.7))
    edited.settle()
    assert inSession(edited, 1) != before

    history.RestorePreviousState()
    edited.settle()

    assert inSession(edited, 1) == before
    assert [change.action for change in edited.session.changes] == ["redraw", "redraw"]
    assertInStep(edited)


def testUndoInTheReviewReachesTheSegment(edited: Any) -> None:
    before = inSession(edited, 1)
    paint(edited, segmentIdOf(1), ball(edited.geometry, (10, 9, 4), 1.7))
    edited.settle()

    edited.nodes.refresh(edited.session, edited.session.undo())

    assert edited.settle() == []
    assert inSession(edited, 1) == before
    assertInStep(edited)


def testWhatTheModuleItselfWritesIsNoEdit(edited: Any) -> None:
    session, nodes = edited.session, edited.nodes
    for effect in (
        session.set_verdict([1], "rejected"),
        session.add(ball(edited.geometry, (12, 20, 9), 1.7))[1],
        session.merge([1, 2])[1],
        session.remove(3),
        session.undo(),
    ):
        nodes.refresh(session, effect)
        number = len(session.changes)
        assert edited.settle() == []
        assert len(session.changes) == number


def testARenamedOrRecoloredSegmentIsNoEdit(edited: Any) -> None:
    segment = edited.segmentation.GetSegment(segmentIdOf(1))
    segment.SetName("something")
    segment.SetColor(0.1, 0.2, 0.3)

    assert edited.waiting
    assert edited.settle() == []
    assert edited.session.changes == ()


def testManyEventsOfAMomentAreOneLook(edited: Any) -> None:
    for _ in range(5):
        layersOf(edited.segmentation)[0][0].Modified()

    assert len(edited.waiting) == 1


def testNothingIsTakenOverAfterTheEnd(edited: Any) -> None:
    paint(edited, segmentIdOf(1), ball(edited.geometry, (10, 9, 4), 1.7))
    edited.observer.stop()

    assert edited.settle() == []
    assert edited.session.changes == ()


def testEditsMadeWhileNobodyLookedAreInTheRecordAfterLoading(edited: Any) -> None:
    edited.observer.stop()
    stroke = ball(edited.geometry, (10, 9, 4), 1.7)
    paint(edited, segmentIdOf(1), stroke)
    edited.segmentation.RemoveSegment(segmentIdOf(3))

    again = edited.nodes.loadSession()

    assert [lesion.id for lesion in again.lesions] == [1, 2]
    assert asSet(stroke) <= asSet(again.voxels_ijk(1))
    assert {change.action for change in again.changes} == {"redraw", "remove"}
