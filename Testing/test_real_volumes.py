"""Every real volume for development through the whole path; nothing of them is in the project."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from CMBDetectorLib.errors import InputError
from CMBDetectorLib.pipeline import detect
from CMBDetectorLib.results import DetectionResult
from CMBDetectorLib.settings import DetectionRequest

pytestmark = pytest.mark.slow

MAGNITUDES = [
    "qsm2016_magnitude",
    "valdo/sub-107_T2S",
    "valdo/sub-309_T2S",
    "valdo/sub-320_T2S",
    "valdo/sub-325_T2S",
]
OTHER_CONTRASTS = ["qsm2016_tissue_phase_ppm", "qsm2016_chi_cosmos_ppm", "studyforrest_t1"]


def run(path: Path, output: Path, volume_index: int | None = None) -> DetectionResult:
    result = detect(DetectionRequest(path, output, volume_index=volume_index))
    stem = path.name.removesuffix(".nii.gz")
    labels, image = nib.load(output / f"{stem}_cmb_labels.nii.gz"), nib.load(path)
    assert labels.shape == image.shape[:3]
    np.testing.assert_allclose(labels.affine, image.affine, atol=1e-4)
    values = np.unique(np.asarray(labels.dataobj))
    assert values.tolist() == list(range(len(result.detections) + 1))
    return result


@pytest.mark.parametrize("name", MAGNITUDES)
def test_magnitude_images_are_searched(name: str, shared_dir: Path, tmp_path: Path) -> None:
    result = run(shared_dir / "real" / f"{name}.nii.gz", tmp_path)
    assert "unexpected-contrast" not in [warning.code for warning in result.warnings]
    assert len(result.detections) < 40


@pytest.mark.parametrize("name", OTHER_CONTRASTS)
def test_other_contrasts_are_told(name: str, shared_dir: Path, tmp_path: Path) -> None:
    result = run(shared_dir / "real" / f"{name}.nii.gz", tmp_path)
    assert "unexpected-contrast" in [warning.code for warning in result.warnings]


def test_a_small_4d_crop_needs_a_volume_index(shared_dir: Path, tmp_path: Path) -> None:
    path = shared_dir / "real" / "gre7t_crop_magnitude.nii.gz"
    with pytest.raises(InputError, match="--volume-index"):
        run(path, tmp_path)
    result = run(path, tmp_path, volume_index=2)
    assert "brain-mask-implausible" in [warning.code for warning in result.warnings]


def test_lesions_readers_marked_are_found(shared_dir: Path, tmp_path: Path) -> None:
    """Not a measure of quality: a floor below which the model or the geometry has broken."""
    from CMBDetectorLib.evaluation.matching import match_centers

    rows = (shared_dir / "real" / "valdo" / "lesions.csv").read_text("utf-8").splitlines()[1:]
    found = 0
    for scan in ("sub-107", "sub-309", "sub-320", "sub-325"):
        truth = [tuple(map(float, r.split(",")[5:8])) for r in rows if r.startswith(scan)]
        result = run(shared_dir / "real" / "valdo" / f"{scan}_T2S.nii.gz", tmp_path / scan)
        centers = [lesion.center_ras_mm for lesion in result.detections]
        found += match_centers(centers, truth).n_true_positive
    assert found >= 4
