"""Scans are written whole or not at all, and a run can be continued."""

from __future__ import annotations

from pathlib import Path

import pytest

from CMBDetectorLib.errors import OutputError, UsageError
from training.datasets.checks import DatasetIssue
from training.datasets.dataset_writer import RECORDS_NAME, DatasetWriter, ScanRecord

FILES = ("sub-1/anat/sub-1_swi.nii.gz", "derivatives/lesions/sub-1/anat/sub-1_swi_x.csv")


def start(root: Path, layout: str = "valdo") -> DatasetWriter:
    writer = DatasetWriter(root)
    writer.start(layout=layout, title="T", license_text="L", url="", source="s")
    return writer


def commit(
    writer: DatasetWriter, files: tuple[str, ...] = FILES, print_of: str = "a"
) -> ScanRecord:
    record = ScanRecord(
        fingerprint=print_of,
        row={"scan_id": "sub-1_swi", "n_lesions": "1"},
        files=files,
        issues=(DatasetIssue("nan-background", "m", "f", "sub-1_swi"),),
        mismatches=({"code": "merged"},),
    )
    with writer.staging("sub-1_swi") as folder:
        for name in files:
            (folder / Path(name).name).write_text(print_of)
        writer.commit(folder, record)
    return record


def on_disk(root: Path) -> set[str]:
    paths = (path for path in root.rglob("*") if path.is_file())
    kept = {path.relative_to(root).as_posix() for path in paths}
    return {name for name in kept if name.startswith(("sub-", "derivatives/lesions/sub-"))}


def test_a_record_is_found_again(tmp_path: Path) -> None:
    writer = start(tmp_path / "out")
    record = commit(writer)
    again = start(tmp_path / "out")
    assert again.find("sub-1_swi", "a") == record
    assert again.records() == {"sub-1_swi": record}
    assert again.find("sub-1_swi", "another") is None
    assert on_disk(tmp_path / "out") == set(FILES)
    (tmp_path / "out" / FILES[1]).unlink()
    assert again.find("sub-1_swi", "a") is None


def test_what_was_half_moved_is_removed(tmp_path: Path) -> None:
    """A run that was killed: while it made a scan, or while it moved the first of one."""
    writer = start(tmp_path / "out")
    commit(writer)
    records = tmp_path / "out" / RECORDS_NAME
    (records / "sub-2_swi.partial-1234").mkdir()
    (records / "sub-2_swi.partial-1234" / "sub-2_swi.nii.gz").write_text("half")
    (records / "sub-3_swi.moving.json").write_text('{"files": ["sub-3/anat/sub-3_swi.nii.gz"]}')
    half = tmp_path / "out" / "sub-3" / "anat" / "sub-3_swi.nii.gz"
    half.parent.mkdir(parents=True)
    half.write_text("moved")
    again = start(tmp_path / "out")
    assert on_disk(tmp_path / "out") == set(FILES)
    assert sorted(path.name for path in records.iterdir()) == ["dataset.json", "sub-1_swi.json"]
    assert list(again.records()) == ["sub-1_swi"]


def test_files_that_a_scan_no_longer_has_are_removed(tmp_path: Path) -> None:
    writer = start(tmp_path / "out")
    commit(writer)
    commit(writer, FILES[:1], "b")
    assert on_disk(tmp_path / "out") == set(FILES[:1])
    assert (tmp_path / "out" / FILES[0]).read_text() == "b"


def test_a_failure_leaves_nothing_half_done(tmp_path: Path) -> None:
    writer = start(tmp_path / "out")
    commit(writer)
    (tmp_path / "out" / "sub-1" / "in the way").mkdir()
    with pytest.raises(OutputError, match="cannot write sub-1_swi"):
        commit(writer, (FILES[0], "sub-1/in the way"), "b")
    assert on_disk(tmp_path / "out") == set()
    assert writer.records() == {}
    names = [path.name for path in (tmp_path / "out" / RECORDS_NAME).iterdir()]
    assert names == ["dataset.json"]


def test_foreign_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    with pytest.raises(UsageError, match="not empty"):
        start(tmp_path / "full")
    start(tmp_path / "out")
    with pytest.raises(UsageError, match="'valdo', now it is 'dou'"):
        start(tmp_path / "out", "dou")
