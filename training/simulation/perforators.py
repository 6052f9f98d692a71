"""Perforating arteries of basal ganglia and thalamus, and fluid-filled perivascular spaces.

Rhoton 2002: lenticulostriate arteries, some to twenty a side, radius .1-.5 mm, enter the anterior
perforated substance and fan out upwards, the outer ones in an arch around the putamen. Potter et
al. 2015, Wardlaw et al. 2020: perivascular spaces are below 3 mm wide, radial in the centrum
semiovale, gathered in the lower basal ganglia; a few to some hundred are seen.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from training.simulation import tissue
from training.simulation.anatomy import Anatomy
from training.simulation.random_points import random_points_mm, towards_ventricle
from training.simulation.tissue import labels_in
from training.simulation.tubes import Tube, bent_tube

FloatArray = npt.NDArray[np.float64]

LENTICULOSTRIATE, THALAMIC = (3, 18), (1, 8)
"""Number on each side, number in all."""
PERFORATOR_RADIUS_MM = (0.1, 0.42)
WHITE_SPACES, BASAL_SPACES = (3, 250), (2, 50)
"""Number in both hemispheres, and in the basal ganglia of each side."""
WHITE_SPACE_MM, BASAL_SPACE_MM = (3.0, 16.0), (3.0, 12.0)
SPACE_RADIUS_MM = 0.28
"""Median; few are wider than .8 mm."""
DEEP_GREY_SIDES = tuple(zip(tissue.PUTAMEN_LABELS, tissue.PALLIDUM_LABELS, strict=True))


def draw_perforators(anatomy: Anatomy, rng: np.random.Generator) -> list[Tube]:
    """Lenticulostriate arteries of both sides and some to the thalamus; thinner upwards."""
    tubes = []
    for labels, caudate in zip(DEEP_GREY_SIDES, tissue.CAUDATE_LABELS, strict=True):
        nuclei = _places_mm(anatomy, labels)
        targets = random_points_mm(
            anatomy, (*labels, caudate), int(rng.integers(*LENTICULOSTRIATE)), rng
        )
        if len(nuclei) == 0:
            continue
        low = nuclei[nuclei[:, 2] <= np.quantile(nuclei[:, 2], 0.15)]
        entry = low.mean(axis=0) - np.array([0.0, 0.0, 2.0])
        for target in targets:
            start = entry + rng.normal(0, (2.5, 3.0, 0.5))
            if target[2] < start[2] + 5:
                continue
            # outer ones arch over, inner ones are straight
            bend = np.array([target[0], (start[1] + target[1]) / 2, (start[2] + target[2]) / 2])
            bend += (bend - entry) * np.array([0.3, 0.0, 0.0]) + rng.normal(0, 1.0, 3)
            radius = float(rng.uniform(*PERFORATOR_RADIUS_MM))
            tubes.append(bent_tube(start, bend, target, (radius, 0.5 * radius)))
    return tubes + _thalamic(anatomy, rng)


def _thalamic(anatomy: Anatomy, rng: np.random.Generator) -> list[Tube]:
    """From between the cerebral peduncles upwards into both thalami."""
    peduncles = _places_mm(anatomy, tissue.VENTRAL_DC_LABELS)
    if len(peduncles) == 0:
        return []
    x, y, z = peduncles.mean(axis=0)
    tubes = []
    for target in random_points_mm(
        anatomy, tissue.THALAMUS_LABELS, int(rng.integers(*THALAMIC)), rng
    ):
        start = np.array([x, y, z - 4.0]) + rng.normal(0, 1.5, 3)
        stop = target + (np.array([x, target[1], target[2]]) - target) * 0.4
        bend = np.array([start[0], (y + stop[1]) / 2, (start[2] + stop[2]) / 2])
        radius = float(rng.uniform(0.1, 0.3))
        tubes.append(bent_tube(start, bend + rng.normal(0, 1.0, 3), stop, (radius, 0.5 * radius)))
    return tubes


def draw_perivascular_spaces(anatomy: Anatomy, rng: np.random.Generator) -> list[Tube]:
    """Radial ones in the white matter, clusters of upright ones in the lower basal ganglia."""
    white = random_points_mm(
        anatomy, tissue.WHITE_MATTER_LABELS, int(np.exp(rng.uniform(*np.log(WHITE_SPACES)))), rng
    )
    _, direction = towards_ventricle(anatomy, white)
    tubes = [
        _space(start, heading, WHITE_SPACE_MM, rng)
        for start, heading in zip(white, direction, strict=True)
    ]
    for labels in DEEP_GREY_SIDES:
        nuclei = _places_mm(anatomy, labels[:1])
        if len(nuclei) == 0:
            continue
        low, high = np.quantile(nuclei[:, 2], (0.0, 0.5))
        weight = np.where(nuclei[:, 2] < (low + high) / 2, 4.0, 1.0)
        count = int(np.exp(rng.uniform(*np.log(BASAL_SPACES))))
        chosen = rng.choice(len(nuclei), count, p=weight / weight.sum())
        starts = nuclei[chosen] + rng.uniform(-1, 1, (count, 3))
        middle = nuclei.mean(axis=0)
        for start in starts:  # they diverge upwards
            heading = np.array([0.04, 0.04, 0.0]) * (start - middle) + np.array([0.0, 0.0, 1.0])
            tubes.append(_space(start, heading, BASAL_SPACE_MM, rng))
    return tubes


def _space(
    start_mm: FloatArray,
    heading: FloatArray,
    length_mm: tuple[float, float],
    rng: np.random.Generator,
) -> Tube:
    direction = heading + rng.normal(0, 0.12, 3)
    direction /= np.linalg.norm(direction)
    stop = start_mm + direction * rng.uniform(*length_mm)
    bend = (start_mm + stop) / 2 + rng.normal(0, 0.6, 3)
    radius = float(np.clip(SPACE_RADIUS_MM * rng.lognormal(0, 0.45), 0.12, 1.2))
    return bent_tube(start_mm, bend, stop, (radius, 0.7 * radius))


def _places_mm(anatomy: Anatomy, labels: tuple[int, ...]) -> FloatArray:
    """Voxels of some labels on the coarse grid, (n, 3), mm from the first voxel's center."""
    voxels = np.argwhere(labels_in(anatomy.labels[1::4, 1::4, 1::4], labels))
    return np.asarray((4 * voxels + 1) * anatomy.geometry.spacing_mm[0])
