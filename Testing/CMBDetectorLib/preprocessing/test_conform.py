"""SHiVAi's preparation, against nibabel on real files and a plain account of the rest."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel import processing
from scipy import ndimage
from scipy.spatial.transform import Rotation

from CMBDetectorLib.errors import InputError
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.preprocessing.checks import check_geometry
from CMBDetectorLib.preprocessing.conform import ConformedImage, conform
from CMBDetectorLib.settings import ConformSettings
from CMBDetectorLib.volume import Volume

SETTINGS = ConformSettings()
CENTER_RAS_MM = np.array([7.0, -22.0, 13.0])
BALL_RAS_MM = np.array([13.0, -30.0, 19.0])
BALL_RADIUS_MM = 5.0
SHEAR = 0.008  # more than SHiVAi accepts, less than the check of the geometry refuses


def make_geometry(shape, spacing_mm, columns, rotation_deg=(0, 0, 0), center=CENTER_RAS_MM):
    """Voxel axes along the given RAS directions, then turned."""
    turn = Rotation.from_euler("xyz", rotation_deg, degrees=True).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.array(columns, dtype=float).T * np.array(spacing_mm)
    affine[:3, 3] = center - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    # As a file holds it, so that both sides of a comparison start from the same numbers.
    return Geometry(shape, affine.astype(np.float32))


RIGHT, ANTERIOR, SUPERIOR = (1, 0, 0), (0, 1, 0), (0, 0, 1)
LEFT, POSTERIOR = (-1, 0, 0), (0, -1, 0)
GEOMETRIES = {
    "left-handed": make_geometry((44, 48, 30), (1.5, 1.5, 2), (LEFT, ANTERIOR, SUPERIOR)),
    "permuted": make_geometry((30, 48, 44), (2, 1.25, 1.5), (POSTERIOR, SUPERIOR, LEFT)),
    "oblique": make_geometry(
        (120, 124, 20), (0.5, 0.5, 3), (LEFT, POSTERIOR, SUPERIOR), (25, -8, 5)
    ),
    "one mm": make_geometry((61, 64, 60), (1, 1, 1), (LEFT, ANTERIOR, SUPERIOR), (0, 10, 0)),
}
DTYPES = {"permuted": np.int16}


@dataclass(frozen=True)
class Case:
    volume: Volume
    mask: Volume
    conformed: ConformedImage


def distances_mm(geometry, point_ras_mm):
    ijk = np.moveaxis(np.indices(geometry.shape), 0, -1)
    return np.linalg.norm(geometry.ijk_to_ras_mm(ijk) - point_ras_mm, axis=-1)


def make_scan(geometry, dtype=np.float32):
    """Textured tissue with negative voxels around a bright ball; the brain is a ball too."""
    noise = np.random.default_rng(5).normal(300, 30, geometry.shape)
    distance = distances_mm(geometry, BALL_RAS_MM)
    soft = np.clip((BALL_RADIUS_MM - distance) / 2 + 0.5, 0, 1)
    array = noise * (1 - soft) + 900 * soft
    array[:3] = -40
    mask = distances_mm(geometry, CENTER_RAS_MM) < 24
    return Volume(array.astype(dtype), geometry), Volume(mask, geometry)


def whole_by_nibabel(folder: Path, volume, mask):
    """The whole grid and the mask on it, from file to file as SHiVAi goes."""
    paths = [folder / name for name in ("image.nii.gz", "mask.nii.gz", "resampled.nii")]
    for path, array in zip(paths, (volume.array, mask.array.astype(np.uint8)), strict=False):
        nib.save(nib.Nifti1Image(array, volume.geometry.affine), path)
    image = nib.load(paths[0])
    order = 0 if tuple(image.header["pixdim"][1:4]) == (1, 1, 1) else 3
    resampled = processing.conform(image, (256, 256, 256), (1, 1, 1), order, orientation="RAS")
    values, limits = resampled.get_fdata(dtype="f"), image.get_fdata(dtype="f")
    values[values < limits.min()] = limits.min()
    values[values > limits.max()] = limits.max()
    nib.save(nib.Nifti1Image(values, resampled.affine), paths[2])
    whole = nib.load(paths[2])
    inside = processing.resample_from_to(nib.load(paths[1]), whole, 0).get_fdata() > 0.5
    return whole, inside


@functools.cache
def case_of(name):
    volume, mask = make_scan(GEOMETRIES[name], DTYPES.get(name, np.float32))
    return Case(volume, mask, conform(volume, mask, SETTINGS))


@pytest.fixture(params=GEOMETRIES, ids=lambda name: name.replace(" ", "-"))
def case(request):
    return case_of(request.param)


def crop_by_index(array, low):
    """By the index of each voxel of the box, 0 where there is none."""
    index = [a + np.arange(n) for a, n in zip(low, (160, 214, 176), strict=True)]
    box = array[np.ix_(*[np.clip(i, 0, 255) for i in index])]
    for axis, i in enumerate(index):
        np.moveaxis(box, axis, 0)[(i < 0) | (i > 255)] = 0
    return box


def box_low(inside):
    ijk = np.argwhere(inside)
    low = np.ceil(ijk.sum(axis=0) / len(ijk)).astype(int) - [80, 107, 88]
    high = min(low[2] + 176, 256)
    if high <= ijk[:, 2].max():
        low[2] += ijk[:, 2].max() - high + 5
    return low


def normalized(array, mask):
    array = array.astype(np.float64)
    array[array < 0] = 0
    percentile = np.percentile(array[mask], 99)
    array = array / percentile
    array[array > 1.3] = 1.3
    return (array / 1.3).astype("f"), percentile


def assert_is_the_reference(conformed, whole, inside):
    low = box_low(inside)
    mask = crop_by_index(inside, low)
    image, percentile = normalized(crop_by_index(whole.get_fdata(dtype="f"), low), mask)
    assert conformed.image.array.dtype == np.float32
    assert conformed.mask.array.dtype == np.bool_
    np.testing.assert_array_equal(conformed.mask.array, mask)
    np.testing.assert_array_equal(conformed.image.array, image)
    assert conformed.intensity_scale == percentile
    first_ras_mm = nib.affines.apply_affine(whole.affine, low)
    np.testing.assert_allclose(conformed.image.geometry.affine[:3, 3], first_ras_mm, atol=1e-9)
    assert np.array_equal(conformed.image.geometry.affine[:3, :3], whole.affine[:3, :3])
    assert conformed.mask.geometry == conformed.image.geometry


def test_is_bit_for_bit_what_nibabel_and_a_plain_account_give(case, tmp_path):
    assert_is_the_reference(case.conformed, *whole_by_nibabel(tmp_path, case.volume, case.mask))
    assert case.conformed.warnings == ()
    assert case.conformed.native == case.volume.geometry


def test_a_ball_keeps_its_place_in_the_patient(case):
    geometry = case.conformed.image.geometry
    assert geometry.shape == (160, 214, 176)
    assert geometry.axis_codes == "RAS"
    assert geometry.spacing_mm == pytest.approx((1, 1, 1), abs=1e-6)
    bright = np.where(case.conformed.image.array > 0.75, case.conformed.image.array, 0)
    found_ras_mm = geometry.ijk_to_ras_mm(ndimage.center_of_mass(bright))
    assert np.linalg.norm(found_ras_mm - BALL_RAS_MM) < 0.5
    middle_ras_mm = geometry.ijk_to_ras_mm(ndimage.center_of_mass(case.conformed.mask.array))
    assert np.linalg.norm(middle_ras_mm - CENTER_RAS_MM) < 0.5 * max(
        case.volume.geometry.spacing_mm
    )


def one_mm_scan(shape, mask_of_ijk):
    """Voxels of 1 mm, which need no spline; the mask is chosen by index."""
    geometry = make_geometry(shape, (1, 1, 1), (RIGHT, ANTERIOR, SUPERIOR))
    array = np.random.default_rng(1).uniform(100, 200, shape).astype(np.float32)
    mask = np.broadcast_to(mask_of_ijk(*np.indices(shape, sparse=True)), shape)
    return Volume(array, geometry), Volume(mask, geometry)


def test_a_box_beyond_the_grid_is_zero_there(tmp_path):
    """It begins before the first column and ends after the last slice."""
    volume, mask = one_mm_scan(
        (250, 40, 230), lambda i, j, k: (i > 5) & (i < 55) & (j > 3) & (k > 195) & (k < 225)
    )
    found = conform(volume, mask, SETTINGS)
    whole, inside = whole_by_nibabel(tmp_path, volume, mask)
    assert_is_the_reference(found, whole, inside)
    columns = np.flatnonzero(found.image.array.any(axis=(1, 2)))
    slices = np.flatnonzero(found.image.array.any(axis=(0, 1)))
    assert columns[0] > 40
    assert columns[-1] == 159
    assert slices[0] == 0
    assert slices[-1] < 176 - 40
    x_mm, _, z_mm = found.image.geometry.ijk_to_ras_mm((columns[0], 0, slices[-1]))
    corner_ras_mm = nib.affines.apply_affine(whole.affine, (0, 0, 255))
    assert (x_mm, z_mm) == (corner_ras_mm[0], corner_ras_mm[2])


@pytest.mark.parametrize(("stalk_top", "leaves_grid"), [(179, False), (249, True)])
def test_the_box_moves_up_to_a_mask_that_goes_on_above(stalk_top, leaves_grid, tmp_path):
    """By a single slice, and by so much that it leaves the grid."""
    volume, mask = one_mm_scan(
        (40, 40, 250),
        lambda i, j, k: (k > 70) & (k < 110) | (i == 20) & (j == 20) & (k > 70) & (k <= stalk_top),
    )
    found = conform(volume, mask, SETTINGS)
    assert_is_the_reference(found, *whole_by_nibabel(tmp_path, volume, mask))
    uppermost = np.flatnonzero(found.mask.array.any(axis=(0, 1)))[-1]
    assert uppermost == 176 - 5
    assert (np.count_nonzero(found.image.array[..., -1]) == 0) == leaves_grid


def sheared_scan():
    """A left-handed, turned geometry with two axes not quite perpendicular."""
    plain = GEOMETRIES["left-handed"]
    affine = plain.affine.copy()
    affine[:3, :3] = Rotation.from_euler("z", 6, degrees=True).as_matrix() @ affine[:3, :3]
    affine[:3, 1] += SHEAR * affine[:3, 0]
    volume, mask = make_scan(Geometry(plain.shape, affine))
    return volume, mask


def test_a_sheared_image_goes_without_rotation_and_comes_with_a_warning():
    volume, mask = sheared_scan()
    check_geometry(volume.geometry)
    found = conform(volume, mask, SETTINGS)
    assert [warning.code for warning in found.warnings] == ["sheared-affine"]

    center_ijk = np.round(ndimage.center_of_mass(volume.array.astype(float)))
    spacing_mm = np.linalg.norm(volume.geometry.affine[:3, :3], axis=0)
    simple = np.diag([-spacing_mm[0], spacing_mm[1], spacing_mm[2], 1])
    simple[:3, 3] = [1, -1, -1] * spacing_mm * center_ijk
    np.testing.assert_allclose(found.native.affine, simple, atol=1e-12)
    assert found.native.shape == volume.geometry.shape
    straight = Volume(volume.array, Geometry(volume.geometry.shape, simple))
    unsheared = conform(straight, Volume(mask.array, straight.geometry), SETTINGS)
    np.testing.assert_array_equal(found.image.array, unsheared.image.array)
    np.testing.assert_array_equal(found.mask.array, unsheared.mask.array)

    bright = np.where(found.image.array > 0.75, found.image.array, 0)
    place_ras_mm = found.image.geometry.ijk_to_ras_mm(ndimage.center_of_mass(bright))
    place_ijk = found.native.ras_mm_to_ijk(place_ras_mm)
    assert np.linalg.norm(volume.geometry.ijk_to_ras_mm(place_ijk) - BALL_RAS_MM) < 0.5


def test_a_little_shear_is_let_through():
    volume, mask = sheared_scan()
    affine = volume.geometry.affine.copy()
    affine[:3, 1] -= 0.5 * SHEAR * affine[:3, 0]
    geometry = Geometry(volume.geometry.shape, affine)
    found = conform(Volume(volume.array, geometry), Volume(mask.array, geometry), SETTINGS)
    assert found.warnings == ()
    assert found.native == geometry


def test_masking_of_the_input_zeroes_what_is_outside_and_nothing_else():
    case = case_of("left-handed")
    masked = conform(case.volume, case.mask, ConformSettings(masking="input"))
    expected = np.where(case.conformed.mask.array, case.conformed.image.array, 0)
    np.testing.assert_array_equal(masked.image.array, expected)
    assert masked.image.array.dtype == np.float32


def test_what_cannot_be_prepared_is_refused():
    volume, mask = make_scan(GEOMETRIES["left-handed"])
    with pytest.raises(InputError, match="empty"):
        conform(volume, mask.with_array(np.zeros_like(mask.array)), SETTINGS)
    with pytest.raises(InputError, match="percentile"):
        conform(volume.with_array(-abs(volume.array)), mask, SETTINGS)
    with pytest.raises(InputError, match="grid"):
        conform(volume, mask.reoriented([[0, -1], [1, 1], [2, 1]]), SETTINGS)
    holed = volume.array.copy()
    holed[3, 3, 3] = np.inf
    with pytest.raises(InputError, match="NaN"):
        conform(volume.with_array(holed), mask, SETTINGS)


def test_a_mask_beyond_the_grid_is_refused():
    geometry = Geometry((50, 20, 20), np.diag([10.0, 5, 5, 1]))
    volume = Volume(np.ones(geometry.shape, dtype=np.float32), geometry)
    mask = np.zeros(geometry.shape, dtype=bool)
    mask[:5] = True
    with pytest.raises(InputError, match="no voxel on the model's grid"):
        conform(volume, Volume(mask, geometry), SETTINGS)


def test_a_stored_array_is_still_made():
    """Of an oblique image of whole numbers; written by ``make_conformed.py``."""
    stored = np.load(Path(__file__).parents[1] / "importing" / "standins" / "conformed.npz")
    geometry = Geometry(stored["array"].shape, stored["affine"])

    found = conform(Volume(stored["array"], geometry), Volume(stored["mask"], geometry), SETTINGS)

    ends = stored["start"] + stored["expected"].shape
    near = tuple(slice(a, b) for a, b in zip(stored["start"], ends, strict=True))
    assert np.ptp(stored["expected"]) > 0.5
    np.testing.assert_array_equal(found.mask.array[near], stored["inside"])
    assert np.count_nonzero(found.mask.array) == np.count_nonzero(stored["inside"])
    np.testing.assert_allclose(found.image.array[near], stored["expected"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.image.geometry.affine, stored["box_affine"], atol=1e-5)
    assert found.intensity_scale == pytest.approx(float(stored["percentile"]))
