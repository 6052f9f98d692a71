"""Lines of k-space and back: gain, ringing, partial Fourier, zero filling."""

from __future__ import annotations

import numpy as np
import pytest

from training.simulation.point_spread import fourier_matrix, line_weights, slab_profile, soft_box

FINE_MM = 0.25
N = 400
EXTENT_MM = N * FINE_MM


def centers_mm(spacing_mm: float) -> np.ndarray:
    n = int(EXTENT_MM / spacing_mm)
    return (np.arange(n) + 0.5) * spacing_mm - FINE_MM / 2


def edge_overshoot(kspace_filter: str) -> float:
    """How far a plate of 1 is exceeded beside its edge."""
    plate = np.zeros(N)
    plate[100:300] = 1
    matrix = fourier_matrix(centers_mm(0.05), N, FINE_MM, 1.0, kspace_filter=kspace_filter)
    return float((matrix @ plate).max()) - 1


def width_mm(partial_fourier: float) -> float:
    """Full width at half maximum of the magnitude of a point."""
    point = np.zeros(N)
    point[200] = 1
    places = 50 + np.arange(-4, 4, 0.01)
    matrix = fourier_matrix(places, N, FINE_MM, 1.0, partial_fourier=partial_fourier)
    spread = np.abs(matrix @ point)
    return float((spread > spread.max() / 2).sum() * 0.01)


@pytest.mark.parametrize("width_mm", [0.7, 1.0, 3.0])
@pytest.mark.parametrize("edge_fraction", [0.1, 0.5])
def test_slice_profiles_have_unit_area(width_mm: float, edge_fraction: float) -> None:
    distance = np.arange(-40, 40, 0.01)
    area = soft_box(distance, width_mm, edge_fraction).sum() * 0.01
    assert area == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("kspace_filter", ["none", "hann", "tukey"])
@pytest.mark.parametrize("partial_fourier", [0.65, 1.0])
@pytest.mark.parametrize("acquired_mm", [0.1, 0.9, 4.0])
def test_a_uniform_object_keeps_its_value(
    kspace_filter: str, partial_fourier: float, acquired_mm: float
) -> None:
    matrix = fourier_matrix(
        centers_mm(0.7),
        N,
        FINE_MM,
        acquired_mm,
        partial_fourier=partial_fourier,
        kspace_filter=kspace_filter,
    )
    np.testing.assert_allclose(matrix.sum(axis=1), 1.0, atol=1e-9)
    assert np.iscomplexobj(matrix) == (partial_fourier < 1)


def test_edges_ring_without_a_filter_and_not_with_one() -> None:
    assert edge_overshoot("none") == pytest.approx(0.089, abs=0.01)  # Gibbs
    assert edge_overshoot("hann") < 0.01
    assert edge_overshoot("hann") < edge_overshoot("tukey") < edge_overshoot("none")


def test_partial_fourier_widens_the_point_spread() -> None:
    full = width_mm(1.0)
    assert full == pytest.approx(1.207, abs=0.03)  # of a sinc with zeros 1 mm apart
    assert width_mm(0.8) > 1.1 * full
    assert width_mm(0.6) > width_mm(0.8)


def test_partial_fourier_loses_what_a_steep_phase_moves_out_of_the_measured_part() -> None:
    kept = []
    for sign in (1, -1):
        ramp = np.exp(sign * 2j * np.pi * 0.3 * np.arange(N) * FINE_MM)
        matrix = fourier_matrix(centers_mm(1.0), N, FINE_MM, 1.0, partial_fourier=0.6)
        kept.append(float(np.abs(matrix @ ramp)[10:-10].mean()))
    assert kept[0] == pytest.approx(1.0, abs=0.01)
    assert kept[1] < 0.01


def test_zero_filling_interpolates_a_band_limited_object_exactly() -> None:
    def wave(place_mm: np.ndarray) -> np.ndarray:
        return np.asarray(1 + np.cos(2 * np.pi * 20 / EXTENT_MM * place_mm + 0.4))

    fine = wave(np.arange(N) * FINE_MM)
    for spacing_mm in (0.2, 0.45, 1.0):
        places = centers_mm(spacing_mm)
        matrix = fourier_matrix(places, N, FINE_MM, 1.0)
        np.testing.assert_allclose(matrix @ fine, wave(places), atol=1e-9)


def test_lines_beyond_the_measured_part_weigh_nothing() -> None:
    frequency = np.linspace(-1, 1, 201)
    weight = line_weights(frequency, 1.0, partial_fourier=0.75)
    measured = frequency[weight > 0]
    assert measured.min() == pytest.approx(-0.25)
    assert measured.max() == pytest.approx(0.5)


def test_a_slab_falls_off_at_its_ends_only() -> None:
    profile = slab_profile(100, 0.1)
    assert profile[0] < 0.1 > profile[-1]
    assert (profile[10:90] == 1).all()
    assert (slab_profile(100, 0.0) == 1).all()
