"""Microbleeds: small strongly paramagnetic cores, drawn to match published statistics.

What makes a lesion large and dark on a scan is its magnetic moment, susceptibility times volume;
blooming does the rest and is left to the physics. So one continuous distribution of the moment
gives faint specks and black balls, and how wide it must be follows from the diameters that readers
measured on real scans. The moment is said as a diameter, within which the dipole's field at 3 T
and 20 ms turns the phase by more than ``BLOOM_PHASE_RAD``.

Sources: sizes and places of 957 lesions of five sets (see ``docs/lesion_features.md``); Greenberg
et al., Lancet Neurology 8, 2009, and Schrag et al., Acta Neuropathologica 119, 2010 (haemosiderin
deposits of well below a millimeter behind lesions of several on the scan).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from training.simulation.anatomy import Anatomy
from training.simulation.field import phase_per_ppm_rad, sphere_field_ppm
from training.simulation.places import LesionPlaces

FloatArray = npt.NDArray[np.float64]

BLOOM_LN_MEAN, BLOOM_LN_SD = 0.68, 0.30
"""Of most lesions' bloom diameter (ln mm). What is measured is larger by the voxels' size."""
TAIL_SHARE, TAIL_LN_SD = 0.35, 0.65
"""Published diameters have heavier tails than a log-normal: a share of the lesions varies more."""
LARGE_SHARE = 0.08
"""Default share of lesions drawn large on purpose, so that training sees enough of them."""
LARGE_DIAMETER_MM = (4.5, 10.0)
SMALLEST_DIAMETER_MM = 0.8
BLOOM_PHASE_RAD = 1.2
REFERENCE_PHASE_PER_PPM_RAD = phase_per_ppm_rad(3.0, 0.020)
CORE_RADIUS_MM = (0.3, 1.2)
"""Of the deposit of all but large lesions; large ones may have up to 40 % of their bloom."""
DELTA_CHI_PPM = (0.15, 6.0)
"""From old, faded deposits, grey on any scan, to fresh dense haemosiderin."""
R2_STAR_PER_PPM_S = (120.0, 320.0)
"""Per ppm of the deposit at 3 T: from that of iron in deep nuclei to that of the static dephasing
regime, .403 γ B0 (Yablonskiy and Haacke, Magn Reson Med 32, 1994)."""
LARGEST_R2_STAR_PER_S = 400.0
PARTS_SHARE = (0.40, 0.30, 0.18, 0.12)
"""Of lesions of 1, 2, 3 and 4 spheres."""
ELONGATED_SHARE = 0.2
"""Of the lesions of several spheres: those in a row, as after a bleed along a vessel."""
CLOSE_SHARE, CLOSE_MM = 0.08, 5.0
"""Lesions that may be closer to another than all the rest, and how close."""
PATCH_FIELD_PPM = 0.006
"""A lesion's patch ends where its field is weaker than this: .1 rad at 3 T and 20 ms."""
PATCH_RADIUS_MM = (5.0, 14.0)


@dataclass(frozen=True)
class Lesion:
    """A cluster of spheres; lengths in mm, place from the fine grid's first voxel center.

    ``bloom_diameter_mm`` says its moment: see the module. ``r2_star_per_s`` is added within.
    """

    center_mm: tuple[float, float, float]
    sphere_offsets_mm: tuple[tuple[float, float, float], ...]
    sphere_radii_mm: tuple[float, ...]
    delta_chi_ppm: float
    r2_star_per_s: float
    bloom_diameter_mm: float
    region: str

    @property
    def patch_radius_mm(self) -> float:
        """Distance within which the lesion changes the field noticeably."""
        moment = self.delta_chi_ppm * sum(radius**3 for radius in self.sphere_radii_mm)
        return float(np.clip((2 / 3 * moment / PATCH_FIELD_PPM) ** (1 / 3), *PATCH_RADIUS_MM))


def draw_lesions(
    anatomy: Anatomy,
    count: int,
    rng: np.random.Generator,
    *,
    min_distance_mm: float = 8.0,
    large_share: float = LARGE_SHARE,
) -> list[Lesion]:
    """Up to ``count`` lesions, most of them at least ``min_distance_mm`` apart.

    A few pairs are as close as ``CLOSE_MM``, large lesions farther from all others than the two
    radii. ``large_share`` of them are drawn from ``LARGE_DIAMETER_MM`` whatever real ones are; 0
    gives the sizes of real lesions. Where they lie follows the scan's pattern
    (:class:`training.simulation.places.LesionPlaces`). Fewer come back where there is no room.
    """
    places = LesionPlaces(anatomy, rng)
    lesions: list[Lesion] = []
    for region in places.draw_regions(count, rng):
        diameter_mm = _draw_diameter_mm(large_share, rng)
        least_mm = min_distance_mm
        if rng.random() < CLOSE_SHARE:
            least_mm = min(min_distance_mm, CLOSE_MM)
        for _ in range(20):
            center_mm = places.draw_center_mm(region, rng)
            if center_mm is not None and _has_room(center_mm, diameter_mm, least_mm, lesions):
                lesions.append(_draw_one(center_mm, diameter_mm, region, rng))
                break
    return lesions


