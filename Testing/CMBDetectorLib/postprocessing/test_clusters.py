"""SHiVAi's rules for clusters, and their way from its grid of 1 mm to the image's voxels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK
from scipy.spatial.transform import Rotation

from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.postprocessing.clusters import (
    clusters_to_native,
    combine_folds,
    find_clusters,
    measure_clusters,
)
from CMBDetectorLib.postprocessing.lesions import find_lesions
from CMBDetectorLib.preprocessing.conform import conform
from CMBDetectorLib.preprocessing.resample import resample
from CMBDetectorLib.settings import ClusterRules, ConformSettings, OperatingPoint
from CMBDetectorLib.volume import Volume

RULES = ClusterRules()
JUST_OVER = np.nextafter(np.float32(0.5), np.float32(1))
CENTER_RAS_MM = np.array([4.0, -17.0, 21.0])


RAS = [(1, 0, 0), (0, 1, 0), (0, 0, 1)]
LAS = [(-1, 0, 0), (0, 1, 0), (0, 0, 1)]
PSL = [(0, -1, 0), (0, 0, 1), (-1, 0, 0)]
LPS = [(-1, 0, 0), (0, -1, 0), (0, 0, 1)]
SAR = [(0, 0, 1), (0, 1, 0), (1, 0, 0)]


def make_geometry(shape, spacing_mm, columns=RAS, rotation_deg=(0, 0, 0), shear=0.0):
    """Voxel axes along the given RAS directions, then turned, around CENTER_RAS_MM."""
    turn = Rotation.from_euler("xyz", rotation_deg, degrees=True).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.array(columns, dtype=float).T * np.array(spacing_mm)
    affine[:3, 1] += shear * affine[:3, 0]
    affine[:3, 3] = CENTER_RAS_MM - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Geometry(shape, affine)


NATIVE = {
    "left-handed": make_geometry((40, 44, 20), (1.1, 1.1, 2), LAS),
    "permuted": make_geometry((20, 44, 40), (2, 1.25, 1), PSL),
    "oblique": make_geometry((50, 48, 18), (0.8, 0.8, 2.5), LPS, (25, -8, 5)),
    "anisotropic": make_geometry((90, 88, 14), (0.5, 0.5, 3)),
    "one mm": make_geometry((44, 40, 42), (1, 1, 1), LAS, (0, 10, 0)),
}
ONE_MM = make_geometry((50, 54, 48), (1, 1, 1))


def on_grid(values_by_ijk, geometry=ONE_MM):
    array = np.zeros(geometry.shape, dtype=np.float32)
    for ijk, value in values_by_ijk.items():
        array[ijk] = value
    return Volume(array, geometry)


def everywhere(volume):
    return volume.with_array(np.ones(volume.array.shape, dtype=bool))


def clusters_in(probability, rules=RULES):
    return find_clusters(probability, everywhere(probability), rules)


def test_folds_are_cut_averaged_and_masked():
    rng = np.random.default_rng(2)
    folds = [rng.random((9, 8, 7)).astype(np.float32) ** 8 for _ in range(3)]
    folds[0][0, 0, 0], folds[1][0, 0, 0], folds[2][0, 0, 0] = 0.00099, 0.001, 0.0009
    mask = rng.random((9, 8, 7)) < 0.6
    mask[0, 0, 0] = True
    before = [fold.copy() for fold in folds]

    found = combine_folds(folds, mask, "output", RULES)
    stack = np.stack(folds)
    stack[stack < 0.001] = 0
    expected = (np.mean(stack, axis=0) * mask.astype(np.float64)).astype("f")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)
    assert found[0, 0, 0] == np.float32(0.001) / np.float32(3)
    assert all(np.array_equal(a, b) for a, b in zip(folds, before, strict=True))

    uncut = combine_folds(folds, mask, "input", RULES)
    expected = np.mean(np.stack([fold * mask for fold in folds]), axis=0)
    np.testing.assert_array_equal(uncut, expected)
    assert uncut[0, 0, 0] > found[0, 0, 0]


def test_half_is_not_enough_and_corners_connect():
    probability = on_grid(
        {
            (4, 4, 4): 0.5,
            (10, 10, 10): JUST_OVER,
            (11, 11, 11): 0.9,
            (12, 12, 10): 0.9,
            (20, 20, 20): 0.9,
            (20, 20, 22): 0.9,
        }
    )
    clusters = clusters_in(probability)
    assert clusters.array.dtype == np.int32
    assert clusters.geometry == ONE_MM
    assert clusters.array[4, 4, 4] == 0
    assert {int(clusters.array[i, i, k]) for i, k in ((10, 10), (11, 11), (12, 10))} == {1}
    assert clusters.array[20, 20, 20] == 2
    assert clusters.array[20, 20, 22] == 3
    assert np.count_nonzero(clusters.array) == 5


def test_components_are_those_of_simpleitk_in_the_order_of_their_first_voxels():
    rng = np.random.default_rng(4)
    probability = Volume((rng.random(ONE_MM.shape) ** 6).astype(np.float32), ONE_MM)
    clusters = clusters_in(probability).array
    image = SimpleITK.GetImageFromArray((probability.array > 0.5).astype(np.uint8))
    theirs = SimpleITK.GetArrayFromImage(SimpleITK.ConnectedComponent(image, True))
    pairs = np.unique(np.stack([clusters.ravel(), theirs.ravel()]), axis=1)
    assert pairs.shape[1] == clusters.max() + 1 == theirs.max() + 1 > 100
    _, first = np.unique(clusters.ravel(), return_index=True)
    assert np.all(np.diff(first[1:]) > 0)


@pytest.mark.parametrize("order", ["C", "F"])
def test_clusters_mostly_outside_of_the_brain_are_dropped_and_the_rest_numbered_anew(order):
    rods = {2: 4, 6: 4, 10: 8, 14: 8, 18: 3}  # from k = 10 on, this many voxels
    outside = {2: 1, 6: 2, 10: 2, 14: 3, 18: 0}
    probability = on_grid(
        {(i, 5, 10 + n): 0.8 for i, length in rods.items() for n in range(length)}
    )
    mask = np.ones(ONE_MM.shape, dtype=bool, order=order)
    for i, n in outside.items():
        mask[i, 5, 10 : 10 + n] = False
    probability = probability.with_array(np.asarray(probability.array, order=order))
    found = find_clusters(probability, probability.with_array(mask), RULES).array
    assert {i: int(found[i, 5, 12]) for i in rods} == {2: 1, 6: 0, 10: 2, 14: 0, 18: 3}
    assert np.count_nonzero(found) == 4 + 8 + 3

    fewest = replace(RULES, min_voxels=4)
    found = find_clusters(probability, probability.with_array(mask), fewest).array
    assert {i: int(found[i, 5, 12]) for i in rods} == {2: 1, 6: 0, 10: 2, 14: 0, 18: 0}


def test_nothing_found_is_nothing_on_the_way_back_too():
    probability = on_grid({(4, 4, 4): 0.5})
    clusters = clusters_in(probability)
    assert clusters.array.max() == 0
    labels, values = clusters_to_native(clusters, probability, NATIVE["oblique"])
    assert labels.array.max() == 0
    detections, label_map = measure_clusters(labels, values)
    assert detections == ()
    assert label_map.array.dtype == np.int16
    assert label_map.array.shape == NATIVE["oblique"].shape


def balls(geometry, radii_mm, seed=3):
    """Eight balls that do not touch, away from the grid's edges."""
    rng = np.random.default_rng(seed)
    ras_mm = geometry.ijk_to_ras_mm(np.moveaxis(np.indices(geometry.shape), 0, -1))
    array = np.zeros(geometry.shape, dtype=np.float32)
    centers = []
    while len(centers) < 8:
        center = CENTER_RAS_MM + rng.uniform(-11, 11, 3)
        if all(np.linalg.norm(center - other) > 7.5 for other in centers):
            inside = np.linalg.norm(ras_mm - center, axis=-1) < rng.uniform(*radii_mm)
            array[inside] = rng.uniform(0.6, 1, np.count_nonzero(inside))
            centers.append(center)
    return Volume(array, geometry)


