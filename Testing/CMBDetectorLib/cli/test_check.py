"""The subcommand check: what it recognizes, the same warnings as a run, and no torch."""

from __future__ import annotations

import json
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest

from CMBDetectorLib.cli import main
from CMBDetectorLib.pipeline import assess, detect
from CMBDetectorLib.settings import DetectionRequest


@pytest.fixture
def checked(tiny_scan, tiny_bundle, capsys):
    """Arguments for the made-up scan, its facts, and what was printed for a person."""
    arguments = [
        "check", str(tiny_scan.image_path), "--brain-mask", str(tiny_scan.mask_path),
        "--model", str(tiny_bundle.root),
    ]  # fmt: skip
    assert main([*arguments, "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert main(arguments) == 0
    return json.loads(line), capsys.readouterr()


def test_facts(checked, tiny_scan):
    facts, _ = checked
    assert facts["input"] == str(tiny_scan.image_path)
    assert facts["shape"] == [32, 36, 16]
    assert facts["spacing_mm"] == [1.0, 1.0, 1.0]
    assert facts["axis_codes"] == "LAS"
    assert facts["slice_axis_spacing_mm"] == 1.0
    assert facts["brain_volume_ml"] == pytest.approx(30 * 34 * 14 / 1000, abs=0.05)
    assert facts["brain_mask_source"] == "user file"
    assert facts["anatomy_source"] == "none"


def test_text_says_the_same(checked):
    facts, shown = checked
    number = len(facts["warnings"])
    assert number > 1
    lines = shown.out.splitlines()
    assert lines[0] == f"scan.nii.gz: read results with care: {number} warnings"
    assert lines[1] == "  32 × 36 × 16 voxels of 1 × 1 × 1 mm, axes LAS"
    assert lines[2] == "  slices 1 mm apart"
    assert lines[3] == "  brain 14 mL (user file)"
    said = [f"cmbdetector: warning: scan.nii.gz: {w['message']}" for w in facts["warnings"]]
    assert shown.err.splitlines() == said


def test_the_warnings_are_those_of_a_run(tiny_scan, tiny_bundle):
    request = DetectionRequest(
        tiny_scan.image_path,
        brain_mask_path=tiny_scan.mask_path,
        anatomy="none",
        device="cpu",
        precision="fp32",
    )
    found = assess(request, bundle=tiny_bundle)
    run = detect(request, bundle=tiny_bundle)
    assert [warning.code for warning in found.warnings]
    assert found.warnings == run.warnings
    assert np.array_equal(found.brain.mask.array, run.brain_mask.array)


def test_errors_are_told_for_each_image_and_the_rest_goes_on(
    tiny_scan, tiny_bundle, tmp_path, capsys
):
    flat = tmp_path / "flat.nii"
    nib.save(nib.Nifti1Image(np.full((20, 20, 20), 7, np.int16), np.diag([3, 3, 3, 1])), flat)
    missing = tmp_path / "missing.nii"
    arguments = ["check", str(missing), str(flat), "--json", "--model", str(tiny_bundle.root)]
    assert main(arguments) == 3
    shown = capsys.readouterr()
    told = [json.loads(line) for line in shown.out.splitlines()]
    assert [one["input"] for one in told] == [str(missing), str(flat)]
    assert [one["error"]["code"] for one in told] == ["input", "input"]
    assert "no such file" in told[0]["error"]["message"]
    assert "constant (7)" in told[1]["error"]["message"]
    assert [line.count(": error: ") for line in shown.err.splitlines()] == [1, 1]


def test_an_unknown_model_ends_it(tiny_scan, capsys):
    assert main(["check", str(tiny_scan.image_path), "--json", "--model", "nonsense"]) == 4
    told = json.loads(capsys.readouterr().out)
    assert told["input"] is None
    assert told["error"]["code"] == "model"


def test_one_mask_for_several_images_is_refused(capsys):
    assert main(["check", "a.nii", "b.nii", "--brain-mask", "m.nii"]) == 2
    assert "--brain-mask is the mask of one image" in capsys.readouterr().err


def test_works_without_torch_and_says_so_without_nibabel(sample_scan):
    code = (
        "import sys\n"
        "blocked = sys.argv.pop(1)\n"
        "class Blocker:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in (blocked, 'torch', 'monai', 'safetensors'):\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Blocker())\n"
        "from CMBDetectorLib.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )

    def check(blocked: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", code, blocked, "check", "--json", str(sample_scan)]
        return subprocess.run(command, capture_output=True, encoding="utf-8", check=False)

    good = check("torch")
    assert good.returncode == 0, good.stderr
    assert json.loads(good.stdout)["shape"] == [224, 306, 48]
    bad = check("nibabel")
    assert bad.returncode == 4
    assert json.loads(bad.stdout)["error"]["code"] == "missing_dependency"
    assert "nibabel is needed and not installed" in bad.stderr
    assert len(bad.stderr.splitlines()) == 1
