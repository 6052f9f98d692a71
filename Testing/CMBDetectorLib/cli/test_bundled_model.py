"""The model and the sample that come with the software; this must never be skipped."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage


def test_bundled_models_are_intact(run_cli, tmp_path):
    run = run_cli("models", "verify", env={"CMBDETECTOR_MODELS": str(tmp_path / "none")})
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("files ok") == 2  # the detector and the anatomy network
    listed = run_cli("models", "list")
    assert "(default)" in listed.stdout


def test_lesions_of_the_sample_are_found(sample_scan, run_cli, tmp_path):
    run = run_cli("detect", sample_scan, "-o", tmp_path, "--device", "cpu", "--progress", "jsonl")
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    events = [json.loads(line) for line in run.stdout.splitlines()]
    [result] = [event for event in events if event["event"] == "result"]
    labels, scan = nib.load(result["paths"]["labels"]), nib.load(sample_scan)
    assert labels.shape == scan.shape
    np.testing.assert_allclose(labels.affine, scan.affine, atol=1e-4)
    found = np.asarray(labels.dataobj)
    assert np.array_equal(np.unique(found), np.arange(result["count"] + 1))
    truth_name = sample_scan.name.replace(".nii.gz", "_lesions.nii.gz")
    truth = np.asarray(nib.load(sample_scan.with_name(truth_name)).dataobj)
    lesions = [int(value) for value in np.unique(truth) if value != 0]
    assert len(lesions) == 5
    hit = ndimage.binary_dilation(found > 0)
    missed = [value for value in lesions if not hit[truth == value].any()]
    assert missed == []
    false = [n for n in range(1, result["count"] + 1) if not (truth[found == n] > 0).any()]
    assert len(false) <= 1
    told = json.loads(Path(result["paths"]["document"]).read_text(encoding="utf-8"))
    assert told["provenance"]["anatomy_source"] == "network"
    assert told["provenance"]["brain_mask_source"] == "anatomy network"
    true = [one for one in told["lesions"] if one["label"] not in false]
    assert {one["zone"] for one in true} == {"lobar", "deep", "infratentorial"}
    assert "not assessed" not in {one["bombs_region"] for one in true}
    assert {one["hemisphere"] for one in told["lesions"]} <= {"left", "right", "midline"}
    beyond = [one for one in told["lesions"] if one["zone"] == "not assessed"]
    assert all("in ventricle" in one["flags"] for one in beyond)  # calcified choroid plexus