def centers_ras_mm(labels):
    ijk = np.argwhere(labels.array)
    number = labels.array[tuple(ijk.T)]
    ras_mm = labels.geometry.ijk_to_ras_mm(ijk)
    return {int(n): ras_mm[number == n].mean(axis=0) for n in np.unique(number)}


@pytest.mark.parametrize("name", NATIVE)
def test_clusters_go_to_the_same_place_in_the_patient(name):
    native = NATIVE[name]
    for turned in (ONE_MM, make_geometry((50, 54, 48), (1, 1, 1), RAS, (25, -8, 5))):
        probability = balls(turned, (1, 2.5))
        clusters = clusters_in(probability)
        labels, values = clusters_to_native(clusters, probability, native)
        assert labels.geometry == values.geometry == native
        assert labels.array.dtype == np.int32
        assert values.array.dtype == np.float32
        before, after = centers_ras_mm(clusters), centers_ras_mm(labels)
        assert list(after) == list(before)
        for number, center in before.items():
            drift_voxels = native.ras_mm_to_ijk(after[number]) - native.ras_mm_to_ijk(center)
            drift_mm = np.abs(drift_voxels) * native.spacing_mm
            # Half a voxel of the image, and of the 1 mm that labels came in.
            assert np.all(drift_mm <= 0.5 * np.array(native.spacing_mm) + 0.5), number


