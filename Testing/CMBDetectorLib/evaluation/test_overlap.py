from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation

from CMBDetectorLib.errors import UsageError
from CMBDetectorLib.evaluation.label_maps import lesions_from_labels, lesions_from_points
from CMBDetectorLib.evaluation.lesions import LesionSet
from CMBDetectorLib.evaluation.overlap import match_overlaps
from CMBDetectorLib.evaluation.rule import MatchingRule
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.volume import Volume

VALUES = MatchingRule(lesions_are="values")
TURN = Rotation.from_euler("xyz", [20, -35, 50], degrees=True).as_matrix()
OBLIQUE = np.block([[TURN @ np.diag([-0.5, 0.6, 2.0]), np.full((3, 1), 9.0)], [0, 0, 0, 1]])
LABELS = arrays(np.uint8, (4, 4, 3), elements=st.sampled_from([0, 0, 1, 2, 3]))


def lesions(array: np.ndarray, affine: np.ndarray = OBLIQUE) -> LesionSet:
    return lesions_from_labels(Volume(array, Geometry(array.shape, affine)), VALUES)


def boxes(affine: np.ndarray, *ranges: tuple[slice, slice, slice]) -> LesionSet:
    array = np.zeros((24, 24, 24), dtype=np.int16)
    for value, box in enumerate(ranges, start=1):
        array[box] = value
    return lesions(array, affine)


def rows(result) -> list[tuple[int, int]]:
    return [(pair.prediction, pair.truth) for pair in result.pairs]


@settings(max_examples=40, deadline=None)
@given(predicted=LABELS, true=LABELS)
def test_is_optimal_and_the_same_from_either_side(predicted: np.ndarray, true: np.ndarray) -> None:
    one, other = lesions(predicted), lesions(true)
    shared = np.array(
        [
            [((predicted == p.number) & (true == t.number)).sum() for t in other.lesions]
            for p in one.lesions
        ]
    ).reshape(len(one.lesions), len(other.lesions))
    best = (0, 0)
    columns = [*range(len(other.lesions)), *[-1] * len(one.lesions)]
    for chosen in itertools.permutations(columns, len(one.lesions)):
        kept = [shared[row, column] for row, column in enumerate(chosen) if column >= 0]
        best = max(best, (sum(n > 0 for n in kept), int(sum(kept))))
    result = match_overlaps(one, other)
    assert result.n_true_positive == best[0]
    assert sum(shared[pair] for pair in rows(result)) == best[1]
    swapped = match_overlaps(other, one)
    assert sum(shared[truth, row] for row, truth in rows(swapped)) == best[1]
    assert swapped.n_false_positive == result.n_false_negative
    hits = {hit.prediction for hit in result.second_hits}
    assert hits == {row for row in result.false_positives if shared[row].any()}


def test_one_shared_voxel_is_enough_and_none_is_not() -> None:
    true = boxes(OBLIQUE, np.s_[4:8, 4:8, 4:8])
    corner = boxes(OBLIQUE, np.s_[7:12, 7:12, 7:12])
    beside = boxes(OBLIQUE, np.s_[8:12, 4:8, 4:8])
    assert match_overlaps(corner, true).n_true_positive == 1
    assert match_overlaps(beside, true).n_true_positive == 0


def test_second_hit_names_the_lesion_it_overlaps_most() -> None:
    true = boxes(OBLIQUE, np.s_[2:8, 2:8, 4:8], np.s_[8:14, 2:8, 4:8])
    predicted = boxes(OBLIQUE, np.s_[2:7, 2:8, 4:8], np.s_[10:14, 2:8, 4:8], np.s_[7:10, 2:8, 4:8])
    result = match_overlaps(predicted, true)
    assert rows(result) == [(0, 0), (1, 1)]
    [hit] = result.second_hits
    assert (hit.prediction, hit.truth) == (2, 1)
    apart_mm = predicted.centers_ras_mm[2] - true.centers_ras_mm[1]
    assert hit.distance_mm == pytest.approx(np.linalg.norm(apart_mm))


