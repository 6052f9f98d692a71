from __future__ import annotations

import csv
import math

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from scipy.spatial.transform import Rotation

from CMBDetectorLib.errors import InputError, UsageError
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.io.reading import read_image
from CMBDetectorLib.volume import Volume
from training.datasets.growing import grow_from_outlines, grow_masks
from training.datasets.grown import GrownMasks

TISSUE, DARK = 800.0, 200.0
CENTERS_MM = np.array([[0.0, 0.0, 0.0], [9.0, -7.0, 4.0], [-8.0, 6.0, -5.0]])


def made_affine(kind: str) -> tuple[np.ndarray, tuple[float, float, float]]:
    """Directions of the axes (columns), and their spacings in mm."""
    flips = {
        "plain": (np.eye(3), (0.8, 0.8, 0.8)),
        "left-handed": (np.diag([-1.0, 1.0, 1.0]), (0.6, 0.6, 1.0)),
        "permuted": (np.eye(3)[:, [2, 0, 1]] * [1, -1, 1], (1.6, 0.7, 0.7)),
        "oblique": (
            Rotation.from_euler("xyz", [20, -15, 35], degrees=True).as_matrix() * [-1, 1, 1],
            (0.7, 0.7, 1.2),
        ),
        "anisotropic": (np.eye(3), (0.5, 0.5, 2.5)),
    }
    return flips[kind]


def scan(
    kind: str = "plain",
    centers_mm: np.ndarray = CENTERS_MM,
    diameter_mm: float = 4.0,
    noise: float = 15.0,
    extent_mm: float = 36.0,
) -> tuple[Volume, np.ndarray]:
    """Dark balls around points in RAS mm; also of each voxel how much of it is a ball."""
    directions, spacing = made_affine(kind)
    shape = np.ceil(extent_mm / np.array(spacing)).astype(int)
    affine = np.eye(4)
    affine[:3, :3] = directions @ np.diag(spacing)
    affine[:3, 3] = -affine[:3, :3] @ ((shape - 1) / 2) + (0.11, 0.07, -0.13)
    geometry = Geometry((int(shape[0]), int(shape[1]), int(shape[2])), affine)
    part = np.zeros(geometry.shape)
    ends = (-1 / 3, 0.0, 1 / 3)
    ijk = np.moveaxis(np.indices(geometry.shape), 0, -1)
    for center in centers_mm:
        near = np.linalg.norm(geometry.ijk_to_ras_mm(ijk) - center, axis=-1) < diameter_mm + 3
        for offset in np.stack(np.meshgrid(ends, ends, ends), axis=-1).reshape(-1, 3):
            mm = geometry.ijk_to_ras_mm(ijk[near] + offset)
            part[near] += (np.linalg.norm(mm - center, axis=-1) <= diameter_mm / 2) / 27
    rng = np.random.default_rng(3)
    array = TISSUE + (DARK - TISSUE) * part + rng.normal(0, noise, part.shape)
    return Volume(array.astype(np.float32), geometry), part


def disc(geometry: Geometry, center_mm: np.ndarray, radius_mm: float, value: int = 1) -> np.ndarray:
    """A disc in the one slice that holds the point."""
    axis = geometry.slice_axis
    center = np.rint(geometry.ras_mm_to_ijk(center_mm)).astype(int)
    only = [np.arange(n) for n in geometry.shape]
    only[axis] = center[axis : axis + 1]
    ijk = np.stack(np.meshgrid(*only, indexing="ij"), axis=-1)
    distance_mm = np.linalg.norm((ijk - center) * geometry.spacing_mm, axis=-1)
    drawn = np.zeros(geometry.shape, np.int16)
    drawn[tuple(ijk[distance_mm <= radius_mm].T)] = value
    return drawn