@pytest.mark.parametrize("name", NATIVE)
def test_every_voxel_has_what_the_nearest_of_one_mm_has(name):
    """Against the library's own resampling; the balls are so large that none is lost."""
    probability = balls(ONE_MM, (2.5, 3))
    clusters = clusters_in(probability)
    labels, values = clusters_to_native(clusters, probability, NATIVE[name])
    expected_labels = resample(clusters, NATIVE[name], order=0)
    expected_values = resample(probability, NATIVE[name], order=0)
    np.testing.assert_array_equal(labels.array, expected_labels.array)
    np.testing.assert_array_equal(values.array, expected_values.array)
    assert np.unique(labels.array).tolist() == list(range(9))


@pytest.mark.parametrize("rotation_deg", [(0, 0, 0), (25, -8, 5), (-11, 3, 40)])
def test_centers_half_way_between_voxels_all_go_one_way(rotation_deg):
    one_mm = make_geometry((41, 41, 41), (1, 1, 1), RAS, rotation_deg)
    affine = one_mm.affine.copy()
    affine[:3, :3] /= 2
    places = [(i, j, k) for i in range(4, 40, 7) for j in range(4, 40, 7) for k in range(4, 40, 7)]
    probability = on_grid(dict.fromkeys(places, 0.8), one_mm)
    native = Geometry((82, 82, 82), affine)
    labels, _ = clusters_to_native(clusters_in(probability), probability, native)
    assert np.unique(np.bincount(labels.array.ravel())[1:]).tolist() == [8]


def thick(columns=RAS, rotation_deg=(0, 0, 0), slice_mm=4):
    """Thick slices, and a grid of 1 mm with the same directions in which one slice is k=20."""
    native = make_geometry((60, 64, 11), (0.7, 0.7, slice_mm), columns, rotation_deg)
    middle = native.ijk_to_ras_mm((29, 31, 5))
    axes = Rotation.from_euler("xyz", rotation_deg, degrees=True).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = axes
    affine[:3, 3] = middle - axes @ (20, 20, 20)
    return native, Geometry((41, 41, 41), affine)


@pytest.mark.parametrize("rotation_deg", [(0, 0, 0), (12, -25, 7)])
@pytest.mark.parametrize("columns", [RAS, LAS, LPS, SAR])
def test_one_voxel_between_thick_slices_survives(columns, rotation_deg):
    native, one_mm = thick(columns, rotation_deg)
    axis = int(np.argmax(native.spacing_mm))
    along = int(np.flatnonzero(np.abs(np.array(columns)[axis]))[0])
    for step in (-2, -1, 1, 2, 9, 10, 11):
        ijk = [20, 20, 20]
        ijk[along] += step
        probability = on_grid({tuple(ijk): 0.83}, one_mm)
        labels, values = clusters_to_native(clusters_in(probability), probability, native)
        places = np.argwhere(labels.array)
        assert len(places) == 1
        offset = native.ras_mm_to_ijk(one_mm.ijk_to_ras_mm(ijk)) - places[0]
        assert np.abs(offset).max() <= 0.5 + 1e-6
        assert values.array[tuple(places[0])] == np.float32(0.83)
        detections, label_map = measure_clusters(labels, values)
        assert [d.n_voxels for d in detections] == [1]
        assert detections[0].peak_probability == pytest.approx(0.83)
        assert label_map.array[tuple(places[0])] == 1


