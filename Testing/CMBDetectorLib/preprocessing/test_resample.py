"""Resampling in physical space, against SimpleITK and against what is known exactly."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK
from scipy import ndimage
from scipy.spatial.transform import Rotation

from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.preprocessing.resample import resample
from CMBDetectorLib.volume import Volume

LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0])


def make_geometry(shape, spacing_mm, center_ras_mm=(7.0, -12.0, 5.0), rotation_deg=(0, 0, 0)):
    affine = np.eye(4)
    turn = Rotation.from_euler("xyz", rotation_deg, degrees=True).as_matrix()
    affine[:3, :3] = turn * np.array(spacing_mm)
    affine[:3, 3] = np.array(center_ras_mm) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Geometry(shape, affine)


def make_blob(geometry, center_ras_mm, sigma_mm):
    grid = np.moveaxis(np.indices(geometry.shape), 0, -1)
    distance = np.linalg.norm(geometry.ijk_to_ras_mm(grid) - center_ras_mm, axis=-1)
    return Volume(np.exp(-0.5 * (distance / sigma_mm) ** 2).astype(np.float32), geometry)


def center_of_mass_ras_mm(volume):
    return volume.geometry.ijk_to_ras_mm(ndimage.center_of_mass(volume.array))


def set_sitk_grid(image, geometry):
    linear = LPS_FROM_RAS @ geometry.affine[:3, :3]
    image.SetSpacing(geometry.spacing_mm)
    image.SetDirection((linear / np.array(geometry.spacing_mm)).ravel().tolist())
    image.SetOrigin((LPS_FROM_RAS @ geometry.affine[:3, 3]).tolist())


def resample_with_sitk(volume, target, interpolator):
    """ITK's own resampler, which takes improper (left-handed) directions too."""
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(volume.array.T))
    set_sitk_grid(image, volume.geometry)
    reference = SimpleITK.Image([int(n) for n in target.shape], SimpleITK.sitkUInt8)
    set_sitk_grid(reference, target)
    resampled = SimpleITK.Resample(image, reference, SimpleITK.Transform(), interpolator, -1.0)
    return SimpleITK.GetArrayFromImage(resampled).T


@pytest.fixture
def noise(rng_seed=11):
    geometry = make_geometry((15, 18, 13), (0.9, 0.9, 2.0))
    array = np.random.default_rng(rng_seed).random(geometry.shape, dtype=np.float32)
    return Volume(array, geometry)


@pytest.mark.parametrize("rotation_deg", [(0, 0, 0), (12, -23, 31)])
def test_agrees_with_sitk_for_every_axis_order(noise, axis_order, rotation_deg):
    source = Volume(noise.array, make_geometry(noise.array.shape, (0.9, 0.9, 2.0)))
    source = source.reoriented(axis_order)
    target = make_geometry((21, 25, 20), (0.6, 0.7, 1.1), (6.6, -11.5, 4.1), rotation_deg)

    ours = resample(source, target, fill=-1.0).array
    theirs = resample_with_sitk(source, target, SimpleITK.sitkLinear)

    seen_by_both = (ours != -1) & (theirs != -1)
    assert seen_by_both.mean() > 0.5
    assert np.array_equal(ours == -1, theirs == -1)
    if rotation_deg == (0, 0, 0):
        np.testing.assert_allclose(ours[seen_by_both], theirs[seen_by_both], atol=2e-5)


def test_oblique_upsampling_agrees_with_sitk(noise):
    fine = make_geometry((40, 40, 40), (0.5, 0.5, 0.5), rotation_deg=(10, 20, -35))
    ours = resample(noise, fine, fill=-1.0).array
    theirs = resample_with_sitk(noise, fine, SimpleITK.sitkLinear)
    both = (ours != -1) & (theirs != -1)
    # An oblique voxel of .5 mm is shorter than each source voxel, so that nothing is averaged.
    np.testing.assert_allclose(ours[both], theirs[both], atol=2e-5)
    assert both.mean() > 0.3


@pytest.mark.parametrize("rotation_deg", [(0, 0, 0), (12, -23, 31)])
def test_nearest_neighbour_agrees_with_sitk(noise, rotation_deg):
    labels = Volume((noise.array * 9).astype(np.int16), noise.geometry)
    target = make_geometry((22, 24, 20), (0.61, 0.73, 1.13), (6.63, -11.52, 4.17), rotation_deg)
    ours = resample(labels, target, order=0, fill=-1)
    theirs = resample_with_sitk(labels, target, SimpleITK.sitkNearestNeighbor)
    assert ours.array.dtype == np.int16
    assert np.mean(ours.array != theirs) < 0.002


def test_equal_grids_give_the_same_values_in_new_memory(noise):
    same = resample(noise, noise.geometry)
    assert np.array_equal(same.array, noise.array)
    assert not np.shares_memory(same.array, noise.array)


@pytest.mark.parametrize("order", [0, 1])
def test_flips_and_permutations_are_exact(noise, axis_order, order):
    turned = noise.reoriented(axis_order)
    back = resample(turned, noise.geometry, order=order)
    assert np.array_equal(back.array, noise.array)