def check_consistent(grown: GrownMasks) -> None:
    """The list says what the label map holds; nibabel's affine says where."""
    labels = grown.labels
    in_map = {lesion.number for lesion in grown.lesions if lesion.n_voxels}
    assert set(np.unique(labels.array)) - {0} == in_map
    for lesion in grown.with_voxels:
        ijk = np.argwhere(labels.array == lesion.number)
        assert len(ijk) == lesion.n_voxels
        center = nib.affines.apply_affine(labels.geometry.affine, ijk.mean(axis=0))
        np.testing.assert_allclose(lesion.center_ras_mm, center, atol=1e-6)
        volume_mm3 = len(ijk) * abs(np.linalg.det(labels.geometry.affine[:3, :3]))
        assert lesion.volume_mm3 == pytest.approx(volume_mm3)
        assert math.pi / 6 * lesion.equivalent_diameter_mm**3 == pytest.approx(volume_mm3)
        assert lesion.moved_mm == pytest.approx(np.linalg.norm(center - lesion.seed_ras_mm))
        piece = SimpleITK.ConnectedComponent(
            SimpleITK.GetImageFromArray((labels.array == lesion.number).astype(np.uint8))
        )
        assert SimpleITK.GetArrayFromImage(piece).max() == 1


@pytest.mark.parametrize("kind", ["plain", "left-handed", "permuted", "oblique", "anisotropic"])
def test_the_same_lesions_grow_on_every_grid(kind: str) -> None:
    image, part = scan(kind)
    grown = grow_masks(image, CENTERS_MM + np.array([0.4, -0.3, 0.2]))
    check_consistent(grown)
    assert [lesion.status for lesion in grown.lesions] == ["grown"] * 3
    assert [lesion.number for lesion in grown.lesions] == [1, 2, 3]
    for lesion, center in zip(grown.lesions, CENTERS_MM, strict=True):
        assert math.dist(lesion.center_ras_mm, center) < 0.35 * max(image.geometry.spacing_mm)
        assert lesion.volume_mm3 == pytest.approx(math.pi / 6 * 4**3, rel=0.25)
    mask, truth = grown.labels.array > 0, part >= 0.5
    assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.85


@pytest.mark.parametrize("kind", ["left-handed", "oblique", "anisotropic"])
def test_agrees_with_the_connected_threshold_of_itk(kind: str) -> None:
    """Half of the way to the tissue, known here, within faces of a seed."""
    image, _ = scan(kind, noise=0.0)
    grown = grow_masks(image, CENTERS_MM)
    itk_image = SimpleITK.GetImageFromArray(image.array.transpose(2, 1, 0))
    for lesion, center in zip(grown.lesions, CENTERS_MM, strict=True):
        seed = np.rint(image.geometry.ras_mm_to_ijk(center)).astype(int).tolist()
        mask = grown.labels.array == lesion.number
        half = (TISSUE + float(image.array[mask].min())) / 2
        region = SimpleITK.ConnectedThreshold(itk_image, [seed], 0.0, half)
        expected = SimpleITK.GetArrayFromImage(region).transpose(2, 1, 0) > 0
        assert expected.any()
        # A voxel on the limit may be on either side in single precision.
        sure = np.abs(image.array - half) > 1
        np.testing.assert_array_equal(mask[sure], expected[sure])


def test_same_lesions_in_every_axis_order(axis_order: np.ndarray) -> None:
    image, _ = scan("anisotropic", CENTERS_MM[:2], extent_mm=26.0)
    turned = image.reoriented(axis_order)
    outlines = image.with_array(
        sum(disc(image.geometry, c, 2.5, 3 - n) for n, c in enumerate(CENTERS_MM[:2]))
    )
    for here, there in (
        (grow_masks(image, CENTERS_MM[:2]), grow_masks(turned, CENTERS_MM[:2])),
        (
            grow_from_outlines(image, outlines),
            grow_from_outlines(turned, outlines.reoriented(axis_order)),
        ),
    ):
        np.testing.assert_array_equal(there.labels.array, here.labels.reoriented(axis_order).array)
        for one, other in zip(here.lesions, there.lesions, strict=True):
            assert one.n_voxels == other.n_voxels > 10
            np.testing.assert_allclose(one.center_ras_mm, other.center_ras_mm, atol=1e-6)


def test_a_seed_that_fails_says_why_and_leaves_no_voxel() -> None:
    image, _ = scan()
    far = image.geometry.corners_ras_mm().max(axis=0) + np.array([5.0, 0.0, 0.0])
    grown = grow_masks(image, [CENTERS_MM[0], [14.0, 14.0, 14.0], far])
    check_consistent(grown)
    first, refused, outside = grown.lesions
    assert first.status == "grown"
    assert (refused.status, refused.number, refused.n_voxels) == ("refused", 2, 0)
    assert "darker than the tissue" in refused.reason
    assert "click" not in refused.reason
    assert outside.status == "outside"
    assert "mm from its nearest voxel" in outside.reason
    assert math.isnan(refused.equivalent_diameter_mm)
    assert math.isnan(outside.moved_mm)
    assert grown.of("refused", "outside") == (refused, outside)
    assert grown.with_voxels == (first,)


