"""The tutorial as the module does it by itself within 3D Slicer, here without a display."""

from __future__ import annotations

import re
import sys
import unittest
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import slicer
from CMBDetectorSlicer import tutorial
from CMBDetectorSlicer.dependencies import REQUIREMENTS
from CMBDetectorSlicer.review_section import KEYS_TEXT
from CMBDetectorSlicer.sample_data import SAMPLE_NAME
from panel_driver import REPOSITORY, PanelDriver, loadVolume

import CMBDetector


@pytest.fixture
def opened(
    scene: object, app: object, sample_scan: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[PanelDriver]:
    """A panel that 3D Slicer finds by its name, and Sample Data that knows the sample."""
    sampleData = ModuleType("SampleData")
    samples = {SAMPLE_NAME: sample_scan}
    sampleData.downloadSample = lambda name: loadVolume(samples[name], name)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "SampleData", sampleData)
    driver = PanelDriver(looks=True)
    panels = {"CMBDetector": driver.widget}
    monkeypatch.setattr(slicer.util, "getModuleWidget", panels.__getitem__)
    yield driver
    driver.close()


def testTheTutorialCanBeDone(opened: PanelDriver) -> None:
    test = CMBDetector.CMBDetectorTest()
    result = test.run()
    assert isinstance(result, unittest.TestResult)
    assert result.testsRun == 1
    assert not result.skipped
    assert result.wasSuccessful(), [text for _, text in result.errors + result.failures]
    assert slicer.util.selectedModule() == "CMBDetector"
    assert opened.questions == []


def testNothingIsInstalledForTheTutorial(
    opened: PanelDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tutorial, "missingPackages", lambda _environment: REQUIREMENTS[:1])
    result = CMBDetector.CMBDetectorTest().run()
    ((_, reason),) = result.skipped
    assert "torch" in reason
    assert opened.installer.asked == []
    assert not opened.runner.running("detect")


# The page


def tutorialText() -> str:
    page = (REPOSITORY / "docs/slicer.md").read_text(encoding="utf-8")
    return page.split("## Tutorial")[1].split("\n## ")[0]


def textsOfThePanel() -> set[str]:
    file = ElementTree.parse(REPOSITORY / "CMBDetector/Resources/UI/CMBDetector.ui")
    return {string.text for string in file.iter("string") if string.text}


def keysOfThePanel() -> set[str]:
    """From the line that the panel shows, such as "Keys: Y accept, Ctrl+Z undo"."""
    listed = KEYS_TEXT.removeprefix("Keys: ").split(", ")
    return {entry.split()[0] for entry in listed}


def testThePageSaysWhatIsOnThePanel() -> None:
    of3DSlicer = {"File > Download Sample Data", "Neuroimaging > CMB Detector", "OK", "File > Save"}
    of3DSlicer |= {"Reload and Test"}
    bold = set(re.findall(r"\*\*([^*]+)\*\*", tutorialText()))
    assert len(bold) > 15
    assert bold <= textsOfThePanel() | keysOfThePanel() | of3DSlicer | {SAMPLE_NAME}


def testThePageListsTheKeys() -> None:
    page = (REPOSITORY / "docs/slicer.md").read_text(encoding="utf-8")
    table = page.split("## Keys")[1].split("\n## ")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| ")][2:]
    documented = {key.strip() for cell in cells for key in re.split(r",|;| or ", cell)}
    assert documented == keysOfThePanel() | {"Esc", "Ctrl+Shift+Z"}


def testThePageNamesTheFilesOfTheExport(tmp_path: Path) -> None:
    from CMBDetectorLib.reporting.reviewed import REVIEW_FORMATS, planned_review_outputs

    text = tutorialText()
    for path in planned_review_outputs(SAMPLE_NAME, tmp_path, REVIEW_FORMATS).values():
        stem = f"{SAMPLE_NAME}_cmb_reviewed"
        assert f"`{path.name}`" in text or f"`{path.name.removeprefix(stem)}`" in text, path.name
