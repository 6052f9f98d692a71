from __future__ import annotations

import itertools
from dataclasses import astuple, replace

import numpy as np
import pytest
import SimpleITK
from scipy import ndimage
from scipy.spatial.transform import Rotation
from skimage.filters import apply_hysteresis_threshold

from CMBDetectorLib.errors import UsageError
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.postprocessing.lesions import find_lesions, measure_lesion
from CMBDetectorLib.settings import OperatingPoint
from CMBDetectorLib.volume import Volume

EVERYTHING = OperatingPoint(threshold=0.5, min_volume_mm3=0.0)
ORDERS = [
    np.stack([axes, flips], axis=1)
    for axes in itertools.permutations(range(3))
    for flips in itertools.product((1, -1), repeat=3)
]


def oblique_affine(spacing: tuple[float, float, float] = (0.7, 0.9, 2.5)) -> np.ndarray:
    affine = np.eye(4)
    rotation = Rotation.from_euler("xyz", [15, -25, 40], degrees=True).as_matrix()
    affine[:3, :3] = rotation @ np.diag(np.array(spacing) * [-1, -1, 1])
    affine[:3, 3] = (31.0, -12.0, 7.5)
    return affine


def random_blobs(shape: tuple[int, int, int], n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    array = np.zeros(shape, dtype=np.float32)
    for _ in range(n):
        start = [int(rng.integers(0, size - 4)) for size in shape]
        box = tuple(slice(a, a + int(rng.integers(1, 5))) for a in start)
        block = array[box]
        block[...] = np.where(rng.random(block.shape) < 0.7, rng.uniform(0.5, 1, block.shape), 0.1)
    return array


def to_sitk(volume: Volume, dtype: type) -> SimpleITK.Image:
    """The same voxels at the same places in ITK's LPS space, built without this library's I/O."""
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(volume.array.astype(dtype).T))
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.geometry.affine
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    return image


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_simpleitk_on_an_oblique_grid(seed: int) -> None:
    volume = Volume(random_blobs((40, 36, 24), 40, seed), Geometry((40, 36, 24), oblique_affine()))
    detections, label_map = find_lesions(volume, EVERYTHING)

    mask = to_sitk(volume.with_array(volume.array >= 0.5), np.uint8)
    components = SimpleITK.ConnectedComponent(mask, True)
    statistics = SimpleITK.LabelShapeStatisticsImageFilter()
    statistics.ComputeFeretDiameterOn()
    statistics.Execute(components)
    assert len(detections) == len(statistics.GetLabels()) > 10

    voxel_mm = float(np.linalg.norm(volume.geometry.spacing_mm))
    ours = to_sitk(label_map, np.int32)
    for lesion in detections:
        inside = np.argwhere(label_map.array == lesion.label)[0].tolist()
        other = components.GetPixel(inside)
        assert ours.GetPixel(inside) == lesion.label
        center_lps_mm = np.array(statistics.GetCentroid(other))
        np.testing.assert_allclose(lesion.center_ras_mm, center_lps_mm * [-1, -1, 1], atol=1e-6)
        assert lesion.volume_mm3 == pytest.approx(statistics.GetPhysicalSize(other))
        assert lesion.n_voxels == statistics.GetNumberOfPixels(other)
        # ITK measures between voxel centres, this library between voxel edges.
        feret_mm = statistics.GetFeretDiameter(other)
        assert feret_mm <= lesion.max_diameter_mm <= feret_mm + voxel_mm + 1e-6
        sphere_mm = 2 * statistics.GetEquivalentSphericalRadius(other)
        assert lesion.equivalent_diameter_mm == pytest.approx(sphere_mm)


@pytest.mark.parametrize("oblique", [False, True])
def test_every_axis_order_gives_the_same_physical_table(oblique: bool) -> None:
    affine = oblique_affine() if oblique else np.diag([0.7, 0.9, 2.5, 1.0])
    volume = Volume(random_blobs((26, 30, 20), 15), Geometry((26, 30, 20), affine))
    expected, expected_map = find_lesions(volume, EVERYTHING)
    assert len(expected) > 5
    for order in ORDERS:
        found, label_map = find_lesions(volume.reoriented(order), EVERYTHING)
        same_map = expected_map.reoriented(order)
        np.testing.assert_array_equal(label_map.array, same_map.array)
        np.testing.assert_array_equal(label_map.geometry.affine, same_map.geometry.affine)
        for ours, theirs in zip(found, expected, strict=True):
            placeless = {"center_ijk": (0.0, 0.0, 0.0), "axial_slice": 0, "flags": ()}
            a = np.hstack(astuple(replace(ours, **placeless))[:11]).astype(float)
            b = np.hstack(astuple(replace(theirs, **placeless))[:11]).astype(float)
            np.testing.assert_allclose(a, b, atol=1e-9)
            np.testing.assert_allclose(
                label_map.geometry.ijk_to_ras_mm(ours.center_ijk), theirs.center_ras_mm, atol=1e-9
            )


