from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial.transform import Rotation

from CMBDetectorLib.errors import UsageError
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.review.splitting import split_voxels

TOUCHING = np.ones((3, 3, 3), dtype=bool)


def geometry(shape: tuple[int, ...], spacing: tuple[float, float, float]) -> Geometry:
    """Left-handed and oblique."""
    affine = np.eye(4)
    rotation = Rotation.from_euler("xyz", [15, -25, 40], degrees=True).as_matrix()
    affine[:3, :3] = rotation @ np.diag(np.array(spacing) * [-1, 1, 1])
    return Geometry((shape[0], shape[1], shape[2]), affine)


def balls(
    grid: Geometry, centers_mm: list[tuple[float, float, float]], radii_mm: list[float]
) -> np.ndarray:
    """Voxels of balls around points given in mm from the middle, along the grid's axes."""
    ijk = np.argwhere(np.ones(grid.shape))
    mm = (ijk - (np.array(grid.shape) - 1) / 2) * grid.spacing_mm
    inside = np.zeros(len(ijk), dtype=bool)
    for center, radius in zip(centers_mm, radii_mm, strict=True):
        inside |= np.linalg.norm(mm - center, axis=1) <= radius
    return ijk[inside]


def n_components(voxels: np.ndarray) -> int:
    mask = np.zeros(voxels.max(axis=0) + 1, dtype=bool)
    mask[tuple(voxels.T)] = True
    return int(ndimage.label(mask, structure=TOUCHING)[1])


def as_set(voxels: np.ndarray) -> set[tuple[int, ...]]:
    return set(map(tuple, voxels.tolist()))


def test_a_single_voxel_cannot_be_split() -> None:
    with pytest.raises(UsageError, match="cannot be split"):
        split_voxels(np.array([[3, 4, 5]]), geometry((9, 9, 9), (1, 1, 1)))


def test_parts_that_do_not_touch_are_taken_apart_largest_first() -> None:
    voxels = np.array([[0, 0, 0], [5, 5, 5], [5, 5, 6], [9, 9, 9], [8, 8, 8], [7, 7, 7]])
    parts = split_voxels(voxels, geometry((10, 10, 10), (1, 1, 1)))
    assert [as_set(part) for part in parts] == [
        {(7, 7, 7), (8, 8, 8), (9, 9, 9)},
        {(5, 5, 5), (5, 5, 6)},
        {(0, 0, 0)},
    ]


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize(
    "spacing", [(0.5, 0.5, 0.5), (0.4, 0.4, 1.0), (0.5, 0.75, 1.5), (1.5, 0.5, 0.6)]
)
def test_two_balls_are_cut_apart_where_they_meet(
    spacing: tuple[float, float, float], axis: int
) -> None:
    """Of unequal size, so that the middle of the whole would be the wrong place."""
    grid = geometry(tuple(np.ceil(24 / np.array(spacing)).astype(int)), spacing)
    center_a, center_b = np.zeros(3), np.zeros(3)
    center_a[axis], center_b[axis] = -3.0, 3.2
    voxels = balls(grid, [tuple(center_a), tuple(center_b)], [4.2, 2.7])
    assert n_components(voxels) == 1
    first, second = split_voxels(voxels, grid)
    # The balls meet in the plane where both surfaces are equally far.
    meeting_mm = (4.2**2 - 2.7**2 + 3.2**2 - 3.0**2) / (2 * (3.2 + 3.0))
    mm = (voxels - (np.array(grid.shape) - 1) / 2) * spacing
    expected_second = as_set(voxels[mm[:, axis] > meeting_mm])
    wrong = as_set(second) ^ expected_second
    assert len(wrong) <= 0.12 * len(expected_second)
    assert len(first) > len(second)


def test_thickness_is_measured_in_mm() -> None:
    """In voxels the waist is thickest where in mm it is thinnest: the slices are thick."""
    grid = geometry((40, 30, 12), (0.5, 0.5, 4.0))
    mask = np.zeros(grid.shape, dtype=bool)
    mask[2:14, 8:20, 5] = True  # 6 × 6 mm
    mask[14:18, 13:15, 5] = True  # a waist of 1 mm
    mask[18:30, 8:20, 5] = True
    voxels = np.argwhere(mask)
    first, second = split_voxels(voxels, grid)
    for part in (first, second):
        assert (part[:, 0] < 16).all() or (part[:, 0] >= 16).all()


def test_without_a_waist_it_is_cut_across_its_longest_way() -> None:
    grid = geometry((30, 10, 10), (0.5, 0.5, 3.0))
    mask = np.zeros(grid.shape, dtype=bool)
    mask[2:10, 3:5, 2:8] = True  # 4 mm, 1 mm, and 18 mm through the slices
    voxels = np.argwhere(mask)
    first, second = split_voxels(voxels, grid)
    assert len(first) == len(second)
    assert set(first[:, 2]) & set(second[:, 2]) == set()


def test_does_not_depend_on_the_order_of_the_voxels() -> None:
    grid = geometry((40, 40, 40), (0.5, 0.5, 0.5))
    voxels = balls(grid, [(-2.5, 0, 0), (2.5, 0, 0)], [3.2, 2.9])
    shuffled = np.random.default_rng(1).permutation(voxels)
    expected = [as_set(part) for part in split_voxels(voxels, grid)]
    assert [as_set(part) for part in split_voxels(shuffled, grid)] == expected


@given(
    st.lists(st.tuples(*[st.integers(0, 6)] * 3), min_size=2, max_size=80, unique=True),
    st.tuples(*[st.floats(0.3, 5)] * 3),
)
@settings(max_examples=200, deadline=None)
def test_parts_make_up_the_whole_and_hang_together(
    voxels: list[tuple[int, int, int]], spacing: tuple[float, float, float]
) -> None:
    whole = np.array(voxels)
    parts = split_voxels(whole, geometry((7, 7, 7), spacing))
    assert len(parts) == max(2, n_components(whole))
    assert sum(map(len, parts)) == len(whole)
    assert set().union(*map(as_set, parts)) == as_set(whole)
    assert all(n_components(part) == 1 for part in parts)
    assert [len(part) for part in parts] == sorted(map(len, parts), reverse=True)
