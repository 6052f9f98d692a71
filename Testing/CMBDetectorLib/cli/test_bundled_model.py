"""The model and the sample that come with the software; this must never be skipped.

A truth beside the sample, ``<sample>_lesions.nii.gz`` (one value for each lesion, on the sample's
grid), is compared with what is found.
"""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

RESOURCES = Path(str(files("CMBDetectorLib"))) / "resources"
TRUTH_ENDING = "_lesions.nii.gz"


def sample_images() -> list[Path]:
    found = sorted((RESOURCES / "samples").glob("sample_*.nii.gz"))
    return [path for path in found if not path.name.endswith(TRUTH_ENDING)]


def test_model_and_sample_are_there(run_cli):
    assert sample_images(), f"no sample_*.nii.gz in {RESOURCES / 'samples'}"
    run = run_cli("models", "verify", env={"CMBDETECTOR_MODELS": str(RESOURCES / "none")})
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("files ok") >= 1
    listed = run_cli("models", "list")
    assert "(default)" in listed.stdout


@pytest.mark.parametrize("image", sample_images(), ids=lambda path: path.name)
def test_lesions_of_the_sample_are_found(image, run_cli, tmp_path):
    run = run_cli("detect", image, "-o", tmp_path, "--device", "cpu", "--progress", "jsonl")
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    events = [json.loads(line) for line in run.stdout.splitlines()]
    [result] = [event for event in events if event["event"] == "result"]
    assert result["count"] >= 1
    labels = nib.load(result["paths"]["labels"])
    scan = nib.load(image)
    assert labels.shape == scan.shape[:3]
    np.testing.assert_allclose(labels.affine, scan.affine, atol=1e-4)
    found = np.asarray(labels.dataobj)
    assert np.array_equal(np.unique(found), np.arange(result["count"] + 1))
    truth_path = image.with_name(image.name.removesuffix(".nii.gz") + TRUTH_ENDING)
    if truth_path.exists():
        truth = np.asarray(nib.load(truth_path).dataobj)
        lesions = [value for value in np.unique(truth) if value != 0]
        near = ndimage.binary_dilation(found > 0)
        missed = [int(value) for value in lesions if not near[truth == value].any()]
        assert missed == [], f"of {len(lesions)} lesions"
