"""The subcommand detect: several inputs, what it prints, JSON lines, usage errors."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from CMBDetectorLib import pipeline
from CMBDetectorLib.cli import main
from CMBDetectorLib.pipeline import STAGE_WEIGHTS
from CMBDetectorLib.version import __version__

STAGES = [stage for stage in STAGE_WEIGHTS if stage != "anatomy"]
HEADING = "no. x y z (RAS mm) slice volume mm3 diameter mm max mm score flags"


def head(path: Path) -> Path:
    """A ball of tissue in zeros, which needs no mask file, with one dark spot in it."""
    index = np.indices((48, 48, 30)) - np.array([24, 24, 15])[:, None, None, None]
    radius_mm = np.linalg.norm(index * np.array([3, 3, 4.5])[:, None, None, None], axis=0)
    noise = np.random.default_rng(1).normal(800, 10, radius_mm.shape)
    array = np.where(radius_mm < 62, noise, 0).astype(np.float32)
    array[22:25, 22:25, 14:16] = 30
    nib.save(nib.Nifti1Image(array, np.diag([3, 3, 4.5, 1])), path)
    return path


def test_one_input_prints_table_and_paths(tiny_scan, tiny_bundle, tmp_path, capsys):
    code = main(
        [
            "detect", str(tiny_scan.image_path), "-o", str(tmp_path / "out"),
            "--brain-mask", str(tiny_scan.mask_path), "--model", str(tiny_bundle.root),
            "--device", "cpu", "--progress", "none", "--anatomy", "none",
        ]
    )  # fmt: skip
    assert code == 0
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert lines[0].startswith("scan.nii.gz: 2 suspected microbleeds (threshold 0.5, ")
    assert lines[0].endswith("model darkness)")
    assert lines[1].startswith("  cpu, ")
    assert " ".join(lines[2].split()) == HEADING
    assert [line.split()[0] for line in lines[3:5]] == ["1", "2"]
    for name in ("labels.nii.gz", "cmb.csv", "summary.csv", ".json", ".png"):
        [line] = [line for line in lines if line.endswith(name)]
        assert Path(line.split(": ", 1)[1]).is_file()
    assert all(line.startswith("cmbdetector: warning: scan") for line in shown.err.splitlines())


def test_one_failing_input_does_not_stop_the_others(coarse_bundle, tmp_path, capsys):
    good = [head(tmp_path / "one.nii.gz"), head(tmp_path / "three.nii.gz")]
    missing = tmp_path / "two.nii.gz"
    out = tmp_path / "out"
    arguments = ["detect", str(good[0]), str(missing), str(good[1]), "-o", str(out)]
    arguments += ["--model", str(coarse_bundle.root), "--anatomy", "none"]
    code = main(arguments)
    assert code == 3
    shown = capsys.readouterr()
    errors = [line for line in shown.err.splitlines() if ": error: " in line]
    assert len(errors) == 1
    assert "two.nii.gz" in errors[0]
    assert shown.err.splitlines()[-1] == "2 of 3 done, 1 failed"
    assert len(list(out.iterdir())) == 10
    assert "three.nii.gz: " in shown.out

    code = main([*arguments, "--skip-existing"])
    assert code == 3
    shown = capsys.readouterr()
    assert shown.err.splitlines()[-1] == "0 of 3 done, 1 failed, 2 skipped"
    assert shown.out.count("skipped") == 2

    # Results of a version that did not write the counts are complete; one without a table is not.
    for path in out.glob("*_cmb_summary.csv"):
        path.unlink()
    assert main([*arguments, "--skip-existing"]) == 3
    assert capsys.readouterr().err.splitlines()[-1] == "0 of 3 done, 1 failed, 2 skipped"
    (out / "one_cmb.csv").unlink()
    assert main([*arguments, "--skip-existing"]) == 2
    shown = capsys.readouterr()
    assert "one_cmb_labels.nii.gz exists already" in shown.err
    assert shown.err.splitlines()[-1] == "0 of 3 done, 2 failed, 1 skipped"


def test_exit_code_is_that_of_the_first_failure(tiny_bundle, tmp_path, capsys):
    (tmp_path / "b_cmb.csv").touch()
    inputs = [str(tmp_path / "b.nii"), str(tmp_path / "a.nii")]
    arguments = ["detect", *inputs, "-o", str(tmp_path), "--model", str(tiny_bundle.root)]
    assert main([*arguments, "--anatomy", "none"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 3


@pytest.mark.parametrize("second", ["scan.nii", "sub/scan.nii.gz", "scan.nrrd", "SCAN.nii.gz"])
def test_inputs_with_the_same_results_are_refused_before_anything_runs(second, tmp_path, capsys):
    inputs = [str(tmp_path / "scan.nii.gz"), str(tmp_path / second)]
    assert main(["detect", *inputs, "-o", str(tmp_path / "out")]) == 2
    shown = capsys.readouterr()
    assert "would both write" in shown.err
    assert shown.err.splitlines()[-1] == "0 of 2 done, 2 not run"
    assert not (tmp_path / "out").exists()


def test_one_mask_for_several_inputs_is_refused(tmp_path, capsys):
    arguments = ["detect", "a.nii", "b.nii", "-o", str(tmp_path), "--brain-mask", "m.nii"]
    assert main(arguments) == 2
    assert "--brain-mask is the mask of one image, got 2 inputs" in capsys.readouterr().err
    arguments = ["detect", "a.nii", "b.nii", "-o", str(tmp_path), "--anatomy", "aseg.nii"]
    assert main(arguments) == 2
    assert "--anatomy is the anatomy of one image, got 2 inputs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "required"),
        (["detect"], "required"),
        (["detect", "a.nii"], "-o"),
        (["destroy"], "invalid choice"),
        (["detect", "a.nii", "-o", "x", "--threshold", "0"], "above 0 and up to 1, got 0"),
        (["detect", "a.nii", "-o", "x", "--threshold", "1.01"], "got 1.01"),
        (["detect", "a.nii", "-o", "x", "--threshold", "nan"], "got nan"),
        (["detect", "a.nii", "-o", "x", "--threshold", "much"], "a number, got 'much'"),
        (["detect", "a.nii", "-o", "x", "--min-volume", "-1"], "0 or more, got -1"),
        (["detect", "a.nii", "-o", "x", "--min-volume", "inf"], "got inf"),
        (["detect", "a.nii", "-o", "x", "--volume-index", "-1"], "from 0, got '-1'"),
        (["detect", "a.nii", "-o", "x", "--precision", "int8"], "invalid choice"),
        (["detect", "a.nii", "-o", "x", "--overwrite", "--skip-existing"], "not allowed with"),
        (["detect", "a.nii", "-o", "x", "--no-such-option"], "unrecognized"),
    ],
)
def test_usage_errors_are_one_line(arguments, words, capsys):
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert len(shown.err.splitlines()) == 1
    assert words in shown.err
    assert "--help" in shown.err
    assert shown.out == ""


def test_extremes_that_are_allowed(tiny_scan, tiny_bundle, tmp_path, capsys):
    code = main(
        [
            "detect", str(tiny_scan.image_path), "-o", str(tmp_path / "out"),
            "--brain-mask", str(tiny_scan.mask_path), "--model", str(tiny_bundle.root),
            "--threshold", "1", "--min-volume", "0", "--anatomy", "none",
        ]
    )  # fmt: skip
    assert code == 0
    shown = capsys.readouterr()
    # the made-up head does not look like a T2* scan, so finding nothing says nothing
    assert "scan.nii.gz: Nothing concluded" in shown.out
    labels = nib.load(tmp_path / "out" / "scan_cmb_labels.nii.gz")
    assert not labels.get_fdata().any()


def test_json_lines_of_two_inputs(coarse_bundle, tmp_path, run_cli):
    image = head(tmp_path / "kopf ä.nii.gz")
    missing = tmp_path / "missing.nii.gz"
    out = tmp_path / "out"
    run = run_cli(
        "detect", image, missing, "-o", out, "--model", coarse_bundle.root,
        "--progress", "jsonl", "--min-volume", 700, "--anatomy", "none",
    )  # fmt: skip
    assert run.returncode == 3
    assert run.stdout.isascii()
    events = [json.loads(line) for line in run.stdout.splitlines()]
    kinds = [event["event"] for event in events]
    assert events[0] == {
        "event": "start",
        "schema": 1,
        "version": __version__,
        "inputs": [str(image), str(missing)],
    }
    progress = [e for e in events if e["event"] == "progress" and e["input"] == str(image)]
    assert list(dict.fromkeys(event["stage"] for event in progress)) == STAGES
    fractions = [event["fraction"] for event in progress]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert {(event["index"], event["count"]) for event in progress} == {(1, 2)}
    assert all(e["remaining_s"] is None or e["remaining_s"] >= 0 for e in progress)
    result = events[kinds.index("result")]
    assert result["input"] == str(image)
    assert result["count"] == 1
    assert set(result["paths"]) == {"labels", "table", "summary", "document", "picture"}
    assert all(Path(path).is_file() for path in result["paths"].values())
    assert result["model_id"] == coarse_bundle.id
    assert list(result["stage_seconds"]) == STAGES
    warnings = [event for event in events if event["event"] == "warning"]
    assert all(w["input"] == str(image) and w["code"] and w["message"] for w in warnings)
    assert kinds.index("result") > max(kinds.index("warning"), kinds.index("progress"))
    error = events[-2]
    assert (error["event"], error["input"]) == ("error", str(missing))
    assert (error["code"], error["exit_code"]) == ("input", 3)
    assert "no such file" in error["message"]
    assert events[-1] == {"event": "end", "done": 1, "failed": 1, "skipped": 0, "exit_code": 3}
    assert len(run.stderr.splitlines()) == 1


def test_a_folder_and_the_places_of_its_results(coarse_bundle, tmp_path, capsys):
    """Two images of one name in two folders, a mask between them; run twice."""
    study, out = tmp_path / "study", tmp_path / "study" / "results"
    for name in ("sub-01", "sub-02"):
        (study / name).mkdir(parents=True)
        head(study / name / "swi.nii.gz")
    head(study / "sub-02" / "swi_mask.nii.gz")
    arguments = ["detect", str(study), "-o", str(out), "--model", str(coarse_bundle.root)]
    arguments += ["--save-segmentation", "--skip-existing", "--anatomy", "none"]
    assert main(arguments) == 0
    assert capsys.readouterr().err.splitlines()[-1] == "2 of 2 done"
    written = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    ends = [".csv", ".json", ".png", ".seg.nrrd", "_labels.nii.gz", "_summary.csv"]
    assert written == [
        str(Path(name) / f"swi_cmb{end}") for name in ("sub-01", "sub-02") for end in ends
    ]
    assert main(arguments) == 0
    assert capsys.readouterr().err.splitlines()[-1] == "0 of 2 done, 2 skipped"


def test_json_lines_of_errors_of_the_whole_run(tmp_path, capsys):
    arguments = ["detect", "a.nii", "-o", str(tmp_path / "out"), "--progress", "jsonl"]
    assert main([*arguments, "--model", "nonsense"]) == 4
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["event"] for event in events] == ["start", "error", "end"]
    assert events[1]["input"] is None
    assert events[1]["code"] == "model"
    assert events[2] == {"event": "end", "done": 0, "failed": 0, "skipped": 0, "exit_code": 4}


def test_prints_of_libraries_do_not_mix_with_json_lines(
    tiny_scan, tiny_bundle, tmp_path, capsys, monkeypatch
):
    real = pipeline.find_brain

    def talkative(*arguments, **keywords):
        print("I am a library that likes to talk")
        return real(*arguments, **keywords)

    monkeypatch.setattr(pipeline, "find_brain", talkative)
    code = main(
        [
            "detect", str(tiny_scan.image_path), "-o", str(tmp_path / "out"),
            "--brain-mask", str(tiny_scan.mask_path), "--model", str(tiny_bundle.root),
            "--progress", "jsonl", "--anatomy", "none",
        ]
    )  # fmt: skip
    assert code == 0
    shown = capsys.readouterr()
    assert [json.loads(line)["event"] for line in shown.out.splitlines()][-1] == "end"
    assert "likes to talk" in shown.err


@pytest.mark.parametrize("progress", ["none", "jsonl"])
def test_defect_is_one_line_and_its_traceback_on_request(
    progress, tiny_scan, tiny_bundle, tmp_path, capsys, monkeypatch
):
    def broken(*arguments, **keywords):
        raise ZeroDivisionError("it\nbroke")

    monkeypatch.setattr(pipeline, "find_brain", broken)
    arguments = ["detect", str(tiny_scan.image_path), "-o", str(tmp_path / "out")]
    arguments += ["--model", str(tiny_bundle.root), "--progress", progress]
    arguments += ["--anatomy", "none"]
    monkeypatch.delenv("CMBDETECTOR_DEBUG", raising=False)
    assert main(arguments) == 1
    shown = capsys.readouterr()
    assert len(shown.err.splitlines()) == 1
    assert "defect" in shown.err
    assert "CMBDETECTOR_DEBUG=1" in shown.err
    if progress == "jsonl":
        events = [json.loads(line) for line in shown.out.splitlines()]
        assert events[-2]["code"] == "defect"
        assert events[-1]["exit_code"] == 1
    monkeypatch.setenv("CMBDETECTOR_DEBUG", "1")
    assert main(arguments) == 1
    assert "Traceback" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_memory_that_does_not_suffice_is_no_defect(
    tiny_scan, tiny_bundle, tmp_path, capsys, monkeypatch
):
    def greedy(*arguments, **keywords):
        raise MemoryError

    monkeypatch.setattr(pipeline, "find_brain", greedy)
    arguments = ["detect", str(tiny_scan.image_path), "-o", str(tmp_path / "out")]
    arguments += ["--anatomy", "none"]
    assert main([*arguments, "--model", str(tiny_bundle.root)]) == 5
    assert "memory is not enough" in capsys.readouterr().err


def test_without_torch_it_says_what_to_install(tiny_scan, tiny_bundle, tmp_path):
    code = (
        "import sys\n"
        "class Blocker:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] == 'torch':\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Blocker())\n"
        "from CMBDetectorLib.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    command = [sys.executable, "-c", code, "detect", tiny_scan.image_path, "-o", tmp_path / "out"]
    run = subprocess.run(
        [*command, "--model", tiny_bundle.root, "--anatomy", "none"],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert run.returncode == 4
    assert "needs torch, not installed" in run.stderr
    assert 'pip install "cmbdetector[inference]"' in run.stderr
    assert len(run.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="closes one end of a POSIX pipe")
@pytest.mark.parametrize(("progress", "code"), [("none", 0), ("jsonl", 6)])
def test_reader_that_has_gone(progress, code, tiny_scan, tiny_bundle, tmp_path):
    """A person's results are still written; a parent process that has gone ends the run."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [
        sys.executable, "-m", "CMBDetectorLib", "detect", tiny_scan.image_path,
        "-o", tmp_path / "out", "--brain-mask", tiny_scan.mask_path,
        "--model", tiny_bundle.root, "--progress", progress, "--anatomy", "none",
    ]  # fmt: skip
    run = subprocess.run(
        command, stdout=writing, stderr=subprocess.PIPE, encoding="utf-8", check=False
    )
    os.close(writing)
    assert run.returncode == code, run.stderr
    assert "Traceback" not in run.stderr
    assert "BrokenPipe" not in run.stderr
    assert (tmp_path / "out").exists() == (code == 0)


def test_module_and_script_are_the_same_command(run_cli):
    run = run_cli("--version")
    assert run.returncode == 0
    assert run.stdout == f"cmbdetector {__version__}\n"
    script = shutil.which("cmbdetector", path=str(Path(sys.executable).parent))
    assert script is not None, "the project is not installed in this environment"
    installed = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert installed.stdout == run.stdout
