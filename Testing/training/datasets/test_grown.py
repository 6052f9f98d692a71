from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.volume import Volume
from training.datasets.grown import GrownLesion, assemble_masks, given_masks


def test_many_lesions_need_larger_numbers() -> None:
    image = Volume(np.zeros((2, 2, 2), np.float32), Geometry((2, 2, 2), np.eye(4)))
    listed = [GrownLesion(number, (50.0, 0.0, 0.0), "outside") for number in range(1, 32769)]
    for n, dtype in ((32767, np.int16), (32768, np.int32)):
        grown = assemble_masks(image, listed[:n], [], "nothing")
        assert grown.labels.array.dtype == dtype
        assert grown.lesions == tuple(listed[:n])


def test_masks_that_came_with_the_data(axis_order_affine: np.ndarray) -> None:
    geometry = Geometry((8, 9, 10), axis_order_affine)
    array = np.zeros(geometry.shape, np.int32)
    array[1:3, 1:4, 1] = 9
    array[6, 7, 8] = 3
    given = given_masks(Volume(array, geometry))
    assert given.labels.array is array
    small, large = given.lesions
    assert [(lesion.number, lesion.n_voxels) for lesion in given.lesions] == [(3, 1), (9, 6)]
    assert {(lesion.status, lesion.moved_mm) for lesion in given.lesions} == {("given", 0.0)}
    volume_mm3 = 0.5 * 0.75 * 3
    assert small.volume_mm3 == pytest.approx(volume_mm3)
    assert large.volume_mm3 == pytest.approx(6 * volume_mm3)
    for lesion, center_ijk in ((small, (6, 7, 8)), (large, (1.5, 2, 1))):
        expected = nib.affines.apply_affine(axis_order_affine, center_ijk)
        np.testing.assert_allclose(lesion.center_ras_mm, expected, atol=1e-9)
        assert lesion.seed_ras_mm == lesion.center_ras_mm
    assert given_masks(Volume(np.zeros_like(array), geometry)).lesions == ()
