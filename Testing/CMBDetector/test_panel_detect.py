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
from CMBDetectorSlicer.anatomy_overlay import anatomySegmentation
from CMBDetectorSlicer.lesion_rows import COLUMNS
from panel_driver import PanelDriver, addVolume, installTinyModel, loadVolume, tinyScan
from sessions import makeAnatomy


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
        done, anatomy = driver.text("messageLabel").split(". ")
        assert done.startswith("Done in ")
        assert done.endswith((" on the processor", " on the GPU 0"))
        assert anatomy.startswith("Anatomy found by head_anatomy_unet ")
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


def testLesionsAreLocatedByASegmentationThatIsMovedAsTheScanIs(opened: PanelDriver) -> None:
    made = tinyScan()
    volume = addVolume(made.array, made.geometry.affine, "moved")
    anatomy = makeAnatomy(made.geometry)
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Doe aseg")
    segmentation.SetAndObserveSegmentation(anatomySegmentation(anatomy))
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    turn = np.array([[0, -1, 0, 5.0], [1, 0, 0, -7], [0, 0, 1, 11], [0, 0, 0, 1]])
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(turn))
    for node in (volume, segmentation):
        node.SetAndObserveTransformNodeID(transform.GetID())
    opened.ui.anatomyModeSelector.currentIndex = opened.ui.anatomyModeSelector.findData("node")
    opened.ui.anatomySelector.setCurrentNode(segmentation)
    opened.click("detectButton")
    opened.waitForRun()

    session, nodes = opened.panel.results.session, opened.panel.results.nodes
    assert session is not None, opened.text("messageLabel")
    for lesion, center in _matched(session.lesions, made.centers):
        side = "right" if center[0] > anatomy.geometry.center_ras_mm[0] else "left"
        assert lesion.detection.hemisphere == side
        assert lesion.detection.region == "thalamus"
        assert lesion.detection.structure == f"{side.capitalize()}-Thalamus"
    assert session.provenance.anatomy_name == "Doe aseg"
    assert "Anatomy from Doe aseg." in opened.text("resultFindingLabel")
    assert "Anatomy from Doe aseg." in opened.text("messageLabel")
    assert "Zone (MARS): deep 2" in opened.text("summaryLabel")
    assert "Strictly lobar: no" in opened.text("summaryLabel")
    table = opened.ui.lesionTable
    assert "-Thalamus 100 %" in table.item(0, COLUMNS.index("region")).toolTip()
    assert nodes.anatomyNode.GetTransformNodeID() == transform.GetID()
    found = {
        nodes.anatomyNode.GetSegmentation().GetSegment(segmentId).GetName(): segmentId
        for segmentId in nodes.anatomyNode.GetSegmentation().GetSegmentIDs()
    }
    for segmentId in segmentation.GetSegmentation().GetSegmentIDs():
        name = segmentation.GetSegmentation().GetSegment(segmentId).GetName()
        np.testing.assert_allclose(
            nodes.anatomyNode.GetSegmentCenterRAS(found[name]),
            segmentation.GetSegmentCenterRAS(segmentId),
            atol=0.01,
        )


def testWhatWasLeftOutIsSaidWithTheFindingAndKept(opened: PanelDriver) -> None:
    from CMBDetectorSlicer.finding_banner import showFinding

    from CMBDetectorLib.results import DroppedDetection
    from CMBDetectorLib.review.session import ReviewSession

    made = tinyScan()
    addVolume(made.array, made.geometry.affine)
    opened.click("detectButton")
    opened.waitForRun()
    session, label = opened.panel.results.session, opened.ui.resultFindingLabel
    candidate = replace(session.model_detections[0], label=0)
    session.dropped = (DroppedDetection(candidate, "outside the brain: orbit, 9 mm away"),)
    again = ReviewSession.from_dict(session.to_dict(), session.label_map)
    assert again.dropped == session.dropped
    showFinding(label, again)
    assert "1 candidate left out, outside the brain (1 orbit)." in opened.text("resultFindingLabel")
    assert "orbit, 9 mm away" in label.toolTip
    showFinding(label, again, isHidden=True)
    assert "left out" not in opened.text("resultFindingLabel")
    assert "orbit" not in label.toolTip


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
