"""Annotated scans: which point belongs to which image, wherever the image lies in space."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from CMBDetectorLib.errors import InputError
from training.measures.annotated import plan_annotated


def test_points_lie_on_the_lesions(write_annotated, tmp_path: Path, axis_order) -> None:
    angle = np.radians(15)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    turn[:3, 3] = (4, -60, 20)
    scans = [one.load() for one in plan_annotated(write_annotated(tmp_path, axis_order, turn))]
    assert [scan.scan_id for scan in scans] == ["sub-1_T2S", "sub-2_T2S"]
    assert [len(scan.lesions) for scan in scans] == [2, 0]
    for lesion in scans[0].lesions:
        ijk = np.round(scans[0].image.geometry.ras_mm_to_ijk(lesion.lesion.center_ras_mm))
        assert scans[0].image.array[tuple(ijk.astype(int))] < 70
        assert lesion.counts
        # 40 voxels of .25 mm³
        assert lesion.lesion.equivalent_diameter_mm == pytest.approx((60 / np.pi) ** (1 / 3))


def test_scans_without_an_image_are_told(write_annotated, tmp_path: Path) -> None:
    write_annotated(tmp_path)
    (tmp_path / "sub-1_T2S.nii.gz").unlink()
    with pytest.raises(InputError, match="no image of sub-1"):
        plan_annotated(tmp_path)


def test_masks_are_no_scans(write_annotated, tmp_path: Path) -> None:
    write_annotated(tmp_path)
    image = nib.load(tmp_path / "sub-2_T2S.nii.gz")
    nib.save(image, tmp_path / "sub-1_brain_mask.nii.gz")
    assert len(plan_annotated(tmp_path)) == 2


def test_a_folder_without_a_table_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"lesions\.csv"):
        plan_annotated(tmp_path)
