"""Finding the brain: given masks, skull-stripped images, heads, and the real scans."""

from __future__ import annotations

import csv

import nibabel
import numpy as np
import pytest
from scipy import ndimage

from CMBDetectorLib.errors import InputError
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.preprocessing.brain_mask import find_brain
from CMBDetectorLib.volume import Volume

SHAPE = (104, 116, 44)


def head_geometry():
    affine = np.diag([2.0, 2.0, 4.0, 1.0])
    affine[:3, 3] = (-103.0, -120.0, -70.0)
    return Geometry(SHAPE, affine)


def ellipsoid(geometry, center_ras_mm, radii_mm):
    place = geometry.ijk_to_ras_mm(np.moveaxis(np.indices(geometry.shape), 0, -1))
    return (((place - center_ras_mm) / radii_mm) ** 2).sum(axis=-1) <= 1


@pytest.fixture(scope="module")
def brain():
    return ellipsoid(head_geometry(), (0, -5, 20), (66, 82, 62))


@pytest.fixture(scope="module")
def head(brain):
    """Scalp as bright as the brain, dark skull, bright eyes, ventricles, veins, shading, noise."""
    geometry = head_geometry()
    array = np.zeros(SHAPE, dtype=np.float32)
    array[ellipsoid(geometry, (0, -5, 18), (85, 101, 78))] = 90
    array[ellipsoid(geometry, (0, -5, 20), (75, 91, 69))] = 8
    array[brain] = 100
    for x in (-30, 30):
        array[ellipsoid(geometry, (x, 88, -14), (12, 12, 12))] = 180
    for x in (-12, 12):
        array[ellipsoid(geometry, (x, 0, 25), (8, 30, 14))] = 40
    array[52, 30:80, 20:] *= np.where(brain[52, 30:80, 20:], 0.15, 1.0)
    array *= np.linspace(0.7, 1.3, SHAPE[0], dtype=np.float32)[:, None, None]
    rng = np.random.default_rng(5)
    noise = 3 * (rng.normal(size=SHAPE) + 1j * rng.normal(size=SHAPE))
    return Volume(np.abs(array + noise).astype(np.float32), geometry)


def overlap(found, truth):
    """Share of the truth that was found, and size of what was found against the truth."""
    return (found & truth).sum() / truth.sum(), found.sum() / truth.sum()


def test_a_head_loses_its_scalp_and_eyes_and_keeps_its_surface(head, brain):
    found = find_brain(head)
    recall, size = overlap(found.mask.array, brain)
    assert found.source == "threshold and morphology"
    assert found.mask.geometry == head.geometry
    assert found.mask.array.dtype == np.bool_
    assert recall > 0.995
    assert size < 1.2
    assert not found.warnings


@pytest.mark.parametrize(
    "axis_order",
    [[[0, -1], [1, -1], [2, 1]], [[2, -1], [0, 1], [1, 1]], [[1, 1], [2, -1], [0, -1]]],
)
def test_other_axis_orders_find_the_same_brain(head, axis_order):
    first = find_brain(head).mask
    turned = find_brain(head.reoriented(axis_order)).mask
    assert np.mean(turned.array != first.reoriented(axis_order).array) < 1e-4


def test_a_head_cut_out_of_its_background_is_not_skull_stripped(head, brain):
    scalp_and_all = ellipsoid(head.geometry, (0, -5, 18), (86, 102, 79))
    found = find_brain(head.with_array(head.array * scalp_and_all))
    assert found.source == "threshold and morphology"
    recall, size = overlap(found.mask.array, brain)
    assert recall > 0.995
    assert size < 1.2


def test_a_neck_below_the_head_is_left_out(head, brain):
    below = 30
    geometry = head.geometry.cropped((0, 0, -below), SHAPE)
    array = np.concatenate([np.full((*SHAPE[:2], below), 3, np.float32), head.array], axis=2)
    place = geometry.ijk_to_ras_mm(np.moveaxis(np.indices(geometry.shape), 0, -1))
    neck = (np.hypot(place[..., 0], place[..., 1] + 20) < 60) & (place[..., 2] < -62)
    array[neck] = 110
    found = find_brain(Volume(array, geometry)).mask.array[:, :, below:]
    recall, size = overlap(found, brain)
    assert recall > 0.99
    assert size < 1.2


def test_a_stripped_image_is_what_is_not_zero_and_its_holes(head, brain):
    array = head.array * brain
    array[50:54, 55:58, 22] = 0.0
    array[30:32, 58, 22] = 0.0
    found = find_brain(head.with_array(array))
    assert found.source == "zero background"
    assert np.all(found.mask.array[array > 0])
    assert found.mask.array[50:54, 55:58, 22].all()
    assert found.mask.array[30:32, 58, 22].all()
    assert overlap(found.mask.array, brain)[1] < 1.05