def test_half_way_between_two_slices_the_choice_does_not_depend_on_the_axis_order(axis_order):
    native, one_mm = thick()
    probability = on_grid({(20, 20, 22): 0.8, (12, 25, 18): 0.7, (12, 25, 22): 0.9}, one_mm)
    clusters = clusters_in(probability)
    labels, values = clusters_to_native(clusters, probability, native)
    assert len(np.unique(labels.array)) == 4
    turned = native.reoriented(axis_order)
    other_labels, other_values = clusters_to_native(clusters, probability, turned)
    np.testing.assert_array_equal(other_labels.array, labels.reoriented(axis_order).array)
    np.testing.assert_array_equal(other_values.array, values.reoriented(axis_order).array)


def test_a_taken_voxel_is_left_to_its_label_and_the_next_one_is_used():
    """One cluster lies in a slice, and one above it, closer to that slice than to the next."""
    native, one_mm = thick(slice_mm=5)
    in_slice = {(20, 20, 20): 0.6}
    above = {(20, 20, 22): 0.7, (21, 20, 22): 0.9}
    alone = on_grid(in_slice, one_mm)
    expected, _ = clusters_to_native(clusters_in(alone), alone, native)
    probability = on_grid(in_slice | above, one_mm)
    labels, values = clusters_to_native(clusters_in(probability), probability, native)
    np.testing.assert_array_equal(labels.array == 1, expected.array == 1)
    (place,) = np.argwhere(labels.array == 2)
    assert values.array[tuple(place)] == np.float32(0.9)
    free = np.argwhere(expected.array == 0)
    center_ras_mm = one_mm.ijk_to_ras_mm((20.5, 20, 22))
    distances_mm = np.linalg.norm(native.ijk_to_ras_mm(free) - center_ras_mm, axis=1)
    distance_mm = np.linalg.norm(native.ijk_to_ras_mm(place) - center_ras_mm)
    assert distance_mm == pytest.approx(distances_mm.min())
    assert distance_mm <= np.linalg.norm(native.spacing_mm) / 2


def test_two_lost_clusters_at_one_voxel_get_a_voxel_each():
    native = make_geometry((20, 20, 12), (3, 3, 5))
    middle = native.ijk_to_ras_mm((10, 10, 6))
    affine = np.eye(4)
    affine[:3, 3] = middle + np.array([0.3, 0.4, 1.2]) - 20
    one_mm = Geometry((41, 41, 41), affine)
    probability = on_grid({(19, 20, 20): 0.7, (21, 20, 20): 0.9}, one_mm)
    labels, values = clusters_to_native(clusters_in(probability), probability, native)
    places = np.argwhere(labels.array)
    assert len(places) == 2
    assert labels.array[10, 10, 6] == 2  # the higher peak chooses first
    assert values.array[10, 10, 6] == np.float32(0.9)
    for place in places:
        number = labels.array[tuple(place)]
        center = one_mm.ijk_to_ras_mm((19 if number == 1 else 21, 20, 20))
        half_diagonal_mm = np.linalg.norm(native.spacing_mm) / 2
        assert np.linalg.norm(native.ijk_to_ras_mm(place) - center) <= half_diagonal_mm


