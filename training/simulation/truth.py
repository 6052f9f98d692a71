"""Truth of a simulated scan, from the difference that the lesions made.

A voxel belongs to a lesion that took at least ``TRUTH_MIN_DROP`` of its signal and at least
``TRUTH_SHARE_OF_PEAK`` of what the lesion took where it took most. Readers outline what is clearly
darker than the tissue around, about half-way; .4 rather than .5 because the deepest voxel of a
lesion that lies across voxels is not its full depth. With it the masks on slices of 3 and 4 mm hold
about as many voxels as readers' masks of real lesions, from 3 to 30.

Which lesions are worth teaching says ``visibility``: a lesion below 2 cannot be told from the noise
and from the tissue's own unevenness, such as the dark iron of a pallidum or a vein beside it, and
teaching it would teach to find nothing. Real lesions that readers marked are 3 and more.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from training.simulation.acquisition import Sampling
from training.simulation.lesions import Lesion

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
TRUTH_MIN_DROP = 0.12
"""A voxel belongs to a lesion if it lost at least this share of its signal ..."""
TRUTH_SHARE_OF_PEAK = 0.4
"""... and at least this share of the lesion's largest loss (close to half maximum)."""
TRUTH_REACH_MM = 7.0
"""Distance from a lesion's center that its mask may reach; large lesions reach farther."""
TEXTURE_REACH_MM = 6.0
BLACK_SHARE, BRIGHT_SHARE = 0.05, 1.5
"""Surroundings darker than this share of a bright scan voxel are no tissue (air, bone), nor are
those brighter than this multiple of the surroundings' median (cerebrospinal fluid)."""


def truth_from_difference(
    without: FloatArray,
    with_lesions: FloatArray,
    lesions: list[Lesion],
    sampling: Sampling,
    noise_sd: float,
) -> tuple[npt.NDArray[np.int16], list[dict[str, Any]]]:
    """Label map of what the lesions took from the signal, and the facts of each lesion.

    Parameters
    ----------
    without, with_lesions
        Noise-free contrast images (x, y, z) of the same head.
    noise_sd
        Standard deviation of the noise that the scan will get, in the images' unit.

    Returns
    -------
    labels, facts
        Each lesion's voxels have its ``label``; where masks would overlap, a voxel goes to the
        lesion whose sphere of blooming is nearest. A lesion without a voxel has no entry.

        Facts: ``center_ijk`` and volumes are in voxels and mm³ of the scan. ``signal_loss`` is the
        largest lost share of the signal (0 to 1). ``contrast_to_noise`` is the largest loss over
        the noise, ``contrast_to_texture`` over the spread of the lesion-free tissue around
        (1.4826 × median absolute deviation within ``TEXTURE_REACH_MM``), and ``visibility`` over
        both together (root of the sum of squares), so that it is below either. It is the
        counterpart of a real lesion's depth over the spread of its surroundings.
    """
    labels = np.zeros(without.shape, dtype=np.int16)
    loss = without - with_lesions
    floor = BLACK_SHARE * float(np.percentile(without, 99))
    share: FloatArray = (loss / np.maximum(without, floor)).astype(np.float32)
    spacing = np.array(sampling.spacing_mm)
    facts: list[dict[str, Any]] = []
    for lesion in lesions:
        middle = (np.array(lesion.center_mm) - sampling.first_center_mm) / spacing
        reach_mm = max(TRUTH_REACH_MM, lesion.bloom_diameter_mm)
        reach = np.maximum(reach_mm / spacing, 1.0)
        low = np.maximum(0, np.floor(middle - reach)).astype(int)
        high = np.minimum(without.shape, np.ceil(middle + reach) + 1).astype(int)
        if (high - low < 1).any():
            continue
        window = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        place_mm = (np.indices(share[window].shape).reshape(3, -1).T + low) * spacing
        place_mm += sampling.first_center_mm
        own = _nearer_than_others(lesion, lesions, place_mm).reshape(share[window].shape)
        distance_mm = np.linalg.norm(place_mm - lesion.center_mm, axis=1).reshape(own.shape)
        near = own & (distance_mm <= max(2.5, 0.75 * spacing.max()))
        inside = _lesion_region(np.where(own, share[window], 0), near)
        if inside is None:
            continue
        label = len(facts) + 1
        labels[window][inside] = label
        lost = float(loss[window][inside].max())
        texture_sd = _texture_sd(without[window], distance_mm, floor)
        volume = float(inside.sum() * spacing.prod())
        facts.append(
            {
                "label": label,
                "center_ijk": (np.argwhere(inside).mean(axis=0) + low).tolist(),
                "diameter_mm": float((6 * volume / np.pi) ** (1 / 3)),
                "volume_mm3": volume,
                "contrast_to_noise": lost / noise_sd,
                "contrast_to_texture": lost / max(texture_sd, 1e-6 * floor),
                "visibility": lost / float(np.hypot(noise_sd, texture_sd)),
                "signal_loss": float(share[window][inside].max()),
                "core_radius_mm": max(lesion.sphere_radii_mm),
                "delta_chi_ppm": lesion.delta_chi_ppm,
                "bloom_diameter_mm": lesion.bloom_diameter_mm,
                "region": lesion.region,
            }
        )
    return labels, facts


def _nearer_than_others(
    lesion: Lesion, lesions: list[Lesion], place_mm: npt.NDArray[np.float64]
) -> BoolArray:
    """Which places, (n, 3), are closer to this lesion's sphere of blooming than to any other's."""
    own = np.ones(len(place_mm), dtype=bool)
    reach_mm = np.linalg.norm(place_mm - lesion.center_mm, axis=1)
    outside_mm = reach_mm - lesion.bloom_diameter_mm / 2
    for other in lesions:
        apart_mm = float(np.linalg.norm(np.subtract(other.center_mm, lesion.center_mm)))
        if other is lesion or apart_mm > 2 * reach_mm.max() + other.bloom_diameter_mm:
            continue
        to_other_mm = np.linalg.norm(place_mm - other.center_mm, axis=1)
        own &= outside_mm <= to_other_mm - other.bloom_diameter_mm / 2
    return own


def _lesion_region(share: FloatArray, near: BoolArray) -> BoolArray | None:
    """Connected voxels of marked loss that hold the largest loss near the lesion's center."""
    if not near.any():
        return None
    start = np.unravel_index(np.argmax(np.where(near, share, -1)), share.shape)
    peak = float(share[start])
    if peak < TRUTH_MIN_DROP:
        return None
    regions, _ = ndimage.label(share >= max(TRUTH_MIN_DROP, TRUTH_SHARE_OF_PEAK * peak))
    return np.asarray(regions == regions[start])


def _texture_sd(without: FloatArray, distance_mm: npt.NDArray[np.float64], floor: float) -> float:
    """Spread of the lesion-free tissue around, robust; 0 where there is too little tissue."""
    values = without[(distance_mm <= TEXTURE_REACH_MM) & (without > floor)]
    if len(values) < 3:
        return 0.0
    values = values[values <= BRIGHT_SHARE * np.median(values)]
    return float(1.4826 * np.median(np.abs(values - np.median(values))))
