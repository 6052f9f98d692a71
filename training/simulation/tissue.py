"""MR properties of the tissues in a head label map, with natural variation.

Values at 3 T, from the literature on T1, T2* and susceptibility of the adult brain: Wansapura et
al. 1999 and Peters et al. 2007 (T1, T2*), Deistung et al. 2013 and Hametner et al. 2018
(susceptibility and R2* of deep nuclei), Schenck 1996 (bone, air). Susceptibility is relative to
soft tissue; haemosiderin, veins and calcifications are added as objects of their own.

Labels outside the brain, as in the SimNIBS/CHARM head model and as their neighbors in the maps
bear out: 502 arteries, 506 eyes, 507 soft tissue, 508 eye muscles, 509 mucosa, 511 skin, 512 spinal
cord, 514 veins and sinuses, 515 cortical bone, 516 cancellous bone, 530 optic nerve; 0 is air.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

AIR_LABELS = (0,)
OUTER_CSF_LABEL = 24
CSF_LABELS = (4, 5, 14, 15, 24, 43, 44, 72)
VENTRICLE_LABELS = (4, 5, 14, 43, 44)
LATERAL_VENTRICLE_LABELS = (4, 43)
CHOROID_PLEXUS_LABELS = (31, 63, 136, 137, 163, 164)
WHITE_MATTER_LABELS = (2, 41, 77, 85)
WHITE_MATTER_LESION_LABELS = (25, 57)
CORTEX_LABELS = (3, 42)
CEREBELLAR_CORTEX_LABELS = (8, 47)
CAUDATE_LABELS = (11, 50)
PUTAMEN_LABELS = (12, 51)
PALLIDUM_LABELS = (13, 52)
THALAMUS_LABELS = (10, 49)
BRAINSTEM_LABELS = (16,)
CEREBELLUM_LABELS = (7, 8, 46, 47)
VENTRAL_DC_LABELS = (28, 60)
HIPPOCAMPUS_LABELS = (17, 18, 53, 54)
ARTERY_LABELS = (502,)
FAT_LABELS = (507, 511, 516)
"""Scalp and marrow, which are mostly fat."""
LABEL_LIMIT = 600
LEFT_RIGHT_LABELS = (
    *((2, 41), (3, 42), (4, 43), (5, 44), (7, 46), (8, 47), (10, 49), (11, 50), (12, 51), (13, 52)),
    *((17, 53), (18, 54), (25, 57), (26, 58), (28, 60), (30, 62), (31, 63), (136, 163), (137, 164)),
)
"""Values of structures that exist twice, left and right."""


def labels_in(labels: npt.NDArray[np.int16], values: Iterable[int]) -> npt.NDArray[np.bool_]:
    """Where the labels (any shape, below LABEL_LIMIT) are one of ``values``; by table, as it is
    asked of whole heads.
    """
    table = np.zeros(LABEL_LIMIT, dtype=np.bool_)
    table[list(values)] = True
    return np.asarray(table[labels])


@dataclass(frozen=True)
class Tissue:
    """Proton density (relative), T1 in s, R2* in 1/s at 3 T, susceptibility in ppm."""

    labels: tuple[int, ...]
    proton_density: float
    t1_s: float
    r2_star_per_s: float
    chi_ppm: float
    iron_r2_star_per_s: float = 0.0
    """R2* that normal iron adds at full load (old age)."""
    iron_chi_ppm: float = 0.0


TISSUES = (
    Tissue((2, 41, 85, 77), 0.66, 0.85, 20.5, -0.02),
    Tissue(CORTEX_LABELS, 0.84, 1.35, 17.0, 0.0, 2.0, 0.01),
    Tissue((7, 46), 0.67, 0.90, 20.0, -0.015),
    Tissue((8, 47), 0.83, 1.35, 17.5, 0.0),
    Tissue(CSF_LABELS, 1.00, 3.4, 2.2, -0.01),
    Tissue(THALAMUS_LABELS, 0.77, 1.10, 19.5, 0.0, 4.0, 0.02),
    Tissue(CAUDATE_LABELS, 0.81, 1.25, 21.0, 0.02, 11.0, 0.06),
    Tissue(PUTAMEN_LABELS, 0.79, 1.20, 22.0, 0.02, 20.0, 0.10),
    Tissue(PALLIDUM_LABELS, 0.73, 0.95, 34.0, 0.09, 26.0, 0.12),
    Tissue(BRAINSTEM_LABELS, 0.72, 0.95, 20.0, -0.01),
    Tissue(VENTRAL_DC_LABELS, 0.73, 0.95, 22.0, 0.02, 6.0, 0.03),
    Tissue(HIPPOCAMPUS_LABELS, 0.82, 1.35, 17.0, 0.0),
    Tissue(CHOROID_PLEXUS_LABELS, 0.92, 1.60, 14.0, 0.0),
    Tissue(WHITE_MATTER_LESION_LABELS, 0.82, 1.25, 15.0, -0.01),
    Tissue((26, 58), 0.81, 1.30, 18.0, 0.01),
    Tissue((30, 62), 0.95, 2.5, 8.0, 0.0),
    Tissue((515,), 0.12, 0.40, 300.0, -2.1),
    Tissue((516,), 0.45, 0.45, 110.0, -1.2),
    Tissue((507,), 0.70, 0.90, 32.0, -0.1),
    Tissue((511,), 0.85, 0.35, 35.0, -0.4),
    Tissue((512, 530), 0.72, 0.95, 20.0, -0.01),
    Tissue((514,), 0.80, 1.60, 45.0, 0.3),
    Tissue((506,), 0.98, 3.5, 4.0, 0.0),
    Tissue((502, 508, 509), 0.80, 1.10, 30.0, 0.0),
)
AIR = Tissue(AIR_LABELS, 0.0, 1.0, 30.0, 9.4)


@dataclass(frozen=True)
class TissueTable:
    """Property of each label value, shape (LABEL_LIMIT,), for one subject."""

    proton_density: torch.Tensor
    t1_s: torch.Tensor
    r2_star_per_s: torch.Tensor
    chi_ppm: torch.Tensor


def draw_tissue_table(rng: np.random.Generator, device: torch.device) -> TissueTable:
    """One subject's tissues: small variation of each, iron by age."""
    iron_load = float(rng.uniform(0.1, 1.3))
    default = Tissue((), 0.78, 1.1, 22.0, 0.0)
    table = np.empty((4, LABEL_LIMIT))
    table[:] = np.array(
        [default.proton_density, default.t1_s, default.r2_star_per_s, default.chi_ppm]
    )[:, None]
    for tissue in TISSUES:
        jitter = rng.normal(1.0, (0.03, 0.05, 0.07))
        iron = iron_load * float(rng.uniform(0.6, 1.3))
        for label in tissue.labels:
            side = rng.normal(1.0, 0.02)
            table[:, label] = (
                tissue.proton_density * jitter[0],
                tissue.t1_s * jitter[1],
                (tissue.r2_star_per_s + iron * tissue.iron_r2_star_per_s) * jitter[2] * side,
                tissue.chi_ppm + iron * tissue.iron_chi_ppm,
            )
    for label in AIR_LABELS:
        table[:, label] = (0.0, AIR.t1_s, AIR.r2_star_per_s, AIR.chi_ppm)
    tensor = torch.as_tensor(table, dtype=torch.float32, device=device)
    return TissueTable(tensor[0], tensor[1], tensor[2], tensor[3])