def test_lesions_with_equal_scores_keep_their_order_in_every_axis_order() -> None:
    array = np.zeros((20, 20, 20), dtype=np.float32)
    for place in ((3, 3, 3), (3, 3, 15), (12, 3, 3), (12, 9, 3)):
        array[place] = 0.8
    volume = Volume(array, Geometry(array.shape, oblique_affine((1, 1, 1))))
    _, expected = find_lesions(volume, EVERYTHING)
    for order in ORDERS:
        _, label_map = find_lesions(volume.reoriented(order), EVERYTHING)
        np.testing.assert_array_equal(label_map.array, expected.reoriented(order).array)


def test_threshold_is_included_and_diagonal_neighbors_are_one_lesion() -> None:
    array = np.zeros((20, 20, 20), dtype=np.float32)
    array[4, 4, 4] = 0.5
    array[5, 5, 5] = 0.5
    array[10, 10, 10] = np.nextafter(np.float32(0.5), np.float32(0))
    detections, label_map = find_lesions(
        Volume(array, Geometry(array.shape, np.eye(4))), EVERYTHING
    )
    assert [lesion.n_voxels for lesion in detections] == [2]
    assert np.argwhere(label_map.array == 1).tolist() == [[4, 4, 4], [5, 5, 5]]


def test_labels_follow_falling_score() -> None:
    array = np.zeros((30, 10, 10), dtype=np.float32)
    array[2, 2, 2], array[10, 2, 2], array[20, 2, 2:4] = 0.7, 0.85, (0.6, 1.0)
    detections, label_map = find_lesions(
        Volume(array, Geometry(array.shape, np.eye(4))), EVERYTHING
    )
    assert [lesion.label for lesion in detections] == [1, 2, 3]
    assert [round(lesion.score, 3) for lesion in detections] == [0.9, 0.85, 0.7]
    assert [lesion.n_voxels for lesion in detections] == [2, 1, 1]
    for lesion in detections:
        i, j, k = np.floor(lesion.center_ijk).astype(int)
        assert label_map.array[i, j, k] == lesion.label


def test_minimum_volume_is_in_mm3_and_included() -> None:
    array = np.zeros((30, 12, 12), dtype=np.float32)
    array[2:6, 2, 2] = 0.9
    array[10:15, 2, 2] = 0.9
    volume = Volume(array, Geometry(array.shape, np.diag([0.4, 1.0, 1.0, 1.0])))
    detections, label_map = find_lesions(volume, OperatingPoint(0.5, 2.0))
    assert [lesion.n_voxels for lesion in detections] == [5]
    assert np.unique(label_map.array).tolist() == [0, 1]


@pytest.mark.parametrize("seed", range(3))
def test_a_found_lesion_reaches_down_to_the_extents_threshold(seed: int) -> None:
    noise = np.random.default_rng(seed).normal(size=(40, 30, 25))
    array = ndimage.gaussian_filter(noise, 1.5)
    array = ((array - array.min()) / np.ptp(array)).astype(np.float32)
    affine = oblique_affine() @ np.diag([-1.0, 1.0, 1.0, 1.0])
    volume = Volume(array, Geometry(array.shape, affine))
    low, high = np.percentile(array, [90, 99]).tolist()
    detections, label_map = find_lesions(volume, OperatingPoint(high, 0.0, low))
    # Theirs joins voxels that share a face, ours also those that share an edge or corner.
    assert label_map.array[apply_hysteresis_threshold(array, low, high)].all()
    expected, n = ndimage.label(array >= np.float32(low), np.ones((3, 3, 3)))
    is_found = np.array(ndimage.maximum(array, expected, range(1, n + 1))) >= high
    assert np.array_equal(label_map.array > 0, np.isin(expected, 1 + np.flatnonzero(is_found)))
    assert 0 < len(detections) == np.count_nonzero(is_found) < n
    assert all(lesion.peak_probability >= high for lesion in detections)


def test_an_extents_threshold_above_the_threshold_changes_nothing() -> None:
    array = np.zeros((20, 20, 20), dtype=np.float32)
    array[3:6, 3, 3] = 0.6
    volume = Volume(array, Geometry(array.shape, np.eye(4)))
    (lesion,), _ = find_lesions(volume, OperatingPoint(0.5, 0.0, 0.9))
    assert lesion.n_voxels == 3


