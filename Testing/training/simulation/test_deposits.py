"""Deposits change the maps, and by them the field, where they say and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from training.simulation.deposits import (
    Deposit,
    add_deposits,
    share_within,
    smooth_noise,
    window_around,
)
from training.simulation.field import dipole_field_ppm, sphere_field_ppm

SHAPE = (40, 48, 44)
CENTER = np.array([10.0, 12.0, 11.0])
SPACING_MM = 0.5


def ball(radius_mm: float, *, mimic: bool = True) -> Deposit:
    placed = window_around(CENTER, radius_mm + 1, SHAPE, SPACING_MM)
    assert placed is not None
    window, offset_mm = placed
    fraction = share_within(radius_mm - np.linalg.norm(offset_mm, axis=-1), SPACING_MM)
    return Deposit("ball", window, fraction, 0.8, 150.0, 0.5, mimic)


def maps(dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    full = [torch.full(SHAPE, 0.1), torch.full(SHAPE, 20.0)]
    return [*full, torch.ones(SHAPE, dtype=dtype), torch.zeros(SHAPE, dtype=dtype)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_maps_change_within_the_deposit_only(dtype: torch.dtype) -> None:
    chi, r2_star, signal, mimic = maps(dtype)
    add_deposits([ball(2.0)], chi, r2_star, signal, mimic)
    place = np.stack(np.meshgrid(*[np.arange(n) * SPACING_MM for n in SHAPE], indexing="ij"), -1)
    away_mm = torch.as_tensor(np.linalg.norm(place - CENTER, axis=-1))
    inside, outside = away_mm < 1.7, away_mm > 2.3
    for changed, before, within in ((chi, 0.1, 0.9), (r2_star, 20.0, 170.0), (signal, 1, 0.5)):
        assert changed[inside].float() == pytest.approx(within, rel=1e-3)
        assert changed[outside].float() == pytest.approx(before, rel=1e-3)
    assert mimic[inside].min() == 1
    assert mimic[outside].max() == 0
    assert mimic.dtype == dtype


def test_arrays_are_changed_as_tensors_are() -> None:
    tensors, arrays = maps(), [m.numpy().copy() for m in maps()]
    add_deposits([ball(2.0), ball(1.0)], *tensors)
    add_deposits([ball(2.0), ball(1.0)], *arrays)
    for tensor, array in zip(tensors, arrays, strict=True):
        assert np.array_equal(tensor.numpy(), array)


def test_what_is_no_mimic_is_not_marked() -> None:
    chi, r2_star, signal, mimic = maps()
    add_deposits([ball(2.0, mimic=False)], chi, r2_star, signal, mimic)
    assert mimic.max() == 0
    assert chi.max() > 0.8


def test_r2_star_stays_positive() -> None:
    chi, r2_star, signal, mimic = maps()
    fluid = Deposit("cavity", ball(2.0).window, ball(2.0).fraction, 0.0, -50.0)
    add_deposits([fluid], chi, r2_star, signal, mimic)
    assert r2_star.min() == 1


def test_field_around_a_deposit_is_that_of_its_dipole() -> None:
    chi, r2_star, signal, mimic = (torch.zeros(64, 64, 64) for _ in range(4))
    center = np.full(3, 16.0)
    placed = window_around(center, 3.0, (64, 64, 64), SPACING_MM)
    assert placed is not None
    share = share_within(2.0 - np.linalg.norm(placed[1], axis=-1), SPACING_MM)
    add_deposits([Deposit("x", placed[0], share, 1.0, 0.0)], chi, r2_star, signal, mimic)
    field = dipole_field_ppm(chi, (SPACING_MM,) * 3, np.array([0.0, 0.0, 1.0]))
    for offset in ((0, 0, 8), (0, 8, 0), (6, 0, 6)):
        expected = sphere_field_ppm(
            torch.tensor(offset) * SPACING_MM, 2.0, 1.0, torch.tensor([0.0, 0.0, 1.0])
        )
        assert field[tuple(32 + np.array(offset))] == pytest.approx(float(expected), abs=0.012)


def test_windows_end_with_the_grid() -> None:
    placed = window_around(np.array([0.0, 1.0, 21.0]), 3.0, SHAPE, SPACING_MM)
    assert placed is not None
    window, offset_mm = placed
    assert [w.start for w in window] == [0, 0, 36]
    assert offset_mm.shape == (7, 9, 8, 3)
    assert offset_mm[0, 2, 6] == pytest.approx(np.zeros(3))
    assert window_around(np.array([0.0, 1.0, 40.0]), 3.0, SHAPE, SPACING_MM) is None


@pytest.mark.parametrize("sigma_mm", [0.6, 2.0, 5.0])
def test_noise_is_smooth_and_of_unit_size(sigma_mm: float) -> None:
    noise = smooth_noise((60, 50, 40), sigma_mm, SPACING_MM, np.random.default_rng(0))
    assert noise.shape == (60, 50, 40)
    assert 0.6 < noise.std() < 1.2
    steps = np.abs(np.diff(noise, axis=0)).mean()
    assert steps < 1.2 * SPACING_MM / sigma_mm