def test_coarse_against_fine_works_both_ways() -> None:
    """The center of neither lesion's voxels need lie in the other's."""
    thick = np.diag([0.5, 0.5, 4.0, 1.0])
    cubes = np.diag([1.0, 1.0, 1.0, 1.0])
    cubes[:3, 3] = 0.25
    # The slice at 8 mm reaches from 6 to 10; the cubes from 8.75 to 10.75.
    one, other = boxes(thick, np.s_[6:7, 6:7, 2:3]), boxes(cubes, np.s_[3:4, 3:4, 9:11])
    assert match_overlaps(one, other).n_true_positive == 1
    assert match_overlaps(other, one).n_true_positive == 1
    away = boxes(cubes, np.s_[3:4, 3:4, 10:12])
    assert match_overlaps(one, away).n_true_positive == 0
    assert match_overlaps(away, one).n_true_positive == 0


@settings(max_examples=15, deadline=None)
@given(array=LABELS, other=LABELS, angles=st.tuples(*[st.floats(-180, 180)] * 3))
def test_does_not_depend_on_a_motion_of_the_patient(
    array: np.ndarray, other: np.ndarray, angles: tuple[float, float, float]
) -> None:
    """Grids of other voxels, shifted by an odd part of one so that no center is on a border."""
    fine = np.diag([1.0, 1.2, 1.1, 1.0])
    coarse = np.diag([1.7, -1.9, 2.6, 1.0])
    coarse[:3, 3] = (0.123, 5.217, -0.391)
    motion = np.eye(4)
    motion[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    motion[:3, 3] = (90.0, -120.0, 33.3)
    still = match_overlaps(lesions(array, fine), lesions(other, coarse))
    moved = match_overlaps(lesions(array, motion @ fine), lesions(other, motion @ coarse))
    assert still.n_true_positive == moved.n_true_positive
    assert len(still.second_hits) == len(moved.second_hits)
    turned = match_overlaps(
        lesions_from_labels(
            Volume(array, Geometry(array.shape, fine)).reoriented([[2, -1], [0, 1], [1, -1]]),
            VALUES,
        ),
        lesions(other, coarse),
    )
    assert rows(turned) == rows(still)


def test_points_against_masks() -> None:
    """Three points, of which two are in one lesion; the nearer to its center is right."""
    true = boxes(OBLIQUE, np.s_[4:8, 4:8, 4:8], np.s_[14:16, 14:16, 14:16])
    assert true.geometry is not None
    points = lesions_from_points(
        true.geometry.ijk_to_ras_mm([[3.6, 4, 4], [6, 6, 6], [8.6, 5, 5], [50, 4, 4]])
    )
    result = match_overlaps(points, true)
    assert rows(result) == [(1, 0)]
    assert [(hit.prediction, hit.truth) for hit in result.second_hits] == [(0, 0)]
    assert result.false_positives == (0, 2, 3)
    assert result.missed == (1,)
    other_way = match_overlaps(true, points)
    assert rows(other_way) == [(0, 1)]
    assert other_way.missed == (0, 2, 3)


def test_points_against_points_are_refused() -> None:
    points = lesions_from_points([[1, 2, 3]])
    with pytest.raises(UsageError, match="use the center rule"):
        match_overlaps(points, points)
    assert match_overlaps(lesions_from_points([]), points).missed == (0,)


def test_nothing_overlaps_an_empty_map() -> None:
    empty = lesions(np.zeros((4, 4, 3), dtype=np.uint8))
    one = boxes(OBLIQUE, np.s_[4:8, 4:8, 4:8])
    assert match_overlaps(empty, one).missed == (0,)
    assert match_overlaps(one, empty).false_positives == (0,)
    assert match_overlaps(replace(empty, geometry=None), one).missed == (0,)
