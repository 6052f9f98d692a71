"""Microbleeds put into the complex signal of a real head by their physics.

A lesion multiplies the signal on a finer grid by exp(-TE·R2*)·exp(iφ) of its core and of the dipole
field around it; the change is averaged over each voxel. The scan keeps its own noise. The draw is
kept apart from that of the simulator, so that the measure stays the same while that changes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as nnf
from scipy import ndimage

from CMBDetectorLib.errors import InputError
from CMBDetectorLib.geometry import FloatArray, Geometry
from training.measures.healthy import (
    ECHO_TIME_S,
    PHASE_PER_PPM_RAD,
    HealthyHead,
    smoothing_voxels,
)
from training.simulation.field import phase_per_ppm_rad, sphere_field_ppm

PLACES = {"superficial": 0.5, "deep white matter": 0.3, "deep grey": 0.2}
"""Share of the implants. Superficial: within 15 mm of the brain's surface, cortex and what lies
under it. Deep grey: high susceptibility farther in, nuclei and brainstem. Deep white matter: the
rest."""
SUPERFICIAL_MM, EROSION_MM = 15.0, 4.0
MIN_DISTANCE_MM = 10.0
IMPLANTS = (6, 10)
DEEP_GREY_PPM = 0.04
_FLUID_SHARE = 0.85
"""Of the median signal; what is darker after smoothing is taken for fluid."""
DIAMETER_LN_MEAN, DIAMETER_LN_SD = 0.72, 0.42
DIAMETER_RANGE_MM = (0.8, 8.0)
"""Of the diameter at which the phase of a lesion becomes critical at 3 T and 20 ms; log-normal
after 957 published lesions (median 2.7 mm, p5 1.4, p95 4.8)."""
FINE_FACTOR = 4
WEAKEST_FIELD_PPM = 0.005
"""The change ends where the field is weaker than this: .1 rad at 3 T and 25 ms."""
WINDOW_MM = (4.0, 12.0)
_B0_RAS = (0.0, 0.0, 1.0)


@dataclass(frozen=True)
class Implant:
    """A cluster of 1 to 3 spheres; offsets in RAS mm from the center."""

    center_ras_mm: tuple[float, float, float]
    sphere_offsets_ras_mm: tuple[tuple[float, float, float], ...]
    sphere_radii_mm: tuple[float, ...]
    delta_chi_ppm: float
    r2_star_per_s: float
    place: str


def place_maps(head: HealthyHead) -> dict[str, npt.NDArray[np.bool_]]:
    """Where implants may lie, by kind of place; veins are not left out.

    Parenchyma is the brain at least 4 mm from its edge without what is dark as fluid is.

    Raises
    ------
    InputError
        If nothing is left.
    """
    depth_mm = ndimage.distance_transform_edt(head.brain, sampling=head.geometry.spacing_mm)
    magnitude = np.abs(head.signal)
    smooth = ndimage.gaussian_filter(magnitude, smoothing_voxels(head.geometry, 1.5))
    inside = depth_mm > EROSION_MM
    if not inside.any():
        raise InputError("the healthy head's mask has no voxel 4 mm from its edge; check the mask")
    inside &= smooth >= _FLUID_SHARE * np.median(smooth[inside])
    chi = ndimage.gaussian_filter(head.susceptibility_ppm, smoothing_voxels(head.geometry, 2.0))
    superficial = inside & (depth_mm <= SUPERFICIAL_MM)
    deep_grey = inside & ~superficial & (chi > DEEP_GREY_PPM)
    return {
        "superficial": superficial,
        "deep white matter": inside & ~superficial & ~deep_grey,
        "deep grey": deep_grey,
    }


def draw_implants(
    head: HealthyHead, places: dict[str, npt.NDArray[np.bool_]], rng: np.random.Generator
) -> list[Implant]:
    """6 to 10 lesions at least 10 mm apart; fewer where there is no room."""
    voxels = {name: np.argwhere(places[name]) for name in PLACES}
    share = np.array([PLACES[name] * (len(voxels[name]) > 0) for name in PLACES])
    if not share.any():
        raise InputError("the healthy head has no parenchyma to implant lesions into")
    count = int(rng.integers(IMPLANTS[0], IMPLANTS[1] + 1))
    implants: list[Implant] = []
    for place in rng.choice(list(PLACES), size=count, p=share / share.sum()):
        for _ in range(50):
            ijk = voxels[place][rng.integers(len(voxels[place]))] + rng.uniform(-0.5, 0.5, 3)
            center = head.geometry.ijk_to_ras_mm(ijk)
            others = [np.linalg.norm(center - one.center_ras_mm) for one in implants]
            if not others or min(others) >= MIN_DISTANCE_MM:
                implants.append(_draw_one(center, str(place), rng))
                break
    return implants


def implanted(head: HealthyHead, implants: list[Implant]) -> npt.NDArray[np.complex64]:
    """The head's complex signal with all lesions in it."""
    signal = head.signal.copy()
    for implant in implants:
        _implant(signal, head.geometry, implant)
    return signal


