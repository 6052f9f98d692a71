"""Where motion puts copies of a head."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from training.simulation.command import read_protocol
from training.simulation.ghosts import add_ghosts

PROTOCOLS = Path(__file__).parents[3] / "training" / "configs" / "protocols"
STILL = read_protocol(PROTOCOLS / "sample_t2star.json")
N = 120


def dots(axis: int) -> np.ndarray:
    """A small bright thing in the middle of the phase axis, on every slice."""
    scan = np.zeros((N, N, 5), np.complex64)
    scan[59:61, 59:61] = 1
    return scan


@pytest.mark.parametrize("axis", [0, 1])
def test_ghosts_lie_at_multiples_of_their_distance_along_the_phase_axis(axis: int) -> None:
    protocol = replace(
        STILL, ghost_strength=0.05, ghost_count=2, ghost_distance_fov=0.2, phase_axis=axis
    )
    seen = np.abs(add_ghosts(dots(axis), protocol, np.random.default_rng(0)))
    across = np.moveaxis(seen, axis, 0)
    assert across[:, :55].max() == pytest.approx(0, abs=1e-6)
    line = across[:, 59, 2]
    places = np.flatnonzero(line > 0.005)
    expected = [m + shift for shift in (-48, -24, 0, 24, 48) for m in (59, 60)]
    assert places.tolist() == expected
    first, second = line[59 + 24], line[59 + 48]
    assert 0.02 < first <= 0.051
    assert second == pytest.approx(first / 2, rel=0.01)
    assert line[59] == pytest.approx(1.0, abs=0.2)


def test_slices_of_a_2d_scan_have_ghosts_of_their_own() -> None:
    moving = replace(STILL, ghost_strength=0.05, motion_mm=1.0)
    flat = np.abs(add_ghosts(dots(1), moving, np.random.default_rng(0)))
    assert not np.allclose(flat[:, :, 0], flat[:, :, 1])
    deep = replace(moving, dimensionality="3D")
    volume = np.abs(add_ghosts(dots(1), deep, np.random.default_rng(0)))
    np.testing.assert_allclose(volume[:, :, 0], volume[:, :, 1], atol=1e-6)


def test_shifts_blur_and_keep_the_place() -> None:
    moving = replace(STILL, motion_mm=3.0, in_plane_mm=0.5, dimensionality="3D", phase_axis=1)
    scan = dots(1)
    blurred = 0
    for seed in range(8):
        seen = np.abs(add_ghosts(scan, moving, np.random.default_rng(seed)))[:, :, 0]
        assert abs(int(seen[59].argmax()) - 59.5) <= 4
        assert (seen**2).sum() == pytest.approx((np.abs(scan[:, :, 0]) ** 2).sum(), rel=1e-4)
        blurred += seen.max() < 0.99
    assert blurred >= 4


def test_a_still_head_is_left_alone() -> None:
    scan = dots(1)
    assert add_ghosts(scan, STILL, np.random.default_rng(0)) is scan