def test_without_a_free_voxel_a_cluster_becomes_part_of_the_nearest_label():
    """Above the middle of a plate in a slice; the next slice is too far."""
    native, one_mm = thick(slice_mm=5)
    plate = {(i, j, 20): 0.6 for i in range(17, 24) for j in range(17, 24)}
    probability = on_grid(plate | {(20, 20, 22): 0.8}, one_mm)
    labels, values = clusters_to_native(clusters_in(probability), probability, native)
    assert np.unique(labels.array).tolist() == [0, 1]
    assert values.array.max() == np.float32(0.8)
    detections, _ = measure_clusters(labels, values)
    assert [d.peak_probability for d in detections] == [pytest.approx(0.8)]
    weaker = on_grid(plate | {(20, 20, 22): 0.55}, one_mm)
    alone = on_grid(plate, one_mm)
    _, values = clusters_to_native(clusters_in(weaker), weaker, native)
    _, expected = clusters_to_native(clusters_in(alone), alone, native)
    np.testing.assert_array_equal(values.array, expected.array)


@pytest.mark.parametrize(("above_mm", "expected"), [(21.9, 1), (22.6, 0)])
def test_a_cluster_beyond_the_field_of_view_is_not_pulled_into_it(above_mm, expected):
    """The uppermost slice is 20 mm above the middle one, and 4 mm thick."""
    native, _ = thick()
    affine = np.eye(4)
    affine[:3, 3] = native.ijk_to_ras_mm((29, 31, 5)) + np.array([-20, -20, above_mm - 20])
    probability = on_grid({(20, 20, 20): 0.8}, Geometry((41, 41, 41), affine))
    labels, values = clusters_to_native(clusters_in(probability), probability, native)
    assert labels.array.max() == expected
    assert (values.array.max() > 0) == expected


def test_detections_are_measured_as_lesions_are():
    """The same voxels found by the other path, which thresholds on the image's grid."""
    probability = balls(NATIVE["oblique"], (1, 2.5))
    expected, expected_map = find_lesions(probability, OperatingPoint(0.5, 0.0))
    shuffled = np.random.default_rng(0).permutation(len(expected)) * 3 + 2
    numbers = np.append(0, shuffled).astype(np.int32)
    labels = probability.with_array(numbers[expected_map.array])
    detections, label_map = measure_clusters(labels, probability)
    assert detections == expected
    assert len(detections) > 4
    np.testing.assert_array_equal(label_map.array, expected_map.array)
    assert label_map.array.dtype == expected_map.array.dtype


@pytest.mark.parametrize("shear", [0.0, 0.008])
def test_from_the_image_to_the_model_and_back_to_the_image(shear):
    """Through `conform`: each dark spot comes back to its voxels, also with a sheared affine."""
    geometry = make_geometry((60, 64, 20), (0.8, 0.8, 3), LAS, (4, -6, 10), shear)
    spots_ijk = np.array([(20, 22, 6), (41, 30, 9), (30, 45, 14)])
    spots_ras_mm = geometry.ijk_to_ras_mm(spots_ijk)
    ijk = np.moveaxis(np.indices(geometry.shape), 0, -1)
    ras_mm = geometry.ijk_to_ras_mm(ijk)
    array = np.full(geometry.shape, 200, dtype=np.float32)
    for spot in spots_ras_mm:
        array[np.linalg.norm(ras_mm - spot, axis=-1) < 2] = 20
    brain = np.linalg.norm(ras_mm - CENTER_RAS_MM, axis=-1) < 21
    conformed = conform(Volume(array, geometry), Volume(brain, geometry), ConformSettings())
    assert len(conformed.warnings) == (shear > 0)

    image = conformed.image.array
    probability = conformed.image.with_array(
        np.where(conformed.mask.array, np.clip(1.1 - 1.6 * image, 0, 1), 0).astype(np.float32)
    )
    clusters = find_clusters(probability, conformed.mask, RULES)
    labels, values = clusters_to_native(clusters, probability, conformed.native)
    detections, _ = measure_clusters(Volume(labels.array, geometry), Volume(values.array, geometry))
    assert len(detections) == len(spots_ijk)
    for spot_ijk, spot_ras_mm in zip(spots_ijk, spots_ras_mm, strict=True):
        nearest = min(
            detections, key=lambda d: np.linalg.norm(np.array(d.center_ras_mm) - spot_ras_mm)
        )
        assert np.abs(np.array(nearest.center_ijk) - spot_ijk).max() <= 0.5
        offset_mm = np.array(nearest.center_ras_mm) - spot_ras_mm
        assert np.linalg.norm(offset_mm) <= np.linalg.norm(geometry.spacing_mm) / 2
