"""A reader works through a result: keys, clicks, corrections; real session, real nodes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import qt
import review_scene
import slicer
from CMBDetectorSlicer import display, views
from CMBDetectorSlicer.lesion_rows import COLUMNS
from PySide6.QtCore import QPoint, QPointF
from PySide6.QtGui import QWheelEvent
from review_scene import FOUND_IJK, MISSED_IJK, OpenResult


@pytest.fixture
def closed(scene: Any) -> Iterator[OpenResult]:
    result = OpenResult()
    yield result
    result.close()


@pytest.fixture
def result(closed: OpenResult) -> OpenResult:
    return closed.open()


def sliceCenter(node: Any) -> tuple[float, ...]:
    matrix = node.GetSliceToRAS()
    return tuple(matrix.GetElement(axis, 3) for axis in range(3))


# Working through the list


def test_opensAtTheFirstLesionWithoutAVerdict(result: OpenResult) -> None:
    assert result.selected == (1,)
    assert "0 of 5" in result.told


def test_aListIsWorkedThroughWithOneKeyPerLesion(result: OpenResult) -> None:
    for key in "YNUYN":
        result.press(key)
    assert result.verdicts() == {
        1: "accepted",
        2: "rejected",
        3: "uncertain",
        4: "accepted",
        5: "rejected",
    }
    assert result.selected == (5,), "nothing is left to go on to"
    assert "5 of 5" in result.told
    assert "Every lesion has a verdict" in result.told
    assert result.stored().is_complete, "each verdict was saved as it was given"


def test_keyGoesOnInTheOrderOfTheTable(result: OpenResult) -> None:
    result.controller.list.sortBy("score")
    result.controller.selectLesion(5)
    result.press("Y")
    assert result.selected == (4,)
    result.press("Space")
    assert result.selected == (3,), "Space skips without a verdict"
    result.press("Y")
    result.press("Y")
    result.press("Y")
    assert result.selected == (4,), "what was skipped comes around again"


def test_onlyListedLesionsAreGoneThrough(result: OpenResult) -> None:
    result.controller.list.selectMany(())
    result.ui.scoreFilter.value = 0.72
    assert result.controller.visibleOrder() == (1, 2, 3)
    for _ in range(4):
        result.press("Space")
        result.press("Y")
    assert list(result.verdicts().values()).count("accepted") == 3
    assert "2 without one are not listed" in result.told


def test_verdictFilterAsAWorkList(result: OpenResult) -> None:
    combo = result.ui.verdictFilter
    combo.currentIndex = combo.findData("unreviewed")
    result.controller.selectLesion(2)
    result.press("Y")
    assert result.selected == (3,)
    assert result.controller.visibleOrder() == (1, 3, 4, 5)
    result.press("Z", control=True)
    assert result.selected == (2,)


def test_viewsFollowAtAFixedFieldOfView(result: OpenResult) -> None:
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceNode").SetName("Red")
    for node in views.sliceNodes():
        node.SetDimensions(400, 300, 1)
    result.ui.fieldOfViewSpinBox.value = 60
    result.press("Y")
    expected = result.session.lesion(2).detection.center_ras_mm
    for node in views.sliceNodes():
        assert sliceCenter(node) == pytest.approx(expected, abs=0.5)
        assert min(node.GetFieldOfView()[:2]) == pytest.approx(60)


def test_viewsFollowUnderATransform(result: OpenResult) -> None:
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceNode").SetName("Red")
    matrix = np.eye(4)
    matrix[:3, 3] = (40.0, 0.0, -7.0)
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    slicer.util.updateTransformMatrixFromArray(transform, matrix)
    result.volumeNode.SetAndObserveTransformNodeID(transform.GetID())
    result.controller.selectLesion(3)
    expected = np.array(result.session.lesion(3).detection.center_ras_mm) + matrix[:3, 3]
    assert sliceCenter(views.sliceNodes()[0]) == pytest.approx(tuple(expected), abs=0.5)


def test_verdictOnSeveral(result: OpenResult) -> None:
    result.controller.list.selectMany((2, 4))
    result.press("N")
    assert [i for i, verdict in result.verdicts().items() if verdict == "rejected"] == [2, 4]
    result.press("Z", control=True)
    assert "rejected" not in result.verdicts().values(), "one step for one key"


def test_withoutASelectionAKeyJudgesNothing(result: OpenResult) -> None:
    result.controller.selectLesion(None)
    result.press("Y")
    assert set(result.verdicts().values()) == {"unreviewed"}
    assert "No lesion is selected" in result.told


def test_rejectedLesionsLeaveTheOverlayAndStayInTheTable(result: OpenResult) -> None:
    result.press("N")
    shown = result.nodes.segmentationNode.GetDisplayNode()
    assert not shown.GetSegmentVisibility("cmb_0001")
    assert shown.GetSegmentVisibility("cmb_0002")
    assert 1 in result.controller.visibleOrder()
    assert "4 lesions:" in result.ui.summaryLabel.text


# Undo


def test_undoAndRedoShowWhatTheyChange(result: OpenResult) -> None:
    assert not result.ui.undoButton.enabled
    for _ in range(3):
        result.press("Y")
    assert result.ui.undoButton.enabled
    assert "CMB 3" in result.ui.undoButton.toolTip
    result.press("Z", control=True)
    assert result.selected == (3,)
    assert result.verdicts()[3] == "unreviewed"
    result.press("Y", control=True)
    assert result.verdicts()[3] == "accepted"
    assert not result.ui.redoButton.enabled
    result.press("Y", control=True)  # nothing is left to do again


def test_buttonsDoWhatTheKeysDo(result: OpenResult) -> None:
    ui = result.ui
    ui.acceptButton.click()
    ui.rejectButton.click()
    ui.uncertainButton.click()
    assert list(result.verdicts().values())[:3] == ["accepted", "rejected", "uncertain"]
    ui.undoButton.click()
    assert result.verdicts()[3] == "unreviewed"
    ui.redoButton.click()
    assert result.verdicts()[3] == "uncertain"
    ui.nextButton.click()
    assert result.selected == (4,)


# Clicks in slice views


def test_pickingALesionSelectsItsRowAndLeavesTheViews(result: OpenResult) -> None:
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceNode").SetName("Red")
    before = sliceCenter(views.sliceNodes()[0])
    result.controller.list.sortBy("score")
    result.pick(FOUND_IJK[3])
    assert result.selected == (4,)
    assert sliceCenter(views.sliceNodes()[0]) == before
    result.pick((2, 2, 2))
    assert result.selected == (4,), "a click beside lesions changes nothing"


def test_pickingALesionThatTheFilterHides(result: OpenResult) -> None:
    result.ui.scoreFilter.value = 0.9
    result.pick(FOUND_IJK[4])
    assert result.selected == (5,)


def test_addingAMissedOne(result: OpenResult) -> None:
    result.press("A")
    assert result.ui.addButton.checked
    assert "Click on the microbleed" in result.told
    result.pick(MISSED_IJK)
    assert not result.ui.addButton.checked, "one click adds one lesion"
    added = result.session.lesion(6)
    assert (added.origin, added.verdict) == ("reader", "accepted")
    assert added.detection.equivalent_diameter_mm == pytest.approx(
        2 * review_scene.RADIUS_MM, rel=0.25
    )
    assert result.selected == (6,)
    assert result.ui.lesionTable.item(5, 0).text() == "6 +"
    assert result.nodes.segmentationNode.GetSegmentation().GetSegment("cmb_0006") is not None
    result.pick(MISSED_IJK)
    assert len(result.session.lesions) == 6
    result.press("Z", control=True)
    assert len(result.session.lesions) == 5
    assert result.ui.lesionTable.rowCount == 5


def test_addingWhereNothingDarkIs(result: OpenResult) -> None:
    result.press("A")
    result.pick((5, 30, 35))
    assert len(result.session.lesions) == 5
    assert result.told.endswith(result.controller._message)
    assert "dark" in result.told


def test_addingOutsideTheScan(result: OpenResult) -> None:
    result.press("A")
    result.pick((-20, 0, 0))
    assert "outside the scan" in result.told
    assert result.ui.addButton.checked, "the reader may try again"
    result.press("Escape")
    assert not result.ui.addButton.checked


def test_addingEndsTheThickSlab(result: OpenResult) -> None:
    result.press("M")
    assert result.ui.minimumIntensityCheckBox.checked
    result.press("A")
    assert not result.ui.minimumIntensityCheckBox.checked


# Corrections


def test_mergeAndSplit(result: OpenResult) -> None:
    ui = result.ui
    assert not ui.mergeButton.enabled
    result.controller.list.selectMany((1, 2))
    result.controller._onSelected((1, 2))
    assert ui.mergeButton.enabled
    ui.mergeButton.click()
    assert [lesion.id for lesion in result.session.lesions] == [3, 4, 5, 6]
    assert result.selected == (6,)
    assert "CMB 1, CMB 2 are now CMB 6" in result.told
    ui.splitButton.click()
    assert [lesion.id for lesion in result.session.lesions] == [3, 4, 5, 7, 8]
    assert result.selected == (7,)
    assert ui.lesionTable.rowCount == 5


def test_remove(result: OpenResult) -> None:
    result.controller.selectLesion(5)
    result.ui.removeButton.click()
    assert result.selected == (4,), "the neighbor is selected"
    assert 5 not in result.verdicts()
    assert len(result.session.model_detections) == 5
    result.press("Z", control=True)
    assert result.selected == (5,)


def test_sideAndRegionByHand(result: OpenResult) -> None:
    sides, regions = result.ui.hemisphereSelector, result.ui.regionSelector
    assert regions.currentText == sides.currentText == "not assessed"
    place = next(i for i in range(regions.count) if regions.itemText(i).startswith("deep"))
    regions.currentIndex = place
    regions.activated.emit(place)
    sides.currentIndex = sides.findData("left")
    sides.activated.emit(sides.currentIndex)
    lesion = result.session.lesion(1).detection
    assert (lesion.region, lesion.hemisphere) == (regions.itemData(place), "left")
    assert result.ui.lesionTable.item(0, COLUMNS.index("zone")).text() == "deep"
    result.press("Space")
    assert regions.currentText == "not assessed", "shows the next lesion's region"
    result.controller.selectLesion(1)
    assert regions.currentIndex == place
    assert "deep 1" in result.ui.summaryLabel.text
    regions.currentIndex = 0
    regions.activated.emit(0)
    assert result.session.lesion(1).detection.region == "not assessed"


def test_theMouseWheelLeavesSideAndRegionAlone(result: OpenResult) -> None:
    for selector in (result.ui.hemisphereSelector, result.ui.regionSelector):
        point = QPointF(selector.rect.center())
        turn = QPoint(0, -120)
        event = QWheelEvent(
            point,
            selector.mapToGlobal(point),
            QPoint(),
            turn,
            qt.Qt.NoButton,
            qt.Qt.NoModifier,
            qt.Qt.NoScrollPhase,
            False,
        )
        qt.QApplication.sendEvent(selector, event)
        assert selector.currentText == "not assessed"


def test_slicesOfAnotherLayoutAreWatchedToo(result: OpenResult) -> None:
    manager, picker = slicer.app.layoutManager(), result.controller._picker
    result.controller.exit()
    manager.layoutChanged.emit(6)
    assert not picker.isOn, "not while another module is open"
    result.controller.enter()
    picker.stop()
    manager.layoutChanged.emit(6)
    assert picker.isOn


def test_segmentEditorOpensOnTheLesion(result: OpenResult) -> None:
    result.controller.selectLesion(3)
    result.ui.editButton.click()
    editor = slicer.mrmlScene.GetSingletonNode("SegmentEditor", "vtkMRMLSegmentEditorNode")
    assert editor.GetSegmentationNode() is result.nodes.segmentationNode
    assert editor.GetSourceVolumeNode() is result.volumeNode
    assert editor.GetSelectedSegmentID() == "cmb_0003"
    assert slicer.util.selectedModule() == "SegmentEditor"


def test_tableFollowsWhatTheSegmentEditorDoes(result: OpenResult) -> None:
    result.controller.selectLesion(2)
    before = result.session.lesion(2).detection.volume_mm3
    result.controller.exit()
    segmentation = result.nodes.segmentationNode
    array = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, "cmb_0002", result.volumeNode)
    bigger = array.copy()
    bigger[14, 12, 30:38] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(
        bigger, segmentation, "cmb_0002", result.volumeNode
    )
    result.controller.enter()
    after = result.session.lesion(2).detection.volume_mm3
    assert after > before
    assert result.ui.lesionTable.item(1, COLUMNS.index("volume")).text() == f"{after:.1f}"


def test_readerIsRecorded(result: OpenResult) -> None:
    edit = result.ui.readerLineEdit
    edit.text = " Dr. B "
    edit.editingFinished.emit()
    result.press("Y")
    assert result.session.changes[-1].reader == "Dr. B"
    assert result.stored().changes[-1].reader == "Dr. B"


def test_typedReaderIsTakenOverByTheNextResult(closed: OpenResult) -> None:
    closed.ui.readerLineEdit.text = "Dr. C"
    closed.open()
    assert closed.session.reader == "Dr. C"


def test_reviewGoesOnAfterReopening(result: OpenResult) -> None:
    for key in "YN":
        result.press(key)
    result.controller.close()
    result.controller.open(result.nodes)
    assert result.selected == (3,)
    assert "2 of 5" in result.told
    assert review_scene.cells(result.ui.lesionTable, COLUMNS.index("verdict"))[:2] == [
        "accepted",
        "rejected",
    ]
    assert display.overlay(result.nodes) == "filled"
