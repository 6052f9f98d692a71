"""Importing models from the panel, with the real child processes and models of Keras."""

from __future__ import annotations

import os
import signal
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from CMBDetectorSlicer.dependencies import TO_IMPORT_KERAS
from CMBDetectorSlicer.model_import import ModelTerms, termsText
from CMBDetectorSlicer.panel import slicerServices
from panel_driver import (
    REPOSITORY,
    PanelDriver,
    RecordingInstaller,
    RecordingRunner,
    addVolume,
    installTinyModel,
    tinyScan,
)
from PySide6.QtGui import Qt
from PySide6.QtWidgets import QMessageBox

STANDINS = REPOSITORY / "Testing/CMBDetectorLib/importing/standins"
ARCHIVE = STANDINS / "dark_spots_keras2.zip"
MODEL = "dark_spots_keras2"


@pytest.fixture
def models(tmp_path: Path, monkeypatch: Any) -> Path:
    """The user's folder of models."""
    folder = tmp_path / "models"
    monkeypatch.setenv("CMBDETECTOR_MODELS", str(folder))
    return folder


@pytest.fixture
def opened(scene: object, app: object, models: Path) -> Iterator[PanelDriver]:
    driver = PanelDriver()
    yield driver
    driver.close()


def importFrom(opened: PanelDriver, messages: Any, path: Path, button: str) -> None:
    """Choose a file or folder, and wait for the end."""
    messages.paths.append(str(path))
    opened.click(button)
    opened.waitUntil(lambda: not opened.panel.importSection.isRunning, "the import ends")


def modelIds(opened: PanelDriver) -> list[str]:
    selector = opened.ui.modelSelector
    return [selector.itemData(index) for index in range(selector.count)]


def assertNothingWasImported(opened: PanelDriver, models: Path) -> None:
    assert MODEL not in modelIds(opened)
    assert not models.exists() or list(models.iterdir()) == []
    assert opened.shown("importFileButton")
    assert not opened.shown("importProgressBar")
    assert not opened.shown("cancelImportButton")


def testAModelOfOtherSoftwareIsImportedSelectedAndSearchesAsAllDo(
    opened: PanelDriver, messages: Any, models: Path
) -> None:
    importFrom(opened, messages, ARCHIVE, "importFileButton")
    (question,) = opened.questions
    assert MODEL in question
    assert "does not state a license" in question
    assert question.endswith("Do you accept these terms?")
    assert opened.text("modelMessageLabel") == f"Imported and verified: {MODEL}."
    assert [path.name for path in models.iterdir()] == [MODEL]
    assert opened.panel.modelSection.modelId() == MODEL
    assert opened.text("modelFactsLabel") == (
        "Version unknown, 1 network. Sees the whole head at 1 mm; "
        "the voxel sizes it was trained on are not known."
    )
    settings = opened.panel.modelSection.settings()
    assert (settings.model, settings.threshold, settings.minVolumeMm3) == (MODEL, None, None)
    assert (opened.ui.thresholdSpinBox.value, opened.ui.minVolumeSpinBox.value) == (0.5, 1.0)
    opened.click("verifyModelButton")
    assert "agree with their checksums" in opened.text("modelMessageLabel")
    opened.click("modelCardButton")
    opened.panel.modelSection._cardDialog.close()

    opened.ui.anatomyModeSelector.currentIndex = opened.ui.anatomyModeSelector.findData("none")
    made = tinyScan()
    addVolume(made.array, made.geometry.affine)
    opened.waitForCheck()
    assert "brain of" in opened.text("inputFactsLabel")
    opened.ui.minVolumeSpinBox.value = 2.0
    opened.click("detectButton")
    opened.waitForRun()
    assert opened.text("resultFindingLabel").startswith("2 suspected"), opened.text("messageLabel")
    provenance = opened.panel.results.session.provenance
    assert (provenance.model_id, provenance.min_volume_mm3) == (MODEL, 2.0)