def test_specks_outside_a_stripped_brain_are_left_out(head, brain):
    array = head.array * brain
    array[2, 2, 2] = 50.0
    assert not find_brain(head.with_array(array)).mask.array[2, 2, 2]


def test_a_signed_map_is_taken_by_its_background(head, brain):
    rng = np.random.default_rng(0)
    found = find_brain(head.with_array((rng.normal(size=SHAPE) * brain).astype(np.float32)))
    assert found.source == "zero background"
    assert overlap(found.mask.array, brain)[0] == 1


def test_a_field_of_view_within_the_brain_is_all_brain(head, brain):
    start, stop = (32, 40, 14), (72, 76, 34)
    inner = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    assert brain[inner].all()
    part = Volume(head.array[inner], head.geometry.cropped(start, stop))
    found = find_brain(part)
    assert found.mask.array.mean() > 0.95


def test_nothing_bright_is_no_brain(head):
    with pytest.raises(InputError, match="no brain was found"):
        find_brain(head.with_array(np.zeros(SHAPE, dtype=np.float32)))


def anatomy_of(geometry, brain):
    """White matter, cortex with a sulcus 4 mm wide, a ventricle; scalp and orbits around."""
    labels = np.where(ellipsoid(geometry, (0, -5, 18), (85, 101, 78)), 258, 0).astype(np.int16)
    labels[ellipsoid(geometry, (0, -5, 20), (75, 91, 69))] = 165
    labels[brain] = 42
    labels[ellipsoid(geometry, (0, -5, 20), (60, 76, 56))] = 41
    place = geometry.ijk_to_ras_mm(np.moveaxis(np.indices(geometry.shape), 0, -1))
    labels[brain & (np.abs(place[..., 1]) < 2) & (place[..., 2] > 50)] = 24
    labels[ellipsoid(geometry, (12, 0, 25), (8, 30, 14))] = 4
    labels[ellipsoid(geometry, (30, 88, -14), (12, 12, 12))] = 259
    return Volume(labels, geometry)


def test_anatomy_takes_the_place_of_the_method(head, brain):
    anatomy = anatomy_of(head.geometry, brain)
    inverted = head.with_array(120 - np.minimum(head.array, 119))  # no method goes by this
    found = find_brain(inverted, anatomy=anatomy)
    assert found.source == "anatomy network"
    assert found.mask.geometry == head.geometry
    recall, _ = overlap(found.mask.array, brain)
    assert recall > 0.999  # the sulcus and the ventricle too
    extent = ellipsoid(head.geometry, (0, -5, 20), (66 + 4.5, 82 + 4.5, 62 + 5))
    assert not (found.mask.array & ~extent).any()
    rim = ellipsoid(head.geometry, (0, -5, 20), (67, 83, 63))
    assert found.mask.array[rim].mean() > 0.98
    named = find_brain(head, anatomy=anatomy, anatomy_source="anatomy file")
    assert named.source == "anatomy file"


def test_anatomy_on_other_grids_gives_the_same_brain(head, brain, axis_order):
    fine = head.geometry.with_spacing((3.0, 3.0, 3.0))
    anatomy = anatomy_of(fine, ellipsoid(fine, (0, -5, 20), (66, 82, 62)))
    expected = find_brain(head, anatomy=anatomy_of(head.geometry, brain)).mask.array
    found = find_brain(head, anatomy=anatomy.reoriented(axis_order)).mask
    recall, size = overlap(found.array, expected)
    assert found.geometry == head.geometry
    assert recall > 0.97
    assert 0.97 < size < 1.03


def test_a_given_mask_wins_over_anatomy(head, brain):
    given = np.zeros_like(brain)
    given[40:60, 40:60, 20:30] = True
    found = find_brain(head, head.with_array(given), anatomy_of(head.geometry, brain))
    assert found.source == "user file"
    assert np.array_equal(found.mask.array, given)


def test_a_stripped_image_with_anatomy_is_what_is_not_zero(head, brain):
    array = head.array * brain
    array[30:32, 58, 22] = 0.0
    found = find_brain(head.with_array(array), anatomy=anatomy_of(head.geometry, brain))
    assert found.source == "zero background"
    assert np.all(found.mask.array[array > 0])
    assert found.mask.array[30:32, 58, 22].all()
    assert overlap(found.mask.array, brain)[1] < 1.05


def test_anatomy_of_a_brain_that_the_field_of_view_cuts(head, brain):
    start, stop = (0, 0, 12), (104, 116, 36)
    inner = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    part = Volume(head.array[inner], head.geometry.cropped(start, stop))
    found = find_brain(part, anatomy=anatomy_of(part.geometry, brain[inner])).mask.array
    assert found[brain[inner]].mean() > 0.999


