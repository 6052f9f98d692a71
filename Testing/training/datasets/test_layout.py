"""Names, and reading what was written."""

from __future__ import annotations

from pathlib import Path

import pytest

from CMBDetectorLib.errors import InputError
from training.datasets.layout import (
    SCAN_COLUMNS,
    ScanEntry,
    bids_label,
    format_table,
    read_dataset,
    scan_name,
    scan_paths,
)


def test_names() -> None:
    assert bids_label("case 7_b") == "case7b"
    with pytest.raises(InputError, match="letters or digits"):
        bids_label("--")
    assert scan_name("101", "", "", "T2*") == "sub-101_T2starw"
    name = scan_name("7", "T1", "V2", "SWI")
    assert name == "sub-7_ses-T1_acq-V2_swi"
    paths = scan_paths("7", "T1", name)
    assert str(paths.image) == f"sub-7/ses-T1/anat/{name}.nii.gz"
    assert str(paths.lesions) == (
        f"derivatives/lesions/sub-7/ses-T1/anat/{name}_desc-cmb_dseg.nii.gz"
    )


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    (tmp_path / "a.nii.gz").write_bytes(b"x")
    rows = [{"scan_id": name, "participant_id": "sub-1", "image": "a.nii.gz"} for name in "xy"]
    rows[1] |= {"session": "ses-2", "lesions": "a.nii.gz", "n_lesions": "3", "center": "A\tB"}
    (tmp_path / "scans.tsv").write_text(format_table(SCAN_COLUMNS, rows), encoding="utf-8")
    return tmp_path


def test_entries(dataset: Path) -> None:
    image = dataset / "a.nii.gz"
    assert read_dataset(dataset) == (
        ScanEntry("x", "sub-1", "", image),
        ScanEntry(
            "y", "sub-1", "ses-2", image, image, attributes={"center": "A B", "n_lesions": "3"}
        ),
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("a.nii.gz", "b.nii.gz", 1), "names b.nii.gz"),
        (lambda text: text.replace("\ny", "\nx"), "names x twice"),
        (lambda text: text.replace("n_lesions", "number"), "lacks the columns n_lesions"),
        (lambda text: text[:-40], "cut off"),
    ],
)
def test_damaged_tables_are_refused(dataset: Path, change, message: str) -> None:
    path = dataset / "scans.tsv"
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_dataset(dataset)


def test_an_unfinished_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="python -m training standardize"):
        read_dataset(tmp_path)
