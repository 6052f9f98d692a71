"""From complex scans to the images a reader sees."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as nnf
from scipy import ndimage

from training.simulation.acquisition import Acquisition, Sampling, shares
from training.simulation.receive import receive
from training.simulation.stripping import stripped
from training.simulation.swi import minimum_projection, phase_mask

__all__ = [
    "brain_on_scan",
    "contrast_image",
    "deliver",
    "finish_image",
    "phase_mask",
]

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
CLOSING_MM = 4.0
CLOSING_GRID_MM = 1.2
BACKGROUND_TO_NOISE = 2.2
"""The background's mean is 1.25 times the noise's standard deviation."""


def contrast_image(scan: torch.Tensor, protocol: Acquisition) -> FloatArray:
    """Magnitude, or magnitude × phase mask for SWI (Haacke 2004), projected where asked."""
    magnitude = scan.abs()
    if protocol.sequence == "SWI":
        magnitude *= phase_mask(scan, protocol)
    image = np.asarray(magnitude.cpu().numpy(), dtype=np.float32)
    return minimum_projection(image, protocol.mip_slices)


def brain_on_scan(brain: torch.Tensor, sampling: Sampling) -> BoolArray:
    """Brain with its sulci on the scan's grid: more than half of the voxel, closed, filled.

    Where voxels are small, sulci are closed on every second or third of them.
    """
    share = shares(brain, sampling).cpu()
    inside = share.numpy() > 0.5
    step = max(1, round(CLOSING_GRID_MM / sampling.spacing_mm[0]))
    coarse = inside[::step, ::step]
    reach = CLOSING_MM / (sampling.spacing_mm[0] * step)
    pad = int(reach) + 1
    closed = np.zeros(coarse.shape, dtype=bool)
    for k in range(coarse.shape[2]):
        plane = np.pad(coarse[:, :, k], pad)
        if plane.any():
            dilated = ndimage.distance_transform_edt(~plane) <= reach
            eroded = ndimage.distance_transform_edt(dilated) > reach
            closed[:, :, k] = ndimage.binary_fill_holes(eroded)[pad:-pad, pad:-pad]
    if step > 1:
        planes = torch.as_tensor(closed).permute(2, 0, 1)[:, None].float()
        size = (coarse.shape[0] * step, coarse.shape[1] * step)
        fine = nnf.interpolate(planes, size=size, mode="bilinear", align_corners=False)
        # every step-th voxel was taken, the first of its block and not the middle
        shift = (step - 1) // 2
        moved = nnf.pad(fine[:, 0] > 0.5, (0, shift, 0, shift))[:, shift:, shift:]
        closed = moved.permute(1, 2, 0).numpy()[: inside.shape[0], : inside.shape[1]]
    return np.asarray(inside | closed)


def finish_image(
    image: FloatArray,
    brain: BoolArray,
    protocol: Acquisition,
    noise_sd: float,
    rng: np.random.Generator,
) -> npt.NDArray[np.int16]:
    """A noise-free magnitude image as received and delivered, see those functions."""
    noisy = np.abs(receive(image.astype(np.complex64), brain, protocol, noise_sd, rng))
    return deliver(noisy, brain, protocol, noise_sd, rng)


def deliver(
    image: FloatArray,
    brain: BoolArray,
    protocol: Acquisition,
    noise_sd: float,
    rng: np.random.Generator,
) -> npt.NDArray[np.int16]:
    """What of a noisy image is kept, cut off at the bright end, in whole numbers.

    Outside a stripped brain, and in a background that is blanked, voxels are 0: whole numbers know
    no NaN.
    """
    result = image
    if protocol.skull_stripped:
        result = np.where(stripped(image, brain, protocol, rng), image, 0)
    elif protocol.zero_background:
        result = np.where(_head(image, noise_sd), image, 0)
    level = float(np.percentile(result[brain], 99)) if brain.any() else float(result.max())
    if protocol.clip_percentile < 100 and result.any():
        result = np.minimum(result, np.percentile(result[result > 0], protocol.clip_percentile))
    largest = 2**protocol.quantization_bits - 1
    scaled = result * (protocol.intensity_scale * largest / max(level, 1e-9))
    return np.asarray(np.clip(np.round(scaled), 0, largest), dtype=np.int16)


def _head(image: FloatArray, noise_sd: float) -> BoolArray:
    """What is no background, with everything that it surrounds; in blocks, as scanners blank it."""
    smooth = ndimage.uniform_filter(image, (5, 5, 1))[::2, ::2]
    bright = smooth > BACKGROUND_TO_NOISE * noise_sd
    for k in range(bright.shape[2]):
        bright[:, :, k] = ndimage.binary_fill_holes(bright[:, :, k])
    blocks = bright.repeat(2, axis=0).repeat(2, axis=1)
    return np.asarray(blocks[: image.shape[0], : image.shape[1]])
