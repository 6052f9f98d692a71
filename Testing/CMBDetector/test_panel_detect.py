"""From the click to the result, with the real child process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import slicer
from panel_driver import PanelDriver, addVolume, installTinyModel, loadVolume, tinyScan


@pytest.fixture
def opened(scene: object, app: object, tmp_path: Path, monkeypatch: Any) -> Iterator[PanelDriver]:
    """A panel with a quick model that calls dark voxels microbleeds."""
    driver = PanelDriver(model=installTinyModel(tmp_path / "models", monkeypatch))
    yield driver
    driver.close()


@pytest.fixture(scope="module")
def sampleTruth(sample_scan: Path) -> list[np.ndarray]:
    """Centers of the sample's lesions in RAS mm, by nibabel."""
    image = nib.load(sample_scan.with_name("sample_t2star_lesions.nii.gz"))
    labels = np.asarray(image.dataobj)
    return [
        nib.affines.apply_affine(image.affine, np.argwhere(labels == label).mean(axis=0))
        for label in np.unique(labels[labels > 0])
    ]


@pytest.mark.slow
def testTheSampleIsSearchedWithTheBundledModel(
    scene: object, app: object, sample_scan: Path, sampleTruth: list[np.ndarray]
) -> None:
    driver = PanelDriver()
    try:
        loadVolume(sample_scan, "sample")
        driver.click("detectButton")
        seen = set()
        driver.waitUntil(
            lambda: (
                seen.add(driver.text("stageLabel").split(":")[0]) or not driver.panel.run.isRunning
            ),
            "the search of the sample",
        )
        assert {"Finding the brain", "Searching"} <= seen
        assert driver.text("messageLabel").startswith("Done in ")
        assert driver.text("messageLabel").endswith((" on the processor.", " on the GPU 0."))
        assert driver.panel.results.session is not None
        found = [lesion.detection.center_ras_mm for lesion in driver.panel.results.session.lesions]
        number = len(found)
        assert driver.text("resultFindingLabel").startswith(f"{number} suspected microbleeds")
        assert len(sampleTruth) == 5
        for truth in sampleTruth:
            assert min(np.linalg.norm(np.subtract(center, truth)) for center in found) < 1.5
        assert driver.ui.lesionTable.rowCount == number
        assert driver.ui.inputCollapsibleButton.collapsed
        assert not driver.ui.reviewCollapsibleButton.collapsed
        assert driver.ui.resultSelector.currentNode() is driver.panel.results.nodes.textNode
    finally:
        driver.close()


def testARunOnATransformedVolumeWithAMaskAndChangedSettings(opened: PanelDriver) -> None:
    made = tinyScan()
    volume = addVolume(made.array, made.geometry.affine, "moved")
    mask = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "brain")
    inner = np.zeros(made.geometry.shape, np.uint8)
    inner[1:-1, 1:-1, 1:-1] = 1
    slicer.util.updateVolumeFromArray(mask, np.ascontiguousarray(inner.T))
    mask.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(made.geometry.affine))
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    shift = np.eye(4)
    shift[:3, 3] = (5.0, -7.0, 11.0)
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(shift))
    for node in (volume, mask):
        node.SetAndObserveTransformNodeID(transform.GetID())
    opened.ui.maskSelector.setCurrentNode(mask)
    opened.ui.thresholdSpinBox.value = 0.6
    opened.click("detectButton")
    opened.waitForRun()
    assert opened.text("resultFindingLabel").startswith("2 suspected"), opened.text("messageLabel")
    session, nodes = opened.panel.results.session, opened.panel.results.nodes
    assert session.provenance.threshold == pytest.approx(0.6)
    assert session.provenance.brain_mask_source != "found"
    assert session.provenance.input_name == "moved"
    segmentation = nodes.segmentationNode
    assert segmentation.GetTransformNodeID() == transform.GetID()
    for lesion, center in _matched(session.lesions, made.centers):
        world = np.zeros(3)
        name = f"cmb_{lesion.id:04d}"
        world[:] = segmentation.GetSegmentCenterRAS(name)
        assert np.linalg.norm(world - (np.array(center) + shift[:3, 3])) < 1.0


def _matched(lesions: Any, centers: Any) -> list[tuple[Any, Any]]:
    return [
        (
            min(
                lesions,
                key=lambda lesion: np.linalg.norm(np.subtract(lesion.detection.center_ras_mm, c)),
            ),
            c,
        )
        for c in centers
    ]


def testOneFrameOfASequence(opened: PanelDriver) -> None:
    made = tinyScan()
    plain = addVolume(np.full_like(made.array, 700), made.geometry.affine, "plain")
    dark = addVolume(made.array, made.geometry.affine, "dark")
    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "4D")
    sequence.SetDataNodeAtValue(plain, "0")
    sequence.SetDataNodeAtValue(dark, "1")
    slicer.mrmlScene.RemoveNode(plain)
    slicer.mrmlScene.RemoveNode(dark)
    opened.ui.inputVolumeSelector.setCurrentNode(sequence)
    opened.ui.frameSpinBox.value = 2
    opened.click("detectButton")
    opened.waitForRun()
    assert opened.text("resultFindingLabel").startswith("2 suspected"), opened.text("messageLabel")
    assert opened.panel.results.nodes.volumeNode.GetName() == "4D: frame 2"


