"""How a result is shown, and how it is kept from a reader who has not read the scan yet."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import review_scene
import slicer
from CMBDetectorSlicer import display, views
from CMBDetectorSlicer.display_section import OWN_READ_ATTRIBUTE
from CMBDetectorSlicer.result_nodes import ResultNodes
from review_scene import FOUND_IJK, MISSED_IJK, OpenResult
from sessions import makeAnatomy


@pytest.fixture
def closed(scene: Any) -> Iterator[OpenResult]:
    import qt

    qt.QSettings().clear()
    result = OpenResult()
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceNode").SetName("Red")
    yield result
    result.close()
    qt.QSettings().clear()


@pytest.fixture
def result(closed: OpenResult) -> OpenResult:
    return closed.open()


@pytest.fixture
def unprimed(closed: OpenResult) -> OpenResult:
    closed.ui.afterOwnReadCheckBox.click()
    return closed.open()


def ring() -> Any:
    nodes = slicer.util.getNodesByClass("vtkMRMLMarkupsNode")
    return next((n for n in nodes if n.GetAttribute(display.HIGHLIGHT_ATTRIBUTE)), None)


def ringCenter() -> tuple[float, ...]:
    bounds = [0.0] * 6
    ring().GetRASBounds(bounds)
    return tuple((low + high) / 2 for low, high in zip(bounds[::2], bounds[1::2], strict=True))


def drawn(result: OpenResult) -> set[str]:
    """The segments that can be seen."""
    node = result.nodes.segmentationNode
    shown = node.GetDisplayNode()
    if not shown.GetVisibility():
        return set()
    return set(shown.GetVisibleSegmentIDs())


def test_overlayModes(result: OpenResult) -> None:
    selector = result.ui.overlayModeSelector
    assert display.overlay(result.nodes) == "filled"
    selector.currentIndex = 1
    assert display.overlay(result.nodes) == "outline"
    selector.currentIndex = 2
    assert display.overlay(result.nodes) == "hidden"


def test_keyHidesAndBringsBackTheSameOverlay(result: OpenResult) -> None:
    result.ui.overlayModeSelector.currentIndex = 1
    result.press("H")
    assert display.overlay(result.nodes) == "hidden"
    assert ring() is None, "the ring would cover what the reader wants to see"
    result.press("Space")
    assert ring() is None
    result.press("H")
    assert display.overlay(result.nodes) == "outline"
    assert ring() is not None


def test_selectedLesionIsRinged(result: OpenResult) -> None:
    center = result.session.lesion(2).detection.center_ras_mm
    result.press("Y")
    assert ringCenter() == pytest.approx(center, abs=0.1)
    result.controller.exit()
    assert ring() is None, "other modules have no use for it"
    result.controller.enter()
    assert ringCenter() == pytest.approx(center, abs=0.1)


def test_show3D(result: OpenResult) -> None:
    result.ui.show3DCheckBox.checked = True
    assert display.show3D(result.nodes)
    result.ui.show3DCheckBox.checked = False
    assert not display.show3D(result.nodes)


def test_showAnatomy(closed: OpenResult) -> None:
    """Off at first, in slice views only, kept with the scene; without an anatomy, not offered."""
    box = closed.ui.showAnatomyCheckBox
    closed.open()
    assert not box.enabled
    other = ResultNodes.create(closed.volumeNode, closed.session, anatomy=makeAnatomy(closed.grid))
    closed.controller.open(other)
    display = other.anatomyNode.GetDisplayNode()
    assert (box.enabled, box.checked, bool(display.GetVisibility())) == (True, False, False)
    box.click()
    assert display.GetVisibility()
    assert display.GetVisibility2DFill()
    assert not display.GetVisibility3D()
    closed.ui.show3DCheckBox.click()
    closed.press("H")
    assert display.GetVisibility(), "the anatomy gives no lesion away"
    assert not display.GetVisibility3D()
    closed.controller.open(closed.nodes)
    assert not box.checked
    closed.controller.open(other)
    assert box.checked
    slicer.mrmlScene.RemoveNode(other.anatomyNode)
    box.click()


def test_oneSegment(result: OpenResult) -> None:
    result.ui.overlayModeSelector.currentIndex = 1
    result.ui.oneSegmentCheckBox.checked = True
    assert result.nodes.combinedNode.GetSegmentation().GetNumberOfSegments() == 1
    assert not result.nodes.segmentationNode.GetDisplayNode().GetVisibility()
    assert display.overlay(result.nodes) == "outline"
    result.controller.selectLesion(1)
    result.ui.editButton.click()
    assert not result.ui.oneSegmentCheckBox.checked, "a segment editor needs the lesion's own"
    assert result.nodes.combinedNode is None
    assert result.nodes.segmentationNode.GetDisplayNode().GetVisibility()


def test_thickSlab(result: OpenResult) -> None:
    node = views.sliceNodes()[0]
    result.ui.slabSpinBox.value = 15
    assert not node.GetSlabReconstructionEnabled()
    result.press("M")
    assert node.GetSlabReconstructionEnabled()
    assert node.GetSlabReconstructionThickness() == 15
    result.ui.slabSpinBox.value = 8
    assert node.GetSlabReconstructionThickness() == 8
    result.press("M")
    assert not node.GetSlabReconstructionEnabled()


def test_whatAReaderIsUsedToIsKept(result: OpenResult) -> None:
    result.ui.fieldOfViewSpinBox.value = 55
    result.ui.slabSpinBox.value = 12
    again = result.reload()
    assert again.ui.fieldOfViewSpinBox.value == 55
    assert again.ui.slabSpinBox.value == 12


def test_overlayOfASavedSceneIsKept(result: OpenResult) -> None:
    result.ui.overlayModeSelector.currentIndex = 1
    result.ui.show3DCheckBox.checked = True
    again = result.reload()
    again.controller.open(again.nodes)
    assert again.ui.overlayModeSelector.currentIndex == 1
    assert again.ui.show3DCheckBox.checked


# The reader's own read


def test_nothingGivesTheFindingAwayBeforeTheOwnRead(unprimed: OpenResult) -> None:
    ui = unprimed.ui
    assert unprimed.controller.isOwnRead
    assert drawn(unprimed) == set()
    assert ring() is None
    assert ui.lesionTable.rowCount == 0
    for label in (ui.summaryLabel, ui.reviewProgressLabel, ui.resultFindingLabel):
        assert "5" not in label.text
    assert not ui.exportButton.enabled
    assert not ui.oneSegmentCheckBox.enabled
    assert ui.revealButton.enabled
    for key in ("H", "H", "Space", "Y", "N"):
        unprimed.press(key)
    unprimed.pick(FOUND_IJK[0])
    assert unprimed.selected == ()
    assert drawn(unprimed) == set()
    assert set(unprimed.verdicts().values()) == {"unreviewed"}


def test_revealShowsEverything(unprimed: OpenResult) -> None:
    unprimed.ui.revealButton.click()
    assert not unprimed.controller.isOwnRead
    assert len(drawn(unprimed)) == 5
    assert unprimed.ui.lesionTable.rowCount == 5
    assert unprimed.selected == (1,)
    assert unprimed.ui.exportButton.enabled
    assert unprimed.nodes.textNode.GetAttribute(OWN_READ_ATTRIBUTE).startswith("revealed 20")


def test_readersOwnMarksAreShownAndDoNotTellTheModels(unprimed: OpenResult) -> None:
    texts = []
    for place in (FOUND_IJK[1], MISSED_IJK):
        unprimed.press("A")
        unprimed.pick(place)
        texts.append(unprimed.told)
    assert texts[0].replace("1 marked", "2 marked") == texts[1], "found by the model or not"
    table = unprimed.ui.lesionTable
    assert table.rowCount == 2
    columns = [review_scene.cells(table, column) for column in range(table.columnCount - 1)]
    assert all(first == second for first, second in columns)
    assert "CMB" not in unprimed.ui.undoButton.toolTip
    assert not unprimed.ui.editButton.enabled
    assert drawn(unprimed) == {"cmb_0002", "cmb_0006"}, "the reader sees the own marks"
    unprimed.ui.revealButton.click()
    verdicts = unprimed.verdicts()
    assert (verdicts[2], verdicts[6]) == ("accepted", "accepted")
    assert unprimed.session.lesion(2).origin == "model"
    assert unprimed.session.lesion(6).origin == "reader"
    assert table.rowCount == 6
    assert unprimed.selected == (1,)


def test_undoDuringTheOwnRead(unprimed: OpenResult) -> None:
    unprimed.press("A")
    unprimed.pick(FOUND_IJK[1])
    unprimed.press("Z", control=True)
    assert unprimed.ui.lesionTable.rowCount == 0
    assert unprimed.selected == ()
    assert drawn(unprimed) == set(), "undo must not show what the model has found"
    assert set(unprimed.verdicts().values()) == {"unreviewed"}


def test_ownReadSurvivesTheScene(unprimed: OpenResult) -> None:
    unprimed.controller.close()
    unprimed.ui.afterOwnReadCheckBox.checked = False
    unprimed.controller.open(unprimed.nodes)
    assert unprimed.controller.isOwnRead
    assert unprimed.ui.lesionTable.rowCount == 0
    unprimed.ui.revealButton.click()
    unprimed.controller.close()
    unprimed.ui.afterOwnReadCheckBox.checked = True
    unprimed.controller.open(unprimed.nodes)
    assert not unprimed.controller.isOwnRead, "what was seen is not hidden again by itself"


def test_oneSegmentEndsWithAnOwnRead(result: OpenResult) -> None:
    result.ui.oneSegmentCheckBox.checked = True
    result.ui.afterOwnReadCheckBox.click()
    assert result.nodes.combinedNode is None
    assert drawn(result) == set()


def test_aListWithVerdictsIsNotHiddenAgain(result: OpenResult) -> None:
    result.press("Y")
    result.ui.afterOwnReadCheckBox.click()
    assert not result.controller.isOwnRead
    assert result.ui.lesionTable.rowCount == 5
    assert "stays shown" in result.told


def test_aReaderCanHideTheOpenResult(result: OpenResult) -> None:
    result.ui.afterOwnReadCheckBox.click()
    assert result.controller.isOwnRead
    assert result.ui.lesionTable.rowCount == 0
    assert ring() is None
    assert drawn(result) == set()
    result.ui.afterOwnReadCheckBox.click()
    assert not result.controller.isOwnRead
    assert result.ui.lesionTable.rowCount == 5
