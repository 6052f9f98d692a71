"""One simulated head before it is scanned: its maps on the fine grid."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as nnf

from training.simulation import tissue
from training.simulation.anatomy import Anatomy
from training.simulation.bleeds import draw_other_bleeds
from training.simulation.calcifications import draw_calcifications
from training.simulation.deposits import add_deposits
from training.simulation.field import dipole_field_ppm
from training.simulation.iron import draw_iron
from training.simulation.texture import draw_texture, patchy_iron
from training.simulation.tissue import TissueTable, draw_tissue_table
from training.simulation.vessels import (
    Tube,
    draw_arteries,
    draw_choroid,
    draw_membranes,
    draw_perforators,
    draw_perivascular_spaces,
    draw_veins,
    rasterize,
)

FIELD_PADDING_MM = 24.0
STRONG_CHI_PPM = 1.0
"""Air and bone: their field is computed on a coarser grid, with what lies beyond its edge."""
VEIN_R2_STAR_PER_S, ARTERY_R2_STAR_PER_S = 45.0, 12.0
FLUID_R2_STAR_PER_S, MEMBRANE_R2_STAR_PER_S = 3.0, 60.0
VEIN_CHI_PPM = (0.25, 0.5)
"""Of blood with 50 to 75 % oxygen saturation at normal hematocrit (Weisskoff & Kiihne 1992)."""
CHOROID_SIGNAL = 0.6
"""Of the plexus at echo time 0, as a share of fluid's."""
MEMBRANE_SIGNAL = 0.35
"""Of dura at echo time 0, as a share of white matter's: T2 is short, proton density low."""


@dataclass(frozen=True)
class Subject:
    """A head's maps, all (x, y, z) on ``anatomy.geometry``.

    Fractions are shares of the voxel, 0 to 1. ``texture`` is a factor of the amplitude.
    ``arteries`` are the tubes of ``artery_fraction``, from trunk to end; none where not known.
    """

    anatomy: Anatomy
    tissues: TissueTable
    b0_direction: npt.NDArray[np.float64]
    field_ppm: torch.Tensor
    r2_star_per_s: torch.Tensor
    vein_fraction: torch.Tensor
    void_fraction: torch.Tensor
    fluid_fraction: torch.Tensor
    mimic_fraction: torch.Tensor
    texture: torch.Tensor
    choroid_fraction: torch.Tensor
    artery_fraction: torch.Tensor
    membrane_fraction: torch.Tensor
    arteries: tuple[Tube, ...] = ()


SUBJECT_MAPS = tuple(field.name for field in fields(Subject) if field.type == "torch.Tensor")
"""Names of a subject's maps on the fine grid."""


