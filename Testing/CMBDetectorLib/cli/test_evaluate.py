"""The subcommand evaluate: what it prints and writes, refuses, and leaves when it is stopped."""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from CMBDetectorLib.cli import build_parser, main
from CMBDetectorLib.evaluation.issues import CODES
from CMBDetectorLib.reporting.evaluation_files import LESION_COLUMNS, SCAN_COLUMNS

SHAPE = (40, 44, 24)
AFFINE = np.array([[-1.0, 0, 0, 20], [0, 1, 0, -22], [0, 0, 2, -24], [0, 0, 0, 1]])
FILES = ["metrics.json", "per_lesion.csv", "per_scan.csv", "report.html"]
posix = pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals")


def save(path: Path, *corners: tuple[int, int, int]) -> None:
    array = np.zeros(SHAPE, np.int16)
    for value, (i, j, k) in enumerate(corners, start=1):
        array[i : i + 2, j : j + 2, k : k + 2] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, AFFINE, dtype=array.dtype), path)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Truth, two predictions (the second without a scan), and images of four scans."""
    folder = tmp_path_factory.mktemp("cohort")
    for n in range(4):
        first, second = (6 + 2 * n, 10, 8), (20, 30, 12)
        save(folder / "truth" / f"sub-{n}_swi_mask.nii.gz", *([first, second] if n else []))
        save(folder / "one" / f"sub-{n}_swi_cmb_labels.nii.gz", first)
        (folder / "one" / f"sub-{n}_swi_cmb.csv").write_text(f"lesion,score\n1,0.{n + 1}\n")
        image = np.random.default_rng(n).normal(500, 30, SHAPE).astype(np.int16)
        (folder / "images").mkdir(exist_ok=True)
        nib.save(nib.Nifti1Image(image, AFFINE), folder / "images" / f"sub-{n}_swi.nii.gz")
        if n < 3:
            save(folder / "two" / f"sub-{n}_swi_cmb_labels.nii.gz", second)
    rows = "".join(f"sub-{n}_swi,{'AB'[n % 2]},{20 + n}\n" for n in range(4))
    (folder / "scans.csv").write_text("scan_id,center,te\n" + rows)
    return folder


def evaluate(data: Path, out: Path, *options: object) -> int:
    sides = ["--truth", data / "truth", "--prediction", data / "one", "-o", out]
    fast = ["--resamples", 50, "--jobs", 1, "--progress", "none"]
    return main(["evaluate", *map(str, [*sides, *fast, *options])])


def test_what_is_printed_and_written(data, tmp_path, capsys):
    out = tmp_path / "new" / "out"
    assert evaluate(data, out, "--images", data / "images", "--scan-table", data / "scans.csv") == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    lines = shown.out.splitlines()
    assert lines[0] == "one: 4 scans, 3 with lesions; 6 true lesions, 4 predicted"
    assert lines[1].startswith("  rule: centers of mass at most 5 mm apart, one to one; ")
    assert lines[2] == "  3 found, 3 missed, 1 false positives (0 second hits)"
    [recall] = [line.split() for line in lines if line.split()[:1] == ["recall"]]
    assert recall[1] == "0.500"
    assert any("average precision" in line for line in lines)
    assert "  for information: 1 empty-mask" in lines
    assert sorted(path.name for path in out.iterdir()) == FILES
    for name in FILES:
        assert any(line.endswith(str(out / name)) for line in lines)

    metrics = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["inputs"] == {
        "truth": str(data / "truth"),
        "prediction": str(data / "one"),
        "compare_with": None,
        "images": str(data / "images"),
        "regions": None,
        "scan_table": str(data / "scans.csv"),
        "label": "one",
        "compare_label": None,
    }
    assert metrics["detection"]["pooled"]["true_positives"] == 3
    with (out / "per_scan.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["center"] for row in rows] == ["A", "B", "A", "B"]
    assert (out / "report.html").read_text(encoding="utf-8").count("data:image/") >= 4


def test_two_predictions(data, tmp_path, capsys):
    out = tmp_path / "out"
    assert evaluate(data, out, "--compare-with", data / "two", "--no-report") == 0
    assert sorted(path.name for path in out.iterdir()) == FILES[:3]
    lines = capsys.readouterr().out.splitlines()
    [heading] = [line.split() for line in lines if line.strip().startswith("on 3 scans")]
    assert heading[3:5] == ["one", "two"]
    assert "  problems: 1 missing-prediction, 3 no-scores" in lines
    metrics = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["comparison"]["scans"] == 3
    assert metrics["cohort"]["excluded_scans"] == 0
    [missing] = [i for i in metrics["issues"] if i["code"] == "missing-prediction"]
    assert missing["message"].startswith("two: ")
    with (out / "per_lesion.csv").open(encoding="utf-8", newline="") as file:
        assert {row["method"] for row in csv.DictReader(file)} == {"one", "two"}


def test_scans_that_are_left_out_are_told_first(data, tmp_path, capsys):
    assert evaluate(data, tmp_path, "--prediction", data / "two", "--no-report") == 0
    assert "; 1 scan NOT EVALUATED" in capsys.readouterr().out.splitlines()[0]


def test_strata(data, tmp_path, capsys):
    options = ["--scan-table", data / "scans.csv", "--stratum", "center", "--stratum", "te"]
    assert evaluate(data, tmp_path, "--no-report", *options) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    assert {"center", "te", "slice_thickness_mm"} <= {s["name"] for s in metrics["strata"]}
    assert evaluate(data, tmp_path, "--overwrite", "--no-report", *options, "--stratum", "x") == 2
    assert "nothing is known about x" in capsys.readouterr().err


def test_strict_is_an_error_that_names_the_files(data, tmp_path, capsys):
    out = tmp_path / "out"
    assert evaluate(data, out, "--prediction", data / "two", "--strict") == 3
    shown = capsys.readouterr()
    assert shown.out == ""
    [line] = shown.err.splitlines()
    assert str(data / "truth" / "sub-3_swi_mask.nii.gz") in line
    assert not out.exists()


def test_results_that_exist_stop_it_before_any_work(data, tmp_path, capsys):
    (tmp_path / "per_scan.csv").write_text("mine")
    assert evaluate(data, tmp_path, "--truth", tmp_path / "none") == 2
    assert "exists already" in capsys.readouterr().err
    assert evaluate(data, tmp_path, "--overwrite", "--no-report") == 0
    assert (tmp_path / "per_scan.csv").read_text(encoding="utf-8").startswith("scan_id,")


WITHOUT_MATPLOTLIB = """\
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "matplotlib":
            raise ModuleNotFoundError("No module named matplotlib", name=name)