def test_a_ball_is_drawn_only_on_request_and_takes_nothing_away() -> None:
    image, _ = scan(centers_mm=CENTERS_MM[:1])
    seeds = [CENTERS_MM[0], [14.0, 10.0, 14.0], [2.6, 0.0, 0.0]]
    plain = grow_masks(image, seeds)
    drawn = grow_masks(image, seeds, keep_refused="ball")
    check_consistent(drawn)
    assert drawn.lesions[0] == plain.lesions[0]
    ball = drawn.lesions[1]
    assert ball.status == "ball"
    assert "a ball of" in ball.reason
    grown_mm = drawn.lesions[0].equivalent_diameter_mm
    assert ball.equivalent_diameter_mm == pytest.approx(grown_mm, rel=0.1)
    assert ball.moved_mm < 0.5
    only = grow_masks(image, seeds[1:2], keep_refused="ball").lesions[0]
    assert only.equivalent_diameter_mm == pytest.approx(2.74, rel=0.2)


def test_a_ball_is_at_least_one_voxel_of_a_coarse_grid() -> None:
    geometry = Geometry((12, 12, 12), np.diag([5.0, 5.0, 5.0, 1.0]))
    image = Volume(np.full(geometry.shape, 7.0), geometry)
    lesion = grow_masks(image, [[26.9, 27.9, 22.1]], keep_refused="ball").lesions[0]
    assert (lesion.status, lesion.n_voxels) == ("ball", 1)
    assert lesion.center_ras_mm == (25.0, 30.0, 20.0)


def test_two_seeds_on_one_spot_are_one_lesion() -> None:
    image, _ = scan(diameter_mm=5.0)
    seeds = [CENTERS_MM[0] + [2.2, 0, 0], CENTERS_MM[0], CENTERS_MM[1], CENTERS_MM[0]]
    grown = grow_masks(image, seeds)
    check_consistent(grown)
    on_the_spot = [grown.lesions[n] for n in (0, 1, 3)]
    assert sorted(lesion.status for lesion in on_the_spot) == ["grown", "merged", "merged"]
    (owner,) = (lesion for lesion in on_the_spot if lesion.status == "grown")
    assert {lesion.partner for lesion in on_the_spot} == {None, owner.number}
    assert owner.volume_mm3 == pytest.approx(math.pi / 6 * 5**3, rel=0.2)
    assert grown.lesions[2].status == "grown"
    alone = grow_masks(image, [owner.seed_ras_mm])
    np.testing.assert_array_equal(grown.labels.array == owner.number, alone.labels.array == 1)


@pytest.mark.parametrize(("bridge", "divided"), [(450.0, True), (230.0, False)])
@pytest.mark.parametrize("small_first", [True, False])
def test_spots_that_touch_are_divided_where_a_ridge_is_between_them(
    bridge: float, divided: bool, small_first: bool
) -> None:
    """The larger one grows over the bridge, which is darker than half of the way to the tissue."""
    geometry = Geometry((40, 30, 30), np.diag([-0.5, 0.5, 0.5, 1.0]))
    array = np.random.default_rng(0).normal(TISSUE, 4, geometry.shape)
    array[12:19, 12:19, 12:19] = DARK
    array[19, 15, 15] = bridge
    # The darker one, so that no seed moves over to the other.
    array[20:23, 14:17, 14:17] = DARK - 1
    image = Volume(array, geometry)
    seeds = geometry.ijk_to_ras_mm([[15, 15, 15], [21, 15, 15]])
    large = grow_masks(image, seeds[:1]).labels.array > 0
    assert large[14, 14, 14]
    assert large[21, 15, 15]
    order = [1, 0] if small_first else [0, 1]
    grown = grow_masks(image, seeds[order])
    check_consistent(grown)
    of_large, of_small = (grown.lesions[order.index(row)] for row in (0, 1))
    if divided:
        assert (of_large.status, of_large.partner) == ("shared", of_small.number)
        assert (of_small.status, of_small.partner) == ("shared", of_large.number)
        assert of_small.n_voxels in (27, 28)
        assert of_large.n_voxels + of_small.n_voxels == 343 + 1 + 27
    else:
        assert (of_large.status, of_large.partner) == ("merged", of_small.number)
        np.testing.assert_array_equal(grown.labels.array > 0, large)