def make_subject(
    anatomy: Anatomy,
    rng: np.random.Generator,
    device: torch.device,
    without: Collection[str] = (),
) -> Subject:
    """Tissue, vessels, iron, calcifications and the field of them all.

    ``without`` names parts to leave out (:data:`training.simulation.parts.HEAD_PARTS`); they are
    drawn all the same, so that what remains does not depend on it.
    """
    spacing_mm = anatomy.geometry.spacing_mm[0]
    shape = anatomy.labels.shape
    tissues = draw_tissue_table(rng, device)
    labels = torch.as_tensor(anatomy.labels, device=device).long()

    def kept(part: str, share: npt.NDArray[np.float32]) -> torch.Tensor:
        drawn = torch.as_tensor(share, device=device)
        return torch.zeros_like(drawn) if part in without else drawn

    def fraction(part: str, tubes: Iterable[Tube]) -> torch.Tensor:
        return kept(part, rasterize(tubes, shape, spacing_mm))

    veins = fraction("veins", draw_veins(anatomy, rng))
    artery_tubes = draw_arteries(anatomy, rng)
    arteries = fraction("arteries", artery_tubes)
    voids = fraction("arteries", draw_perforators(anatomy, rng))
    fluid = fraction("spaces", draw_perivascular_spaces(anatomy, rng))
    choroid = fraction("spaces", draw_choroid(anatomy, rng))
    membranes = kept("spaces", draw_membranes(anatomy, rng))

    r2_star = _blur(tissues.r2_star_per_s[labels])
    chi = tissues.chi_ppm[labels]
    del labels
    patchy_iron(anatomy, r2_star.clone() if "iron" in without else r2_star, rng)
    for part, rate in (
        (veins, VEIN_R2_STAR_PER_S),
        (arteries, ARTERY_R2_STAR_PER_S),
        (fluid, FLUID_R2_STAR_PER_S),
        (membranes, MEMBRANE_R2_STAR_PER_S),
    ):
        r2_star.lerp_(torch.full_like(r2_star, rate), part)

    b0 = np.array([rng.normal(0, 0.1), rng.normal(0, 0.2), 1.0])
    b0 /= np.linalg.norm(b0)
    strong = chi.abs() >= STRONG_CHI_PPM
    fine_chi = chi.masked_fill(strong, 0.0)
    fine_chi.add_(veins, alpha=float(rng.uniform(*VEIN_CHI_PPM)))
    texture = draw_texture(anatomy, rng, device)
    if "texture" in without:
        texture = torch.ones_like(texture)
    mimics = torch.zeros(shape, dtype=torch.half, device=device)
    iron = list(draw_iron(anatomy, rng))
    other = [*draw_calcifications(anatomy, rng), *draw_other_bleeds(anatomy, rng)]
    deposits = [*([] if "iron" in without else iron), *([] if "mimics" in without else other)]
    add_deposits(deposits, fine_chi, r2_star, texture, mimics)
    field = dipole_field_ppm(fine_chi, (spacing_mm,) * 3, b0)
    del fine_chi
    if "air" not in without:
        field += _coarse_field(chi.masked_fill(~strong, 0.0), spacing_mm, b0)
    del chi, strong
    return Subject(
        anatomy,
        tissues,
        b0,
        _shim(field, torch.as_tensor(anatomy.brain, device=device)),
        r2_star,
        veins.half(),
        voids.half(),
        fluid.half(),
        mimics,
        texture,
        choroid.half(),
        arteries.half(),
        membranes.half(),
        () if "arteries" in without else tuple(artery_tubes),
    )


def amplitude(
    subject: Subject,
    weight: torch.Tensor,
    window: tuple[slice, slice, slice],
    *,
    artery_signal: float = 0.0,
    fat_signal: float = 1.0,
) -> torch.Tensor:
    """Signal amplitude at echo time 0 in a window of the fine grid.

    Parameters
    ----------
    weight
        T1 weighting of each label value, shape (LABEL_LIMIT,).
    artery_signal
        Signal of flowing arterial blood as a share of that of white matter: 0 a flow void, above
        1 bright inflow.
    fat_signal
        Factor of scalp and marrow: 0 where fat is suppressed.
    """
    table = subject.tissues.proton_density * weight
    white, fluid = table[tissue.WHITE_MATTER_LABELS[0]], table[tissue.CSF_LABELS[0]]
    table = table.index_fill(
        0, torch.tensor(tissue.ARTERY_LABELS, device=table.device), float(white * artery_signal)
    )
    fat = torch.tensor(tissue.FAT_LABELS, device=table.device)
    table[fat] = table[fat] * fat_signal
    labels = torch.as_tensor(subject.anatomy.labels[window], device=table.device).long()
    value = _blur(table[labels])
    value *= subject.texture[window]
    for fraction, level in (
        (subject.fluid_fraction, fluid),
        (subject.choroid_fraction, CHOROID_SIGNAL * fluid),
        (subject.membrane_fraction, MEMBRANE_SIGNAL * white),
        (subject.vein_fraction, 0.8 * white),
        (subject.artery_fraction, artery_signal * white),
    ):
        value = torch.lerp(value, level.expand_as(value), fraction[window].float())
    return value * (1 - 0.9 * subject.void_fraction[window].float())


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
