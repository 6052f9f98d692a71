"""From complex scans to the images a reader sees, and to the truth."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as nnf
from scipy import ndimage

from training.simulation.acquisition import Acquisition, Sampling, downsample
from training.simulation.lesions import Lesion

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
TRUTH_MIN_DROP = 0.12
"""A voxel belongs to a lesion if it lost at least this share of its signal ..."""
TRUTH_SHARE_OF_PEAK = 0.4
"""... and at least this share of the lesion's largest loss (close to half maximum)."""
TRUTH_REACH_MM = 7.0
CLOSING_MM = 4.0


def contrast_image(scan: torch.Tensor, protocol: Acquisition) -> FloatArray:
    """Magnitude, or magnitude × phase mask for SWI (Haacke 2004)."""
    magnitude = scan.abs()
    if protocol.sequence == "SWI":
        magnitude = magnitude * phase_mask(scan, protocol)
    return np.asarray(magnitude.cpu().numpy(), dtype=np.float32)


def phase_mask(scan: torch.Tensor, protocol: Acquisition) -> torch.Tensor:
    """Mask 0 to 1 from the homodyne high-pass filtered phase of each slice.

    Phase of the sign that veins have is mapped linearly to 1 + φ/π and raised to the mask power.
    """
    sigma = protocol.swi_low_pass_mm / protocol.in_plane_mm / 2.355
    low_pass = [_gaussian_matrix(n, sigma, scan.device) for n in scan.shape[:2]]
    across = torch.eye(scan.shape[2], device=scan.device)
    low = downsample(scan, low_pass[0], low_pass[1], across)
    phase = torch.angle(scan * low.conj())
    # the field of a vein along B0 is raised: positive phase here, whatever the vendor's sign
    mask = torch.where(phase > 0, 1 - phase / torch.pi, torch.ones_like(phase))
    return mask.clamp(0, 1) ** protocol.swi_mask_power


def _gaussian_matrix(n: int, sigma_voxels: float, device: torch.device) -> torch.Tensor:
    """Gaussian smoothing of a line of ``n`` voxels as a matrix whose rows sum to 1."""
    place = torch.arange(n, device=device, dtype=torch.float32)
    weight = torch.exp(-0.5 * ((place[:, None] - place) / sigma_voxels) ** 2)
    return weight / weight.sum(dim=1, keepdim=True)


def truth_from_difference(
    without: FloatArray,
    with_lesions: FloatArray,
    lesions: list[Lesion],
    sampling: Sampling,
    noise_sd: float,
) -> tuple[npt.NDArray[np.int16], list[dict[str, Any]]]:
    """Label map of what the lesions took from the signal, and the facts of each lesion.

    Centers and volumes in ``facts`` are in voxels and mm³ of the scan; ``contrast_to_noise`` is
    the largest signal loss over the noise's standard deviation.
    """
    labels = np.zeros(without.shape, dtype=np.int16)
    loss = without - with_lesions
    floor = 0.05 * np.percentile(without, 99)
    share: FloatArray = (loss / np.maximum(without, floor)).astype(np.float32)
    spacing = np.array(sampling.spacing_mm)
    facts: list[dict[str, Any]] = []
    for lesion in lesions:
        middle = (np.array(lesion.center_mm) - sampling.first_center_mm) / spacing
        reach = np.maximum(TRUTH_REACH_MM / spacing, 1.0)
        low = np.maximum(0, np.floor(middle - reach)).astype(int)
        high = np.minimum(without.shape, np.ceil(middle + reach) + 1).astype(int)
        if (high - low < 1).any():
            continue
        window = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        region, peak = _lesion_region(share[window], middle - low, spacing)
        label = len(facts) + 1
        if region is None:
            continue
        labels[window][region & (labels[window] == 0)] = label
        inside = labels[window] == label
        if not inside.any():
            continue
        center = np.argwhere(inside).mean(axis=0) + low
        volume = float(inside.sum() * spacing.prod())
        facts.append(
            {
                "label": label,
                "center_ijk": center.tolist(),
                "diameter_mm": float((6 * volume / np.pi) ** (1 / 3)),
                "volume_mm3": volume,
                "contrast_to_noise": float(loss[window][inside].max() / noise_sd),
                "signal_loss": float(peak),
                "core_radius_mm": max(lesion.sphere_radii_mm),
                "delta_chi_ppm": lesion.delta_chi_ppm,
                "region": lesion.region,
            }
        )
    return labels, facts


