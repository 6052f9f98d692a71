"""One simulated head before it is scanned: its maps on the fine grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as nnf
from scipy import ndimage

from training.simulation import tissue
from training.simulation.anatomy import Anatomy
from training.simulation.field import dipole_field_ppm
from training.simulation.objects import draw_calcifications, draw_iron_nuclei
from training.simulation.tissue import TissueTable, draw_tissue_table
from training.simulation.vessels import (
    draw_perforators,
    draw_perivascular_spaces,
    draw_veins,
    rasterize,
)

FIELD_PADDING_MM = 24.0
VEIN_R2_STAR_PER_S, CALCIFICATION_R2_STAR_PER_S = 45.0, 90.0


@dataclass(frozen=True)
class Subject:
    """A head's maps, all (x, y, z) on ``anatomy.geometry`` unless said otherwise.

    ``texture`` is a factor of the amplitude (half precision: it varies by a few percent).
    """

    anatomy: Anatomy
    tissues: TissueTable
    b0_direction: npt.NDArray[np.float64]
    field_ppm: torch.Tensor
    r2_star_per_s: torch.Tensor
    vein_fraction: torch.Tensor
    void_fraction: torch.Tensor
    fluid_fraction: torch.Tensor
    calcification_fraction: torch.Tensor
    texture: torch.Tensor


def make_subject(anatomy: Anatomy, rng: np.random.Generator, device: torch.device) -> Subject:
    """Tissue, vessels, iron, calcifications and the field of them all."""
    spacing_mm = anatomy.geometry.spacing_mm[0]
    shape = anatomy.labels.shape
    tissues = draw_tissue_table(rng, device)
    labels = torch.as_tensor(anatomy.labels, device=device).long()

    veins = torch.as_tensor(rasterize(draw_veins(anatomy, rng), shape, spacing_mm))
    voids = torch.as_tensor(rasterize(draw_perforators(anatomy, rng), shape, spacing_mm))
    fluid = torch.as_tensor(rasterize(draw_perivascular_spaces(anatomy, rng), shape, spacing_mm))
    stones = torch.as_tensor(rasterize(draw_calcifications(anatomy, rng), shape, spacing_mm))
    veins, voids, fluid, stones = (m.to(device) for m in (veins, voids, fluid, stones))

    r2_star = _blur(tissues.r2_star_per_s[labels])
    chi = tissues.chi_ppm[labels]
    air_free_chi = torch.where(chi.abs() < 1.0, chi, torch.zeros_like(chi))
    nuclei_chi, nuclei_r2_star = draw_iron_nuclei(anatomy, rng)
    r2_star += nuclei_r2_star.to(device)
    r2_star = torch.lerp(r2_star, torch.full_like(r2_star, VEIN_R2_STAR_PER_S), veins)
    r2_star = torch.lerp(r2_star, torch.full_like(r2_star, 3.0), fluid)
    r2_star += CALCIFICATION_R2_STAR_PER_S * stones

    b0 = np.array([rng.normal(0, 0.1), rng.normal(0, 0.2), 1.0])
    b0 /= np.linalg.norm(b0)
    vein_chi = float(rng.uniform(0.25, 0.5))
    stone_chi = -float(rng.uniform(0.4, 1.5))
    fine_chi = air_free_chi + vein_chi * veins + stone_chi * stones + nuclei_chi.to(device)
    field = dipole_field_ppm(fine_chi, (spacing_mm,) * 3, b0)
    del fine_chi, air_free_chi
    field += _coarse_field(torch.where(chi.abs() < 1.0, torch.zeros_like(chi), chi), spacing_mm, b0)
    field = _shim(field, torch.as_tensor(anatomy.brain, device=device))
    coarse_texture = torch.as_tensor(_texture(anatomy, rng), device=device)[None, None]
    texture = nnf.interpolate(coarse_texture, scale_factor=4, mode="trilinear")[0, 0].half()
    return Subject(anatomy, tissues, b0, field, r2_star, veins, voids, fluid, stones, texture)


def amplitude(
    subject: Subject, weight: torch.Tensor, window: tuple[slice, slice, slice]
) -> torch.Tensor:
    """Signal amplitude at echo time 0 in a window of the fine grid.

    ``weight`` is the T1 weighting of each label value, shape (LABEL_LIMIT,).
    """
    table = subject.tissues.proton_density * weight
    labels = torch.as_tensor(subject.anatomy.labels[window], device=table.device).long()
    value = _blur(table[labels])
    value *= subject.texture[window]
    fluid_value = table[tissue.CSF_LABELS[0]]
    value = torch.lerp(value, fluid_value.expand_as(value), subject.fluid_fraction[window])
    value = torch.lerp(value, 0.8 * table[16].expand_as(value), subject.vein_fraction[window])
    value = value * (1 - 0.9 * subject.void_fraction[window])
    return value * (1 - 0.6 * subject.calcification_fraction[window])


def _blur(values: torch.Tensor) -> torch.Tensor:
    """Soften the label edges: a (1, 2, 1)/4 kernel along each axis, edges repeated."""
    for axis in range(3):
        n = values.shape[axis]
        first, last = values.narrow(axis, 0, 1), values.narrow(axis, n - 1, 1)
        before = torch.cat([first, values.narrow(axis, 0, n - 1)], axis)
        after = torch.cat([values.narrow(axis, 1, n - 1), last], axis)
        values = before.add_(after).mul_(0.5).add_(values).mul_(0.5)
    return values


def _coarse_field(
    chi: torch.Tensor, spacing_mm: float, b0: npt.NDArray[np.float64]
) -> torch.Tensor:
    """Field of air and bone, at a quarter of the resolution, padded by what lies at the edge."""
    coarse = nnf.avg_pool3d(chi[None, None], 4)
    n = int(FIELD_PADDING_MM / (4 * spacing_mm))
    padded = nnf.pad(coarse, [n] * 6, mode="replicate")
    field = dipole_field_ppm(padded[0, 0], (4 * spacing_mm,) * 3, b0)[n:-n, n:-n, n:-n]
    return nnf.interpolate(field[None, None], size=chi.shape, mode="trilinear")[0, 0]


def _shim(field: torch.Tensor, brain: torch.Tensor) -> torch.Tensor:
    """Remove the linear part of the field over the brain, as a scanner's shim does."""
    step = 8
    inside = brain[::step, ::step, ::step].nonzero().float() * step
    index = inside.long()
    values = field[index[:, 0], index[:, 1], index[:, 2]]
    design = torch.cat([inside, torch.ones_like(inside[:, :1])], dim=1)
    solution = torch.linalg.lstsq(design, values[:, None]).solution[:, 0]
    shimmed: torch.Tensor = field - solution[3]
    for axis in range(3):
        shape = [1, 1, 1]
        shape[axis] = -1
        ramp = torch.arange(field.shape[axis], device=field.device, dtype=field.dtype)
        shimmed -= (solution[axis] * ramp).view(shape)
    return shimmed


def _texture(anatomy: Anatomy, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Amplitude variation: fine and broad noise, and white-matter lesions near the ventricles."""
    shape = anatomy.depth_in_brain_mm.shape
    fine = rng.normal(0, 1, shape)
    broad = ndimage.gaussian_filter(rng.normal(0, 1, shape), 4.0)
    factor = 1 + rng.uniform(0.005, 0.02) * fine + rng.uniform(0.0, 0.03) * broad / broad.std()
    white = np.isin(anatomy.labels[1::4, 1::4, 1::4], tissue.WHITE_MATTER_LABELS)
    blobs = ndimage.gaussian_filter(rng.normal(0, 1, shape), rng.uniform(0.9, 1.8))
    blobs /= blobs.std()
    closeness = np.exp(-anatomy.distance_to_ventricle_mm / rng.uniform(4, 12))
    lesion = white & (blobs + 2.5 * closeness > rng.uniform(2.6, 4.5))
    soft = ndimage.gaussian_filter(lesion.astype(np.float32), 0.6)
    return np.asarray(factor * (1 + rng.uniform(0.08, 0.35) * soft), dtype=np.float32)