def test_masks_stay_masks(noise):
    mask = Volume(noise.array > 0.5, noise.geometry)
    for target in (
        make_geometry((30, 30, 30), (0.5, 0.5, 1.0)),
        make_geometry((30, 30, 30), (0.5, 0.5, 1.0), rotation_deg=(5, 5, 5)),
    ):
        moved = resample(mask, target, order=0)
        assert moved.array.dtype == np.bool_
        assert moved.array.any()


def test_the_edge_goes_on_for_half_a_voxel_and_no_further():
    geometry = Geometry((4, 4, 4), np.diag([2.0, 2.0, 2.0, 1.0]))
    source = Volume(np.full((4, 4, 4), 3.0, dtype=np.float32), geometry)
    affine = np.diag([0.5, 2.0, 2.0, 1.0])
    affine[0, 3] = -2.0
    turned = affine.copy()
    turned[:3, :3] = Rotation.from_euler("x", 1e-1, degrees=True).as_matrix() @ affine[:3, :3]
    for target_affine in (affine, turned):
        line = resample(source, Geometry((20, 1, 1), target_affine), fill=-1.0).array[:, 0, 0]
        x_mm = -2.0 + 0.5 * np.arange(20)
        inside = (x_mm >= -1.0) & (x_mm <= 7.0)
        np.testing.assert_allclose(line, np.where(inside, 3.0, -1.0), atol=1e-6)


def test_a_target_elsewhere_is_all_fill(noise):
    for rotation_deg in ((0, 0, 0), (3, 4, 5)):
        far = make_geometry((5, 6, 7), (1, 1, 1), (500, 0, 0), rotation_deg)
        assert np.all(resample(noise, far, fill=7.0).array == 7.0)


def test_two_voxels_become_their_mean(noise):
    coarse = noise.geometry.cropped((0, 0, 0), (14, 18, 12)).with_spacing((1.8, 1.8, 4.0))
    part = noise.array[:14, :18, :12].reshape(7, 2, 9, 2, 6, 2)
    np.testing.assert_allclose(
        resample(noise, coarse).array, part.mean(axis=(1, 3, 5)), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("spacing_mm", [0.37, 0.9, 1.0, 1.3, 2.2, 3.1])
@pytest.mark.parametrize("rotation_deg", [(0, 0, 0), (12, -23, 31)])
def test_linear_ramps_are_kept_at_any_spacing(spacing_mm, rotation_deg):
    geometry = make_geometry((40, 40, 40), (0.9, 0.9, 1.2))
    slope, place = np.array([0.3, -0.2, 0.5]), np.moveaxis(np.indices(geometry.shape), 0, -1)
    source = Volume((geometry.ijk_to_ras_mm(place) @ slope).astype(np.float32), geometry)
    n = int(12 / spacing_mm)
    target = make_geometry((n, n, n), (spacing_mm,) * 3, rotation_deg=rotation_deg)
    expected = target.ijk_to_ras_mm(np.moveaxis(np.indices(target.shape), 0, -1)) @ slope
    np.testing.assert_allclose(resample(source, target).array, expected, atol=1e-4)


@pytest.mark.parametrize("rotation_deg", [(0, 0, 0), (30, 20, 10)])
def test_downsampling_does_not_alias(rotation_deg):
    geometry = make_geometry((60, 60, 60), (0.5, 0.5, 0.5))
    checkerboard = (np.indices(geometry.shape).sum(axis=0) % 2).astype(np.float32)
    coarse = make_geometry((8, 8, 8), (1.9, 1.9, 1.9), rotation_deg=rotation_deg)
    assert np.abs(resample(Volume(checkerboard, geometry), coarse).array - 0.5).max() < 0.1


@pytest.mark.parametrize(
    ("spacing_mm", "rotation_deg"), [((0.45, 0.45, 2.0), (0, 0, 0)), ((1.0, 0.8, 1.5), (9, 14, -8))]
)
def test_a_round_trip_keeps_the_place_of_a_blob(axis_order, spacing_mm, rotation_deg):
    place = np.array([3.2, -9.1, 6.4])
    shape = tuple(int(28 / s) for s in spacing_mm)
    native = make_geometry(shape, spacing_mm, (2, -10, 5), rotation_deg)
    blob = make_blob(native.reoriented(axis_order), place, 2.2)
    for target in (
        native.with_spacing((0.5, 0.5, native.spacing_mm[2])),
        make_geometry((40, 40, 40), (0.7, 0.7, 0.7), (2, -10, 5), (5, -20, 12)),
    ):
        there = resample(blob, target)
        back = resample(there, blob.geometry)
        smallest = min(native.spacing_mm)
        assert np.linalg.norm(center_of_mass_ras_mm(there) - place) < 0.1 * smallest
        assert np.linalg.norm(center_of_mass_ras_mm(back) - place) < 0.1 * smallest


def test_oblique_slabs_make_no_difference(noise, monkeypatch):
    target = make_geometry((30, 31, 32), (0.6, 0.6, 0.9), rotation_deg=(12, -23, 31))
    whole = resample(noise, target).array
    monkeypatch.setattr("CMBDetectorLib.preprocessing.resample._SLAB_VOXELS", 3000)
    np.testing.assert_allclose(resample(noise, target).array, whole, atol=1e-6)


def test_other_orders_are_refused(noise):
    with pytest.raises(ValueError, match="order"):
        resample(noise, noise.geometry, order=3)
