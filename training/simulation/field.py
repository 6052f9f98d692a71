"""Magnetic field of susceptibility sources.

All susceptibilities are in ppm (SI, relative to soft tissue), fields in ppm of B0 with the
sphere-of-Lorentz correction.

References
----------
Salomir et al., Concepts Magn Reson B 2003; Marques & Bowtell, Concepts Magn Reson B 2005 (the
k-space dipole kernel). Schenck, Med Phys 1996 (sphere and cylinder).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

GYROMAGNETIC_RATIO_RAD_PER_S_T = 2.6752218744e8
"""Proton gyromagnetic ratio, rad/(s·T) (CODATA 2018)."""


def phase_per_ppm_rad(field_strength_t: float, echo_time_s: float) -> float:
    """Phase in rad that one ppm of field offset gains until the echo."""
    return GYROMAGNETIC_RATIO_RAD_PER_S_T * field_strength_t * 1e-6 * echo_time_s


def dipole_field_ppm(
    susceptibility_ppm: torch.Tensor,
    spacing_mm: tuple[float, float, float],
    b0_direction: npt.NDArray[np.float64],
) -> torch.Tensor:
    """Field of a susceptibility map by multiplication with 1/3 - (k·b)²/k² in k-space.

    Parameters
    ----------
    susceptibility_ppm
        Shape (x, y, z), float32. The convolution is periodic: pad where sources lie near an edge.
    spacing_mm
        Voxel size along x, y, z.
    b0_direction
        Unit vector of the main field in the array's axes.
    """
    shape = susceptibility_ppm.shape
    device = susceptibility_ppm.device
    kx, ky = (
        torch.fft.fftfreq(n, d=d, device=device)
        for n, d in zip(shape[:2], spacing_mm[:2], strict=True)
    )
    kz = torch.fft.rfftfreq(shape[2], d=spacing_mm[2], device=device)
    b = [float(c) for c in b0_direction]
    spectrum = torch.fft.rfftn(susceptibility_ppm)
    for i in range(shape[0]):  # plane by plane: the kernel never exists as a whole volume
        square = kx[i] ** 2 + ky[:, None] ** 2 + kz[None, :] ** 2
        along = kx[i] * b[0] + ky[:, None] * b[1] + kz[None, :] * b[2]
        kernel = 1.0 / 3.0 - along**2 / square.clamp_min(1e-12)
        if i == 0:
            kernel[0, 0] = 0.0
        spectrum[i] *= kernel
    field: torch.Tensor = torch.fft.irfftn(spectrum, s=shape)
    return field


def sphere_field_ppm(
    offset_mm: torch.Tensor, radius_mm: float, delta_chi_ppm: float, b0_direction: torch.Tensor
) -> torch.Tensor:
    """Field of a uniform sphere: Δχ/3 (a/r)³ (3cos²θ - 1) outside, 0 inside.

    ``offset_mm`` has shape (..., 3), from the sphere's centre; the result (...).
    """
    r = offset_mm.norm(dim=-1).clamp_min(1e-6)
    cosine = (offset_mm * b0_direction).sum(dim=-1) / r
    outside = delta_chi_ppm / 3.0 * (radius_mm / r) ** 3 * (3.0 * cosine**2 - 1.0)
    return torch.where(r > radius_mm, outside, torch.zeros_like(outside))
