"""The model's grid, crop and intensities."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial.transform import Rotation

from CMBDetectorLib.errors import InputError
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.preprocessing.prepare import model_geometry, prepare
from CMBDetectorLib.preprocessing.resample import resample
from CMBDetectorLib.settings import GridSettings, NormalizationSettings, PreprocessingSettings
from CMBDetectorLib.volume import Volume

ORIENTATIONS = [
    np.column_stack([axes, flips])
    for axes in itertools.permutations(range(3))
    for flips in itertools.product((1, -1), repeat=3)
]
IN_PLANE = GridSettings("in_plane", 0.5, min_slice_spacing_mm=1.0)
ISOTROPIC = GridSettings("isotropic", 0.8)


def make_settings(grid=IN_PLANE, margin_mm=4.0):
    return PreprocessingSettings(grid, NormalizationSettings(99, (0.0, 1.5)), margin_mm)


def make_geometry(shape, spacing_mm, rotation_deg=(0, 0, 0)):
    affine = np.eye(4)
    turn = Rotation.from_euler("xyz", rotation_deg, degrees=True).as_matrix()
    affine[:3, :3] = turn * np.array(spacing_mm)
    affine[:3, 3] = np.array([4.0, -15.0, 9.0]) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Geometry(shape, affine)


def make_scan(geometry, seed=3):
    """A smooth random image and a ball in its middle."""
    noise = np.random.default_rng(seed).random(geometry.shape)
    image = 100 * ndimage.gaussian_filter(noise, 1.0).astype(np.float32) + 20
    grid = np.moveaxis(np.indices(geometry.shape), 0, -1)
    distance = np.linalg.norm(geometry.ijk_to_ras_mm(grid) - geometry.center_ras_mm, axis=-1)
    return Volume(image, geometry), Volume(distance < 0.35 * min(geometry.extent_mm), geometry)


@pytest.mark.parametrize("grid", [IN_PLANE, ISOTROPIC])
@pytest.mark.parametrize(
    ("spacing_mm", "rotation_deg"),
    [((0.45, 0.45, 2.0), (0, 0, 0)), ((0.9, 3.0, 0.9), (8, -17, 11)), ((3, 1, 1), (0, 0, 0))],
)
def test_every_axis_order_gives_the_same_array(grid, spacing_mm, rotation_deg):
    shape = tuple(int(24 / s) for s in spacing_mm)
    image, mask = make_scan(make_geometry(shape, spacing_mm, rotation_deg))
    first = prepare(image, mask, make_settings(grid))
    for orientation in ORIENTATIONS:
        other = prepare(
            image.reoriented(orientation), mask.reoriented(orientation), make_settings(grid)
        )
        assert other.image.geometry.is_close(first.image.geometry)
        np.testing.assert_allclose(other.image.array, first.image.array, atol=1e-4)
        assert np.array_equal(other.mask.array, first.mask.array)
        assert other.intensity_scale == pytest.approx(first.intensity_scale)


@given(
    orientation=st.sampled_from(ORIENTATIONS),
    angles=st.tuples(*[st.floats(-40, 40)] * 3),
    spacing_mm=st.tuples(*[st.floats(0.3, 6.0)] * 3),
    grid=st.sampled_from([IN_PLANE, ISOTROPIC]),
)
@settings(max_examples=200, deadline=None)
def test_the_model_grid_is_right_handed_and_covers_the_image(orientation, angles, spacing_mm, grid):
    native = make_geometry((20, 30, 25), spacing_mm, angles).reoriented(orientation)
    ours = model_geometry(native, grid)
    assert np.linalg.det(ours.affine[:3, :3]) > 0
    assert ours.obliquity_deg == pytest.approx(native.obliquity_deg, abs=1e-4)
    drift_mm = (
        np.array(ours.extent_mm)
        - native.reoriented(turn_to(ours.orientation, native.orientation)).extent_mm
    )
    assert np.all(np.abs(drift_mm) <= 0.5 * np.array(ours.spacing_mm) + 1e-6)
    slice_mm = native.spacing_mm[native.slice_axis]
    expected = (0.5, 0.5, max(1.0, slice_mm)) if grid is IN_PLANE else (0.8, 0.8, 0.8)
    assert ours.spacing_mm == pytest.approx(expected)


def turn_to(wanted, present):
    """Orientation array that takes axes of one orientation to another."""
    turn = np.zeros((3, 2))
    for axis in range(3):
        target = int(np.flatnonzero(wanted[:, 0] == present[axis, 0])[0])
        turn[axis] = target, present[axis, 1] * wanted[target, 1]
    return turn


@pytest.mark.parametrize(
    ("spacing_mm", "codes"),
    [((1, 1, 3), "RAS"), ((3, 1, 1), "ASR"), ((1, 3, 1), "SRA"), ((1, 1, 1), "RAS")],
)
def test_slices_come_last(spacing_mm, codes):
    for orientation in ORIENTATIONS:
        native = make_geometry((20, 30, 25), spacing_mm).reoriented(orientation)
        assert model_geometry(native, IN_PLANE).axis_codes == codes


@pytest.mark.parametrize("rotation_deg", [(0, 0, 0), (11, 7, -16)])
def test_a_point_lesion_keeps_its_place(axis_order, rotation_deg):
    geometry = make_geometry((60, 56, 16), (0.5, 0.5, 2.0), rotation_deg)
    image, mask = make_scan(geometry)
    lesion_ijk = (33, 21, 9)
    array = np.full(geometry.shape, 100.0, dtype=np.float32)
    array[lesion_ijk] = 0.0
    image = Volume(array, geometry).reoriented(axis_order)
    prepared = prepare(image, mask.reoriented(axis_order), make_settings())
    darkest = np.unravel_index(prepared.image.array.argmin(), prepared.image.array.shape)
    found_ijk = geometry.ras_mm_to_ijk(prepared.image.geometry.ijk_to_ras_mm(darkest))
    assert np.abs(found_ijk - lesion_ijk).max() <= 0.5


def test_crop_is_the_part_of_the_whole_grid_around_the_brain():
    image, mask = make_scan(make_geometry((60, 64, 20), (0.9, 0.9, 2.0), (5, 6, 7)))
    whole = resample(image, model_geometry(image.geometry, IN_PLANE))
    prepared = prepare(image, mask, make_settings(margin_mm=3.0))
    cropped = prepared.image.geometry
    start = np.round(whole.geometry.ras_mm_to_ijk(cropped.ijk_to_ras_mm((0, 0, 0)))).astype(int)
    part = whole.array[tuple(slice(a, a + n) for a, n in zip(start, cropped.shape, strict=True))]
    expected = np.clip(part / prepared.intensity_scale, 0, 1.5)
    np.testing.assert_allclose(prepared.image.array, expected, atol=1e-5)

    places = np.argwhere(prepared.mask.array)
    margins = np.stack([places.min(axis=0), np.array(cropped.shape) - 1 - places.max(axis=0)])
    margins_mm = margins * np.array(cropped.spacing_mm)
    longest_mm = 3.0 + 2 * np.array(cropped.spacing_mm) + 0.9
    assert np.all(margins_mm[1] >= 2.5)
    assert np.all(margins_mm[1] <= longest_mm)
    # The first voxel is the last multiple of 16 that leaves the margin.
    assert np.all(start % 16 == 0)
    assert np.all((margins_mm[0] >= 2.5) | (start == 0))
    assert np.all(margins_mm[0] < longest_mm + 16 * np.array(cropped.spacing_mm))
    native_ml = np.count_nonzero(mask.array) * mask.geometry.voxel_volume_mm3
    model_ml = np.count_nonzero(prepared.mask.array) * cropped.voxel_volume_mm3
    assert model_ml == pytest.approx(native_ml, rel=0.02)


def test_crop_stays_within_the_field_of_view():
    image, _ = make_scan(make_geometry((40, 40, 12), (0.9, 0.9, 2.0)))
    everything = image.with_array(np.ones(image.array.shape, dtype=bool))
    prepared = prepare(image, everything, make_settings(margin_mm=50.0))
    assert prepared.image.geometry == model_geometry(image.geometry, IN_PLANE)


def test_intensities_are_divided_by_the_brains_percentile_and_clipped():
    image, mask = make_scan(make_geometry((40, 40, 12), (0.9, 0.9, 2.0)))
    bright = image.array.copy()
    bright[~mask.array] = 1e5
    bright[tuple(np.argwhere(mask.array)[0])] = 0.0
    prepared = prepare(image.with_array(bright), mask, make_settings())
    inside = bright[mask.array]
    assert prepared.intensity_scale == pytest.approx(np.percentile(inside[inside > 0], 99))
    assert prepared.image.array.dtype == np.float32
    assert prepared.image.array.max() == pytest.approx(1.5)
    assert prepared.image.array.min() >= 0


def test_brightness_of_the_scan_makes_no_difference():
    image, mask = make_scan(make_geometry((40, 40, 12), (0.9, 0.9, 2.0)))
    one = prepare(image, mask, make_settings()).image.array
    other = prepare(image.with_array(image.array * np.float32(37)), mask, make_settings())
    np.testing.assert_allclose(other.image.array, one, atol=1e-5)


def test_what_cannot_be_prepared_is_refused():
    image, mask = make_scan(make_geometry((20, 20, 16), (0.9, 0.9, 2.0)))
    with pytest.raises(InputError, match="empty"):
        prepare(image, mask.with_array(np.zeros_like(mask.array)), make_settings())
    with pytest.raises(InputError, match="no positive voxel"):
        prepare(image.with_array(image.array * 0), mask, make_settings())
    with pytest.raises(InputError, match="grid"):
        prepare(image, mask.reoriented([[0, -1], [1, 1], [2, 1]]), make_settings())
    holed = image.array.copy()
    holed[3, 3, 3] = np.nan
    with pytest.raises(InputError, match="NaN"):
        prepare(image.with_array(holed), mask, make_settings())
