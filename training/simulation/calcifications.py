"""Normal calcifications and mineralization, which no reader counts as microbleeds.

Basal ganglia and dentate nuclei mineralize on both sides alike, the pallidum in a fifth to a third
of older people (Harder et al., AJNR 29, 2008; Yamada et al., JNNP 84, 2013); by iron as often as by
calcium. Choroid plexus at the atrium, pineal and falx calcify with age (Daghighi et al., Folia
Morphol 66, 2007). Calcium is diamagnetic: -.4 to -1.5 ppm in voxels that are not all mineral
(Schweser et al., Medical Physics 37, 2010).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from training.simulation import tissue
from training.simulation.anatomy import Anatomy
from training.simulation.deposits import Deposit, share_within, window_around
from training.simulation.tissue import labels_in

FloatArray = npt.NDArray[np.float64]

SYMMETRIC_SHARE: tuple[tuple[str, tuple[int, int], float], ...] = (
    ("pallidum", (13, 52), 0.30),
    ("putamen", (12, 51), 0.08),
    ("caudate", (11, 50), 0.03),
    ("dentate", (7, 46), 0.08),
)
"""Structure, its left and right label, and share of heads in which both sides mineralize."""
IRON_SHARE = 0.4
"""Of the mineralizations: those that are iron, and as paramagnetic as blood."""
PLEXUS_SHARE, ONE_SIDED_SHARE, PINEAL_SHARE, FALX_SHARE = 0.5, 0.2, 0.6, 0.12
CALCIUM_CHI_PPM, IRON_CHI_PPM = (-1.5, -0.4), (0.3, 1.2)
R2_STAR_PER_S = (60.0, 150.0)
SIGNAL = 0.4
"""Amplitude of calcified tissue at echo time 0."""
GRAIN_RADIUS_MM = (0.25, 1.2)


def draw_calcifications(anatomy: Anatomy, rng: np.random.Generator) -> list[Deposit]:
    """Symmetric mineralization, choroid plexus, pineal and falx of one head, in clumps."""
    deposits: list[Deposit] = []
    for name, labels, share in SYMMETRIC_SHARE:
        if rng.random() < share:
            deposits += _symmetric(anatomy, name, labels, rng)
    if rng.random() < PLEXUS_SHARE:
        deposits += _choroid_plexus(anatomy, rng)
    third = _posterior_mm(_places_mm(anatomy, (14,)))
    if third is not None and rng.random() < PINEAL_SHARE:
        pineal = third + np.array([0.0, -4.0, 3.0])
        grains = rng.normal(0, rng.uniform(0.8, 1.8), (int(rng.integers(1, 6)), 3))
        deposits += _clump(anatomy, "pineal", pineal + grains, _radii(len(grains), rng), rng)
    if rng.random() < FALX_SHARE:
        deposits += _falx(anatomy, rng)
    return deposits


def _symmetric(
    anatomy: Anatomy, name: str, labels: tuple[int, int], rng: np.random.Generator
) -> list[Deposit]:
    """A clump in each of two structures at mirrored places, of about the same size."""
    count = round(float(np.exp(rng.uniform(np.log(1.5), np.log(24)))))
    place = rng.normal(0, 0.5, 3)
    spread_mm = rng.uniform(0.5, 2.2) * np.array([1.0, 1.0, rng.uniform(1.0, 2.2)])
    grains = rng.normal(0, 1, (count, 3)) * spread_mm
    radii = _radii(count, rng)
    low, high = IRON_CHI_PPM if rng.random() < IRON_SHARE else CALCIUM_CHI_PPM
    chi = float(rng.uniform(low, high))
    deposits: list[Deposit] = []
    for label, mirror in zip(labels, ((-1.0, 1.0, 1.0), (1.0, 1.0, 1.0)), strict=True):
        inside_mm = _places_mm(anatomy, (label,))
        if len(inside_mm) == 0:
            continue
        wanted = inside_mm.mean(axis=0) + place * mirror * inside_mm.std(axis=0)
        center = inside_mm[np.argmin(np.linalg.norm(inside_mm - wanted, axis=1))]
        points = center + grains * mirror + rng.normal(0, 0.4, grains.shape)
        size, side = rng.uniform(0.8, 1.25, 2)
        deposits += _clump(anatomy, name, points, radii * size, rng, chi_ppm=chi * side)
    return deposits


def _choroid_plexus(anatomy: Anatomy, rng: np.random.Generator) -> list[Deposit]:
    """Grains in the plexus at the atrium of each lateral ventricle, mostly on both sides."""
    deposits: list[Deposit] = []
    plexus = _places_mm(anatomy, tissue.CHOROID_PLEXUS_LABELS)
    middle_mm = anatomy.labels.shape[0] / 2 * anatomy.geometry.spacing_mm[0]
    only = int(rng.integers(0, 2)) if rng.random() < ONE_SIDED_SHARE else None
    for side, label in enumerate(tissue.LATERAL_VENTRICLE_LABELS):
        here = plexus[(plexus[:, 0] > middle_mm) == bool(side)]
        center = _posterior_mm(here if len(here) > 10 else _places_mm(anatomy, (label,)))
        if center is None or only == 1 - side:
            continue
        count = int(rng.integers(2, 11))
        grains = center + rng.normal(0, rng.uniform(0.6, 1.8), (count, 3))
        deposits += _clump(anatomy, "choroid plexus", grains, _radii(count, rng), rng)
    return deposits


def _falx(anatomy: Anatomy, rng: np.random.Generator) -> list[Deposit]:
    """A plaque or a few between the hemispheres."""
    coarse = anatomy.labels[1::4, 1::4, 1::4]
    fluid = coarse == tissue.OUTER_CSF_LABEL
    for label in tissue.CORTEX_LABELS:
        if not (coarse == label).any():
            return []
        away_mm = ndimage.distance_transform_edt(coarse != label, sampling=anatomy.coarse_mm)
        fluid &= away_mm < 7
    places = np.argwhere(fluid)
    deposits: list[Deposit] = []
    for _ in range(int(rng.integers(1, 4)) if len(places) else 0):
        center = (places[rng.integers(0, len(places))] + 0.5) * anatomy.coarse_mm
        count = int(rng.integers(3, 14))
        spread_mm = np.array([0.4, rng.uniform(1, 3.5), rng.uniform(1, 3.5)])
        grains = center + rng.normal(0, 1, (count, 3)) * spread_mm
        deposits += _clump(anatomy, "falx", grains, _radii(count, rng), rng)
    return deposits


def _radii(count: int, rng: np.random.Generator) -> FloatArray:
    return np.clip(rng.lognormal(np.log(0.5), 0.45, count), *GRAIN_RADIUS_MM)


def _clump(
    anatomy: Anatomy,
    kind: str,
    grains_mm: FloatArray,
    radii_mm: FloatArray,
    rng: np.random.Generator,
    *,
    chi_ppm: float | None = None,
) -> list[Deposit]:
    """Balls of mineral as one deposit; of calcium unless a susceptibility is given."""
    center = grains_mm.mean(axis=0)
    reach_mm = float((np.linalg.norm(grains_mm - center, axis=1) + radii_mm).max()) + 1.0
    spacing_mm = anatomy.geometry.spacing_mm[0]
    placed = window_around(center, reach_mm, anatomy.labels.shape, spacing_mm)
    if placed is None:
        return []
    window, offset_mm = placed
    fraction = np.zeros(offset_mm.shape[:3], dtype=np.float32)
    for grain, radius in zip(grains_mm - center, radii_mm, strict=True):
        depth_mm = radius - np.linalg.norm(offset_mm - grain, axis=-1)
        fraction = np.maximum(fraction, share_within(depth_mm, spacing_mm))
    chi = float(rng.uniform(*CALCIUM_CHI_PPM)) if chi_ppm is None else float(chi_ppm)
    return [Deposit(kind, window, fraction, chi, float(rng.uniform(*R2_STAR_PER_S)), SIGNAL)]


def _places_mm(anatomy: Anatomy, labels: tuple[int, ...]) -> FloatArray:
    """Places (n, 3) of some labels, every 4th voxel, in mm from the first voxel's center."""
    voxels = np.argwhere(labels_in(anatomy.labels[1::4, 1::4, 1::4], labels))
    return np.asarray((4 * voxels + 1) * anatomy.geometry.spacing_mm[0], dtype=np.float64)


def _posterior_mm(places_mm: FloatArray) -> FloatArray | None:
    """Center of the posterior quarter of a structure."""
    if len(places_mm) == 0:
        return None
    behind = places_mm[places_mm[:, 1] <= np.quantile(places_mm[:, 1], 0.25)]
    return np.asarray(behind.mean(axis=0))
