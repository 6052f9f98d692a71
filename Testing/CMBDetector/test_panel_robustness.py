"""What goes wrong around a run ends in a clear message, and leaves no process and no node."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import slicer
from panel_driver import PanelDriver, addVolume, installTinyModel, tinyScan

CLASSES_OF_A_RESULT = (
    "vtkMRMLTextNode",
    "vtkMRMLSegmentationNode",
    "vtkMRMLMarkupsFiducialNode",
    "vtkMRMLTableNode",
)


@pytest.fixture
def opened(scene: object, app: object, tmp_path: Path, monkeypatch: Any) -> Iterator[PanelDriver]:
    """A panel with a model so slow that a run can be disturbed."""
    installTinyModel(tmp_path / "models", monkeypatch)
    driver = PanelDriver(model=installTinyModel(tmp_path / "models", monkeypatch, isSlow=True))
    driver.scanNode = addTinyScan()
    yield driver
    driver.close()


def addTinyScan(name: str = "scan") -> Any:
    made = tinyScan(scale=2)
    return addVolume(made.array, made.geometry.affine, name)


def nodesOfResults() -> list[str]:
    return [
        node.GetName()
        for name in CLASSES_OF_A_RESULT
        for node in slicer.util.getNodesByClass(name)
        if "microbleed" in (node.GetName() or "")
    ]


def assertNothingIsLeft(opened: PanelDriver) -> None:
    assert not opened.panel.run.isRunning
    opened.waitUntil(lambda: not opened.runner.running("detect"), "the search's process is gone")
    assert nodesOfResults() == []
    assert not opened.shown("progressBar")
    assert not opened.shown("cancelButton")


def testCancel(opened: PanelDriver) -> None:
    opened.click("detectButton")
    opened.waitForSearch()
    opened.click("cancelButton")
    assert not opened.ui.cancelButton.enabled
    opened.waitForRun()
    assertNothingIsLeft(opened)
    assert opened.text("messageLabel").startswith("Cancelled")
    assert opened.ui.detectButton.enabled


def testCancelWhilePackagesAreLookedAt(opened: PanelDriver) -> None:
    opened.panel.run._environment = None
    opened.click("detectButton")
    opened.click("cancelButton")
    opened.waitForRun()
    assertNothingIsLeft(opened)
    assert opened.text("messageLabel").startswith("Cancelled")
    opened.waitForCheck()
    assert not opened.panel.run.isRunning


def testASecondClickDoesNotStartASecondSearch(opened: PanelDriver) -> None:
    opened.click("detectButton")
    opened.waitForSearch()
    assert not opened.ui.detectButton.enabled
    opened.panel.detect()
    assert "running already" in opened.ui.logText.toPlainText()
    assert len(opened.runner.running("detect")) == 1
    opened.click("cancelButton")
    opened.waitForRun()
    assertNothingIsLeft(opened)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def testAChildThatIsKilledFromOutsideIsAnErrorNotAHang(opened: PanelDriver) -> None:
    opened.click("detectButton")
    opened.waitForSearch()
    (process,) = opened.runner.running("detect")
    os.killpg(process.pid, signal.SIGKILL)
    opened.waitForRun()
    assertNothingIsLeft(opened)
    assert "Could not run" in opened.text("messageLabel")
    assert opened.shown("copyReportButton")
    assert opened.ui.detectButton.enabled


def testClosingTheSceneEndsTheSearch(opened: PanelDriver) -> None:
    opened.click("detectButton")
    opened.waitForSearch()
    slicer.mrmlScene.Clear(False)
    opened.waitForRun()
    assertNothingIsLeft(opened)
    assert "scene was closed" in opened.text("messageLabel")
    assert opened.ui.inputVolumeSelector.currentNode() is None
    assert not opened.ui.detectButton.enabled
    addTinyScan("another")
    opened.waitUntil(lambda: opened.ui.detectButton.enabled, "a search can be started again")


def testDeletingTheVolumeEndsTheSearch(opened: PanelDriver) -> None:
    opened.click("detectButton")
    opened.waitForSearch()
    slicer.mrmlScene.RemoveNode(opened.scanNode)
    opened.waitForRun()
    assertNothingIsLeft(opened)
    assert "'scan' was removed" in opened.text("messageLabel")


def testDeletingAnotherVolumeDoesNot(opened: PanelDriver) -> None:
    other = addTinyScan("other")
    opened.click("detectButton")
    opened.waitForSearch()
    slicer.mrmlScene.RemoveNode(other)
    assert opened.panel.run.isRunning
    opened.click("cancelButton")
    opened.waitForRun()


def testUnloadingTheModuleEndsTheSearch(opened: PanelDriver) -> None:
    opened.click("detectButton")
    opened.waitForSearch()
    opened.widget.cleanup()
    opened.waitForRun()
    assertNothingIsLeft(opened)


def testAnotherModuleDoesNotEndTheSearch(opened: PanelDriver) -> None:
    opened.click("detectButton")
    opened.waitForSearch()
    opened.widget.exit()
    assert opened.panel.run.isRunning
    opened.widget.enter()
    assert opened.panel.run.isRunning
    assert opened.shown("progressBar")
    opened.click("cancelButton")
    opened.waitForRun()


def testAVolumeThatIsMovedOnItsGridDuringTheSearchGetsNoResult(opened: PanelDriver) -> None:
    opened.ui.modelSelector.currentIndex = opened.ui.modelSelector.findData("darkness")
    opened.click("detectButton")
    opened.scanNode.SetOrigin(100.0, 0.0, 0.0)
    opened.waitForRun()
    assert "changed during the search" in opened.text("messageLabel")
    assertNothingIsLeft(opened)


def testASceneWithoutVolumes(opened: PanelDriver) -> None:
    slicer.mrmlScene.Clear(False)
    opened.panel.detect()
    assert "no volume is selected" in opened.text("messageLabel")
    assertNothingIsLeft(opened)


def testAnUnusableVolume(opened: PanelDriver) -> None:
    vector = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "none")
    opened.ui.inputVolumeSelector.setCurrentNode(vector)
    opened.panel.detect()
    assert "no voxels" in opened.text("messageLabel")
    assertNothingIsLeft(opened)


def testANonLinearTransformIsRefusedWithWhatToDo(opened: PanelDriver) -> None:
    warp = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLBSplineTransformNode", "warp")
    opened.scanNode.SetAndObserveTransformNodeID(warp.GetID())
    opened.panel.detect()
    assert "harden" in opened.text("messageLabel")
    assertNothingIsLeft(opened)


def testRemovingAPartOfTheOpenResultClosesIt(opened: PanelDriver) -> None:
    opened.ui.modelSelector.currentIndex = opened.ui.modelSelector.findData("darkness")
    opened.click("detectButton")
    opened.waitForRun()
    assert opened.panel.results.nodes is not None, opened.text("messageLabel")
    slicer.mrmlScene.RemoveNode(opened.scanNode)
    assert opened.panel.results.nodes is None
    assert "'scan' was removed from the scene" in opened.text("resultFindingLabel")
    assert not opened.ui.reviewCollapsibleButton.enabled
