"""The command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.__main__ import main


@pytest.fixture
def valdo(tmp_path: Path, head, save_nifti) -> Path:
    made = head(voxels=())
    folder = tmp_path / "set" / "Task2" / "sub-101"
    save_nifti(folder / "sub-101_space-T2S_desc-masked_T2S.nii.gz", made.array, made.affine)
    save_nifti(folder / "sub-101_space-T2S_CMB.nii.gz", made.balls, made.affine)
    return tmp_path / "set"


def test_help(capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["standardize", "--help"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    for option in ("--layout", "--points", "--split-file", "--strict", "--jobs", "--limit"):
        assert option in out


def test_summary_and_progress(valdo: Path, standardize, capsys) -> None:
    standardize(valdo, "--split", "train=1")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("[1/1, 0 s left] sub-101_T2starw: lesions 0, remarks 0")
    assert lines[1].startswith("1 scan of 1 participant with 0 lesions in ")
    assert lines[2] == "  train: 1 scan of 1 participant"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--points", "p.csv"], "p.csv cannot be read"),
        (["--layout", "valdo", "--points", "p.csv"], "--points is of the layout generic"),
        (["--layout", "valdo", "--spacing", "1,1,1"], "--spacing is of the layout dou"),
        (["--layout", "dou", "--spacing", "1,1"], "--spacing is 3 lengths"),
        (["--layout", "dou", "--spacing", "1,1,0"], "above 0"),
        (["--layout", "generic", "--points", "a.csv", "--masks", "b"], "both points and masks"),
        (["--layout", "generic", "--outlines", "a", "--masks", "b"], "--masks and --outlines"),
        (["--split", "train"], "no NAME=SHARE"),
        (["--split", "train=0.5,test=0.2"], "together"),
        (["--split-file", "s.csv"], "s.csv"),
        (["--jobs", "0"], "--jobs is 1 or more"),
        (["--limit", "0"], "--limit is 1 or more"),
    ],
)
def test_contradictions(valdo: Path, tmp_path: Path, capsys, options, message) -> None:
    code = main(["standardize", str(valdo), "-o", str(tmp_path / "out"), *options])
    error = capsys.readouterr().err
    assert code in (2, 3)
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists(), "nothing was begun"


def test_unknown_folders(tmp_path: Path, capsys) -> None:
    out = ["-o", str(tmp_path / "out")]
    assert main(["standardize", str(tmp_path / "none"), *out]) == 2
    assert "is no folder" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main(["standardize", str(tmp_path / "empty"), *out]) == 2
    assert "fits no known layout" in capsys.readouterr().err
    assert main(["standardize", str(tmp_path / "empty"), *out, "--layout", "generic"]) == 3
    assert not (tmp_path / "out").exists()
