"""What skull-stripping tools leave of a head, well and badly."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as nnf
from scipy import ndimage

from training.simulation.protocol import Acquisition

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
COARSE_MM = 2.0
SMOOTHNESS_MM = 2.5
MARGIN_MM = {
    "good": (0.8, 2.2),
    "tight": (-1.8, -0.3),
    "loose": (3.5, 7.0),
}
"""Kept beyond the brain with its sulci closed, by the kind of stripping; others as in "fair"."""
FAIR_MARGIN_MM = (0.0, 3.5)
HOLE_DEPTH_MM = 14.0


def stripped(
    image: FloatArray, brain: BoolArray, protocol: Acquisition, rng: np.random.Generator
) -> BoolArray:
    """Voxels that ``protocol.stripping`` keeps, on the scan's grid.

    The outline is smooth and wavy. "tight" and "loose" cut too much or too little; "holes" misses
    dark voxels near the surface, as tools do that use a threshold; "bite" loses a part of the
    frontal or temporal base; "remnants" leaves dura, eyes or scalp.
    """
    spacing = np.array([protocol.in_plane_mm, protocol.in_plane_mm, protocol.slice_spacing_mm])
    steps = np.maximum(1, np.round(COARSE_MM / spacing)).astype(int)
    coarse = brain[tuple(slice(int(s) // 2, None, int(s)) for s in steps)]
    depth = signed_depth_mm(coarse, spacing * steps)
    depth = ndimage.gaussian_filter(depth, SMOOTHNESS_MM / (spacing * steps))
    wave_mm = 0.3 if protocol.stripping == "good" else float(rng.uniform(0.4, 1.2))
    depth += wave_mm * _waves(coarse.shape, spacing * steps, rng)
    depth += float(rng.uniform(*MARGIN_MM.get(protocol.stripping, FAIR_MARGIN_MM)))
    if protocol.stripping == "bite":
        depth = np.minimum(depth, _bite(coarse, spacing * steps, rng))
    if protocol.stripping == "remnants":
        depth = np.maximum(depth, _remnant(coarse, spacing * steps, rng))
    fine = _enlarged(depth, brain.shape)
    kept: BoolArray = fine > 0
    if protocol.stripping == "holes":
        dark = image < float(rng.uniform(0.25, 0.45)) * np.median(image[brain])
        kept &= ~(dark & (fine < HOLE_DEPTH_MM))
    return kept


def signed_depth_mm(
    brain: BoolArray, spacing_mm: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Distance to the brain's surface, positive within."""
    padded = np.pad(brain, 1)
    inside = ndimage.distance_transform_edt(padded, sampling=spacing_mm)
    outside = ndimage.distance_transform_edt(~padded, sampling=spacing_mm)
    # from voxel centers on both sides to the surface between them
    middle = float(min(spacing_mm)) / 2
    depth = np.where(padded, inside - middle, middle - outside)
    return np.asarray(depth[1:-1, 1:-1, 1:-1])


def _waves(
    shape: tuple[int, ...], spacing_mm: npt.NDArray[np.float64], rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Smooth noise of unit variance, some 12 mm wide."""
    noise = ndimage.gaussian_filter(rng.normal(0, 1, shape), 5.0 / spacing_mm)
    return np.asarray(noise / max(float(noise.std()), 1e-9))


def _bite(
    brain: BoolArray, spacing_mm: npt.NDArray[np.float64], rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Distance from a ball at the base of a frontal or temporal lobe, negative within."""
    voxels = np.argwhere(brain)
    if len(voxels) == 0:
        return np.full(brain.shape, np.inf)
    side = float(rng.choice([-1, 1]))
    across, forward, up = (0.2, 0.92, 0.25) if rng.random() < 0.5 else (0.7, 0.7, 0.1)
    share = np.array([0.5 + 0.5 * side * across, forward, up]) + rng.normal(0, 0.04, 3)
    low, high = voxels.min(axis=0), voxels.max(axis=0)
    aim_mm = (low + share * (high - low)) * spacing_mm
    nearest = voxels[np.linalg.norm(voxels * spacing_mm - aim_mm, axis=1).argmin()]
    place_mm = np.indices(brain.shape).reshape(3, -1).T * spacing_mm
    distance = np.linalg.norm(place_mm - nearest * spacing_mm, axis=1).reshape(brain.shape)
    return np.asarray(distance - rng.uniform(8, 17))


def _remnant(
    brain: BoolArray, spacing_mm: npt.NDArray[np.float64], rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Positive in some blobs outside the brain."""
    depth = signed_depth_mm(brain, spacing_mm)
    blobs = 4 * (_waves(brain.shape, 2.5 * spacing_mm, rng) - rng.uniform(1.2, 1.9))
    return np.minimum(blobs, depth + rng.uniform(8, 25))


def _enlarged(coarse: npt.NDArray[np.float64], shape: tuple[int, ...]) -> FloatArray:
    tensor = torch.as_tensor(coarse, dtype=torch.float32)[None, None]
    return np.asarray(nnf.interpolate(tensor, size=tuple(shape), mode="trilinear")[0, 0].numpy())