def _has_room(
    center_mm: FloatArray, diameter_mm: float, least_mm: float, others: list[Lesion]
) -> bool:
    for other in others:
        radii_mm = (diameter_mm + other.bloom_diameter_mm) / 2
        distance_mm = np.linalg.norm(center_mm - other.center_mm)
        if distance_mm < max(least_mm, radii_mm + 2.0):
            return False
    return True


def _draw_diameter_mm(large_share: float, rng: np.random.Generator) -> float:
    """Bloom diameter."""
    if rng.random() < large_share:
        low, high = np.log(LARGE_DIAMETER_MM)
        return float(np.exp(rng.uniform(low, high)))
    spread = TAIL_LN_SD if rng.random() < TAIL_SHARE else BLOOM_LN_SD
    diameter_mm = rng.lognormal(BLOOM_LN_MEAN, spread)
    return float(np.clip(diameter_mm, SMALLEST_DIAMETER_MM, LARGE_DIAMETER_MM[1]))


def _draw_one(
    center_mm: FloatArray, diameter_mm: float, region: str, rng: np.random.Generator
) -> Lesion:
    moment_ppm_mm3 = 3 * BLOOM_PHASE_RAD / REFERENCE_PHASE_PER_PPM_RAD * (diameter_mm / 2) ** 3
    # the cores' joint radius that a susceptibility within its limits allows
    low_mm, high_mm = ((moment_ppm_mm3 / chi) ** (1 / 3) for chi in reversed(DELTA_CHI_PPM))
    low_mm = max(low_mm, CORE_RADIUS_MM[0])
    high_mm = max(low_mm, min(high_mm, max(CORE_RADIUS_MM[1], 0.4 * diameter_mm / 2)))
    joint_mm = float(rng.uniform(low_mm, high_mm))
    delta_chi_ppm = float(moment_ppm_mm3 / joint_mm**3)
    r2_star_per_s = min(LARGEST_R2_STAR_PER_S, delta_chi_ppm * rng.uniform(*R2_STAR_PER_PPM_S))
    offsets_mm, radii_mm = _draw_spheres(joint_mm, diameter_mm, rng)
    x, y, z = (float(c) for c in center_mm)
    return Lesion(
        (x, y, z),
        offsets_mm,
        radii_mm,
        delta_chi_ppm,
        float(r2_star_per_s),
        diameter_mm,
        region,
    )


def _draw_spheres(
    joint_mm: float, diameter_mm: float, rng: np.random.Generator
) -> tuple[tuple[tuple[float, float, float], ...], tuple[float, ...]]:
    """Offsets from the common center and radii of spheres with the volume of one of ``joint_mm``.

    Each sphere touches or overlaps an earlier one; more and farther apart in large lesions, which
    are irregular.
    """
    parts = int(rng.choice(len(PARTS_SHARE), p=PARTS_SHARE)) + 1
    if diameter_mm >= LARGE_DIAMETER_MM[0]:
        parts = int(rng.integers(3, 9))
    weight = np.concatenate([[1.0], rng.uniform(0.15, 0.8, parts - 1)])
    radii = joint_mm * np.cbrt(weight / weight.sum())
    row = rng.normal(size=3) if rng.random() < ELONGATED_SHARE else None
    offsets = np.zeros((parts, 3))
    for part in range(1, parts):
        before = part - 1 if row is not None else int(rng.integers(0, part))
        step = rng.normal(size=3) if row is None else row + 0.3 * rng.normal(size=3)
        length = (radii[before] + radii[part]) * rng.uniform(0.6, 1.1)
        offsets[part] = offsets[before] + step * length / np.linalg.norm(step)
    offsets -= (weight[:, None] * offsets).sum(axis=0) / weight.sum()
    return (
        tuple((float(x), float(y), float(z)) for x, y, z in offsets),
        tuple(float(radius) for radius in radii),
    )


@dataclass(frozen=True)
class LesionPatch:
    """What a lesion adds around itself: ``window`` slices of the fine grid, and its maps there."""

    window: tuple[slice, slice, slice]
    field_ppm: torch.Tensor
    fraction: torch.Tensor


def lesion_patch(
    lesion: Lesion, shape: tuple[int, ...], spacing_mm: float, b0_direction: torch.Tensor
) -> LesionPatch:
    """Field (ppm) and volume fraction of a lesion on its part of the fine grid."""
    device = b0_direction.device
    reach = int(np.ceil(lesion.patch_radius_mm / spacing_mm))
    middle = [round(c / spacing_mm) for c in lesion.center_mm]
    bounds = [
        (max(0, m - reach), min(n, m + reach + 1)) for m, n in zip(middle, shape, strict=True)
    ]
    window = tuple(slice(a, b) for a, b in bounds)
    axes = [torch.arange(a, b, device=device) * spacing_mm for a, b in bounds]
    place = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    field = torch.zeros(place.shape[:-1], device=device)
    fraction = torch.zeros_like(field)
    for offset, radius in zip(lesion.sphere_offsets_mm, lesion.sphere_radii_mm, strict=True):
        center = torch.tensor(lesion.center_mm, device=device) + torch.tensor(offset, device=device)
        relative = place - center
        field += sphere_field_ppm(relative, radius, lesion.delta_chi_ppm, b0_direction)
        edge = (radius - relative.norm(dim=-1)) / spacing_mm + 0.5
        fraction = torch.maximum(fraction, edge.clamp(0, 1))
    return LesionPatch((window[0], window[1], window[2]), field, fraction)
