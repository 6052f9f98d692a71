from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.results import (
    NOT_ASSESSED,
    Detection,
    DetectionResult,
    Provenance,
    ResultWarning,
)
from CMBDetectorLib.volume import Volume

LESION = Detection(
    label=3,
    center_ras_mm=(1.5, -2.25, 1 / 3),
    center_ijk=(10.0, 11.5, 12.0),
    axial_slice=13,
    volume_mm3=8.1,
    n_voxels=9,
    equivalent_diameter_mm=2.49,
    max_diameter_mm=4.5,
    elongation=0.6,
    mean_probability=0.7,
    peak_probability=0.9,
    flags=("over 10 mm", "at the edge"),
)


def provenance() -> Provenance:
    return Provenance(
        software_version="0.1.0",
        library_versions={"numpy": "2.0"},
        platform="Linux",
        started_at="2025-01-02T03:04:05Z",
        input_name="a.nii.gz",
        input_sha256="ab",
        input_shape=(4, 5, 6),
        input_spacing_mm=(1.0, 1.5, 2.0),
        input_axis_codes="RAS",
        input_affine=[[1.0, 0.0, 0.0, 0.0]] * 4,
        volume_index=2,
        model_id="m",
        model_version="1",
        model_sha256={},
        device="cpu",
        device_name="CPU",
        precision="fp32",
        threshold=0.5,
        min_volume_mm3=2.0,
        brain_mask_source="user file",
        brain_volume_ml=1000.0,
    )


def test_score_is_between_mean_and_peak() -> None:
    assert LESION.score == pytest.approx(0.8)


def test_region_is_not_assessed_unless_given() -> None:
    assert (LESION.hemisphere, LESION.region) == (NOT_ASSESSED, NOT_ASSESSED)


def test_detection_round_trip_through_json() -> None:
    assert Detection.from_dict(json.loads(json.dumps(LESION.to_dict()))) == LESION


def test_provenance_and_warning_round_trip_through_json() -> None:
    assert Provenance.from_dict(json.loads(json.dumps(provenance().to_dict()))) == provenance()
    warning = ResultWarning("thick-slices", "slices of 4 mm")
    assert ResultWarning.from_dict(json.loads(json.dumps(warning.to_dict()))) == warning


def test_keys_of_later_versions_are_ignored() -> None:
    assert Detection.from_dict(LESION.to_dict() | {"zone": "lobar"}) == LESION
    assert Provenance.from_dict(provenance().to_dict() | {"site": "x"}) == provenance()


def test_missing_key_is_an_error() -> None:
    plain = LESION.to_dict()
    del plain["volume_mm3"]
    with pytest.raises(TypeError, match="volume_mm3"):
        Detection.from_dict(plain)


def test_an_unreadable_contrast_is_not_called_free_of_microbleeds() -> None:
    volume = Volume(np.zeros((2, 2, 2), np.int16), Geometry((2, 2, 2), np.eye(4)))
    clean = DetectionResult((), volume, volume, provenance())
    assert clean.finding == "No microbleed found"
    doubtful = replace(clean, warnings=(ResultWarning("unexpected-contrast", "looks like T1"),))
    assert not doubtful.is_conclusive
    assert doubtful.finding.startswith("Nothing concluded")


def test_a_probability_that_is_not_known_is_null_in_json() -> None:
    plain = json.loads(json.dumps(LESION.to_dict() | {"mean_probability": None, "score": None}))
    again = Detection.from_dict(plain)
    assert math.isnan(again.mean_probability)
    assert again.peak_probability == LESION.peak_probability
