from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from CMBDetectorLib.errors import InputError, UsageError
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.postprocessing.region_growing import grow_from_seed
from CMBDetectorLib.volume import Volume

TISSUE = 800.0
DEPTH = 600.0
FACES = ndimage.generate_binary_structure(3, 1)


def oblique(spacing: tuple[float, float, float], extent_mm: float = 30.0) -> Geometry:
    """Left-handed."""
    affine = np.eye(4)
    rotation = Rotation.from_euler("xyz", [15, -25, 40], degrees=True).as_matrix()
    affine[:3, :3] = rotation @ np.diag(np.array(spacing) * [-1, 1, 1])
    affine[:3, 3] = (31.0, -12.0, 7.5)
    shape = np.ceil(extent_mm / np.array(spacing)).astype(int)
    return Geometry((int(shape[0]), int(shape[1]), int(shape[2])), affine)


def coverage(geometry: Geometry, center_ijk: np.ndarray, diameter_mm: float) -> np.ndarray:
    """The part of each voxel that lies in a ball, from 5×5×5 samples."""
    ijk = np.stack(np.meshgrid(*map(np.arange, geometry.shape), indexing="ij"), axis=-1)
    ends = np.linspace(-0.4, 0.4, 5)
    part = np.zeros(geometry.shape)
    for offset in np.stack(np.meshgrid(ends, ends, ends), axis=-1).reshape(-1, 3):
        mm = (ijk + offset - center_ijk) @ geometry.affine[:3, :3].T
        part += np.linalg.norm(mm, axis=-1) <= diameter_mm / 2
    return part / 125


def scan_of(part: np.ndarray, geometry: Geometry, noise: float = 30.0, seed: int = 0) -> Volume:
    rng = np.random.default_rng(seed)
    array = TISSUE - DEPTH * part + rng.normal(0, noise, part.shape)
    return Volume(array.astype(np.float32), geometry)


def mask_of(voxels: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(voxels.T)] = True
    assert mask.sum() == len(voxels)
    return mask


def dice(voxels: np.ndarray, truth: np.ndarray) -> float:
    return 2 * int(truth[tuple(voxels.T)].sum()) / (len(voxels) + int(truth.sum()))


