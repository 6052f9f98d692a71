from __future__ import annotations

import math

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from scipy.spatial.distance import cdist
from scipy.spatial.transform import Rotation

from CMBDetectorLib.errors import UsageError
from CMBDetectorLib.evaluation.label_maps import lesions_from_labels, lesions_from_points
from CMBDetectorLib.evaluation.lesions import LesionSet
from CMBDetectorLib.evaluation.rule import MatchingRule
from CMBDetectorLib.evaluation.segmentation import PairMeasures, pair_measures, whole_mask_dice
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.volume import Volume

VALUES = MatchingRule(lesions_are="values")
SPACING_MM = (0.5, 0.8, 2.5)
STRAIGHT = np.diag([*SPACING_MM, 1.0])
TURN = Rotation.from_euler("xyz", [20, -35, 50], degrees=True).as_matrix()
SHEARED = np.block(
    [
        [TURN @ np.array([[-0.5, 0.1, 0], [0, 0.8, 0.4], [0, 0, 2.5]]), np.full((3, 1), 7.0)],
        [0, 0, 0, 1],
    ]
)
MASKS = arrays(np.uint8, (5, 4, 3), elements=st.sampled_from([0, 1])).filter(np.any)


def lesions(array: np.ndarray, affine: np.ndarray = STRAIGHT) -> LesionSet:
    return lesions_from_labels(Volume(array, Geometry(array.shape, affine)), VALUES)


def compare(predicted: LesionSet, true: LesionSet) -> PairMeasures:
    [measures] = pair_measures(predicted, true, [(0, 0)])
    return measures


def blob(seed: int, shape: tuple[int, int, int] = (20, 18, 9)) -> np.ndarray:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).random(shape), 2.0)
    mask = np.zeros(shape, dtype=np.uint8)
    mask[3:-3, 3:-3, 2:-2] = (noise > np.quantile(noise, 0.7))[3:-3, 3:-3, 2:-2]
    return mask