def testTermsThatAreDeclinedImportNothing(opened: PanelDriver, messages: Any, models: Path) -> None:
    opened.answer = False
    importFrom(opened, messages, ARCHIVE, "importFileButton")
    assert len(opened.questions) == 1
    assert "not accepted" in opened.text("modelMessageLabel")
    assert [arguments[3] for arguments, _ in opened.runner.started] == ["--show-license"]
    assertNothingWasImported(opened, models)


def testADamagedFileSaysSoAndLeavesNothing(
    opened: PanelDriver, messages: Any, models: Path, tmp_path: Path
) -> None:
    with zipfile.ZipFile(ARCHIVE) as archive:
        content = archive.read("dark_spots_keras2.h5")
    folder = tmp_path / "download"
    folder.mkdir()
    (folder / "dark_spots_keras2.h5").write_bytes(content[: len(content) // 2])
    importFrom(opened, messages, folder, "importFolderButton")
    headline, problem = opened.text("modelMessageLabel").splitlines()
    assert headline == "The model was not imported"
    assert "dark_spots_keras2.h5" in problem
    assert "error:" not in problem
    assertNothingWasImported(opened, models)
    importFrom(opened, messages, STANDINS / "unsupported_keras2.zip", "importFileButton")
    assert "The model was not imported" in opened.text("modelMessageLabel")
    assertNothingWasImported(opened, models)


@pytest.mark.parametrize("button", ["importFileButton", "importFolderButton"])
def testWhatIsNoModelSaysSoBeforeAnyQuestion(
    button: str, opened: PanelDriver, messages: Any, models: Path, tmp_path: Path
) -> None:
    path = tmp_path / "notes"
    if button == "importFolderButton":
        path.mkdir()
    else:
        path.write_text("no model")
    importFrom(opened, messages, path, button)
    assert "not imported" in opened.text("modelMessageLabel")
    assert "expected" in opened.text("modelMessageLabel")
    assert opened.questions == []
    assertNothingWasImported(opened, models)


def testAModelThatIsThereIsRefusedBeforeAnyQuestion(opened: PanelDriver, messages: Any) -> None:
    importFrom(opened, messages, ARCHIVE, "importFileButton")
    importFrom(opened, messages, ARCHIVE, "importFileButton")
    assert "is installed already" in opened.text("modelMessageLabel")
    assert len(opened.questions) == 1
    assert modelIds(opened).count(MODEL) == 1


def testABundleOfThisSoftwareIsCopiedWithoutAQuestion(
    opened: PanelDriver, messages: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    name = installTinyModel(tmp_path / "elsewhere", monkeypatch)
    monkeypatch.setenv("CMBDETECTOR_MODELS", str(tmp_path / "models"))
    importFrom(opened, messages, tmp_path / "elsewhere" / name, "importFolderButton")
    assert opened.questions == []
    assert opened.runner.started == []
    assert opened.text("modelMessageLabel") == "Imported and verified: Darkness."
    assert opened.panel.modelSection.modelId() == name
    assert "Trained on pixels of 0.4 to 1.2 mm" in opened.text("modelFactsLabel")


def testNothingChosenDoesNothing(opened: PanelDriver, messages: Any) -> None:
    for button in ("importFileButton", "importFolderButton"):
        messages.paths.append("")
        opened.click(button)
    assert opened.runner.started == []
    assert opened.text("modelMessageLabel") == ""


def startConverting(opened: PanelDriver, messages: Any) -> None:
    """Until the second child process tells of its steps."""
    messages.paths.append(str(ARCHIVE))
    opened.click("importFileButton")
    opened.waitUntil(
        lambda: "reading network" in opened.text("modelMessageLabel"), "the conversion begins"
    )


def testAnImportCanBeCancelledAndHoldsUpSearches(
    opened: PanelDriver, messages: Any, models: Path
) -> None:
    made = tinyScan()
    addVolume(made.array, made.geometry.affine)
    opened.waitForCheck()
    assert opened.ui.detectButton.enabled
    startConverting(opened, messages)
    assert not opened.ui.detectButton.enabled
    assert "being imported" in opened.ui.detectButton.toolTip
    assert not opened.shown("importFolderButton")
    assert opened.shown("importProgressBar")
    opened.click("cancelImportButton")
    opened.waitUntil(lambda: not opened.panel.importSection.isRunning, "the import ends")
    assert opened.text("modelMessageLabel") == "Cancelled. Nothing was imported."
    assertNothingWasImported(opened, models)
    assert opened.ui.detectButton.enabled


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def testAChildThatIsKilledFromOutsideIsAnErrorNotAHang(opened: PanelDriver, messages: Any) -> None:
    startConverting(opened, messages)
    (process,) = opened.runner.running("models")
    os.killpg(process.pid, signal.SIGKILL)
    opened.waitUntil(lambda: not opened.panel.importSection.isRunning, "the import ends")
    assert "killed from outside" in opened.text("modelMessageLabel")
    assert MODEL not in modelIds(opened)


def testUnloadingTheModuleEndsTheImport(opened: PanelDriver, messages: Any, models: Path) -> None:
    startConverting(opened, messages)
    opened.widget.cleanup()
    opened.waitUntil(lambda: not opened.runner.running(), "the child is gone")
    assert not (models / MODEL).exists()


BLOCKER = """\
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "h5py":
            raise ModuleNotFoundError("No module named 'h5py'", name="h5py")

sys.meta_path.insert(0, Blocker())
"""


class UnblockingInstaller(RecordingInstaller):
    """Makes the package that is kept from children available."""

    def __init__(self, blocker: Path) -> None:
        super().__init__()
        self._blocker = blocker

    def install(self, requirements: Any, *_: Any, **__: Any) -> None:
        super().install(requirements)
        self._blocker.unlink()


@pytest.mark.parametrize("isWanted", [True, False])
def testAPackageThatOnlyAnImportNeedsIsOffered(
    isWanted: bool, scene: object, app: object, messages: Any, models: Path, tmp_path: Path
) -> None:
    blocker = tmp_path / "python" / "sitecustomize.py"
    blocker.parent.mkdir()
    blocker.write_text(BLOCKER, encoding="utf-8")
    runner = RecordingRunner(os.environ | {"PYTHONPATH": str(blocker.parent)})
    opened = PanelDriver(runner, UnblockingInstaller(blocker))
    opened.answers = [True, isWanted]
    importFrom(opened, messages, ARCHIVE, "importFileButton")
    assert len(opened.questions) == 2
    assert opened.questions[1].startswith("Importing this model needs Python packages")
    assert "h5py" in opened.questions[1]
    if isWanted:
        assert opened.installer.asked == [(TO_IMPORT_KERAS,)]
        assert opened.panel.modelSection.modelId() == MODEL, opened.text("modelMessageLabel")
    else:
        assert opened.installer.asked == []
        assert "were not installed: h5py" in opened.text("modelMessageLabel")
        assertNothingWasImported(opened, models)
    opened.close()


def testTermsOfOthersAreShownAsPlainText() -> None:
    terms = ModelTerms("x", "<img src='x'>", "<b>A</b>", "MIT", "No <i>use</i>.", "A 2024", ())
    text = termsText(terms)
    assert "<b>A</b>\nLicense: MIT" in text
    assert "\n\nCite: A 2024\n\n" in text
    assert not Qt.mightBeRichText(text)
    assert Qt.mightBeRichText(terms.name)


@pytest.mark.skipif(sys.platform == "win32", reason="a program that is a script")
def testTermsAreAcceptedWithYes(
    app: object, messages: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    program = tmp_path / "PythonSlicer"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    services = slicerServices()
    for answer in (QMessageBox.StandardButton.Yes, QMessageBox.StandardButton.No):
        messages.answers.append(answer)
        assert services.accept("These terms?") == (answer == QMessageBox.StandardButton.Yes)
    assert [shown.text for shown in messages.shown] == ["These terms?"] * 2
