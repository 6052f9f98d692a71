from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from CMBDetectorLib.anatomy.validation import brain_mask_from_anatomy, check_anatomy
from CMBDetectorLib.errors import InputError
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.volume import Volume


def test_the_map_of_an_image_on_another_grid_is_accepted(brain: Volume) -> None:
    affine = np.array([[0, 0, -4.0, 70], [-0.9, 0, 0, 80], [0, 0.9, 0, -60], [0, 0, 0, 1]])
    check_anatomy(brain, Geometry((200, 150, 35), affine))


def test_a_map_elsewhere_is_refused_with_both_boxes(brain: Volume) -> None:
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    affine[:3, 3] = (300, -100, -50)
    with pytest.raises(InputError, match="elsewhere") as caught:
        check_anatomy(brain, Geometry((100, 200, 120), affine))
    assert "300 to 400 x -100 to 100 x -50 to 70" in str(caught.value)
    assert "-70 to 70 x -106 to 74 x -64 to 80" in str(caught.value)


def test_unknown_values_are_refused_and_named(brain: Volume) -> None:
    labels = brain.array.copy()
    labels[0, 0, :7] = (-2, 601, 602, 603, 604, 9999, 32000)
    with pytest.raises(InputError, match=r"-2, 601, 602, 603, 604 and more; expected .*FreeSurfer"):
        check_anatomy(brain.with_array(labels), brain.geometry)


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.uint8, np.int64])
def test_whole_numbers_of_any_type_are_accepted(kind: type, brain: Volume) -> None:
    check_anatomy(brain.with_array(brain.array.astype(kind)), brain.geometry)


@pytest.mark.parametrize("value", [2.5, np.nan, np.inf])
def test_values_between_labels_are_refused(value: float, brain: Volume) -> None:
    labels = brain.array.astype(np.float32)
    labels[20, 20, 20] = value
    with pytest.raises(InputError, match="not whole numbers"):
        check_anatomy(brain.with_array(labels), brain.geometry)


@pytest.mark.parametrize("value", [0, 24, 511])
def test_a_map_without_brain_is_refused(value: int, brain: Volume) -> None:
    with pytest.raises(InputError, match="no brain"):
        check_anatomy(brain.with_array(np.full_like(brain.array, value)), brain.geometry)


def test_swapped_sides_are_refused(brain: Volume) -> None:
    affine = np.diag([-1.0, 1, 1, 1]) @ brain.geometry.affine
    with pytest.raises(InputError, match="left and right are swapped"):
        check_anatomy(Volume(brain.array, Geometry(brain.geometry.shape, affine)), brain.geometry)


def test_brain_mask_has_the_brain_and_not_the_fluid_around_it(brain: Volume) -> None:
    mask = brain_mask_from_anatomy(brain)
    assert mask.array.dtype == np.bool_
    assert mask.geometry == brain.geometry
    tissue = ~np.isin(brain.array, (0, 24))
    np.testing.assert_array_equal(mask.array, ndimage.binary_fill_holes(tissue))
    assert mask.array[brain.array == 43].all()


def test_brain_mask_is_on_the_grid_of_the_file(axis_order: np.ndarray, brain: Volume) -> None:
    moved = brain.reoriented(axis_order)
    mask = brain_mask_from_anatomy(moved)
    assert mask.geometry == moved.geometry
    own = nib.Nifti1Image(mask.array.astype(np.uint8), mask.geometry.affine)
    straight = nib.as_closest_canonical(own)
    expected = brain_mask_from_anatomy(brain)
    np.testing.assert_array_equal(np.asarray(straight.dataobj) > 0, expected.array)
    np.testing.assert_allclose(straight.affine, brain.geometry.affine, atol=1e-9)
