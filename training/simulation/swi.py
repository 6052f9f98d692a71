"""Susceptibility-weighted images from a complex scan: phase, mask, projection.

Homodyne high-pass of the phase, mask, and minimum-intensity projection as in Haacke et al.,
Magnetic Resonance in Medicine 52, 2004. Vendors differ in the size of the filter, in the mask and
in its power.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from training.simulation.acquisition import along
from training.simulation.protocol import Acquisition

FloatArray = npt.NDArray[np.float32]
FWHM_PER_SD = 2.355
SIGMOID_STEEPNESS = 3.0


def high_pass_phase_rad(scan: torch.Tensor, protocol: Acquisition) -> torch.Tensor:
    """Phase of each slice, -π to π, freed of its low-pass in the plane; needs no unwrapping.

    Positive where the field is raised, whatever the vendor's sign.
    """
    sd_voxels = protocol.swi_low_pass_mm / protocol.in_plane_mm / FWHM_PER_SD
    smoothings = [low_pass_matrices(n, sd_voxels, scan.device) for n in scan.shape[:2]]
    low = scan
    for axis in (0, 1):
        low = along(low, smoothings[axis][0], axis)
    for axis in (1, 0):
        low = along(low, smoothings[axis][1], axis)
    return torch.angle(scan * low.conj_physical_())


def low_pass_matrices(
    n: int, sd_voxels: float, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gaussian smoothing of ``n`` voxels at few places (m, n), and linear from there (n, m).

    Rows sum to 1. Interpolation smooths too, by step²/6, which the Gaussian leaves out.
    """
    step = max(1, int(sd_voxels / 2))
    m = max(2, -(-n // step) + 1)
    places = torch.arange(m, device=device, dtype=torch.float32) * ((n - 1) / (m - 1))
    voxels = torch.arange(n, device=device, dtype=torch.float32)
    spacing = (n - 1) / (m - 1)
    variance = max(sd_voxels**2 - spacing**2 / 6, 0.05)
    down = torch.exp(-0.5 * (voxels - places[:, None]) ** 2 / variance)
    up = (1 - (voxels[:, None] - places).abs() / spacing).clamp(min=0)
    return down / down.sum(dim=1, keepdim=True), up / up.sum(dim=1, keepdim=True)


def phase_mask(scan: torch.Tensor, protocol: Acquisition) -> torch.Tensor:
    """Mask 0 to 1 of each slice from its high-pass filtered phase, raised to the mask power.

    ``swi_mask`` is linear (1 - φ/π where the field is raised, as in veins along B0), triangular
    (1 - abs(φ)/π, raised or lowered), or sigmoid (soft at phase 0).
    """
    phase = high_pass_phase_rad(scan, protocol)
    if protocol.swi_mask == "triangular":
        mask = 1 - phase.abs() / torch.pi
    elif protocol.swi_mask == "sigmoid":
        mask = torch.sigmoid(SIGMOID_STEEPNESS * (1 - phase)) / float(
            torch.sigmoid(torch.tensor(SIGMOID_STEEPNESS))
        )
    else:
        mask = 1 - phase / torch.pi
    mask.clamp_(0, 1)
    powered = mask.clone()
    for _ in range(protocol.swi_mask_power - 1):
        powered *= mask
    return powered


def minimum_projection(image: FloatArray, n_slices: int) -> FloatArray:
    """Darkest of the ``n_slices`` slices around each; the image itself for 1."""
    if n_slices <= 1:
        return image
    return np.asarray(ndimage.minimum_filter1d(image, n_slices, axis=2, mode="nearest"))


def middle_slices(n_all: int, n_slices: int) -> slice:
    """Slices that stand for slabs of ``n_slices`` each, of a projection of all ``n_all``."""
    first = n_slices // 2
    return slice(first, first + (n_all // n_slices - 1) * n_slices + 1, n_slices)