def testNothingFoundAndNothingConcludedLookDifferent(opened: PanelDriver) -> None:
    from CMBDetectorSlicer.finding_banner import showFinding

    from CMBDetectorLib.results import UNEXPECTED_CONTRAST, ResultWarning

    made = tinyScan(centers=())
    addVolume(made.array, made.geometry.affine)
    opened.click("detectButton")
    opened.waitForRun()
    session, label = opened.panel.results.session, opened.ui.resultFindingLabel
    texts, styles = [], []
    known = tuple(w for w in session.warnings if w.code != UNEXPECTED_CONTRAST)
    for warnings in (known, (*known, ResultWarning(UNEXPECTED_CONTRAST, "looks like T1"))):
        session.warnings = warnings
        showFinding(label, session)
        texts.append(opened.text("resultFindingLabel"))
        styles.append(label.styleSheet)
    assert texts[0].startswith("No microbleed found")
    assert texts[1].startswith("Nothing concluded")
    assert "Warning: Looks like T1." in texts[1]
    assert styles[0] != styles[1]


@pytest.mark.slow
def testASecondResultIsBesideTheFirstAndBothCanBeOpened(opened: PanelDriver) -> None:
    made = tinyScan()
    addVolume(made.array, made.geometry.affine)
    for _ in range(2):
        opened.click("detectButton")
        opened.waitForRun()
    assert opened.ui.resultSelector.nodeCount() == 2
    first = opened.ui.resultSelector.nodeFromIndex(0)
    opened.ui.resultSelector.setCurrentNode(first)
    assert opened.panel.results.nodes.textNode is first
    assert opened.ui.lesionTable.rowCount == 2


def testMissingPackagesAreAskedForOnceAndInstalledThenLookedForAgain(opened: PanelDriver) -> None:
    opened.waitForCheck()
    complete = opened.panel.run._environment
    packages = dict(complete.packages)
    name = "nibabel"
    lacking = replace(packages[name], version=None, problem="not installed")
    opened.panel.run.setEnvironment(replace(complete, packages={**packages, name: lacking}))
    made = tinyScan()
    addVolume(made.array, made.geometry.affine)
    opened.click("detectButton")
    opened.waitForRun()
    assert len(opened.questions) == 1
    assert name in opened.questions[0]
    assert [requirement.name for requirement in opened.installer.asked[0]] == [name]
    # The child process then found it, and the search went on.
    assert opened.text("resultFindingLabel").startswith("2 suspected"), opened.text("messageLabel")


def testRefusingTheInstallationEndsWithInstructions(opened: PanelDriver) -> None:
    opened.waitForCheck()
    complete = opened.panel.run._environment
    name, known = "nibabel", complete.packages["nibabel"]
    lacking = replace(known, version=None, problem="not installed")
    opened.panel.run.setEnvironment(
        replace(complete, packages={**complete.packages, name: lacking})
    )
    opened.answer = False
    made = tinyScan()
    addVolume(made.array, made.geometry.affine)
    opened.click("detectButton")
    opened.waitForRun()
    assert opened.installer.asked == []
    assert "packages are missing" in opened.text("messageLabel")
    assert name in opened.text("messageLabel")
    assert opened.ui.detectButton.enabled


def testAnErrorOfTheChildIsShownWithAReportThatNamesNobody(opened: PanelDriver) -> None:
    made = tinyScan()
    addVolume(made.array, made.geometry.affine, "Doe^John")
    opened.waitForCheck()
    opened.ui.deviceSelector.addItem("GPU 77", "cuda:77")
    opened.ui.deviceSelector.currentIndex = opened.ui.deviceSelector.count - 1
    opened.click("detectButton")
    opened.waitForRun()
    assert "device" in opened.text("messageLabel")
    assert opened.shown("copyReportButton")
    opened.click("copyReportButton")
    report = slicer.app.clipboard().text()
    assert "0.1.0" in report
    assert "cuda:77" in report
    assert "Doe" not in report
    assert not opened.ui.reviewCollapsibleButton.enabled


def testAResultIsHiddenForTheReadersOwnReadLogIncluded(opened: PanelDriver) -> None:
    made = tinyScan()
    addVolume(made.array, made.geometry.affine)
    opened.ui.afterOwnReadCheckBox.click()
    opened.click("detectButton")
    opened.waitForRun()
    assert "2 suspected" not in opened.text("resultFindingLabel")
    assert "hidden" in opened.text("resultFindingLabel")
    assert not opened.shown("logCollapsibleButton")
    opened.click("revealButton")
    assert opened.text("resultFindingLabel").startswith("2 suspected")
    assert opened.shown("logCollapsibleButton")