@pytest.mark.parametrize("kind", ["plain", "left-handed", "permuted", "oblique", "anisotropic"])
@pytest.mark.parametrize(("radius_mm", "shift_mm"), [(1.0, 0.0), (2.0, 1.0), (4.0, 1.5)])
def test_a_weak_outline_becomes_the_lesion(kind: str, radius_mm: float, shift_mm: float) -> None:
    """Smaller, shifted, or much larger than the lesion, in one slice."""
    image, _ = scan(kind, CENTERS_MM[1:])
    geometry = image.geometry
    in_plane = geometry.affine[:3, (geometry.slice_axis + 1) % 3]
    shift = shift_mm * in_plane / np.linalg.norm(in_plane)
    outlines = np.zeros(geometry.shape, np.int16)
    for center in CENTERS_MM[1:]:
        outlines += disc(geometry, center + shift, radius_mm)
    grown = grow_from_outlines(image, image.with_array(outlines))
    check_consistent(grown)
    assert [lesion.status for lesion in grown.lesions] == ["grown", "grown"]
    # Numbered from the feet up.
    for lesion, center in zip(grown.lesions, CENTERS_MM[[2, 1]], strict=True):
        assert math.dist(lesion.center_ras_mm, center) < 0.4 * max(geometry.spacing_mm)
        assert lesion.volume_mm3 == pytest.approx(math.pi / 6 * 4**3, rel=0.3)
        seed = np.rint(geometry.ras_mm_to_ijk(lesion.seed_ras_mm)).astype(int)
        assert outlines[tuple(seed)] == 1


def test_growth_stops_beside_the_outline() -> None:
    """A dark tube through the slice: only what lies near the outline is the lesion."""
    geometry = Geometry((60, 60, 9), np.diag([0.5, 0.5, 3.0, 1.0]))
    array = np.random.default_rng(0).normal(TISSUE, 5, geometry.shape)
    array[:, 29:32, 4] = DARK
    array[30, 30, 4] = DARK - 20
    image = Volume(array, geometry)
    outline = np.zeros(geometry.shape, np.uint8)
    outline[29:32, 29:32, 4] = 1
    for reach_mm, n_rows in ((0.0, 3), (1.5, 9), (50.0, 21)):
        grown = grow_from_outlines(image, image.with_array(outline), reach_mm=reach_mm)
        assert np.ptp(np.argwhere(grown.labels.array)[:, 0]) + 1 == n_rows


def test_outlines_touching_with_other_values_or_at_corners() -> None:
    image, _ = scan(centers_mm=CENTERS_MM[:1])
    outline = np.zeros(image.geometry.shape, np.int32)
    middle = np.rint(image.geometry.ras_mm_to_ijk(CENTERS_MM[0])).astype(int)
    i, j, k = middle.tolist()
    outline[i, j, k], outline[i + 1, j + 1, k + 1] = 5, 5
    assert len(grow_from_outlines(image, image.with_array(outline)).lesions) == 1
    outline[i + 1, j, k] = 2
    grown = grow_from_outlines(image, image.with_array(outline))
    check_consistent(grown)
    # The lower value comes first; both lie on the same dark spot.
    assert sorted(lesion.status for lesion in grown.lesions) == ["grown", "merged"]
    assert grown.lesions[0].seed_ras_mm == pytest.approx(
        image.geometry.ijk_to_ras_mm([i + 1, j, k])
    )


def test_an_outline_around_nothing_is_refused() -> None:
    image, _ = scan(centers_mm=CENTERS_MM[:1])
    outlines = disc(image.geometry, np.array([14.0, 14.0, 14.0]), 2.0)
    lesion = grow_from_outlines(image, image.with_array(outlines)).lesions[0]
    assert (lesion.status, lesion.n_voxels) == ("refused", 0)
    image.array[outlines > 0] = np.nan
    lesion = grow_from_outlines(image, image.with_array(outlines)).lesions[0]
    assert lesion.status == "refused"
    assert "no value" in lesion.reason
    image, _ = scan(centers_mm=CENTERS_MM[:1], diameter_mm=2.0)
    beside = disc(image.geometry, CENTERS_MM[0] + [1.8, 0, 0], 0.1)
    lesion = grow_from_outlines(image, image.with_array(beside), reach_mm=0.0).lesions[0]
    assert lesion.status == "refused"
    assert "beside the outline" in lesion.reason