def ball(
    spacing_mm: tuple[float, float, float], center_mm: np.ndarray, radius_mm: float
) -> LesionSet:
    shape = tuple(np.ceil(24 / np.array(spacing_mm)).astype(int).tolist())
    affine = np.diag([*spacing_mm, 1.0])
    place_mm = np.moveaxis(np.indices(shape), 0, -1) * spacing_mm
    inside = np.linalg.norm(place_mm - center_mm, axis=-1) <= radius_mm
    return lesions(inside.astype(np.uint8), affine)


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")
@pytest.mark.parametrize("seed", range(6))
def test_surface_distances_are_those_of_monai(seed: int) -> None:
    metrics = pytest.importorskip("monai.metrics")
    predicted, true = blob(seed), blob(seed + 100)
    as_batch = [mask[None, None].astype(np.float32) for mask in (predicted, true)]
    options = {"include_background": True, "spacing": SPACING_MM}
    distance = metrics.compute_average_surface_distance(*as_batch, symmetric=True, **options)
    hausdorff = metrics.compute_hausdorff_distance(*as_batch, percentile=95, **options)
    measures = compare(lesions(predicted), lesions(true))
    assert measures.surface_distance_mm == pytest.approx(float(distance), rel=1e-5)
    assert measures.hausdorff_95_mm == pytest.approx(float(hausdorff), rel=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_dice_and_volume_are_those_of_simpleitk(seed: int) -> None:
    predicted, true = blob(seed), blob(seed + 100)
    overlap = sitk.LabelOverlapMeasuresImageFilter()
    overlap.Execute(sitk.GetImageFromArray(predicted), sitk.GetImageFromArray(true))
    one, other = lesions(predicted), lesions(true)
    measures = compare(one, other)
    assert measures.dice == pytest.approx(overlap.GetDiceCoefficient())
    assert whole_mask_dice(other, one) == pytest.approx(overlap.GetDiceCoefficient())
    volume_mm3 = (int(predicted.sum()) - int(true.sum())) * math.prod(SPACING_MM)
    assert measures.volume_error_mm3 == pytest.approx(volume_mm3)


@settings(max_examples=30, deadline=None)
@given(predicted=MASKS, true=MASKS)
def test_sheared_and_oblique_grids_against_all_distances(
    predicted: np.ndarray, true: np.ndarray
) -> None:
    surfaces = []
    for mask in (predicted, true):
        edge = mask.astype(bool) & ~ndimage.binary_erosion(mask)
        surfaces.append(np.argwhere(edge) @ SHEARED[:3, :3].T)
    apart = cdist(*surfaces)
    there, back = apart.min(axis=1), apart.min(axis=0)
    measures = compare(lesions(predicted, SHEARED), lesions(true, SHEARED))
    assert measures.surface_distance_mm == pytest.approx(np.concatenate([there, back]).mean())
    hausdorff = max(np.percentile(there, 95), np.percentile(back, 95))
    assert measures.hausdorff_95_mm == pytest.approx(hausdorff)


@settings(max_examples=30, deadline=None)
@given(predicted=MASKS, true=MASKS, angles=st.tuples(*[st.floats(-180, 180)] * 3))
def test_bounds_sides_and_motion(
    predicted: np.ndarray, true: np.ndarray, angles: tuple[float, float, float]
) -> None:
    one, other = lesions(predicted, SHEARED), lesions(true, SHEARED)
    measures, swapped = compare(one, other), compare(other, one)
    assert 0 <= measures.dice <= 1
    assert measures.surface_distance_mm >= 0
    assert measures.hausdorff_95_mm >= 0
    assert measures.dice == swapped.dice
    assert measures.volume_error_mm3 == pytest.approx(-swapped.volume_error_mm3)
    assert measures.surface_distance_mm == pytest.approx(swapped.surface_distance_mm)
    assert measures.hausdorff_95_mm == pytest.approx(swapped.hausdorff_95_mm)
    assert compare(one, one) == PairMeasures(1.0, 0.0, 0.0, 0.0)

    motion = np.eye(4)
    motion[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    motion[:3, 3] = (90.0, -120.0, 33.3)
    moved = compare(lesions(predicted, motion @ SHEARED), lesions(true, motion @ SHEARED))
    flipped = lesions_from_labels(
        Volume(true, Geometry(true.shape, SHEARED)).reoriented([[2, -1], [0, 1], [1, -1]]), VALUES
    )
    for same in (moved, compare(one, flipped)):
        assert same.dice == pytest.approx(measures.dice)
        assert same.volume_error_mm3 == pytest.approx(measures.volume_error_mm3)
        assert same.surface_distance_mm == pytest.approx(measures.surface_distance_mm)
        assert same.hausdorff_95_mm == pytest.approx(measures.hausdorff_95_mm)


@pytest.mark.parametrize("spacing_mm", [(0.5, 0.5, 0.5), (0.45, 0.45, 1.0), (0.3, 0.3, 0.6)])
def test_balls_on_other_grids_are_near_those_in_space(
    spacing_mm: tuple[float, float, float],
) -> None:
    """Two balls of 5 mm whose centers are 2 mm apart share a lens of known volume."""
    true = ball((0.4, 0.5, 0.4), np.array([11.0, 12.0, 12.0]), 5.0)
    predicted = ball(spacing_mm, np.array([13.0, 12.0, 12.0]), 5.0)
    measures, swapped = compare(predicted, true), compare(true, predicted)
    lens = math.pi * (4 * 5 + 2) * (2 * 5 - 2) ** 2 / 12
    assert measures.dice == pytest.approx(lens / (4 / 3 * math.pi * 125), abs=0.02)
    assert measures.dice == pytest.approx(swapped.dice)
    assert measures.volume_error_mm3 == pytest.approx(0, abs=12)
    assert measures.hausdorff_95_mm == pytest.approx(swapped.hausdorff_95_mm)
    assert 1.5 < measures.hausdorff_95_mm < 2.5
    assert 0.6 < measures.surface_distance_mm < 1.4


def test_the_same_box_on_a_coarse_and_a_fine_grid() -> None:
    fine = np.zeros((16, 16, 16), dtype=np.uint8)
    fine[4:8, 8:12, 4:12] = 1
    coarse = np.zeros((8, 8, 4), dtype=np.uint8)
    coarse[2:4, 4:6, 1:3] = 1
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    affine[:3, 3] = (0.25, 0.25, 0.75)
    one, other = lesions(fine, np.diag([0.5, 0.5, 0.5, 1.0])), lesions(coarse, affine)
    for measures in (compare(one, other), compare(other, one)):
        assert vars(measures) == pytest.approx(vars(PairMeasures(1.0, 0.0, 0.0, 0.0)), abs=1e-9)
    assert whole_mask_dice(one, other) == 1.0


def test_a_neighbor_of_another_lesion_does_not_hide_the_surface() -> None:
    alone, together = np.zeros((2, 12, 12, 12), dtype=np.uint8)
    alone[2:5, 2:5, 2:5] = 1
    together[2:5, 2:5, 2:5] = 1
    together[5:9, 2:5, 2:5] = 2
    true = np.zeros_like(alone)
    true[3:6, 2:6, 2:5] = 1
    assert compare(lesions(together), lesions(true)) == compare(lesions(alone), lesions(true))


def test_many_pairs_at_once_are_as_one_by_one() -> None:
    rng = np.random.default_rng(2)
    predicted, true = (rng.integers(0, 30, (12, 12, 8)).astype(np.uint8) for _ in range(2))
    one, other = lesions(predicted, SHEARED), lesions(true, SHEARED)
    pairs = [(row, int(other_row)) for row, other_row in enumerate(rng.permutation(29))]
    together = pair_measures(one, other, pairs)
    for pair, measured in zip(pairs, together, strict=True):
        [alone] = pair_measures(one, other, [pair])
        assert measured == alone
    assert pair_measures(one, other, []) == ()


def test_whole_masks() -> None:
    empty = lesions(np.zeros((5, 4, 3), dtype=np.uint8))
    one = np.zeros((5, 4, 3), dtype=np.uint8)
    one[1:3, 1, 1], one[4, 3, 2] = 1, 2
    other = np.zeros_like(one)
    other[2:4, 1, 1] = 1
    assert whole_mask_dice(empty, empty) == 1.0
    assert whole_mask_dice(empty, lesions(one)) == 0.0
    assert whole_mask_dice(lesions(one), lesions(other)) == pytest.approx(2 / 5)
    points = lesions_from_points([[1, 2, 3]])
    assert math.isnan(whole_mask_dice(points, lesions(one)))
    assert math.isnan(whole_mask_dice(lesions(one), points))
    with pytest.raises(UsageError, match="label maps"):
        pair_measures(points, lesions(one), [(0, 0)])
