"""Noise as asked, shaped by k-space; coils that are brighter near the surface."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from training.simulation.command import read_protocol
from training.simulation.protocol import Acquisition
from training.simulation.receive import coil_profile, kspace_noise, receive, receive_profiles

PROTOCOLS = Path(__file__).parents[3] / "training" / "configs" / "protocols"
PLAIN = replace(
    read_protocol(PROTOCOLS / "sample_t2star.json"),
    bias_strength=0.0,
    acquired_in_plane_mm=1.0,
    in_plane_mm=1.0,
    kspace_filter="none",
)
SHAPE = (96, 90, 24)
EVERYWHERE = np.ones(SHAPE, bool)
RAYLEIGH_SD = np.sqrt(2 - np.pi / 2)


def correlation(noise: np.ndarray, axis: int) -> float:
    """Of neighbors."""
    first, second = np.delete(noise.real, -1, axis), np.delete(noise.real, 0, axis)
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"in_plane_mm": 0.5},
        {"kspace_filter": "hann", "partial_fourier": 0.7},
        {"dimensionality": "3D", "slice_thickness_mm": 6.0, "slice_spacing_mm": 3.0},
    ],
)
def test_noise_without_signal_is_as_strong_as_asked(changes: dict[str, object]) -> None:
    protocol = replace(PLAIN, **changes)
    nothing = np.zeros(SHAPE, np.complex64)
    seen = np.abs(receive(nothing, EVERYWHERE, protocol, 2.0, np.random.default_rng(1)))
    assert seen.std() == pytest.approx(2.0 * RAYLEIGH_SD, rel=0.05)
    assert seen.mean() == pytest.approx(2.0 * np.sqrt(np.pi / 2), rel=0.05)


def test_noise_beside_strong_signal_is_normal() -> None:
    bright = np.full(SHAPE, 100, np.complex64)
    seen = np.abs(receive(bright, EVERYWHERE, PLAIN, 2.0, np.random.default_rng(1)))
    assert seen.std() == pytest.approx(2.0, rel=0.05)
    assert seen.mean() == pytest.approx(100, rel=0.01)


def test_channels_raise_the_floor_and_not_the_signal() -> None:
    four = replace(PLAIN, receive_channels=4)
    for level, ratio in ((0.0, 2.19), (100.0, 1.0)):
        scan = np.full(SHAPE, level, np.complex64)
        means = [
            float(np.abs(receive(scan, EVERYWHERE, p, 2.0, np.random.default_rng(1))).mean())
            for p in (PLAIN, four)
        ]
        assert means[1] / means[0] == pytest.approx(ratio, rel=0.03)


def test_interpolated_scans_have_correlated_noise() -> None:
    rng = np.random.default_rng(2)
    assert abs(correlation(kspace_noise(SHAPE, PLAIN, rng), 0)) < 0.02
    interpolated = replace(PLAIN, in_plane_mm=0.5, acquired_phase_mm=1.5, phase_axis=1)
    noise = kspace_noise(SHAPE, interpolated, rng)
    assert correlation(noise, 0) == pytest.approx(2 / np.pi, abs=0.03)  # sinc(1/2)
    assert correlation(noise, 1) > 0.8
    assert abs(correlation(noise, 2)) < 0.02


def center_and_surface(values: np.ndarray) -> tuple[float, float]:
    """Means in the middle of the field of view, and at the middle of its sides."""
    near = [slice(int(0.4 * n), int(0.6 * n)) for n in values.shape]
    sides = [values[:2, near[1], near[2]], values[-2:, near[1], near[2]]]
    return float(values[tuple(near)].mean()), float(np.mean(sides))


def test_coils_are_brighter_near_the_surface_and_noise_grows_inwards() -> None:
    shape = (180, 200, 40)
    brain = np.zeros(shape, bool)
    brain[30:150, 30:170, 5:35] = True
    center, surface = center_and_surface(coil_profile(shape, PLAIN, np.random.default_rng(3)))
    assert 1.5 < surface / center < 8
    protocol = replace(PLAIN, coil_shading=0.5, coil_normalization=0.3)
    signal, noise = receive_profiles(brain, protocol, np.random.default_rng(3))
    assert center_and_surface(signal)[0] < 1 < center_and_surface(signal)[1]
    assert center_and_surface(noise)[0] > 1 > center_and_surface(noise)[1]
    assert np.median(noise[brain]) == pytest.approx(1, abs=0.05)
    flat, even = receive_profiles(brain, PLAIN, np.random.default_rng(3))
    assert flat == pytest.approx(1.0)
    assert even == pytest.approx(1.0)


def test_same_seed_same_noise() -> None:
    scan = np.full(SHAPE, 10, np.complex64)
    protocol: Acquisition = replace(PLAIN, coil_shading=0.4, receive_channels=2, bias_strength=0.2)
    once, again, other = (
        receive(scan, EVERYWHERE, protocol, 1.0, np.random.default_rng(seed)) for seed in (5, 5, 6)
    )
    np.testing.assert_array_equal(once, again)
    assert not np.array_equal(once, other)