def test_no_seed_and_no_outline() -> None:
    image, _ = scan()
    for grown in (
        grow_masks(image, np.empty((0, 3))),
        grow_from_outlines(image, image.with_array(np.zeros(image.geometry.shape, bool))),
    ):
        assert grown.lesions == ()
        assert grown.labels.array.dtype == np.int16
        assert not grown.labels.array.any()


@pytest.mark.parametrize(
    "seeds", [[[1.0, 2.0]], [1.0, 2.0, 3.0], [[0.0, 0.0, math.nan]], [[0.0, 0.0, math.inf]]]
)
def test_seeds_that_are_no_points_are_refused(seeds: list[object]) -> None:
    with pytest.raises(UsageError, match="triples in RAS mm"):
        grow_masks(scan()[0], seeds)


def test_outlines_that_are_no_label_map_are_refused() -> None:
    image, _ = scan()
    for value, words in ((0.5, "fractions"), (np.nan, "fractions"), (-1, "from 0 on")):
        array = np.zeros(image.geometry.shape)
        array[3, 3, 3] = value
        with pytest.raises(InputError, match=words):
            grow_from_outlines(image, image.with_array(array))
    shifted = Geometry(image.geometry.shape, image.geometry.affine + np.eye(4, k=3))
    with pytest.raises(InputError, match="another grid"):
        grow_from_outlines(image, Volume(np.zeros(shifted.shape, int), shifted))
    with pytest.raises(UsageError, match="reach"):
        grow_from_outlines(image, image.with_array(np.zeros(image.geometry.shape)), reach_mm=-1)
    with pytest.raises(UsageError, match="diameter"):
        grow_masks(image, CENTERS_MM, max_diameter_mm=0)


def test_lesions_of_the_sample_scan(sample_scan) -> None:
    volumes = []
    for name in ("sample_t2star.nii.gz", "sample_t2star_lesions.nii.gz"):
        file = nib.load(sample_scan.with_name(name))
        volumes.append(Volume(np.asarray(file.dataobj), Geometry(file.shape, file.affine)))
    image, truth = volumes
    true = [np.argwhere(truth.array == number) for number in range(1, 6)]
    centers = np.array([truth.geometry.ijk_to_ras_mm(ijk.mean(axis=0)) for ijk in true])
    outlines = sum(disc(image.geometry, center, 2.0, n + 1) for n, center in enumerate(centers))
    rng = np.random.default_rng(0)
    for grown in (
        grow_masks(image, centers),
        grow_masks(image, centers + rng.uniform(-0.6, 0.6, centers.shape)),
        grow_from_outlines(image, image.with_array(outlines)),
    ):
        check_consistent(grown)
        dice = [
            2
            * (grown.labels.array[tuple(ijk.T)] == lesion.number).sum()
            / (len(ijk) + lesion.n_voxels)
            for ijk, lesion in zip(true, grown.lesions, strict=True)
        ]
        assert min(dice) > 0.6
        assert np.median(dice) > 0.85


def test_real_lesions_are_grown_from_their_centers(shared_dir) -> None:
    """The masks themselves are not here: their centers and numbers of voxels are."""
    with (shared_dir / "real" / "valdo" / "lesions.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    ratios = []
    for scan_id in sorted({row["scan"] for row in rows}):
        image = read_image(shared_dir / "real" / "valdo" / f"{scan_id}_T2S.nii.gz").volume
        listed = [row for row in rows if row["scan"] == scan_id]
        seeds = [[float(row[f"{axis}_ras_mm"]) for axis in "xyz"] for row in listed]
        grown = grow_masks(image, seeds)
        check_consistent(grown)
        assert {lesion.status for lesion in grown.lesions} == {"grown"}
        assert max(lesion.moved_mm for lesion in grown.lesions) < 2.5
        ratios += [
            lesion.n_voxels / int(row["n_voxels"])
            for lesion, row in zip(grown.lesions, listed, strict=True)
        ]
    assert len(ratios) == 8
    assert min(ratios) >= 0.3
    assert max(ratios) <= 2