sys.meta_path.insert(0, Blocker())
from CMBDetectorLib.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_without_matplotlib(data, tmp_path):
    arguments = [
        "evaluate",
        "--truth",
        data / "truth",
        "--prediction",
        data / "one",
        "-o",
        tmp_path,
    ]
    run = [
        subprocess.run(
            [sys.executable, "-c", WITHOUT_MATPLOTLIB, *map(str, [*arguments, *more])],
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        for more in ([], ["--no-report", "--resamples", "0", "--jobs", "1"])
    ]
    assert run[0].returncode == 4
    assert 'pip install "cmbdetector[evaluation]"' in run[0].stderr
    assert run[1].returncode == 0, run[1].stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--rule", "overlap", "--tolerance-mm", "3"], "of the center rule"),
        (["--compare-label", "x"], "--compare-with"),
        (["--label", "x", "--compare-with", "p", "--compare-label", "x"], "both predictions"),
        (["--threshold", "0"], "above 0 and up to 1"),
        (["--tolerance-mm", "-1"], "0 or more"),
        (["--min-volume", "inf"], "0 or more"),
        (["--resamples", "-1"], "whole number from 0"),
        (["--jobs", "0"], "whole number from 1"),
        (["--connectivity", "8"], "invalid choice"),
        (["--seed", "much"], "whole number"),
    ],
)
def test_usage(options, words, data, tmp_path, capsys):
    assert evaluate(data, tmp_path / "out", *options) == 2
    shown = capsys.readouterr()
    assert words in shown.err
    assert len(shown.err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_nothing_is_left_where_the_writing_fails(data, tmp_path, capsys):
    (tmp_path / "report.html").mkdir()
    assert evaluate(data, tmp_path, "--overwrite") == 7
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """So many scans that there is time to stop; all are the same file."""
    folder = tmp_path_factory.mktemp("many")
    save(folder / "one.nii", *[(i, j, 3) for i in range(0, 38, 3) for j in range(0, 40, 3)])
    for side in ("truth", "prediction"):
        (folder / side).mkdir()
        for n in range(2000):
            os.link(folder / "one.nii", folder / side / f"s{n}.nii")
    return folder


@posix
@pytest.mark.parametrize(("jobs", "after_s"), [(1, 0.2), (2, 0.7)])
def test_ctrl_c_leaves_nothing(jobs, after_s, many, tmp_path):
    """As a terminal sends it: to the whole process group."""
    sides = ["--truth", many / "truth", "--prediction", many / "prediction"]
    options = ["-o", tmp_path / "new" / "out", "--jobs", jobs, "--progress", "bar"]
    process = subprocess.Popen(
        [sys.executable, "-m", "CMBDetectorLib", "evaluate", *map(str, [*sides, *options])],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stderr is not None
    seen = b""
    while b"scans" not in seen:
        chunk = os.read(process.stderr.fileno(), 4096)
        assert chunk, seen
        seen += chunk
    time.sleep(after_s)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 6, err
    assert out == b""
    assert b"Traceback" not in err
    assert err.rstrip().endswith(b"cmbdetector: error: cancelled on request; nothing was written")
    assert not (tmp_path / "new").exists()
    # The group is empty once the workers have gone.
    for _ in range(600):
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            break
        time.sleep(0.1)
    else:
        pytest.fail("a worker is still there")


PAGE = Path(__file__).resolve().parents[3] / "docs" / "evaluation.md"


def first_cells(heading: str) -> list[str]:
    """First column of the table below a heading of the page."""
    below = PAGE.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1]
    rows = itertools.takewhile(
        lambda line: not line.startswith("#"), (line for line in below.splitlines())
    )
    table = [line for line in rows if line.startswith("|")][2:]
    return [name for line in table for name in re.findall(r"`([^`]+)`", line.split("|")[1])]


def test_the_page_has_every_option():
    [subparsers] = [a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction)]
    accepted = {
        option
        for action in subparsers.choices["evaluate"]._actions
        for option in action.option_strings
        if not isinstance(action, argparse._HelpAction)
    }
    assert {cell.split()[0] for cell in first_cells("Options")} == accepted


def test_the_page_has_every_code_and_column():
    assert first_cells("Issues") == list(CODES)
    page = PAGE.read_text(encoding="utf-8")
    assert all(f"`{column}`" in page for column in (*SCAN_COLUMNS, *LESION_COLUMNS))
