from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from CMBDetectorLib.errors import InputError
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.volume import Volume

SHAPE = (5, 7, 4)


def numbered(affine: np.ndarray) -> Volume:
    array = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
    return Volume(array, Geometry(SHAPE, affine))


def test_canonical_is_nibabels_for_all_orders(axis_order_affine):
    volume = numbered(axis_order_affine)
    canonical = volume.canonical()
    expected = nib.as_closest_canonical(nib.Nifti1Image(volume.array, axis_order_affine))
    np.testing.assert_array_equal(canonical.array, np.asarray(expected.dataobj))
    np.testing.assert_allclose(canonical.geometry.affine, expected.affine)
    assert canonical.geometry.axis_codes == "RAS"


def test_reoriented_and_back_is_the_same_for_all_orders(axis_order):
    volume = numbered(np.array([[2, 0.1, 0, 1], [-0.1, 3, 0, 2], [0, 0, 0.5, 3], [0, 0, 0, 1.0]]))
    turned = volume.reoriented(axis_order)
    back = np.array([(np.flatnonzero(axis_order[:, 0] == t)[0], 1) for t in range(3)], dtype=float)
    back[:, 1] = axis_order[back[:, 0].astype(int), 1]
    again = turned.reoriented(back)
    np.testing.assert_array_equal(again.array, volume.array)
    np.testing.assert_allclose(again.geometry.affine, volume.geometry.affine, atol=1e-12)


def test_with_array_keeps_the_geometry():
    volume = numbered(np.diag([1.0, 2, 3, 1]))
    mask = volume.with_array(volume.array > 3)
    assert mask.geometry is volume.geometry
    assert mask.array.dtype == bool


def test_array_of_another_shape_is_refused():
    with pytest.raises(InputError, match=r"\(5, 7, 5\).*\(5, 7, 4\)"):
        numbered(np.eye(4)).with_array(np.zeros((5, 7, 5)))