def test_component_over_10_mm_is_kept_and_flagged() -> None:
    array = np.zeros((40, 12, 12), dtype=np.float32)
    array[2:22, 2, 2] = 0.9
    array[26:34, 2, 2] = 0.9
    volume = Volume(array, Geometry(array.shape, np.eye(4)))
    detections, _ = find_lesions(volume, EVERYTHING)
    flags = {lesion.n_voxels: lesion.flags for lesion in detections}
    assert flags == {20: ("over 10 mm",), 8: ()}


@pytest.mark.parametrize(("axis", "spacing"), [(2, (1, 1, 4)), (1, (1, 4, 1)), (0, (4, 1, 1))])
def test_slice_number_counts_from_1_along_the_thick_axis(
    axis: int, spacing: tuple[float, float, float]
) -> None:
    array = np.zeros((20, 20, 20), dtype=np.float32)
    array[3, 7, 11] = 1.0
    volume = Volume(array, Geometry(array.shape, np.diag([*spacing, 1.0])))
    (lesion,), _ = find_lesions(volume, EVERYTHING)
    assert lesion.axial_slice == (3, 7, 11)[axis] + 1
    flipped = volume.reoriented([[0, -1], [1, -1], [2, -1]])
    (lesion,), _ = find_lesions(flipped, EVERYTHING)
    assert lesion.axial_slice == 20 - (3, 7, 11)[axis]


def test_nothing_found_is_an_empty_map_on_the_same_grid() -> None:
    geometry = Geometry((16, 17, 18), oblique_affine())
    array = np.full(geometry.shape, np.nan, dtype=np.float32)
    array[5, 5, 5] = 0.6
    for operating_point in (OperatingPoint(0.7, 0.0), OperatingPoint(0.5, 99.0)):
        detections, label_map = find_lesions(Volume(array, geometry), operating_point)
        assert detections == ()
        assert label_map.geometry == geometry
        assert label_map.array.dtype == np.int16
        assert not label_map.array.any()


def test_many_components_get_a_wider_label_type() -> None:
    array = np.zeros((66, 66, 66), dtype=np.float32)
    array[::2, ::2, ::2] = 0.9
    volume = Volume(np.asfortranarray(array), Geometry(array.shape, np.eye(4)))
    detections, label_map = find_lesions(volume, EVERYTHING)
    assert len(detections) == 33**3
    assert label_map.array.dtype == np.int32
    assert len(np.unique(label_map.array)) == 33**3 + 1


@pytest.mark.parametrize(
    "operating_point",
    [
        OperatingPoint(0.0, 1.0),
        OperatingPoint(1.1, 1.0),
        OperatingPoint(float("nan"), 1.0),
        OperatingPoint(0.5, 1.0, 0.0),
    ],
)
def test_senseless_threshold_is_refused(operating_point: OperatingPoint) -> None:
    volume = Volume(np.zeros((4, 4, 4), np.float32), Geometry((4, 4, 4), np.eye(4)))
    with pytest.raises(UsageError, match="threshold"):
        find_lesions(volume, operating_point)


def test_negative_minimum_volume_is_refused() -> None:
    volume = Volume(np.zeros((4, 4, 4), np.float32), Geometry((4, 4, 4), np.eye(4)))
    with pytest.raises(UsageError, match="minimum volume"):
        find_lesions(volume, OperatingPoint(0.5, -1.0))


@pytest.mark.parametrize("seed", range(3))
def test_a_lesion_measured_alone_has_the_same_numbers(seed: int) -> None:
    volume = Volume(random_blobs((40, 36, 24), 40, seed), Geometry((40, 36, 24), oblique_affine()))
    detections, label_map = find_lesions(volume, EVERYTHING)
    rng = np.random.default_rng(seed)
    for lesion in detections:
        voxels = rng.permutation(np.argwhere(label_map.array == lesion.label))
        values = volume.array[tuple(voxels.T)]
        alone = measure_lesion(lesion.label, voxels, volume.geometry, values)
        # Only what is summed up in another order may differ, in its last digits.
        rounded = {"center_ras_mm": lesion.center_ras_mm, "elongation": lesion.elongation}
        assert replace(alone, **rounded) == lesion
        assert alone.center_ras_mm == pytest.approx(lesion.center_ras_mm, abs=1e-9)
        assert alone.elongation == pytest.approx(lesion.elongation, abs=1e-6)
        unknown = measure_lesion(lesion.label, voxels, volume.geometry)
        assert np.isnan([unknown.mean_probability, unknown.peak_probability, unknown.score]).all()
        assert unknown.center_ras_mm == alone.center_ras_mm
        assert unknown.flags == lesion.flags


def test_a_lesion_without_voxels_cannot_be_measured() -> None:
    with pytest.raises(UsageError, match="no voxels"):
        measure_lesion(1, np.empty((0, 3), dtype=int), Geometry((4, 4, 4), np.eye(4)))