def _draw_one(center_ras_mm: FloatArray, place: str, rng: np.random.Generator) -> Implant:
    diameter = float(np.clip(rng.lognormal(DIAMETER_LN_MEAN, DIAMETER_LN_SD), *DIAMETER_RANGE_MM))
    core = diameter / 2 * rng.uniform(0.45, 0.85)
    critical_phase_rad = rng.uniform(0.5, 2.2)
    blooming = (diameter / 2 / core) ** 3
    chi = 3 * critical_phase_rad * blooming / phase_per_ppm_rad(3.0, 0.020)
    parts = int(rng.choice([1, 2, 3], p=[0.6, 0.25, 0.15]))
    offsets, radii = [(0.0, 0.0, 0.0)], [core if parts == 1 else 0.9 * core]
    for _ in range(parts - 1):
        step = rng.normal(size=3)
        x, y, z = (step * core * rng.uniform(0.5, 1.0) / np.linalg.norm(step)).tolist()
        offsets.append((x, y, z))
        radii.append(core * rng.uniform(0.4, 0.7))
    x, y, z = center_ras_mm.tolist()
    return Implant(
        (x, y, z),
        tuple(offsets),
        tuple(float(radius) for radius in radii),
        float(np.clip(chi, 0.3, 6.0)),
        float(rng.uniform(120, 350)),
        place,
    )


def _implant(signal: npt.NDArray[np.complex64], geometry: Geometry, implant: Implant) -> None:
    """Multiply on the finer grid, and add the change of each voxel's mean to the signal."""
    middle = geometry.ras_mm_to_ijk(implant.center_ras_mm)
    reach = _window_mm(implant) / np.array(geometry.spacing_mm)
    low = np.maximum(0, np.floor(middle - reach)).astype(int)
    high = np.minimum(geometry.shape, np.ceil(middle + reach) + 1).astype(int)
    window = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    fine = [
        torch.arange((b - a) * FINE_FACTOR) / FINE_FACTOR + (0.5 / FINE_FACTOR - 0.5 + a - m)
        for a, b, m in zip(low.tolist(), high.tolist(), middle.tolist(), strict=True)
    ]
    ijk_offset = torch.stack(torch.meshgrid(*fine, indexing="ij"), dim=-1)
    to_mm = torch.as_tensor(geometry.affine[:3, :3].T.copy(), dtype=torch.float32)
    offset_mm = ijk_offset @ to_mm
    # The mean of the finer voxels differs a little from the voxel, where its neighbors do. That
    # difference, noise above all, stays as it is.
    around = torch.as_tensor(signal[window])
    parts = torch.stack([around.real, around.imag])[None]
    scale = float(FINE_FACTOR)
    real, imaginary = nnf.interpolate(parts, scale_factor=scale, mode="trilinear")[0]
    before = torch.complex(real, imaginary)
    factor = _factor(offset_mm, geometry, implant)
    change = before * (factor - 1)
    means = [nnf.avg_pool3d(part[None], FINE_FACTOR)[0] for part in (change.real, change.imag)]
    signal[window] += torch.complex(*means).numpy()


def _window_mm(implant: Implant) -> float:
    """How far from its center the lesion changes the field noticeably."""
    moment = implant.delta_chi_ppm * sum(radius**3 for radius in implant.sphere_radii_mm)
    return float(np.clip((2 / 3 * moment / WEAKEST_FIELD_PPM) ** (1 / 3), *WINDOW_MM))


def _factor(offset_ras_mm: torch.Tensor, geometry: Geometry, implant: Implant) -> torch.Tensor:
    """What the lesion multiplies the signal by, complex, of the shape of the finer grid.

    A linear field across a fine voxel dephases it by sinc(Δφ/2π) per axis, as in the simulator.
    """
    b0 = torch.tensor(_B0_RAS)
    field_ppm = torch.zeros(offset_ras_mm.shape[:-1])
    fraction = torch.zeros_like(field_ppm)
    fine_mm = float(np.mean(geometry.spacing_mm)) / FINE_FACTOR
    for offset, radius_mm in zip(
        implant.sphere_offsets_ras_mm, implant.sphere_radii_mm, strict=True
    ):
        relative = offset_ras_mm - torch.tensor(offset)
        field_ppm += sphere_field_ppm(relative, radius_mm, implant.delta_chi_ppm, b0)
        edge = (radius_mm - relative.norm(dim=-1)) / fine_mm + 0.5
        fraction = torch.maximum(fraction, edge.clamp(0, 1))
    phase = field_ppm * PHASE_PER_PPM_RAD
    size = (1 - 0.5 * fraction) * torch.exp(-ECHO_TIME_S * implant.r2_star_per_s * fraction)
    for axis in range(3):
        size = size * torch.sinc(torch.gradient(phase, dim=axis)[0] / (2 * np.pi))
    return torch.polar(size, phase)