def _lesion_region(
    share: FloatArray, middle: npt.NDArray[np.float64], spacing: npt.NDArray[np.float64]
) -> tuple[BoolArray | None, float]:
    """Connected voxels of marked loss that hold the largest loss near the lesion's center."""
    offsets = (np.indices(share.shape).reshape(3, -1).T - middle) * spacing
    distance = np.linalg.norm(offsets, axis=1).reshape(share.shape)
    near = distance <= max(2.5, 0.75 * spacing.max())
    if not near.any():
        return None, 0.0
    peak = float(share[near].max())
    if peak < TRUTH_MIN_DROP:
        return None, peak
    marked = share >= max(TRUTH_MIN_DROP, TRUTH_SHARE_OF_PEAK * peak)
    regions, _ = ndimage.label(marked)
    start = np.unravel_index(np.argmax(np.where(near, share, -1)), share.shape)
    return np.asarray(regions == regions[start]), peak


def brain_on_scan(brain: torch.Tensor, sampling: Sampling) -> BoolArray:
    """Brain with its sulci on the scan's grid: more than half of the voxel, closed, filled."""
    share = downsample(brain.float(), sampling.x, sampling.y, sampling.z).cpu().numpy()
    reach = CLOSING_MM / sampling.spacing_mm[0]
    pad = int(reach) + 1
    mask = np.zeros(share.shape, dtype=bool)
    for k in range(share.shape[2]):
        plane = np.pad(share[:, :, k] > 0.5, pad)
        if plane.any():
            dilated = ndimage.distance_transform_edt(~plane) <= reach
            closed = ndimage.distance_transform_edt(dilated) > reach
            mask[:, :, k] = ndimage.binary_fill_holes(closed)[pad:-pad, pad:-pad]
    return mask


def finish_image(
    image: FloatArray,
    brain: BoolArray,
    protocol: Acquisition,
    noise_sd: float,
    rng: np.random.Generator,
) -> npt.NDArray[np.int16]:
    """Receive profile, Rician noise, stripping or background, and whole numbers."""
    shape = image.shape
    profile = _bias_field(shape, protocol.bias_strength, rng)
    blur = max(0.0, protocol.acquired_in_plane_mm / protocol.in_plane_mm - 1) * 0.6
    channels = []
    for _ in range(2):
        noise = rng.normal(0, 1, shape).astype(np.float32)
        if blur > 0.05:  # interpolated scans have correlated noise
            noise = ndimage.gaussian_filter(noise, (blur, blur, 0))
            noise /= noise.std()
        channels.append(noise * noise_sd)
    result = np.hypot(image * profile + channels[0], channels[1])
    if protocol.skull_stripped:
        result = np.where(_stripped(brain, protocol, rng), result, 0)
    elif protocol.zero_background:
        smooth = ndimage.uniform_filter(result, (5, 5, 1))
        result = np.where(smooth > 4 * noise_sd, result, 0)
    level = np.percentile(result[brain], 99)
    return np.asarray(np.round(result * (rng.uniform(150, 1000) / level)), dtype=np.int16)


def _stripped(brain: BoolArray, protocol: Acquisition, rng: np.random.Generator) -> BoolArray:
    """What a stripping tool leaves: the brain, up to 2 mm more or 1 mm less."""
    change = rng.uniform(-1.0, 2.0) / protocol.in_plane_mm
    if abs(change) < 0.5:
        return brain
    steps = int(np.ceil(abs(change)))
    plane = ndimage.generate_binary_structure(3, 1)
    plane[:, :, [0, 2]] = False
    operation = ndimage.binary_dilation if change > 0 else ndimage.binary_erosion
    return np.asarray(operation(brain, plane, iterations=steps))


def _bias_field(shape: tuple[int, ...], strength: float, rng: np.random.Generator) -> FloatArray:
    """Smooth receive profile with mean 1."""
    coarse = ndimage.zoom(rng.normal(0, strength, (4, 4, 4)), 8, order=3, mode="nearest")
    field = torch.as_tensor(np.exp(coarse), dtype=torch.float32)[None, None]
    fine = nnf.interpolate(field, size=shape, mode="trilinear")[0, 0].numpy()
    return np.asarray(fine / fine.mean(), dtype=np.float32)