@pytest.mark.parametrize(
    ("spacing", "diameter_mm", "least_dice"),
    [
        ((0.5, 0.5, 0.5), 2.0, 0.85),
        ((0.5, 0.5, 0.5), 5.0, 0.93),
        ((0.5, 0.5, 1.5), 3.0, 0.88),
        ((0.5, 0.5, 1.5), 8.0, 0.93),
        ((0.75, 0.75, 3.0), 3.0, 0.75),
        ((0.75, 0.75, 3.0), 6.0, 0.85),
        ((0.9, 0.9, 5.0), 5.0, 0.65),
        ((0.9, 0.9, 5.0), 8.0, 0.75),
        ((3.0, 0.6, 0.6), 6.0, 0.85),
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_a_ball_is_grown_whole(spacing, diameter_mm, least_dice, seed) -> None:
    geometry = oblique(spacing)
    rng = np.random.default_rng(100 + seed)
    center = (np.array(geometry.shape) - 1) / 2 + rng.uniform(-0.4, 0.4, 3)
    part = coverage(geometry, center, diameter_mm)
    voxels = grow_from_seed(scan_of(part, geometry, seed=seed), np.round(center).astype(int))
    assert dice(voxels, part >= part.max() / 2) >= least_dice
    mask = mask_of(voxels, geometry.shape)
    assert ndimage.label(mask, structure=FACES)[1] == 1


def test_a_click_beside_the_spot_finds_it() -> None:
    geometry = oblique((0.5, 0.5, 1.0))
    center = np.array([30.0, 31.0, 14.0])
    scan = scan_of(coverage(geometry, center, 3.0), geometry)
    expected = grow_from_seed(scan, [30, 31, 14])
    for click in ([32, 32, 14], [28, 31, 14], [30, 31, 15]):
        np.testing.assert_array_equal(grow_from_seed(scan, click), expected)


def test_same_voxels_in_every_axis_order(axis_order: np.ndarray) -> None:
    geometry = oblique((0.6, 0.6, 3.0), 24.0)
    center = np.array([19.2, 20.1, 3.9])
    scan = scan_of(coverage(geometry, center, 4.0), geometry)
    turned = scan.reoriented(axis_order)
    seed_ras_mm = geometry.ijk_to_ras_mm([19, 20, 4])
    click = np.round(turned.geometry.ras_mm_to_ijk(seed_ras_mm)).astype(int)
    here = geometry.ijk_to_ras_mm(grow_from_seed(scan, [19, 20, 4]))
    there = turned.geometry.ijk_to_ras_mm(grow_from_seed(turned, click))
    assert len(here) > 20
    np.testing.assert_allclose(
        here[np.lexsort(here.round(3).T)], there[np.lexsort(there.round(3).T)], atol=1e-6
    )


@pytest.mark.parametrize("spacing", [(0.5, 0.5, 0.5), (0.9, 0.9, 5.0), (4.0, 0.7, 0.7)])
@pytest.mark.parametrize("max_diameter_mm", [10.0, 6.0])
def test_nothing_grows_beyond_the_cap(spacing, max_diameter_mm) -> None:
    """A vein: a dark tube through the whole image."""
    geometry = oblique(spacing)
    seed = np.array(geometry.shape) // 2
    ijk = np.argwhere(np.ones(geometry.shape)).reshape(*geometry.shape, 3)
    mm = (ijk - seed) * spacing
    tube = (np.linalg.norm(mm[..., 1:], axis=-1) <= 1.5).astype(float)
    tube[tuple(seed)] = 1.2
    scan = scan_of(tube, geometry, noise=5.0)
    voxels = grow_from_seed(scan, seed, max_diameter_mm=max_diameter_mm)
    assert tube[tuple(voxels.T)].min() == 1
    far_mm = np.linalg.norm((voxels - seed) * spacing, axis=1).max()
    assert max_diameter_mm / 2 - spacing[0] < far_mm <= max_diameter_mm / 2 + 1e-9


def test_a_darker_vein_next_to_it_is_not_entered() -> None:
    """The bridge between both is darker than half of the way to the tissue."""
    geometry = Geometry((40, 40, 20), np.diag([0.5, 0.5, 1.5, 1.0]))
    part = np.zeros(geometry.shape)
    part[14:18, 18:22, 9:11] = 1.0
    part[18, 20, 10] = 0.6
    part[19:25, 5:35, 8:13] = 0.98
    voxels = grow_from_seed(scan_of(part, geometry, noise=4.0), [15, 20, 10])
    mask = mask_of(voxels, geometry.shape)
    assert mask[14:18, 18:22, 9:11].all()
    assert not mask[19:].any()


def test_an_uneven_spot_is_grown_whole_from_its_side() -> None:
    """Its darkest voxel is far from the click; no ridge lies between."""
    geometry = Geometry((40, 40, 20), np.diag([1.0, 1.0, 1.0, 1.0]))
    array = np.random.default_rng(0).normal(TISSUE, 5, geometry.shape)
    array[14:20, 14:18, 9:11] = 300
    array[14, 15, 9] = 290
    array[17, 16, 10] = 120
    voxels = grow_from_seed(Volume(array, geometry), [14, 15, 9])
    mask = mask_of(voxels, geometry.shape)
    # Up to 5 mm from where it starts.
    assert mask[14:19, 14:18, 9:11].all()
    assert not np.delete(mask, np.s_[14:20], axis=0).any()


def test_diagonal_contact_is_no_contact() -> None:
    geometry = Geometry((30, 30, 30), np.eye(4))
    part = np.zeros(geometry.shape)
    part[14, 14, 14] = 1.0
    part[15, 15, 14] = 0.9
    voxels = grow_from_seed(scan_of(part, geometry, noise=2.0), [14, 14, 14])
    assert voxels.tolist() == [[14, 14, 14]]


@pytest.mark.parametrize(("scale", "offset"), [(1e-3, 0.0), (1.0, -5000.0), (1e4, 3.0)])
def test_units_of_the_image_do_not_matter(scale: float, offset: float) -> None:
    geometry = oblique((0.75, 0.75, 3.0))
    center = (np.array(geometry.shape) - 1) / 2
    scan = scan_of(coverage(geometry, center, 4.0), geometry)
    seed = np.round(center).astype(int)
    scaled = scan.with_array(scan.array.astype(np.float64) * scale + offset)
    np.testing.assert_array_equal(grow_from_seed(scaled, seed), grow_from_seed(scan, seed))


def test_whole_numbers_without_noise_and_signal_that_is_gone() -> None:
    geometry = Geometry((40, 40, 20), np.diag([0.5, 0.5, 1.5, 1.0]))
    array = np.full(geometry.shape, 200, dtype=np.uint8)
    array[18:21, 18:21, 9:11] = 0
    voxels = grow_from_seed(Volume(array, geometry), [19, 19, 10])
    assert len(voxels) == 18
    assert (array[tuple(voxels.T)] == 0).all()


def test_removed_background_and_nan_are_not_entered() -> None:
    geometry = oblique((0.75, 0.75, 2.0))
    center = (np.array(geometry.shape) - 1) / 2
    part = coverage(geometry, center, 3.0)
    scan = scan_of(part, geometry)
    edge = int(center[0]) + 4
    scan.array[edge:] = 0
    seed = np.round(center).astype(int).tolist()
    voxels = grow_from_seed(scan, seed)
    assert dice(voxels, part >= 0.5) > 0.8
    assert (voxels[:, 0] < edge).all()
    with pytest.raises(InputError, match="no signal within"):
        grow_from_seed(scan, [edge + 6, seed[1], seed[2]])
    scan.array[:, : seed[1] - 4] = np.nan
    assert dice(grow_from_seed(scan, seed), part >= 0.5) > 0.8


@pytest.mark.parametrize("seed", range(5))
def test_tissue_is_refused(seed: int) -> None:
    geometry = oblique((0.75, 0.75, 3.0))
    scan = scan_of(np.zeros(geometry.shape), geometry, seed=seed)
    with pytest.raises(InputError, match=r"voxel \[20, 20, 5\] .* middle of a dark spot"):
        grow_from_seed(scan, np.array([20, 20, 5]))
    bright = scan.with_array(
        -scan_of(coverage(geometry, np.array([20, 20, 5]), 6.0), geometry).array
    )
    with pytest.raises(InputError, match="middle of a dark spot"):
        grow_from_seed(bright, [20, 20, 5])


def test_even_image_without_noise_is_refused() -> None:
    geometry = Geometry((20, 20, 20), np.eye(4))
    with pytest.raises(InputError):
        grow_from_seed(Volume(np.full(geometry.shape, 7.0), geometry), [10, 10, 10])
    tiny = Geometry((2, 2, 2), np.eye(4))
    array = np.ones(tiny.shape)
    array[0, 0, 0] = 0
    with pytest.raises(InputError):
        grow_from_seed(Volume(array, tiny), [0, 0, 0])


@pytest.mark.parametrize("seed", [[30, 0, 0], [-1, 0, 0], [0.5, 1, 1], [1, 2], [[1, 2, 3]]])
def test_a_seed_that_is_no_voxel_is_refused(seed) -> None:
    geometry = Geometry((30, 30, 30), np.eye(4))
    with pytest.raises(UsageError, match="seed"):
        grow_from_seed(Volume(np.ones(geometry.shape), geometry), seed)


@pytest.mark.parametrize("diameter_mm", [0.0, -1.0, float("nan"), float("inf")])
def test_a_diameter_that_is_no_length_is_refused(diameter_mm: float) -> None:
    geometry = Geometry((30, 30, 30), np.eye(4))
    volume = Volume(np.ones(geometry.shape), geometry)
    with pytest.raises(UsageError, match="diameter"):
        grow_from_seed(volume, [15, 15, 15], max_diameter_mm=diameter_mm)


def test_at_the_corner_of_the_image() -> None:
    geometry = oblique((0.75, 0.75, 2.0))
    part = coverage(geometry, np.zeros(3), 5.0)
    voxels = grow_from_seed(scan_of(part, geometry), [0, 0, 0])
    assert dice(voxels, part >= 0.5) > 0.8


def test_lesions_of_the_sample_scan(sample_scan) -> None:
    image = nib.load(sample_scan)
    truth = np.asarray(
        nib.load(sample_scan.with_name("sample_t2star_lesions.nii.gz")).dataobj, dtype=int
    )
    scan = Volume(np.asarray(image.dataobj), Geometry(image.shape, image.affine))
    overlaps = []
    for lesion in range(1, truth.max() + 1):
        click = np.round(np.argwhere(truth == lesion).mean(axis=0)).astype(int)
        overlaps.append(dice(grow_from_seed(scan, click), truth == lesion))
    assert len(overlaps) == 5
    assert min(overlaps) > 0.75
    assert np.median(overlaps) > 0.9
