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
    DroppedDetection,
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


OLD_KEYS = {
    "label", "center_ras_mm", "center_ijk", "axial_slice", "volume_mm3", "n_voxels",
    "equivalent_diameter_mm", "max_diameter_mm", "elongation", "mean_probability",
    "peak_probability", "hemisphere", "region", "flags", "score",
}  # fmt: skip


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


def test_place_and_dropped_round_trip_through_json() -> None:
    placed = replace(
        LESION,
        hemisphere="left",
        region="frontal",
        bombs_region="subcortical white matter",
        structure="Left-Cerebral-White-Matter",
        structure_shares=(("Left-Cerebral-White-Matter", 0.75), ("ctx-lh-insula", 0.25)),
        distance_to_ventricle_mm=12.5,
        location_confidence="low",
        region_is_approximate=True,
    )
    plain = json.loads(json.dumps(placed.to_dict()))
    assert plain["zone"] == placed.zone == "lobar"
    assert plain["structure_shares"]["ctx-lh-insula"] == 0.25
    assert plain["distance_to_brain_surface_mm"] is None
    assert Detection.from_dict(plain) == placed
    dropped = DroppedDetection(replace(placed, label=0), "outside the brain (orbit)")
    assert DroppedDetection.from_dict(json.loads(json.dumps(dropped.to_dict()))) == dropped


def test_results_of_versions_without_places_are_read() -> None:
    plain = LESION.to_dict()
    old = {key: plain[key] for key in list(plain) if key in OLD_KEYS}
    assert Detection.from_dict(old) == LESION
    made = provenance().to_dict()
    before = {key: made[key] for key in made if not key.startswith("anatomy")}
    assert Provenance.from_dict(before) == provenance()


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
