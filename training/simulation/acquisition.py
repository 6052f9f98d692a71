"""How a scanner samples the fine grid: sequence, voxels, slice profile."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from training.simulation.field import phase_per_ppm_rad


@dataclass(frozen=True)
class Acquisition:
    """One scan protocol; lengths in mm, times in s."""

    sequence: str
    dimensionality: str
    field_strength_t: float
    echo_time_s: float
    repetition_time_s: float
    flip_angle_deg: float
    acquired_in_plane_mm: float
    in_plane_mm: float
    slice_thickness_mm: float
    slice_spacing_mm: float
    snr: float
    bias_strength: float
    swi_mask_power: int
    swi_low_pass_mm: float
    phase_sign: int
    skull_stripped: bool
    zero_background: bool

    @property
    def phase_per_ppm_rad(self) -> float:
        """Phase per ppm of field offset at the echo."""
        return phase_per_ppm_rad(self.field_strength_t, self.echo_time_s)


def draw_acquisition(rng: np.random.Generator) -> Acquisition:
    """A protocol of the three families: 2D T2*-GRE, 3D T2*-GRE, 3D SWI."""
    family = rng.choice(["2D T2*", "3D T2*", "SWI"], p=[0.55, 0.15, 0.30])
    field = float(rng.choice([1.5, 3.0], p=[0.45, 0.55]))
    acquired = float(rng.uniform(0.65, 1.1))
    # scanners often interpolate to twice the matrix
    in_plane = acquired if rng.random() < 0.6 else acquired * float(rng.uniform(0.5, 0.8))
    if family == "2D T2*":
        echo, repetition = rng.uniform(0.015, 0.028), rng.uniform(0.45, 1.3)
        thickness = float(rng.uniform(2.5, 5.0))
        spacing = thickness * float(rng.choice([1.0, 1.1, 1.2]))
        snr = rng.uniform(22, 70)
    elif family == "3D T2*":
        echo, repetition = rng.uniform(0.015, 0.028), rng.uniform(0.028, 0.06)
        thickness = spacing = float(rng.uniform(1.0, 3.2))
        snr = rng.uniform(18, 50)
    else:
        echo, repetition = rng.uniform(0.018, 0.028), rng.uniform(0.028, 0.05)
        thickness = spacing = float(rng.uniform(1.0, 2.5))
        acquired = float(rng.uniform(0.5, 1.0))
        in_plane = acquired * float(rng.uniform(0.6, 1.0))
        snr = rng.uniform(15, 45)
    if field == 1.5:
        echo *= 1.5
    return Acquisition(
        sequence="SWI" if family == "SWI" else "T2*",
        dimensionality="2D" if family == "2D T2*" else "3D",
        field_strength_t=field,
        echo_time_s=float(echo),
        repetition_time_s=float(repetition),
        flip_angle_deg=float(rng.uniform(12, 25)),
        acquired_in_plane_mm=acquired,
        in_plane_mm=max(0.4, in_plane),
        slice_thickness_mm=thickness,
        slice_spacing_mm=spacing,
        snr=float(snr),
        bias_strength=float(rng.uniform(0.05, 0.3)),
        swi_mask_power=4,
        swi_low_pass_mm=float(rng.uniform(8, 20)),
        phase_sign=int(rng.choice([-1, 1])),
        skull_stripped=bool(rng.random() < 0.5),
        zero_background=bool(rng.random() < 0.5),
    )


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

    ``first_center_mm`` is the first output voxel's center from the fine grid's first center.
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


def make_sampling(
    protocol: Acquisition,
    fine_shape: tuple[int, ...],
    fine_mm: float,
    rng: np.random.Generator,
    device: torch.device,
) -> Sampling:
    """Sampling of the whole fine field of view with a random offset of the slices.

    In plane, and across the slices of a 3D scan, the point spread is that of a Hann-filtered
    Fourier acquisition; a 2D scan has a soft-edged slice profile.
    """
    matrices, first = [], []
    for axis, n in enumerate(fine_shape):
        across = axis == 2
        out_mm = protocol.slice_spacing_mm if across else protocol.in_plane_mm
        extent = n * fine_mm
        n_out = int(extent // out_mm)
        shift = (
            float(rng.uniform(0, extent - n_out * out_mm))
            if across
            else (extent - n_out * out_mm) / 2
        )
        centers = shift + (np.arange(n_out) + 0.5) * out_mm - fine_mm / 2
        distance = np.arange(n)[None] * fine_mm - centers[:, None]
        if across and protocol.dimensionality == "2D":
            weight = soft_box(distance, protocol.slice_thickness_mm)
        else:
            width = protocol.slice_thickness_mm if across else protocol.acquired_in_plane_mm
            weight = windowed_sinc(distance, width)
        matrices.append(torch.as_tensor(weight * fine_mm, dtype=torch.float32, device=device))
        first.append(float(centers[0]))
    return Sampling(
        matrices[0],
        matrices[1],
        matrices[2],
        (protocol.in_plane_mm, protocol.in_plane_mm, protocol.slice_spacing_mm),
        (first[0], first[1], first[2]),
    )


def soft_box(distance_mm: npt.NDArray[np.float64], width_mm: float) -> npt.NDArray[np.float64]:
    """Slice profile of unit area: a box whose edges fall off over a fifth of its width."""
    edge = 0.2 * width_mm
    inside = np.clip((width_mm / 2 - np.abs(distance_mm)) / edge + 0.5, 0, 1)
    return np.asarray(inside / width_mm)


def windowed_sinc(distance_mm: npt.NDArray[np.float64], width_mm: float) -> npt.NDArray[np.float64]:
    """Point spread of unit area of Fourier sampling at ``width_mm``, Hann-tapered at 5 widths."""
    u = distance_mm / width_mm
    taper = np.where(np.abs(u) < 5, 0.5 + 0.5 * np.cos(np.pi * u / 5), 0.0)
    return np.asarray(np.sinc(u) * taper / width_mm)


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
    magnitude = amplitude * torch.exp(-protocol.echo_time_s * scale * r2_star_per_s)
    for axis in range(3):
        if phase.shape[axis] < 2:
            continue
        magnitude = magnitude * torch.sinc(torch.gradient(phase, dim=axis)[0] / (2 * np.pi))
    return torch.polar(magnitude, phase)


def downsample(
    signal: torch.Tensor, x: torch.Tensor, y: torch.Tensor, z: torch.Tensor
) -> torch.Tensor:
    """Apply the three sampling matrices to a (x, y, z) array, real or complex."""
    if signal.is_complex():
        real = downsample(signal.real.contiguous(), x, y, z)
        return torch.complex(real, downsample(signal.imag.contiguous(), x, y, z))
    by_z = signal @ z.T
    by_y = torch.einsum("xyz,oy->xoz", by_z, y)
    return torch.einsum("xyz,ox->oyz", by_y, x)
