"""What BIDS says about a scan."""

from __future__ import annotations

import json

import pytest

from CMBDetectorLib.errors import InputError
from CMBDetectorLib.evaluation.bids import dataset_root, describes_lesions, read_sidecar


def test_sidecar(tmp_path):
    plain = {
        "MagneticFieldStrength": 3,
        "EchoTime": 0.02,
        "Manufacturer": "Siemens",
        "FlipAngle": "15",
        "RepetitionTime": True,
    }
    (tmp_path / "a.json").write_text(json.dumps(plain), encoding="utf-8")
    assert read_sidecar(tmp_path / "a.nii.gz") == {
        "field_strength_t": 3.0,
        "echo_time_ms": 20.0,
        "manufacturer": "Siemens",
    }
    assert read_sidecar(tmp_path / "b.nii.gz") == {}


def test_damaged_sidecar(tmp_path):
    (tmp_path / "a.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match=r"a\.json"):
        read_sidecar(tmp_path / "a.nii.gz")


def test_the_dataset_of_its_lesions(tmp_path):
    lesions = tmp_path / "derivatives" / "lesions"
    lesions.mkdir(parents=True)
    assert dataset_root(lesions) is None
    (tmp_path / "scans.tsv").touch()
    assert dataset_root(lesions) == tmp_path.resolve()
    assert dataset_root(tmp_path) == tmp_path
    assert dataset_root(tmp_path / "derivatives") is None


def test_names_that_describe_lesions(tmp_path):
    assert describes_lesions(tmp_path / "sub-1_T2starw_desc-cmb_dseg.nii.gz")
    assert not describes_lesions(tmp_path / "sub-1_desc-brain_mask.nii.gz")
