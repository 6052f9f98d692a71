"""Grids of one head and of two."""

from __future__ import annotations

import numpy as np
import pytest

from CMBDetectorLib.evaluation.space import is_elsewhere, lies_outside
from CMBDetectorLib.geometry import Geometry

SHAPE = (100, 120, 40)


def centered(spacing: tuple[float, float, float], shape: tuple[int, int, int]) -> Geometry:
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -(np.array(shape) - 1) / 2 * spacing
    return Geometry(shape, affine)


def test_the_same_head_in_any_order_of_axes(axis_order):
    scan = centered((2, 1.5, 4), SHAPE)
    assert not is_elsewhere(scan, scan.reoriented(axis_order))
    assert not is_elsewhere(scan.reoriented(axis_order), centered((1, 1, 1), (180, 200, 150)))


def test_a_piece_of_the_head():
    scan = centered((2, 1.5, 4), SHAPE)
    piece = scan.cropped((5, 90, 3), (20, 110, 9))
    assert not is_elsewhere(scan, piece)
    assert not is_elsewhere(piece, scan)


def test_a_lost_affine():
    scan = centered((0.45, 0.45, 0.8), (512, 512, 192))
    assert is_elsewhere(scan, Geometry(scan.shape, np.eye(4)))
    assert is_elsewhere(Geometry(scan.shape, np.diag([0.45, 0.45, 0.8, 1])), scan)


def test_far_away():
    scan = centered((2, 1.5, 4), SHAPE)
    moved = scan.affine.copy()
    moved[2, 3] += 500
    assert is_elsewhere(scan, Geometry(SHAPE, moved))


@pytest.mark.parametrize(
    ("points", "outside"),
    [
        ([], False),
        ([(0, 0, 0)], False),
        ([(108, 0, 0)], False),
        ([(115, 0, 0)], True),
        ([(115, 0, 0), (0, 0, 0)], False),
        ([(0, 0, -300), (0, 200, 0)], True),
    ],
)
def test_points_outside(points, outside, axis_order):
    scan = centered((2, 1.5, 4), SHAPE).reoriented(axis_order)
    assert lies_outside(np.array(points, dtype=float).reshape(-1, 3), scan) is outside
