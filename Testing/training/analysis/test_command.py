"""The command from folders to tables and page."""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

import numpy as np
import pytest

from CMBDetectorLib.errors import (
    InputError,
    MissingDependencyError,
    OutputError,
    UsageError,
)
from training.analysis import command
from training.analysis.columns import LESION_COLUMNS, SCAN_COLUMNS
from training.analysis.tables import DISTRIBUTION_COLUMNS
from training.cases import write_case

NAMES = sorted(command.FILES.values())


def run(*words: object) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args([str(word) for word in words]))


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory, make_case) -> Path:
    root = tmp_path_factory.mktemp("cases")
    for number in range(2):
        case = make_case(
            f"0{number}-a",
            "01",
            affine=np.diag([-0.6, 0.6, 1.5, 1.0]),
            shape=(60, 60, 24),
            balls=[((x, 0, z), 3.0 + 0.4 * number, 15.0) for x in (-8, 0, 8) for z in (-5, 5)],
            seed=number,
        )
        write_case(root, case)
    return root


def test_two_layouts_beside_each_other(
    tmp_path: Path, write_dataset, cases: Path, check_page, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = write_dataset(tmp_path / "real", [4, 0, 2, None])
    assert run(dataset, "--simulated", cases, "-o", tmp_path / "out", "--label", "Real set") == 0
    out = tmp_path / "out"
    assert sorted(path.name for path in out.iterdir()) == NAMES
    lesions = rows(out / "lesion_features.csv")
    assert list(lesions[0]) == [column.name for column in LESION_COLUMNS]
    assert [row["dataset"] for row in lesions] == ["Real set"] * 6 + ["simulated"] * 12
    assert all(0 < float(row["mean_contrast"]) < 1 for row in lesions)
    scans = rows(out / "scan_features.csv")
    assert list(scans[0]) == [column.name for column in SCAN_COLUMNS]
    assert [row["n_lesions"] for row in scans] == ["4", "0", "2", "", "6", "6"]
    overview = {(row["group"], row["figure"]): row for row in rows(out / "overview.csv")}
    assert overview["Scans", "lesions"]["Real set"] == "6"
    assert overview["Equivalent diameter (mm)", "median"]["published"] == "2.74"
    compared = rows(out / "distributions.csv")
    assert tuple(compared[0]) == DISTRIBUTION_COLUMNS
    size = [row for row in compared if row["feature"] == "equivalent_diameter_mm"]
    assert [row["n"] for row in size] == ["6", "12"]
    assert size[0]["compared_with"] == "simulated"
    assert 0 <= float(size[0]["ks_p"]) <= 1
    assert size[1]["compared_with"] == ""
    text = check_page((out / "analysis.html").read_text("utf-8"))
    assert "Research use only" in text
    assert text.count("<svg") >= 12
    printed = capsys.readouterr()
    assert "[1/6] Real set/sub-00_T2starw: 4 lesions, about" in printed.out
    assert printed.err == ""


def test_a_bad_scan_in_plain_folders_does_not_stop_the_rest(
    tmp_path: Path, write_dataset, check_page, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = write_dataset(tmp_path / "real", [0, 2, 1, 1])
    images, lesions = tmp_path / "images", tmp_path / "lesions"
    images.mkdir()
    lesions.mkdir()
    for path in dataset.glob("sub-*/anat/*.nii.gz"):
        path.rename(images / path.name)
    for path in dataset.glob("derivatives/lesions/*/anat/*dseg.nii.gz"):
        path.rename(lesions / path.name)
    (images / "sub-02_T2starw.nii.gz").write_bytes(b"\x1f\x8b not an image")
    pair = ("--images", images, "--lesions", lesions, "--limit", 2)
    assert run(*pair, "-o", tmp_path / "out") == 3
    printed = capsys.readouterr()
    assert "error: images/sub-02_T2starw" in printed.err
    assert "1 of 2 scans could not be analyzed" in printed.err
    scans = rows(tmp_path / "out" / "scan_features.csv")
    assert [row["scan_id"] for row in scans] == ["sub-00_T2starw", "sub-02_T2starw"]
    assert [bool(row["problem"]) for row in scans] == [False, True]
    assert [row["n_lesions"] for row in scans] == ["0", ""]
    assert rows(tmp_path / "out" / "lesion_features.csv") == []
    assert "1 scan could not be analyzed" in check_page(
        (tmp_path / "out" / "analysis.html").read_text("utf-8")
    )


def test_only_bad_scans_write_nothing(tmp_path: Path, write_dataset) -> None:
    dataset = write_dataset(tmp_path / "real", [1])
    next(dataset.glob("sub-00/anat/*.nii.gz")).write_bytes(b"nothing")
    with pytest.raises(InputError, match="none of the 1 scans"):
        run(dataset, "-o", tmp_path / "new" / "out")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("words", "error", "told"),
    [
        ([], UsageError, "nothing to analyze"),
        (["--images", "a"], UsageError, "belong together"),
        (["set", "--label", "a", "--label", "b"], UsageError, "one for each"),
        (["set", "--limit", "0"], UsageError, "--limit"),
        (["set", "--jobs", "0"], UsageError, "--jobs"),
        (["set", "--min-contrast", "nan"], UsageError, "--min-contrast"),
        (["set", "set"], UsageError, "--label"),
        (["missing"], InputError, "got no folder"),
        (["set", "--simulated", "missing"], InputError, "holds no cases"),
        (["set", "--regions", "missing"], InputError, "there is none"),
    ],
)
def test_what_contradicts_itself_is_refused_before_the_work(
    tmp_path: Path,
    write_dataset,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    error: type[Exception],
    told: str,
) -> None:
    write_dataset(tmp_path / "set", [1])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=told):
        run(*words, "-o", "out")
    assert not (tmp_path / "out").exists()


def test_an_output_that_cannot_be_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(OutputError):
        run(tmp_path / "missing", "-o", tmp_path / "file")


def test_without_matplotlib_nothing_is_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingDependencyError, match=r"cmbdetector\[evaluation\]"):
        run(tmp_path / "missing", "-o", tmp_path / "out")


def test_results_that_cannot_be_written_leave_the_former_ones(
    tmp_path: Path, write_dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fills up at the last file."""
    dataset = write_dataset(tmp_path / "real", [0])
    out = tmp_path / "out"
    out.mkdir()
    (out / "overview.csv").write_text("former", encoding="utf-8")
    write = command.write_text

    def full(path: Path, text: str) -> None:
        if text.startswith("<!DOCTYPE"):
            raise OutputError(f"{path}: the disk is full")
        write(path, text)

    monkeypatch.setattr(command, "write_text", full)
    with pytest.raises(OutputError, match=r"analysis\.html"):
        run(dataset, "-o", out)
    assert [path.name for path in out.iterdir()] == ["overview.csv"]
    assert (out / "overview.csv").read_text("utf-8") == "former"


def test_the_command_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    from training.__main__ import main

    with pytest.raises(SystemExit):
        main(["analyze", "--help"])
    assert "--simulated" in capsys.readouterr().out
