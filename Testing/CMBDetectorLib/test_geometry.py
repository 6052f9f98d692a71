"""Against nibabel and SimpleITK, on affines of every order, direction and obliquity."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.orientations import apply_orientation
from scipy.spatial.transform import Rotation

from CMBDetectorLib.errors import InputError
from CMBDetectorLib.geometry import Geometry

SHAPE = (5, 7, 4)
LPS = np.array([-1, -1, 1])


def floats(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_nan=False, width=32)


@st.composite
def oblique_affines(draw: st.DrawFn) -> np.ndarray:
    angles = draw(st.tuples(*[floats(-180, 180)] * 3))
    spacing = np.array(draw(st.tuples(*[floats(0.25, 8)] * 3)))
    mirror = draw(st.sampled_from([1, -1]))
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * spacing
    affine[:3, 0] *= mirror
    affine[:3, 3] = draw(st.tuples(*[floats(-200, 200)] * 3))
    return affine


def itk_image(geometry: Geometry) -> sitk.Image:
    image = sitk.Image(geometry.shape, sitk.sitkUInt8)
    direction = geometry.affine[:3, :3] / geometry.spacing_mm * LPS[:, None]
    image.SetSpacing(geometry.spacing_mm)
    image.SetOrigin((geometry.affine[:3, 3] * LPS).tolist())
    image.SetDirection(direction.ravel().tolist())
    return image


def test_axis_codes_spacing_and_positions_of_all_orders(axis_order_affine):
    geometry = Geometry(SHAPE, axis_order_affine)
    assert geometry.axis_codes == "".join(nib.aff2axcodes(axis_order_affine))
    assert geometry.spacing_mm == (0.5, 0.75, 3.0)
    assert geometry.voxel_volume_mm3 == pytest.approx(0.5 * 0.75 * 3)
    assert geometry.slice_axis == 2
    assert geometry.obliquity_deg == 0
    assert geometry.shear == 0
    ijk = np.argwhere(np.ones(SHAPE))
    np.testing.assert_allclose(
        geometry.ijk_to_ras_mm(ijk), nib.affines.apply_affine(axis_order_affine, ijk)
    )


def test_reoriented_keeps_voxels_in_place_for_all_orders(axis_order, axis_order_affine):
    start = Geometry(SHAPE, np.array([[2, 0, 0, 1], [0, 3, 0, 2], [0, 0, 0.5, 3], [0, 0, 0, 1.0]]))
    numbers = np.arange(np.prod(SHAPE)).reshape(SHAPE)
    for geometry in (start, Geometry(SHAPE, axis_order_affine)):
        turned = geometry.reoriented(axis_order)
        image = nib.Nifti1Image(numbers.astype(np.int16), geometry.affine)
        expected = image.as_reoriented(axis_order)
        assert turned.shape == expected.shape
        np.testing.assert_allclose(turned.affine, expected.affine)
        turned_numbers = apply_orientation(numbers, axis_order)
        for number in (0, 17, 139):
            np.testing.assert_allclose(
                turned.ijk_to_ras_mm(np.argwhere(turned_numbers == number)),
                geometry.ijk_to_ras_mm(np.argwhere(numbers == number)),
            )


@given(oblique_affines(), st.tuples(*[floats(-0.25, 0.25)] * 3))
@settings(max_examples=300, deadline=None)
def test_orientation_is_nibabels_also_with_shear(affine, shear):
    affine[:3, :3] = affine[:3, :3] @ (np.eye(3) + np.diag(shear[:2], 1) + np.diag(shear[2:], 2))
    np.testing.assert_array_equal(
        Geometry(SHAPE, affine).orientation, nib.orientations.io_orientation(affine)
    )


@given(oblique_affines())
@settings(max_examples=60, deadline=None)
def test_positions_agree_with_simpleitk(affine):
    geometry = Geometry(SHAPE, affine)
    image = itk_image(geometry)
    for ijk in ((0, 0, 0), (4, 6, 3), (1.25, -2.5, 9.0)):
        ras_mm = np.array(image.TransformContinuousIndexToPhysicalPoint(ijk)) * LPS
        np.testing.assert_allclose(geometry.ijk_to_ras_mm(ijk), ras_mm, atol=1e-6)
        np.testing.assert_allclose(geometry.ras_mm_to_ijk(ras_mm), ijk, atol=1e-5)


@given(oblique_affines())
@settings(max_examples=40, deadline=None)
def test_derived_values_of_oblique_affines(affine):
    geometry = Geometry(SHAPE, affine)
    np.testing.assert_allclose(geometry.spacing_mm, nib.affines.voxel_sizes(affine))
    assert geometry.shear < 1e-6
    assert geometry.voxel_volume_mm3 == pytest.approx(np.prod(geometry.spacing_mm))
    # nibabel measures from the anatomical axes, this from the voxel axes: the inverse rotation.
    inverse = np.eye(4)
    inverse[:3, :3] = (affine[:3, :3] / geometry.spacing_mm).T
    expected_deg = np.degrees(nib.affines.obliquity(inverse)).max()
    assert geometry.obliquity_deg == pytest.approx(expected_deg, abs=1e-3)
    assert geometry.axis_codes == "".join(nib.aff2axcodes(affine))
    np.testing.assert_allclose(
        geometry.center_ras_mm, geometry.corners_ras_mm().mean(axis=0), atol=1e-6
    )
    assert geometry.is_close(Geometry(SHAPE, affine.astype(np.float32)), tolerance_voxels=1e-2)


@given(oblique_affines(), oblique_affines())
@settings(max_examples=30, deadline=None)
def test_index_map_joins_the_same_points(affine, other_affine):
    geometry, other = Geometry(SHAPE, affine), Geometry((9, 9, 9), other_affine)
    index_map = geometry.index_map_from(other)
    ijk_other = np.array([[0, 0, 0], [8, 1, 3], [2.5, 7, -1]])
    ijk = nib.affines.apply_affine(index_map, ijk_other)
    np.testing.assert_allclose(
        geometry.ijk_to_ras_mm(ijk), other.ijk_to_ras_mm(ijk_other), atol=1e-5
    )


@given(oblique_affines(), st.tuples(*[floats(0.25, 5)] * 3))
@settings(max_examples=40, deadline=None)
def test_with_spacing_keeps_the_field_of_view(affine, spacing_mm):
    geometry = Geometry((20, 31, 12), affine)
    resized = geometry.with_spacing(spacing_mm)
    np.testing.assert_allclose(resized.spacing_mm, spacing_mm, rtol=1e-9)
    before, after = geometry.corners_ras_mm(), resized.corners_ras_mm()
    np.testing.assert_allclose(after[0], before[0], atol=1e-6)
    change_mm = np.abs(np.array(resized.extent_mm) - geometry.extent_mm)
    unrounded = np.array(geometry.extent_mm) / spacing_mm
    assert np.all((change_mm <= np.array(spacing_mm) / 2 + 1e-6) | (unrounded < 1))


@given(oblique_affines())
@settings(max_examples=30, deadline=None)
def test_cropped_voxels_stay_in_place(affine):
    geometry = Geometry((20, 31, 12), affine)
    inside = geometry.cropped((3, 4, 5), (10, 30, 6))
    assert inside.shape == (7, 26, 1)
    np.testing.assert_allclose(
        inside.ijk_to_ras_mm((1, 2, 0)), geometry.ijk_to_ras_mm((4, 6, 5)), atol=1e-6
    )
    beyond = geometry.cropped((-2, -3, 0), (25, 40, 12))
    assert beyond.shape == (27, 43, 12)
    np.testing.assert_allclose(
        beyond.ijk_to_ras_mm((2, 3, 0)), geometry.ijk_to_ras_mm((0, 0, 0)), atol=1e-6
    )


def test_is_close_tells_shift_and_shape():
    geometry = Geometry(SHAPE, np.diag([1.0, 1, 3, 1]))
    shifted = geometry.affine.copy()
    shifted[2, 3] += 0.03
    assert not geometry.is_close(Geometry(SHAPE, shifted))
    assert geometry.is_close(Geometry(SHAPE, shifted), tolerance_voxels=0.02)
    assert not geometry.is_close(Geometry((5, 7, 5), geometry.affine))


def test_slice_axis_is_the_widest_or_the_vertical_one():
    sagittal_isotropic = np.array([[0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1.0]])
    assert Geometry(SHAPE, sagittal_isotropic).slice_axis == 1
    assert Geometry(SHAPE, np.diag([3.0, 1, 1, 1])).slice_axis == 0
    assert Geometry(SHAPE, np.diag([1.0, 1.1, 1, 1])).slice_axis == 2


def test_shear_is_measured():
    affine = np.diag([1.0, 1, 2, 1])
    affine[0, 2] = 1.0
    assert Geometry(SHAPE, affine).shear == pytest.approx(1 / np.sqrt(5))
    assert Geometry(SHAPE, affine).voxel_volume_mm3 == pytest.approx(2)


def test_equality_and_hash():
    geometry, same = Geometry(SHAPE, np.eye(4)), Geometry(SHAPE, np.eye(4))
    assert geometry == same
    assert hash(geometry) == hash(same)
    assert geometry != Geometry(SHAPE, np.diag([1, 1, 2, 1]))
    assert geometry != Geometry((5, 7, 5), np.eye(4))


def test_affine_is_a_copy_that_cannot_be_changed():
    affine = np.eye(4)
    geometry = Geometry(SHAPE, affine)
    affine[0, 0] = 5
    assert geometry.spacing_mm == (1, 1, 1)
    with pytest.raises(ValueError, match="read-only"):
        geometry.affine[0, 0] = 5


def flat_affine() -> np.ndarray:
    affine = np.eye(4)
    affine[:, 2] = affine[:, 1]
    return affine


@pytest.mark.parametrize(
    ("shape", "affine", "words"),
    [
        ((5, 7), np.eye(4), "3 dimensions"),
        ((5, 7, 0), np.eye(4), "at least 1"),
        (SHAPE, np.eye(3), "4x4"),
        (SHAPE, np.full((4, 4), np.nan), "NaN"),
        (SHAPE, np.diag([1, 1, np.inf, 1]), "infinite"),
        (SHAPE, np.diag([1, 1, 1e300, 1]), "immense"),
        (SHAPE, np.diag([1, 1, 1, 2]), "last row"),
        (SHAPE, np.diag([1, 1, 0, 1]), "singular"),
        (SHAPE, flat_affine(), "singular"),
    ],
)
def test_impossible_geometry_is_refused(shape, affine, words):
    with pytest.raises(InputError, match=words):
        Geometry(shape, affine)


def test_tiny_voxels_are_not_taken_for_singular():
    assert Geometry(SHAPE, np.diag([1e-4, 1e-4, 1e-4, 1])).voxel_volume_mm3 == pytest.approx(1e-12)