def test_anatomy_elsewhere_is_refused(head, brain):
    affine = head.geometry.affine.copy()
    affine[0, 3] += 1000
    anatomy = anatomy_of(head.geometry, brain)
    with pytest.raises(InputError, match="no brain within the image"):
        find_brain(head, anatomy=Volume(anatomy.array, Geometry(SHAPE, affine)))


def test_a_given_mask_is_used_as_it_is(head, brain):
    given = Volume(brain.astype(np.uint8) * 3, head.geometry)
    found = find_brain(head, given)
    assert found.source == "user file"
    assert np.array_equal(found.mask.array, brain)


def test_a_given_mask_on_another_grid_is_resampled(head, brain, axis_order):
    fine = head.geometry.with_spacing((3.0, 3.0, 3.0))
    given = Volume(ellipsoid(fine, (0, -5, 20), (66, 82, 62)), fine).reoriented(axis_order)
    found = find_brain(head, given).mask
    recall, size = overlap(found.array, brain)
    assert found.geometry == head.geometry
    assert recall > 0.95
    assert 0.95 < size < 1.05


def test_a_given_mask_elsewhere_is_refused(head, brain):
    affine = head.geometry.affine.copy()
    affine[0, 3] += 1000
    with pytest.raises(InputError, match="does not overlap"):
        find_brain(head, Volume(brain, Geometry(SHAPE, affine)))


def test_a_given_mask_half_outside_is_used_with_a_warning(head, brain):
    affine = head.geometry.affine.copy()
    affine[0, 3] += 130
    found = find_brain(head, Volume(brain, Geometry(SHAPE, affine)))
    assert found.mask.array.any()
    assert [w.code for w in found.warnings] == ["brain-mask-outside-image"]


def test_an_empty_given_mask_is_refused(head, brain):
    with pytest.raises(InputError, match="empty"):
        find_brain(head, head.with_array(np.zeros_like(brain)))


def load(path):
    image = nibabel.load(path)
    array = np.asarray(image.dataobj, dtype=np.float32)
    return Volume(array, Geometry(array.shape, image.affine))


def test_real_stripped_magnitude_against_its_own_mask(shared_dir):
    image = load(shared_dir / "real" / "qsm2016_magnitude.nii.gz")
    truth = load(shared_dir / "real" / "qsm2016_brain_mask.nii.gz").array > 0
    found = find_brain(image)
    assert found.source == "zero background"
    dice = 2 * (found.mask.array & truth).sum() / (found.mask.array.sum() + truth.sum())
    assert dice > 0.98


def test_the_method_alone_against_the_mask_of_a_real_head(shared_dir):
    image = load(shared_dir / "real" / "qsm2016_magnitude.nii.gz")
    truth = load(shared_dir / "real" / "qsm2016_brain_mask.nii.gz").array > 0
    skull = ndimage.binary_dilation(truth, iterations=5) & ~truth
    scalp = ndimage.binary_dilation(truth, iterations=10) & ~truth & ~skull
    level = np.median(image.array[truth])
    noise = np.abs(np.random.default_rng(1).normal(0, 0.03 * level, truth.shape))
    array = np.where(truth, image.array, 0.8 * level * scalp) + noise
    found = find_brain(image.with_array(array.astype(np.float32)))
    assert found.source == "threshold and morphology"
    dice = 2 * (found.mask.array & truth).sum() / (found.mask.array.sum() + truth.sum())
    assert dice > 0.92
    assert (found.mask.array & truth).sum() / truth.sum() > 0.99


@pytest.mark.parametrize(
    ("scan", "source", "volume_ml"),
    [
        ("sub-107", "zero background", (1250, 1400)),
        ("sub-309", "threshold and morphology", (1250, 1550)),
        ("sub-320", "threshold and morphology", (1250, 1600)),
        ("sub-325", "threshold and morphology", (1600, 1950)),
    ],
)
def test_real_scans_keep_their_lesions_and_lose_their_scalp(shared_dir, scan, source, volume_ml):
    folder = shared_dir / "real" / "valdo"
    image = load(folder / f"{scan}_T2S.nii.gz")
    found = find_brain(image)
    assert found.source == source
    size_ml = found.mask.array.sum() * image.geometry.voxel_volume_mm3 / 1000
    assert volume_ml[0] < size_ml < volume_ml[1]
    with (folder / "lesions.csv").open(encoding="utf-8") as file:
        lesions = [row for row in csv.DictReader(file) if row["scan"] == scan]
    assert lesions
    assert all(found.mask.array[tuple(int(row[axis]) for axis in "ijk")] for row in lesions)
