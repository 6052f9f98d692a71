"""What a scanner, a stripping tool and a field of view make of a signal on the patch's grid."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as nnf
from torch import Tensor

from training.simulation.acquisition import Acquisition, soft_box
from training.simulation.image import phase_mask

THICKEST_MM = 6.0


def slice_matrices(
    n: int, spacing_mm: float, thickness_mm: float, slice_mm: float, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """From ``n`` voxels to slices, (m, n), and back by linear interpolation, (n, m)."""
    extent_mm = n * spacing_mm
    m = max(2, int(extent_mm // slice_mm))
    shift = float(rng.uniform(0, max(0.0, extent_mm - m * slice_mm)))
    centers = shift + (np.arange(m) + 0.5) * slice_mm
    voxels = (np.arange(n) + 0.5) * spacing_mm
    profile = soft_box(voxels[None] - centers[:, None], max(thickness_mm, spacing_mm))
    profile /= np.maximum(profile.sum(axis=1, keepdims=True), 1e-6)
    at = np.clip((voxels - centers[0]) / slice_mm, 0, m - 1)
    lower = np.minimum(at.astype(int), m - 2)
    back = np.zeros((n, m))
    rows = np.arange(n)
    back[rows, lower] = 1 - (at - lower)
    back[rows, lower + 1] = at - lower
    return torch.from_numpy(profile.astype(np.float32)), torch.from_numpy(back.astype(np.float32))


def scan(
    signal: Tensor,
    brain: Tensor,
    protocol: Acquisition,
    *,
    slice_axis: int,
    spacing_mm: float,
    rng: np.random.Generator,
) -> Tensor:
    """An image on the patch's grid of a complex or real signal there.

    Slices along ``slice_axis``, magnitude or SWI, receive profile, noise, and back to the grid. A
    real signal is scanned in magnitude, signs and all.
    """
    signal = signal.transpose(slice_axis, 2)
    inside = brain.transpose(slice_axis, 2)
    level = signal.abs()[inside].median() if bool(inside.any()) else signal.abs().mean()
    profile, back = slice_matrices(
        signal.shape[2], spacing_mm, protocol.slice_thickness_mm, protocol.slice_spacing_mm, rng
    )
    if signal.is_complex():
        slices = torch.complex(signal.real @ profile.T, signal.imag @ profile.T)
        image = slices.abs()
        if protocol.sequence == "SWI":
            image = image * phase_mask(slices, protocol)
    else:
        image = signal @ profile.T
    image = image * receive_profile(image.shape, protocol.bias_strength, rng)
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    sd = float(level) / protocol.snr
    if not signal.is_complex() and bool(signal.min() < 0):
        image = image + sd * torch.randn(image.shape, generator=generator)
    else:
        noise = sd * torch.randn((2, *image.shape), generator=generator)
        image = torch.hypot(image + noise[0], noise[1])
    return (image @ back.T).transpose(slice_axis, 2).contiguous()


def receive_profile(shape: tuple[int, ...], strength: float, rng: np.random.Generator) -> Tensor:
    """A smooth factor."""
    knots = torch.from_numpy(rng.normal(0, strength, (1, 1, 4, 4, 4)).astype(np.float32))
    return torch.exp(nnf.interpolate(knots, size=shape, mode="trilinear"))[0, 0]


def stripped_to(brain: Tensor, rng: np.random.Generator) -> Tensor:
    """What a stripping tool keeps: the brain with its sulci, smooth, a little too much or little.

    Tools differ by some millimeters and leave bits of dura; none keeps sulci open.
    """
    share = brain.float()[None, None]
    for width in (5, 5):
        share = nnf.avg_pool3d(share, width, stride=1, padding=width // 2)
    threshold = float(rng.uniform(0.12, 0.55))
    if rng.random() < 0.3:
        coarse = rng.normal(0, 0.1, (1, 1, *[max(2, n // 12) for n in brain.shape]))
        wobble = torch.from_numpy(coarse.astype(np.float32))
        share = share + nnf.interpolate(wobble, size=brain.shape, mode="trilinear")
    return share[0, 0] > threshold


def cut(shape: tuple[int, ...], rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """A field of view that ends within the patch: up to a third is missing on one side."""
    inside = np.ones(shape, dtype=np.bool_)
    axis = int(rng.choice(3, p=[0.15, 0.15, 0.7]))
    n = int(rng.integers(1, max(2, shape[axis] // 3)))
    missing = slice(0, n) if rng.random() < 0.5 else slice(-n, None)
    np.moveaxis(inside, axis, 0)[missing] = False
    return inside
