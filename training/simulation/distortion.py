"""Off-resonance along the readout: signal lands where its frequency says it is."""

from __future__ import annotations

import math

import torch

from training.simulation.field import GYROMAGNETIC_RATIO_RAD_PER_S_T
from training.simulation.protocol import Acquisition

LEAST_SHIFT_VOXELS = 0.5
"""Left out of every shift, so that only the neighborhood of air moves and nothing tears."""


def distorted(
    signal: torch.Tensor, field_ppm: torch.Tensor, protocol: Acquisition, fine_mm: float
) -> torch.Tensor:
    """The complex signal (x, y, z) of a part of the fine grid, shifted along the readout.

    Each voxel's signal moves by its field over the bandwidth (less half a voxel) and is shared by
    the two voxels it falls between: signal piles up and thins out, none is made. What leaves the
    grid is lost.
    """
    if protocol.readout_bandwidth_hz_per_mm <= 0:
        return signal
    axis = 1 - protocol.phase_axis
    hz_per_ppm = GYROMAGNETIC_RATIO_RAD_PER_S_T / (2 * math.pi) * 1e-6 * protocol.field_strength_t
    voxels_per_ppm = hz_per_ppm / protocol.readout_bandwidth_hz_per_mm / fine_mm
    result = signal.clone(memory_format=torch.contiguous_format)
    field = field_ppm.contiguous().view(-1)
    flat = torch.view_as_real(result).view(-1, 2)
    # air has a strong field and no signal
    far = (field.abs() > LEAST_SHIFT_VOXELS / voxels_per_ppm) & (flat[:, 0] != 0)
    moved = far.nonzero()[:, 0]
    if len(moved) == 0:
        return signal
    value = flat[moved]
    flat[moved] = 0
    n, stride = result.shape[axis], result.stride(axis)
    start = (moved // stride) % n
    shift = field[moved] * voxels_per_ppm
    place = start + shift - LEAST_SHIFT_VOXELS * shift.sign()
    lower = place.floor()
    share = place - lower
    for index, weight in ((lower.long(), 1 - share), (lower.long() + 1, share)):
        inside = (index >= 0) & (index < n)
        where = (moved + (index - start) * stride)[inside]
        flat.index_add_(0, where, (value * weight[:, None])[inside])
    return result
