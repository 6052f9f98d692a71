"""VALDO: a replica of the published folders."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from CMBDetectorLib.errors import InputError
from training.datasets.valdo import Valdo


@pytest.fixture
def task2(tmp_path: Path, head, save_nifti) -> Path:
    """Cohorts with backgrounds of NaN and 0, a scan without lesions, a mask with a value 2."""
    root = tmp_path / "valdo" / "Task2"
    subjects = {
        "sub-101": head("oblique", seed=1, outside=np.nan),
        "sub-102": head("left-handed", (), seed=2),
        "sub-201": head("permuted", seed=3),
        "sub-301": head("left-handed", ((30, 30, 12),), seed=4),
    }
    for name, made in subjects.items():
        folder = root / name
        for contrast in ("T1", "T2", "T2S"):
            file = folder / f"{name}_space-T2S_desc-masked_{contrast}.nii.gz"
            save_nifti(file, made.array, made.affine)
        mask = (made.balls > 0).astype(np.float64)
        if name == "sub-301":
            mask[30, 30, 12] = 2
        save_nifti(folder / f"{name}_space-T2S_CMB.nii.gz", mask, made.affine)
    return root


def test_whole_set(task2: Path, standardize, same_image) -> None:
    written = standardize(task2.parent, "--layout", "auto")
    assert written.code == 0
    rows = written.scans
    assert list(rows) == [f"sub-{n}_T2starw" for n in (101, 102, 201, 301)]
    assert [row["center"] for row in rows.values()] == ["SABRE", "SABRE", "RSS", "ALFA"]
    assert [row["n_lesions"] for row in rows.values()] == ["2", "0", "2", "1"]
    assert {row["sequence"] for row in rows.values()} == {"T2*"}
    assert {row["annotation"] for row in rows.values()} == {"mask"}
    assert {row["field_strength_t"] for row in rows.values()} == {"n/a"}
    assert [row["slice_thickness_mm"] for row in rows.values()] == ["1"] * 4
    assert written.codes() == ["mask-not-binary", "nan-background"]
    for name in ("sub-102", "sub-201", "sub-301"):
        source = task2 / name / f"{name}_space-T2S_desc-masked_T2S.nii.gz"
        same_image(source, written.load(f"{name}_T2starw"))


def test_masks_keep_their_voxels_and_get_a_value_per_lesion(task2: Path, standardize) -> None:
    written = standardize(task2)
    for name in ("sub-101", "sub-102", "sub-201", "sub-301"):
        source = nib.load(task2 / name / f"{name}_space-T2S_CMB.nii.gz")
        labels = written.load(f"{name}_T2starw", "lesions")
        assert labels.get_data_dtype() == np.int16
        np.testing.assert_allclose(labels.affine, source.affine, atol=1e-5)
        mine = np.asarray(labels.dataobj)
        np.testing.assert_array_equal(mine > 0, source.get_fdata() > 0)
        _, n_pieces = ndimage.label(source.get_fdata() > 0)
        assert mine.max() == n_pieces


def test_only_the_background_of_nan_becomes_zero(task2: Path, standardize) -> None:
    written = standardize(task2)
    source = task2 / "sub-101" / "sub-101_space-T2S_desc-masked_T2S.nii.gz"
    before = nib.load(source).get_fdata()
    after = written.load("sub-101_T2starw").get_fdata()
    assert np.isnan(before).any()
    np.testing.assert_array_equal(after, np.where(np.isnan(before), 0, before))


def test_what_is_missing_is_named(task2: Path, standardize) -> None:
    (task2 / "sub-102" / "sub-102_space-T2S_CMB.nii.gz").unlink()
    (task2 / "sub-201" / "sub-201_space-T2S_desc-masked_T2S.nii.gz").unlink()
    (task2 / "sub-301").rename(task2 / "sub-901")
    written = standardize(task2)
    assert list(written.scans) == ["sub-101_T2starw"]
    left_out = {row["file"]: row["code"] for row in written.table("issues.csv")}
    assert left_out["sub-102"] == "annotation-missing"
    assert left_out["sub-201"] == "image-missing"
    assert left_out["sub-901"] == "name-not-understood"


def test_another_folder_is_refused(tmp_path: Path) -> None:
    assert not Valdo().recognizes(tmp_path)
    with pytest.raises(InputError, match=r"sub-101_space-T2S_desc-masked_T2S"):
        list(Valdo().scans(tmp_path))
