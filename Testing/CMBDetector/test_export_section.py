"""Counts and files; the files are read again by the library."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from CMBDetectorSlicer.export_section import NOT_FOR_CLINICAL_USE, stemOf
from review_scene import MISSED_IJK, OpenResult

STEM = "Patient_A_T2_2"


@pytest.fixture
def result(scene: Any) -> Iterator[OpenResult]:
    made = OpenResult().open()
    for key in "YYNU":
        made.press(key)
    yield made
    made.close()


def message(result: OpenResult) -> str:
    return str(result.ui.exportMessageLabel.text)


def test_summary(result: OpenResult) -> None:
    text = result.ui.summaryLabel.text
    assert "4 lesions: 2 certain, 1 uncertain, 1 without a verdict" in text
    assert "not counted: 1" in text
    assert "5 to 10 mm 4" in text
    assert "Strictly lobar: cannot be said" in text
    assert "MARS" in text
    assert NOT_FOR_CLINICAL_USE in text


def test_summaryByZoneSideAndRegionNamesTheSchemes(result: OpenResult) -> None:
    session = result.session
    session.set_region([1, 2], "frontal")
    session.set_region([3, 4, 5], "thalamus")
    result.controller.attempt(lambda: session.set_hemisphere([1, 3], "left"))
    lines = result.ui.summaryLabel.text.splitlines()
    assert "Zone (MARS): lobar 2, deep 2" in lines
    assert "Side: left 1, not assessed 3" in lines
    assert "Region (MARS): frontal 2, thalamus 2" in lines
    assert "Region (BOMBS): thalamus 2, not assessed 2" in lines
    assert any(line.startswith("Size (BOMBS): ") for line in lines)
    assert "Strictly lobar: no" in lines


def test_writesWhatIsChosen(result: OpenResult, tmp_path: Path) -> None:
    result.press("A")
    result.pick(MISSED_IJK)
    result.ui.exportFolderEdit.currentPath = str(tmp_path)
    result.ui.exportButton.click()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == sorted(
        f"{STEM}_cmb_reviewed{end}"
        for end in (".csv", ".json", ".png", "_labels.nii.gz", ".seg.nrrd", "_summary.csv")
    )
    assert all(name in message(result) for name in names)
    labels = nibabel.load(tmp_path / f"{STEM}_cmb_reviewed_labels.nii.gz")
    assert sorted(np.unique(np.asanyarray(labels.dataobj))) == [0, 1, 2, 4, 5, 6]
    assert np.allclose(labels.affine, result.grid.affine)


def test_onlyWhatIsTicked(result: OpenResult, tmp_path: Path) -> None:
    ui = result.ui
    for box in (
        ui.documentCheckBox,
        ui.labelsCheckBox,
        ui.pictureCheckBox,
        ui.segmentationCheckBox,
    ):
        box.checked = False
    ui.exportFolderEdit.currentPath = str(tmp_path)
    ui.exportButton.click()
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {f"{STEM}_cmb_reviewed.csv", f"{STEM}_cmb_reviewed_summary.csv"}
    ui.tableCheckBox.checked = False
    ui.exportButton.click()
    assert "tick at least one" in message(result)


def test_existingFilesAreReplacedAfterAQuestionOnly(
    result: OpenResult, tmp_path: Path, messages: Any
) -> None:
    table = tmp_path / f"{STEM}_cmb_reviewed.csv"
    table.write_text("mine", encoding="utf-8")
    result.ui.exportFolderEdit.currentPath = str(tmp_path)
    messages.answers.append(False)
    result.ui.exportButton.click()
    assert table.read_text(encoding="utf-8") == "mine"
    assert [path.name for path in tmp_path.iterdir()] == [table.name]
    assert message(result) == "Nothing was written."
    messages.answers.append(True)
    result.ui.exportButton.click()
    assert "verdict" in table.read_text(encoding="utf-8")
    assert table.name in messages.shown[-1].text


def test_withoutAFolder(result: OpenResult) -> None:
    result.ui.exportFolderEdit.currentPath = ""
    result.ui.exportButton.click()
    assert "no folder is chosen" in message(result)
    result.ui.exportFolderEdit.currentPath = "somewhere"
    result.ui.exportButton.click()
    assert "no full path" in message(result)


def test_aFolderThatCannotBeWrittenTo(result: OpenResult, tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.write_text("", encoding="utf-8")
    result.ui.exportFolderEdit.currentPath = str(place)
    result.ui.exportButton.click()
    assert str(place) in message(result)
    assert place.read_text(encoding="utf-8") == ""


def test_messageGoesWithTheNextChange(result: OpenResult, tmp_path: Path) -> None:
    result.ui.exportFolderEdit.currentPath = str(tmp_path)
    result.ui.exportButton.click()
    assert message(result)
    result.press("Y")
    assert message(result) == "", "the files do not hold this verdict"


def test_withoutAResult(result: OpenResult) -> None:
    result.controller.close()
    assert not result.ui.exportButton.enabled
    assert result.ui.summaryLabel.text == ""


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("scan.nii.gz", "scan"),
        ("scan.nii", "scan"),
        ("5: SWI_Images", "5_SWI_Images"),
        ("../../etc/x", "etc_x"),
        ("Köpf", "Köpf"),
        ("***", "scan"),
        ("", "scan"),
        ("a" * 300, "a" * 80),
    ],
)
def test_stem(name: str, stem: str) -> None:
    assert stemOf(name) == stem
