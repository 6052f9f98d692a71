"""What makes tissue uneven: grain, slow variation, white-matter lesions, patchy iron."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as nnf
from scipy import ndimage

from training.simulation import tissue
from training.simulation.anatomy import Anatomy
from training.simulation.tissue import labels_in

FloatArray = npt.NDArray[np.float32]
GRAIN_MM = (0.8, 1.6, 3.2, 6.4)
"""Scales of the variation within a tissue. Amplitudes of 1 to 2 % per octave bring simulated scans
to the spread that real T2*-weighted scans have between noise and anatomy."""


def draw_texture(anatomy: Anatomy, rng: np.random.Generator, device: torch.device) -> torch.Tensor:
    """Factor of the signal at echo time 0, float16, (x, y, z) on the fine grid."""
    shape = anatomy.depth_in_brain_mm.shape
    factor = np.ones(shape, dtype=np.float32)
    for scale_mm in GRAIN_MM[1:]:
        factor += rng.uniform(0.006, 0.022) * _noise(shape, scale_mm / anatomy.coarse_mm, rng)
    factor *= 1 + _white_matter_change(anatomy, rng)
    coarse = torch.as_tensor(factor, device=device)[None, None]
    texture = nnf.interpolate(coarse, scale_factor=4, mode="trilinear")[0, 0].half()
    # the finest octave at half the coarse grid's spacing, tiled: nobody can follow it through
    fine = [2 * n for n in shape]
    noise = rng.uniform(0.005, 0.02) * _noise(fine, 2 * GRAIN_MM[0] / anatomy.coarse_mm, rng)
    grain = torch.as_tensor(noise.astype(np.float32), device=device)
    for start in range(0, shape[0], 16):  # in slabs: single precision of the whole is too large
        part = nnf.interpolate(
            grain[None, None, 2 * start : 2 * start + 32], scale_factor=2, mode="trilinear"
        )[0, 0]
        texture[4 * start : 4 * start + len(part)] *= 1 + part.half()
    return texture


def patchy_iron(anatomy: Anatomy, r2_star_per_s: torch.Tensor, rng: np.random.Generator) -> None:
    """Make R2* of the basal ganglia uneven, in place: more behind and outside, in patches.

    Iron of the putamen grows from front to back and from inside out, and both putamen and pallidum
    look blotched (Hametner et al., NeuroImage 2018; Bender & Klose, NMR Biomed 2010).
    """
    labels = tissue.PUTAMEN_LABELS + tissue.PALLIDUM_LABELS + tissue.CAUDATE_LABELS
    coarse = labels_in(anatomy.labels[1::4, 1::4, 1::4], labels)
    places = np.argwhere(coarse)
    if len(places) == 0:
        return
    low, high = np.maximum(places.min(axis=0) - 1, 0), places.max(axis=0) + 2
    high = np.minimum(high, coarse.shape)
    shape = high - low
    patches = rng.uniform(0.05, 0.3) * _noise(shape, 2.5 / anatomy.coarse_mm, rng)
    trend = rng.uniform(-0.1, 0.35) * np.linspace(1, -1, shape[1])[None, :, None]
    factor = torch.as_tensor(np.maximum(1 + patches + trend, 0.5).astype(np.float32))
    fine = nnf.interpolate(factor[None, None], scale_factor=4, mode="trilinear")[0, 0]
    window = tuple(slice(4 * int(a), 4 * int(b)) for a, b in zip(low, high, strict=True))
    within = torch.as_tensor(labels_in(anatomy.labels[window], labels))
    fine = torch.where(within, fine, torch.ones_like(fine)).to(r2_star_per_s.device)
    r2_star_per_s[window] *= fine


def _noise(
    shape: npt.NDArray[np.int_] | tuple[int, ...] | list[int],
    sigma_voxels: float,
    rng: np.random.Generator,
) -> FloatArray:
    """Smooth noise with mean 0 and standard deviation 1."""
    noise = rng.standard_normal(tuple(shape), dtype=np.float32)
    if sigma_voxels > 0.3:
        noise = ndimage.gaussian_filter(noise, sigma_voxels / 2, mode="wrap", truncate=3.0)
    return np.asarray((noise - noise.mean()) / noise.std(), dtype=np.float32)


def _white_matter_change(anatomy: Anatomy, rng: np.random.Generator) -> FloatArray:
    """Rise of the signal by white-matter lesions: a rim and caps at the ventricles, and patches."""
    shape = anatomy.depth_in_brain_mm.shape
    white = labels_in(anatomy.labels[1::4, 1::4, 1::4], tissue.WHITE_MATTER_LABELS)
    blobs = _noise(shape, 2 * float(rng.uniform(0.9, 1.8)), rng)
    closeness = np.exp(-anatomy.distance_to_ventricle_mm / rng.uniform(4, 12))
    lesion = white & (blobs + 2.5 * closeness > rng.uniform(2.4, 4.5))
    soft = ndimage.gaussian_filter(lesion.astype(np.float32), 0.6)
    halo = rng.uniform(0.0, 0.25) * np.exp(-anatomy.distance_to_ventricle_mm / rng.uniform(2, 5))
    rise = rng.uniform(0.08, 0.35) * soft + np.where(white, halo, 0)
    return np.asarray(rise, dtype=np.float32)
