"""How a scanner sees the fine grid: signal equation, and sampling with voxels and slices."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as nnf

from training.simulation.point_spread import fourier_matrix, slab_profile, soft_box
from training.simulation.protocol import Acquisition
from training.simulation.protocol_families import draw_acquisition

__all__ = [
    "Acquisition",
    "Sampling",
    "complex_signal",
    "downsample",
    "draw_acquisition",
    "make_sampling",
    "shares",
    "soft_box",
    "spoiled_gre_weight",
]


def spoiled_gre_weight(
    t1_s: torch.Tensor, repetition_time_s: float, flip_angle_deg: float
) -> torch.Tensor:
    """Steady-state signal of a spoiled gradient echo for unit density (Ernst)."""
    angle = np.radians(flip_angle_deg)
    e1 = torch.exp(-repetition_time_s / t1_s)
    return torch.as_tensor(np.sin(angle) * (1 - e1) / (1 - np.cos(angle) * e1))


@dataclass(frozen=True)
class Sampling:
    """Weights from fine voxels to scan voxels, one matrix (n_out, n_fine) per axis.

    Complex along an axis with partial Fourier. ``first_center_mm`` is the first output voxel's
    center from the fine grid's first center.
    """

    x: torch.Tensor
    y: torch.Tensor
    z: torch.Tensor
    spacing_mm: tuple[float, float, float]
    first_center_mm: tuple[float, float, float]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Scan matrix."""
        return len(self.x), len(self.y), len(self.z)

    def thinned(self, kept: slice) -> Sampling:
        """Some of the slices."""
        x, y, z = self.first_center_mm
        return replace(
            self,
            z=self.z[kept],
            spacing_mm=(*self.spacing_mm[:2], kept.step * self.spacing_mm[2]),
            first_center_mm=(x, y, z + kept.start * self.spacing_mm[2]),
        )


def make_sampling(
    protocol: Acquisition,
    fine_shape: tuple[int, ...],
    fine_mm: float,
    rng: np.random.Generator,
    device: torch.device,
) -> Sampling:
    """Sampling of the whole fine field of view with a random offset of the slices.

    In plane, and across the slices of a 3D scan, through k-space
    (:func:`training.simulation.point_spread.fourier_matrix`); a 2D scan has a slice profile.
    """
    matrices: list[torch.Tensor] = []
    first: list[float] = []
    for axis, n in enumerate(fine_shape):
        across = axis == 2
        out_mm = protocol.spacing_mm(axis)
        extent = n * fine_mm
        n_out = max(1, int(extent / out_mm + 1e-6))
        spare = extent - n_out * out_mm
        shift = float(rng.uniform(min(0.0, spare), max(0.0, spare))) if across else spare / 2
        centers = np.asarray(shift + (np.arange(n_out) + 0.5) * out_mm - fine_mm / 2)
        weight: npt.NDArray[np.inexact[Any]]
        if across and protocol.dimensionality == "2D":
            distance = (np.arange(n)[None] * fine_mm - centers[:, None]).astype(np.float64)
            weight = fine_mm * soft_box(
                distance,
                max(protocol.slice_thickness_mm, fine_mm),
                protocol.slice_edge_fraction,
            )
        else:
            partial = protocol.partial_fourier if axis == protocol.partial_fourier_axis else 1.0
            weight = fourier_matrix(
                centers,
                n,
                fine_mm,
                protocol.acquired_mm(axis),
                partial_fourier=partial,
                kspace_filter=protocol.kspace_filter,
                filter_fraction=protocol.filter_fraction,
            )
            if across:
                weight = weight * slab_profile(n, protocol.slab_edge_fraction)
        dtype = torch.complex64 if np.iscomplexobj(weight) else torch.float32
        matrices.append(torch.as_tensor(weight, dtype=dtype, device=device))
        first.append(float(centers[0]))
    return Sampling(
        matrices[0],
        matrices[1],
        matrices[2],
        (protocol.in_plane_mm, protocol.in_plane_mm, protocol.slice_spacing_mm),
        (first[0], first[1], first[2]),
    )


def complex_signal(
    amplitude: torch.Tensor,
    r2_star_per_s: torch.Tensor,
    field_ppm: torch.Tensor,
    protocol: Acquisition,
) -> torch.Tensor:
    """Complex signal of each fine voxel, dephasing within the voxel included.

    A linear field across a voxel dephases it by sinc(Δφ/2π) per axis; ``r2_star_per_s`` holds at
    3 T and scales with the field for its susceptibility part (0.6 of it).
    """
    phase = field_ppm * protocol.phase_per_ppm_rad
    scale = 0.4 + 0.6 * protocol.field_strength_t / 3.0
    magnitude = torch.exp_(r2_star_per_s * (-protocol.echo_time_s * scale)) * amplitude
    for axis in range(3):
        if phase.shape[axis] >= 2:
            change = torch.gradient(phase, dim=axis)[0]
            magnitude *= change.div_(2 * np.pi).sinc_()
    return torch.polar(magnitude, phase)


def shares(fraction: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Share of each scan voxel that something fills, from its share of the fine voxels.

    Fine voxels are averaged by twos first, an eighth of the work.
    """
    halved = [min(2, n) for n in fraction.shape]
    pooled = nnf.avg_pool3d(fraction.float()[None, None], halved, ceil_mode=True)[0, 0]
    matrices = []
    for matrix, step in zip((sampling.x, sampling.y, sampling.z), halved, strict=True):
        real = matrix.real if matrix.is_complex() else matrix
        padded = nnf.pad(real, (0, -real.shape[1] % step))
        matrices.append(padded.reshape(len(padded), -1, step).sum(dim=2))
    return downsample(pooled, *matrices)


def downsample(
    signal: torch.Tensor, x: torch.Tensor, y: torch.Tensor, z: torch.Tensor
) -> torch.Tensor:
    """Apply the three sampling matrices to a (x, y, z) array; any may be real or complex."""
    for axis, matrix in ((2, z), (1, y), (0, x)):
        signal = along(signal, matrix, axis)
    return signal


def along(signal: torch.Tensor, matrix: torch.Tensor, axis: int) -> torch.Tensor:
    """Apply a matrix (n_out, n) to one axis of a (x, y, z) array."""
    if signal.is_complex() and not matrix.is_complex():
        real = along(signal.real.contiguous(), matrix, axis)
        return torch.complex(real, along(signal.imag.contiguous(), matrix, axis))
    if matrix.is_complex():
        signal = signal.to(matrix.dtype)
    if axis == 2:
        return signal @ matrix.T
    if axis == 1:
        return torch.matmul(matrix, signal)
    result: torch.Tensor = torch.tensordot(matrix, signal, dims=([1], [0]))
    return result
