"""The affine map between points, and the grid of the atlas."""

from __future__ import annotations

import numpy as np
import pytest
from nibabel.affines import apply_affine
from scipy.spatial.transform import Rotation

from CMBDetectorLib.anatomy.alignment import (
    ATLAS_SHAPE,
    ATLAS_SPACING_MM,
    atlas_index_of_mm,
    fit_affine,
)


def affine(seed: int, mirrored: bool = False) -> np.ndarray:
    rng = np.random.default_rng(seed)
    turn = Rotation.from_euler("xyz", rng.uniform(-30, 30, 3), degrees=True).as_matrix()
    result = np.eye(4)
    result[:3, :3] = turn @ np.diag(rng.uniform(0.7, 1.4, 3))
    result[1, 0] += 0.2  # sheared
    result[:3, 3] = rng.uniform(-50, 50, 3)
    return result @ np.diag([-1.0 if mirrored else 1.0, 1, 1, 1])


def spread(seed: int = 0, n: int = 20) -> np.ndarray:
    return np.random.default_rng(seed).normal(5, 40, (n, 3))


@pytest.mark.parametrize("mirrored", [False, True])
def test_finds_the_map_that_moved_the_points(mirrored: bool) -> None:
    for seed in range(4):
        expected = affine(seed, mirrored)
        weights = np.random.default_rng(seed).uniform(0.1, 9, 20)
        found = fit_affine(spread(), apply_affine(expected, spread()), weights, stiffness=0.0)
        np.testing.assert_allclose(found, expected, atol=1e-8)


def test_a_stiff_map_keeps_the_shape_the_more_the_stiffer() -> None:
    expected, points = affine(1), spread()
    target = apply_affine(expected, points)
    left = [
        np.abs(fit_affine(points, target, np.ones(20), stiffness)[:3, :3] - np.eye(3)).max()
        for stiffness in (0.0, 0.02, 1.0, 1e6)
    ]
    assert left == sorted(left, reverse=True)
    assert left[1] > 0.9 * left[0]
    assert left[3] < 1e-5


def test_one_point_or_points_at_one_place_give_a_translation() -> None:
    for n in (1, 3):
        found = fit_affine(np.full((n, 3), 7.0), np.full((n, 3), 9.5), np.ones(n))
        expected = np.eye(4)
        expected[:3, 3] = 2.5
        np.testing.assert_allclose(found, expected, atol=1e-9)


def test_what_flat_points_do_not_tell_is_left_as_it_is() -> None:
    """Points in a plane, turned within it: nothing is done across the plane."""
    points = spread(n=12) * (1, 1, 0)
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("z", 20, degrees=True).as_matrix()
    found = fit_affine(points, apply_affine(turn, points), np.ones(12))
    np.testing.assert_allclose(found[:3, 2], (0, 0, 1), atol=1e-9)
    np.testing.assert_allclose(found[2, :2], 0, atol=1e-9)
    np.testing.assert_allclose(found[:2, :2], turn[:2, :2], atol=0.04)


def test_weights_count_as_repetitions() -> None:
    points = spread(n=6)
    target = points + np.random.default_rng(3).normal(0, 8, (6, 3))
    times = np.array([1, 2, 0, 3, 1, 4])
    weighted = fit_affine(points, target, times.astype(float))
    repeated = fit_affine(points.repeat(times, 0), target.repeat(times, 0), np.ones(times.sum()))
    np.testing.assert_allclose(weighted, repeated, atol=1e-9)
    np.testing.assert_allclose(fit_affine(points, target, times * 17.0), weighted, atol=1e-9)
    assert np.abs(fit_affine(points, target, np.ones(6)) - weighted).max() > 1e-3


def test_the_atlas_is_centered_on_the_origin() -> None:
    index = atlas_index_of_mm()
    first, last = apply_affine(np.linalg.inv(index), [(0, 0, 0), np.array(ATLAS_SHAPE) - 1])
    np.testing.assert_allclose(first, -last)
    step = apply_affine(index, (0, ATLAS_SPACING_MM, 0)) - apply_affine(index, (0, 0, 0))
    np.testing.assert_allclose(step, (0, 1, 0))
