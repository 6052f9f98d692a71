"""Microbleeds: small strongly paramagnetic cores, drawn to match published statistics.

The diameter is log-normal, the place follows the share of 957 published lesions per region. The
core is smaller than what is seen: blooming does the rest, and is left to the physics.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from training.simulation import tissue
from training.simulation.anatomy import Anatomy
from training.simulation.field import phase_per_ppm_rad, sphere_field_ppm

REGION_LABELS: dict[str, tuple[int, ...]] = {
    "white matter": (2, 41),
    "cortex": tissue.CORTEX_LABELS,
    "basal ganglia": tissue.CAUDATE_LABELS + tissue.PUTAMEN_LABELS + tissue.PALLIDUM_LABELS,
    "cerebellum": tissue.CEREBELLUM_LABELS,
    "thalamus": tissue.THALAMUS_LABELS,
    "brainstem": tissue.BRAINSTEM_LABELS,
    "other deep grey": tissue.VENTRAL_DC_LABELS + tissue.HIPPOCAMPUS_LABELS,
}
REGION_SHARE = (0.40, 0.31, 0.10, 0.08, 0.05, 0.04, 0.02)
DIAMETER_LN_MEAN, DIAMETER_LN_SD = 0.85, 0.34
"""Of the intended diameter. What is measured on the scan is larger by the voxels' size; these
give the published log-normal (mu 1.057, sigma .277 in ln mm) on scans with thick slices."""
LARGE_SHARE = 0.12
"""Lesions drawn larger, so that training sees enough of those over 4 mm."""
REFERENCE_PHASE_PER_PPM_RAD = phase_per_ppm_rad(3.0, 0.020)
PATCH_RADIUS_MM = 8.0


@dataclass(frozen=True)
class Lesion:
    """A cluster of 1 to 3 spheres; lengths in mm, place from the fine grid's first voxel center."""

    center_mm: tuple[float, float, float]
    sphere_offsets_mm: tuple[tuple[float, float, float], ...]
    sphere_radii_mm: tuple[float, ...]
    delta_chi_ppm: float
    r2_star_per_s: float
    intended_diameter_mm: float
    region: str


def draw_lesions(
    anatomy: Anatomy, count: int, rng: np.random.Generator, *, min_distance_mm: float = 8.0
) -> list[Lesion]:
    """Up to ``count`` lesions at least ``min_distance_mm`` apart."""
    lesions: list[Lesion] = []
    spacing_mm = anatomy.geometry.spacing_mm[0]
    coarse = anatomy.labels[1::4, 1::4, 1::4]
    candidates = {
        region: np.argwhere(np.isin(coarse, labels)) for region, labels in REGION_LABELS.items()
    }
    share = np.array(REGION_SHARE) * [len(places) > 0 for places in candidates.values()]
    regions = rng.choice(list(REGION_LABELS), size=count, p=share / share.sum())
    limit = np.array(anatomy.labels.shape) * spacing_mm - PATCH_RADIUS_MM - 2
    for region in regions:
        places = candidates[region]
        for _ in range(20):
            voxel = places[rng.integers(0, len(places))]
            center = (voxel + rng.random(3)) * 4 * spacing_mm
            near = [np.linalg.norm(center - other.center_mm) for other in lesions]
            inside = (center > PATCH_RADIUS_MM + 2).all() and (center < limit).all()
            if inside and (not near or min(near) >= min_distance_mm):
                lesions.append(_draw_one(center, str(region), rng))
                break
    return lesions


def _draw_one(center_mm: npt.NDArray[np.float64], region: str, rng: np.random.Generator) -> Lesion:
    diameter = rng.lognormal(DIAMETER_LN_MEAN, DIAMETER_LN_SD)
    if rng.random() < LARGE_SHARE:
        diameter *= rng.uniform(1.3, 2.2)
    diameter = float(np.clip(diameter, 1.0, 9.0))
    core = diameter / 2 * float(rng.uniform(0.45, 0.85))
    critical_phase = float(rng.uniform(0.5, 2.2))
    blooming = (diameter / 2 / core) ** 3
    chi = 3.0 * critical_phase * blooming / REFERENCE_PHASE_PER_PPM_RAD
    parts = int(rng.choice([1, 2, 3], p=[0.6, 0.25, 0.15]))
    offsets = [(0.0, 0.0, 0.0)]
    radii = [core if parts == 1 else core * 0.9]
    for _ in range(parts - 1):
        step = rng.normal(size=3)
        step *= core * rng.uniform(0.5, 1.0) / np.linalg.norm(step)
        offsets.append((float(step[0]), float(step[1]), float(step[2])))
        radii.append(core * float(rng.uniform(0.4, 0.7)))
    x, y, z = (float(c) for c in center_mm)
    return Lesion(
        (x, y, z),
        tuple(offsets),
        tuple(radii),
        float(np.clip(chi, 0.3, 6.0)),
        float(rng.uniform(120, 350)),
        diameter,
        region,
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
    reach = int(np.ceil(PATCH_RADIUS_MM / spacing_mm))
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
