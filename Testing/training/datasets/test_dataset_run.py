"""Whole runs: continued, in parallel, strict, with duplicates and splits."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from training.datasets.layout import read_dataset

REPOSITORY = Path(__file__).resolve().parents[3]


def write_set(root: Path, save_nifti, heads) -> Path:
    for name, made in heads.items():
        folder = root / f"sub-{name}"
        save_nifti(folder / f"sub-{name}_space-T2S_desc-masked_T2S.nii.gz", made.array, made.affine)
        mask = (made.balls > 0).astype(np.uint8)
        save_nifti(folder / f"sub-{name}_space-T2S_CMB.nii.gz", mask, made.affine)
    return root


@pytest.fixture
def six(tmp_path: Path, head, save_nifti) -> Path:
    """Six scans of two cohorts; the last one has the voxels of the first, mirrored."""
    heads = {f"{n}": head(seed=n, voxels=((22, 30, 12),)) for n in (101, 102, 103, 201, 202)}
    mirrored = head(seed=101, voxels=((22, 30, 12),))
    heads["203"] = type(mirrored)(
        mirrored.array[::-1], mirrored.affine, mirrored.voxels, mirrored.balls[::-1]
    )
    return write_set(tmp_path / "Task2", save_nifti, heads)


def contents(root: Path) -> dict[str, str]:
    """Hashes of all files but the records."""
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and ".standardize" not in path.parts
    }


def test_a_killed_run_is_continued(six: Path, standardize, tmp_path: Path) -> None:
    killed = tmp_path / "killed"
    child = subprocess.Popen(
        [sys.executable, "-m", "training", "standardize", str(six), "-o", str(killed)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    for line in child.stdout:
        if line.startswith("[2/6"):
            break
    child.kill()
    child.communicate()
    n_done = len(list((killed / ".standardize").glob("sub-*_T2starw.json")))
    assert 2 <= n_done < 6
    assert not (killed / "scans.tsv").exists()
    first = killed / "sub-101" / "anat" / "sub-101_T2starw.nii.gz"
    written_ns = first.stat().st_mtime_ns
    again = standardize(six, output=killed)
    assert first.stat().st_mtime_ns == written_ns
    assert len(again.scans) == 6
    whole = standardize(six, output=tmp_path / "whole")
    assert contents(again.root) == contents(whole.root)
    assert not list(killed.rglob("*.partial-*"))


def test_a_second_run_makes_only_what_has_changed(six, standardize, capsys, save_nifti) -> None:
    standardize(six)
    capsys.readouterr()
    standardize(six)
    assert capsys.readouterr().out.count("was there already") == 6
    mask = six / "sub-102" / "sub-102_space-T2S_CMB.nii.gz"
    shutil.copy(six / "sub-203" / "sub-203_space-T2S_CMB.nii.gz", mask)
    shutil.rmtree(six / "sub-103")
    written = standardize(six)
    out = capsys.readouterr().out
    assert out.count("was there already") == 4
    assert "sub-103_T2starw" not in written.scans
    assert "not-in-source" in written.codes("sub-103_T2starw")


def test_processes_side_by_side_write_the_same(six: Path, standardize, tmp_path: Path) -> None:
    one = standardize(six)
    two = standardize(six, "--jobs", 2, output=tmp_path / "two")
    assert contents(one.root) == contents(two.root)


def test_limit(six: Path, standardize) -> None:
    assert list(standardize(six, "--limit", 2).scans) == ["sub-101_T2starw", "sub-102_T2starw"]
    assert len(standardize(six).scans) == 6
    assert len(standardize(six, "--limit", 1).scans) == 6, "what is there stays in the table"


def test_duplicates_and_participants_are_on_one_side(six: Path, standardize) -> None:
    splits = []
    for seed in range(8):
        written = standardize(six, "--split", "train=0.5,val=0.25,test=0.25", "--seed", seed)
        rows = written.scans
        assert rows["sub-101_T2starw"]["split"] == rows["sub-203_T2starw"]["split"]
        assert {row["split"] for row in rows.values()} == {"train", "val", "test"}
        people = {row["participant_id"]: row["split"] for row in written.table("participants.tsv")}
        assert people == {row["participant_id"]: row["split"] for row in rows.values()}
        splits.append(tuple(people.values()))
    assert len(set(splits)) > 1, "the seed changes them"
    assert written.codes("sub-101_T2starw") == ["duplicate-image"]
    assert written.codes("sub-203_T2starw") == ["duplicate-image"]


def test_split_files(six: Path, standardize, tmp_path: Path, capsys) -> None:
    names = [101, 102, 103, 201, 202, 203]
    table = tmp_path / "splits.csv"

    def give(**other: str) -> int:
        rows = [f"{n},{other.get(f's{n}', 'train')}" for n in names]
        table.write_text("participant_id,split\n" + "\n".join(rows) + "\n")
        return int(standardize(six, "--split-file", table).code)

    assert give(s102="test") == 0
    assert {e.attributes["split"] for e in read_dataset(tmp_path / "out")} == {"train", "test"}
    assert give(s203="test") == 3
    assert "the image is the same" in capsys.readouterr().err
    assert give(s202="n/a") == 3
    assert "no split of 1 participants, the first is sub-202" in capsys.readouterr().err


def test_strict_names_everything_and_finishes_nothing(six: Path, standardize, capsys) -> None:
    (six / "sub-102" / "sub-102_space-T2S_CMB.nii.gz").unlink()
    written = standardize(six, "--strict")
    assert written.code == 3
    error = capsys.readouterr().err
    assert "1 annotation-missing" in error
    assert "2 duplicate-image" in error
    assert error.count("\n") == 1
    assert not (written.root / "scans.tsv").exists()
    assert written.codes() == ["annotation-missing", "duplicate-image", "duplicate-image"]
    shutil.rmtree(six / "sub-102")
    shutil.rmtree(six / "sub-203")
    assert standardize(six, "--strict", output=written.root.with_name("b")).code == 0


def test_what_is_written(six: Path, standardize) -> None:
    written = standardize(six)
    entries = read_dataset(written.root)
    assert [entry.scan_id for entry in entries] == sorted(written.scans)
    first = entries[0]
    assert (first.participant_id, first.session) == ("sub-101", "")
    assert first.lesions is not None
    assert first.points is first.brain_mask is None
    assert first.attributes["center"] == "SABRE"
    assert "split" not in first.attributes
    description = json.loads((written.root / "dataset_description.json").read_text())
    assert description["DatasetType"] == "raw"
    assert description["License"] == "CC BY-NC-SA"
    sidecar = json.loads((written.root / "sub-101/anat/sub-101_T2starw.json").read_text())
    assert sidecar["SourceFile"] == "sub-101/sub-101_space-T2S_desc-masked_T2S.nii.gz"
    assert (written.root / "mismatches.csv").read_text().startswith("scan_id,code,listed")


def test_nothing_usable_is_an_error(tmp_path: Path, standardize, capsys) -> None:
    folder = tmp_path / "Task2" / "sub-101"
    folder.mkdir(parents=True)
    for ending in ("desc-masked_T2S", "CMB"):
        (folder / f"sub-101_space-T2S_{ending}.nii.gz").write_bytes(b"nothing")
    written = standardize(tmp_path / "Task2")
    assert written.code == 3
    assert "no scan can be used: 1 unreadable-image" in capsys.readouterr().err
    assert written.codes() == ["unreadable-image"]


def test_two_scans_of_one_name_are_refused(tmp_path, head, save_nifti, standardize, capsys) -> None:
    made = head()
    for name in ("a b", "ab"):
        save_nifti(tmp_path / "in" / f"{name}.nii.gz", made.array, made.affine)
    assert standardize(tmp_path / "in", "--layout", "generic", "--sequence", "SWI").code == 3
    assert "would both be called sub-ab_swi" in capsys.readouterr().err
