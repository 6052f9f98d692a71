"""The field of simple bodies against their analytic solutions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from training.simulation.field import dipole_field_ppm, phase_per_ppm_rad, sphere_field_ppm


def soft_ball(n: int, radius: float) -> torch.Tensor:
    """Share of each voxel inside a centered ball, by 5x supersampling."""
    fine = (torch.arange(5 * n) + 0.5) / 5 - 0.5 - (n - 1) / 2
    x, y, z = torch.meshgrid(fine, fine, fine, indexing="ij")
    inside = (x**2 + y**2 + z**2 <= radius**2).float()
    return torch.nn.functional.avg_pool3d(inside[None, None], 5)[0, 0]


@pytest.mark.parametrize("tilt_deg", [0.0, 35.0])
def test_sphere_field_is_a_dipole(tilt_deg: float) -> None:
    n, radius = 64, 5.0
    angle = np.radians(tilt_deg)
    b0 = np.array([np.sin(angle), 0.0, np.cos(angle)])
    field = dipole_field_ppm(soft_ball(n, radius), (1.0, 1.0, 1.0), b0)
    axis = torch.arange(n) - (n - 1) / 2
    place = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1)
    expected = sphere_field_ppm(place, radius, 1.0, torch.as_tensor(b0, dtype=torch.float32))
    distance = place.norm(dim=-1)
    shell = (distance > radius + 2) & (distance < 14)
    error = (field - expected)[shell]
    # the periodic, band-limited convolution costs up to 5% beside the surface
    assert error.abs().max() < 0.05 * expected[shell].abs().max()
    inside = field[distance < radius - 2]
    assert inside.abs().max() < 0.05  # the Lorentz-corrected field inside a sphere is zero


def test_anisotropic_spacing_keeps_the_shape_of_the_field() -> None:
    cube = soft_ball(48, 6.0)
    thick = torch.nn.functional.avg_pool3d(cube[None, None], (1, 1, 2))[0, 0]
    fine = dipole_field_ppm(cube, (1.0, 1.0, 1.0), np.array([0.0, 0.0, 1.0]))
    coarse = dipole_field_ppm(thick, (1.0, 1.0, 2.0), np.array([0.0, 0.0, 1.0]))
    averaged = torch.nn.functional.avg_pool3d(fine[None, None], (1, 1, 2))[0, 0]
    assert (coarse - averaged).abs().max() < 0.1 * fine.abs().max()


def cylinder_field(angle_deg: float) -> float:
    """Field inside a long cylinder along x whose axis makes this angle with B0, per ppm."""
    n = 96
    axis = torch.arange(n) - (n - 1) / 2
    y, z = torch.meshgrid(axis, axis, indexing="ij")
    disk = (y**2 + z**2 <= 8**2).float()
    source = disk[None].expand(n, n, n).contiguous()
    angle = np.radians(angle_deg)
    field = dipole_field_ppm(source, (1.0,) * 3, np.array([np.cos(angle), 0.0, np.sin(angle)]))
    return float(field[n // 2][disk > 0].mean())


def test_cylinder_field_vanishes_at_the_magic_angle() -> None:
    magic_deg = np.degrees(np.arccos(1 / np.sqrt(3)))
    assert cylinder_field(magic_deg) == pytest.approx(0.0, abs=0.01)
    # Δχ/6 (3cos²θ - 1) inside: 1/3 along B0, -1/6 across; periodic copies take a few percent
    assert cylinder_field(0.0) == pytest.approx(1 / 3, abs=0.02)
    assert cylinder_field(90.0) == pytest.approx(-1 / 6, abs=0.02)


def test_phase_of_one_ppm() -> None:
    # 42.577 MHz/T at 3 T: 127.73 Hz per ppm; 20 ms make 2.5546 turns
    assert phase_per_ppm_rad(3.0, 0.020) == pytest.approx(2 * np.pi * 2.5546, rel=1e-3)
