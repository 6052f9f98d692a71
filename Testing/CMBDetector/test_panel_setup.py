"""The panel before anything is run: what it offers, what it says, what it keeps."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import slicer
from panel_driver import REPOSITORY, PanelDriver, addVolume, loadVolume, tinyScan
from sessions import makeAnatomy

UI_FILE = REPOSITORY / "CMBDetector/Resources/UI/CMBDetector.ui"
CONTROLS = (
    "QPushButton",
    "QComboBox",
    "QSpinBox",
    "QDoubleSpinBox",
    "QCheckBox",
    "QLineEdit",
    "QTableWidget",
    "QPlainTextEdit",
    "QProgressBar",
    "qMRMLNodeComboBox",
    "ctkPathLineEdit",
    "ctkCollapsibleButton",
)
SECTIONS = ("input", "model", "detect", "result", "review", "export")


@pytest.fixture
def opened(scene: object, app: object) -> Iterator[PanelDriver]:
    driver = PanelDriver()
    yield driver
    driver.close()


def widgetsOfTheFile() -> list[ElementTree.Element]:
    return list(ElementTree.parse(UI_FILE).iter("widget"))


def testEveryControlHasAToolTip() -> None:
    controls = [w for w in widgetsOfTheFile() if w.get("class") in CONTROLS]
    assert len(controls) > 40
    without = [
        w.get("name")
        for w in controls
        if not (w.findtext("property[@name='toolTip']/string") or "").strip()
    ]
    assert without == []


def testSectionsAreInTheOrderOfWorkBelowTheNote(opened: PanelDriver) -> None:
    def top(name: str) -> int:
        widget = getattr(opened.ui, name)
        return int(widget.mapTo(opened.parent, widget.rect.topLeft()).y())

    opened.parent.resize(420, 1600)
    opened.parent.show()
    slicer.app.processEvents()
    tops = [top("notForClinicalUseLabel")]
    tops += [top(f"{name}CollapsibleButton") for name in SECTIONS]
    assert tops == sorted(set(tops))
    assert "Not for clinical use" in opened.text("notForClinicalUseLabel")


def testAnEmptySceneSaysWhatToDoAndOffersNoSearch(opened: PanelDriver) -> None:
    assert "load a scan" in opened.text("inputFactsLabel")
    assert not opened.ui.detectButton.enabled
    assert not opened.ui.reviewCollapsibleButton.enabled
    assert not opened.shown("cancelButton")
    assert not opened.shown("messageLabel")


def testTheOnlyVolumeIsSelectedAndDescribedWithTheLibrarysWarnings(
    opened: PanelDriver, sample_scan: Path
) -> None:
    node = loadVolume(sample_scan)
    assert opened.ui.inputVolumeSelector.currentNode() is node
    opened.waitForCheck()
    header = nib.load(sample_scan).header
    size = " × ".join(str(n) for n in header.get_data_shape())
    assert size in opened.text("inputFactsLabel")
    assert "0.75" in opened.text("inputFactsLabel")
    assert "ml" in opened.text("inputFactsLabel")
    assert opened.ui.detectButton.enabled


def testAThickScanIsWarnedOfBeforeTheRun(opened: PanelDriver) -> None:
    rng = np.random.default_rng(3)
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in (90, 110, 24)], indexing="ij"))
    head = np.linalg.norm(grid, axis=0) < 0.9
    array = (head * (700 + rng.normal(0, 20, head.shape))).astype(np.float32)
    addVolume(array, np.diag([2.0, 2.0, 7.0, 1.0]))
    opened.waitForCheck()
    assert "Warning" in opened.text("inputWarningsLabel")
    assert opened.ui.detectButton.enabled


def testAVolumeWithoutVoxelsIsRefusedInPlaceOfASearch(opened: PanelDriver) -> None:
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
    assert "no voxels" in opened.text("inputWarningsLabel")
    assert not opened.ui.detectButton.enabled
    assert "no voxels" in opened.ui.detectButton.toolTip


def testVoxelsThatComeLaterAreNoticed(opened: PanelDriver) -> None:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "late")
    assert not opened.ui.detectButton.enabled
    slicer.util.updateVolumeFromArray(node, np.ones((4, 5, 6), np.float32))
    opened.waitUntil(lambda: opened.ui.detectButton.enabled, "the panel notices the voxels")
    assert "6 × 5 × 4" in opened.text("inputFactsLabel")


def testOnlyASequenceAsksForAFrame(opened: PanelDriver) -> None:
    volume = addVolume(np.ones((6, 5, 4), np.float32), np.eye(4), "plain")
    assert not opened.shown("frameSpinBox")
    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "4D")
    for index in range(3):
        sequence.SetDataNodeAtValue(volume, str(index))
    opened.ui.inputVolumeSelector.setCurrentNode(sequence)
    assert opened.shown("frameSpinBox")
    assert opened.ui.frameSpinBox.maximum == 3
    opened.ui.frameSpinBox.value = 2
    assert opened.panel.inputSection.scan().frame == 2
    assert opened.panel.inputSection.scan().name == "4D, frame 2"


def testTheBundledModelIsSelectedWithItsOwnOperatingPoint(opened: PanelDriver) -> None:
    assert "Trained on" in opened.text("modelFactsLabel")
    settings = opened.panel.modelSection.settings()
    assert settings.model == "cmb_gre_swi_unet"
    assert (settings.threshold, settings.minVolumeMm3) == (None, None)
    assert not opened.ui.resetButton.enabled


def testChangedValuesAreSaidAndCanBeReset(opened: PanelDriver) -> None:
    own = opened.ui.thresholdSpinBox.value
    opened.ui.thresholdSpinBox.value = 0.9
    assert opened.panel.modelSection.settings().threshold == pytest.approx(0.9)
    assert opened.ui.advancedCollapsibleButton.text == "Advanced (changed)"
    opened.click("resetButton")
    assert opened.ui.thresholdSpinBox.value == own
    assert opened.panel.modelSection.settings().threshold is None


def testVerifyAndCardOfTheBundledModel(opened: PanelDriver) -> None:
    opened.click("verifyModelButton")
    assert "agree with their checksums" in opened.text("modelMessageLabel")
    opened.click("modelCardButton")
    assert opened.panel.modelSection._cardDialog.windowTitle.startswith("Model card")
    opened.panel.modelSection._cardDialog.close()


def testDevicesThatAreThereAreOffered(scene: object, app: object) -> None:
    opened = PanelDriver(looks=True)
    opened.waitForCheck()
    texts = [opened.ui.deviceSelector.itemText(i) for i in range(opened.ui.deviceSelector.count)]
    assert texts[0] == "Automatic"
    assert any(text.startswith("Processor") for text in texts[1:])
    opened.close()


def testChoicesAreKeptInTheScene(opened: PanelDriver, tmp_path: Path) -> None:
    opened.waitForCheck()
    node = addVolume(np.ones((6, 5, 4), np.float32), np.eye(4), "kept")
    opened.ui.thresholdSpinBox.value = 0.8
    opened.ui.deviceSelector.currentIndex = opened.ui.deviceSelector.findData("cpu")
    choose(opened, "file")
    opened.ui.anatomyFileEdit.currentPath = str(tmp_path / "aseg.nii.gz")
    scene_file = tmp_path / "scene.mrml"
    slicer.mrmlScene.SetURL(str(scene_file))
    storage = node.GetStorageNode() or node.AddDefaultStorageNode()
    node.GetStorageNode().SetFileName(str(tmp_path / "kept.nrrd"))
    assert node.GetStorageNode().WriteData(node)
    assert slicer.mrmlScene.Commit(str(scene_file))
    del storage, node
    slicer.mrmlScene.Clear(False)
    assert opened.ui.inputVolumeSelector.currentNode() is None
    assert opened.panel.anatomySection.choice().mode == "auto"
    slicer.mrmlScene.SetURL(str(scene_file))
    assert slicer.mrmlScene.Import()
    assert opened.ui.inputVolumeSelector.currentNode().GetName() == "kept"
    settings = opened.panel.modelSection.settings()
    assert settings.threshold == pytest.approx(0.8)
    assert settings.device == "cpu"
    anatomy = opened.panel.anatomySection.choice()
    assert (anatomy.mode, anatomy.file) == ("file", str(tmp_path / "aseg.nii.gz"))
    assert opened.shown("anatomyFileEdit")


def choose(opened: PanelDriver, mode: str) -> None:
    """Where the anatomy comes from."""
    selector = opened.ui.anatomyModeSelector
    selector.currentIndex = selector.findData(mode)


def testTheAnatomyIsFoundUnlessTheUserSaysOtherwise(opened: PanelDriver) -> None:
    assert opened.panel.anatomySection.choice().mode == "auto"
    assert not opened.shown("anatomySelector")
    assert not opened.shown("anatomyFileEdit")
    addVolume(np.ones((6, 5, 4), np.float32), np.eye(4))
    choose(opened, "node")
    assert opened.shown("anatomySelector")
    assert not opened.ui.detectButton.enabled
    assert "no segmentation or label map is chosen" in opened.text("inputWarningsLabel")
    choose(opened, "file")
    assert (opened.shown("anatomySelector"), opened.shown("anatomyFileEdit")) == (False, True)
    opened.ui.anatomyFileEdit.currentPath = "/nowhere/aseg.mgz"
    assert "'/nowhere/aseg.mgz' is not there" in opened.text("inputWarningsLabel")
    choose(opened, "none")
    assert opened.ui.detectButton.enabled
    assert not opened.shown("inputWarningsLabel")


def testAnAnatomyThatLiesElsewhereIsRefusedBeforeTheRun(opened: PanelDriver) -> None:
    made = tinyScan()
    addVolume(made.array, made.geometry.affine)
    anatomy = makeAnatomy(made.geometry)
    far = anatomy.geometry.affine.copy()
    far[:3, 3] += 500
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "aseg")
    slicer.util.updateVolumeFromArray(node, np.ascontiguousarray(anatomy.array.T))
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(far))
    choose(opened, "node")
    opened.ui.anatomySelector.setCurrentNode(node)
    opened.waitForCheck()
    assert "lies elsewhere in space" in opened.text("inputWarningsLabel")
    assert not opened.ui.detectButton.enabled
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(anatomy.geometry.affine))
    opened.panel.inputSection.refresh()
    opened.waitForCheck()
    assert opened.ui.detectButton.enabled, opened.text("inputWarningsLabel")
