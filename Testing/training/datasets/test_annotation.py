"""Masks: which voxels, how many lesions, and on which grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.volume import Volume
from training.datasets.annotation import label_lesions, make_annotation, read_on_grid
from training.datasets.checks import LeftOutError
from training.datasets.source import SourceScan


def mask_of(*boxes: tuple[int, float]) -> np.ndarray:
    array = np.zeros((12, 6, 6), np.float32)
    for start, value in boxes:
        array[start : start + 2, 1:3, 1:3] = value
    return array


def test_values_are_lesions_where_each_is_one_piece() -> None:
    array = mask_of((1, 4), (3, 9))
    labels, n_lesions, remark = label_lesions(array, "auto")
    np.testing.assert_array_equal(labels, array)
    assert (n_lesions, remark, labels.dtype) == (2, "", np.int16)
    labels, n_lesions, remark = label_lesions(array, "components")
    assert n_lesions == 1
    assert "4, 9" in remark


def test_a_value_in_two_pieces_makes_it_a_mask() -> None:
    labels, n_lesions, remark = label_lesions(mask_of((0, 1), (3, 2), (8, 1)), "auto")
    assert n_lesions == labels.max() == 3
    assert remark


@pytest.mark.parametrize("value", [1, 255, 70000])
def test_plain_masks_have_any_value(value: float) -> None:
    labels, n_lesions, remark = label_lesions(mask_of((0, value), (5, value)), "auto")
    assert (n_lesions, labels.max(), remark, labels.dtype) == (2, 2, "", np.int16)


def test_corners_do_not_join_components() -> None:
    array = np.zeros((6, 6, 6), np.float32)
    array[1, 1, 1] = array[2, 2, 2] = 1
    assert label_lesions(array, "auto")[1] == 2


def test_fractions_are_told_and_cut_at_a_half() -> None:
    labels, n_lesions, remark = label_lesions(mask_of((0, 0.3), (5, 0.8)), "auto")
    assert n_lesions == 1
    assert (labels[:4] == 0).all()
    assert "0.5" in remark


def test_large_label_values_fit() -> None:
    labels, n_lesions, _ = label_lesions(mask_of((0, 40000), (5, 1)), "auto")
    assert (labels.max(), labels.dtype, n_lesions) == (40000, np.int32, 2)


def test_grids(tmp_path: Path, some_affine: np.ndarray, save_nifti) -> None:
    array = mask_of((1, 1))
    geometry = Geometry((12, 6, 6), some_affine)
    almost = some_affine.copy()
    almost[:3, :3] *= 1 + 1e-6
    values, issues = read_on_grid(save_nifti(tmp_path / "a.nii", array, almost), geometry, "x")
    np.testing.assert_array_equal(values, array)
    assert issues == []
    _, issues = read_on_grid(save_nifti(tmp_path / "b.nii", array, None), geometry, "x")
    assert [issue.code for issue in issues] == ["mask-without-orientation"]
    moved = some_affine.copy()
    moved[:3, 3] += 2
    for wrong in (
        save_nifti(tmp_path / "c.nii", array, moved),
        save_nifti(tmp_path / "d.nii", array[:-1], some_affine),
        save_nifti(tmp_path / "e.nii", array[:-1], None),
    ):
        with pytest.raises(LeftOutError) as caught:
            read_on_grid(wrong, geometry, "x")
        assert caught.value.issue.code == "mask-on-another-grid"


@pytest.mark.parametrize("missing", [np.nan, np.inf, -np.inf])
def test_mask_voxels_without_a_value_are_background_and_told(
    tmp_path: Path, save_nifti, some_affine, missing: float
) -> None:
    array = mask_of((1, 1)).astype(np.float32)
    array[8] = missing
    path = save_nifti(tmp_path / "a.nii", array, some_affine)
    values, issues = read_on_grid(path, Geometry((12, 6, 6), some_affine), "x")
    np.testing.assert_array_equal(values, mask_of((1, 1)))
    assert [issue.code for issue in issues] == ["nan-background"]


def test_an_empty_mask_of_counted_lesions_is_told(tmp_path: Path, save_nifti, some_affine) -> None:
    path = save_nifti(tmp_path / "a.nii", mask_of(), some_affine)
    image = Volume(mask_of((1, 5)), Geometry((12, 6, 6), some_affine))
    codes = {}
    for n_listed in (None, 0, 2):
        scan = SourceScan("1", "SWI", path, "x", annotation="mask", annotation_file=path)
        scan = SourceScan(**{**vars(scan), "n_listed": n_listed})
        codes[n_listed] = [issue.code for issue in make_annotation(scan, image).issues]
    assert codes == {None: [], 0: [], 2: ["mask-empty-but-listed"]}
