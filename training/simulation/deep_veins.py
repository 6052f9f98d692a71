"""Veins within the brain: medullary ones to the ventricle's wall, along it, and to the great vein.

Okudera et al. 1999: medullary veins run straight through the white matter at right angles to the
ventricle and gather into bundles at its upper outer corners; from there veins on the wall
(thalamostriate, septal, caudate) lead to the foramen of Monro, where each side's internal cerebral
vein begins.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from training.simulation import tissue
from training.simulation.anatomy import Anatomy
from training.simulation.random_points import random_points_mm, towards_ventricle
from training.simulation.subarachnoid import IMPASSABLE, SINUS_LABELS
from training.simulation.tissue import labels_in
from training.simulation.tubes import Tube, bent_tube
from training.simulation.vessel_trees import (
    Caliber,
    CostArray,
    TreeGrid,
    grow_trees,
    grown,
    rough,
    tree_grid,
)

FloatArray = npt.NDArray[np.float64]

THIRD_VENTRICLE_LABEL = 14
MEDULLARY = (15, 250)
"""Number in both hemispheres; scans show from a few to hundreds, by field and sequence."""
MEDULLARY_RADIUS_MM, MEDULLARY_FROM_MM = (0.08, 0.25), (6.0, 32.0)
COLLECTORS = (8, 30)
"""Places on each ventricle's wall where they gather."""
BUNDLE_WITHIN = 1.6
"""Veins gather at a place that is not farther than this, relative to the nearest wall."""
GROOVE_COST, FLUID_COST = 0.4, 4.0
WALL_RADIUS_MM, WALL_TRUNK_MM = (0.15, 0.3), (0.6, 1.0)
INTERNAL_RADIUS_MM, GREAT_RADIUS_MM = (0.5, 1.1), (1.0, 2.0)
GREAT_MM = 9.0
SINUS_WITHIN_MM = 35.0


def draw_deep_veins(anatomy: Anatomy, rng: np.random.Generator) -> list[Tube]:
    """Medullary, subependymal and internal cerebral veins and the great vein."""
    whole = tree_grid(anatomy)
    ventricle = labels_in(whole.labels, tissue.LATERAL_VENTRICLE_LABELS)
    if not ventricle.any():
        return []
    grid = whole.boxed(whole.box_around(ventricle, margin_mm=4.0))
    third = np.argwhere(labels_in(grid.labels, (THIRD_VENTRICLE_LABEL,)))
    inside = labels_in(grid.labels, tissue.LATERAL_VENTRICLE_LABELS + tissue.CHOROID_PLEXUS_LABELS)
    wall = grown(inside) & ~inside
    reference = _between_foramina(inside, third)
    monro, collectors = [], []
    for label in tissue.LATERAL_VENTRICLE_LABELS:
        side = np.argwhere(wall & grown(grid.labels == label))
        if len(side):
            monro.append(side[np.argmin(np.linalg.norm(side - reference, axis=1))])
            collectors.append(_collectors(side, reference, int(rng.integers(*COLLECTORS)), rng))
    if not monro:
        return []
    ends = np.concatenate(collectors)
    cost = _wall_cost(grid, inside, wall, rng)
    caliber = Caliber(float(rng.uniform(*WALL_RADIUS_MM)), float(rng.uniform(*WALL_TRUNK_MM)))
    tubes = grow_trees(grid, cost, np.array(monro), ends, caliber=caliber, rng=rng)
    tubes += _medullary_veins(anatomy, grid.to_mm(ends), rng)
    sinus_mm = whole.to_mm(np.argwhere(labels_in(whole.labels, SINUS_LABELS)))
    return tubes + _internal_veins(grid.to_mm(monro), grid.to_mm(third), sinus_mm, rng)


def _between_foramina(
    inside: npt.NDArray[np.bool_], third: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """A voxel position in the midline between the foramina of Monro.

    Upper front of the third ventricle, or before the middle of the lateral ones.
    """
    if len(third):
        upper = third[third[:, 2] >= np.quantile(third[:, 2], 0.6)]
        return np.array([upper[:, 0].mean(), np.quantile(upper[:, 1], 0.9), upper[:, 2].mean()])
    voxels = np.argwhere(inside)
    middle = voxels.mean(axis=0)
    return np.array([middle[0], np.quantile(voxels[:, 1], 0.65), middle[2]])


def _collectors(
    side: npt.NDArray[np.int64],
    midline: npt.NDArray[np.float64],
    count: int,
    rng: np.random.Generator,
) -> npt.NDArray[np.int64]:
    """Where veins reach a ventricle's wall: mostly its upper outer edge, and its septal front."""
    outward = np.abs(side[:, 0] - midline[0])
    height = side[:, 2] - midline[2]
    weight = np.exp(outward / (outward.std() + 1) + 1.5 * height / (height.std() + 1))
    chosen = side[rng.choice(len(side), count, p=weight / weight.sum())]
    front = side[side[:, 1] >= np.quantile(side[:, 1], 0.8)]
    septal = front[np.argmin(np.abs(front[:, 0] - midline[0]))]
    return np.concatenate([chosen, septal[None]])


def _wall_cost(
    grid: TreeGrid,
    inside: npt.NDArray[np.bool_],
    wall: npt.NDArray[np.bool_],
    rng: np.random.Generator,
) -> CostArray:
    """Cheap along the wall, most of all in the groove between caudate nucleus and thalamus."""
    cost = rough(wall.shape, rng, 0.6)
    caudate = labels_in(grid.labels, tissue.CAUDATE_LABELS)
    thalamus = labels_in(grid.labels, tissue.THALAMUS_LABELS)
    near = [grown(grown(mask)) for mask in (caudate, thalamus)]
    cost[near[0] & near[1]] *= GROOVE_COST
    cost[inside] *= FLUID_COST
    cost[~(wall | inside)] = IMPASSABLE
    return cost


def _medullary_veins(
    anatomy: Anatomy, collectors_mm: FloatArray, rng: np.random.Generator
) -> list[Tube]:
    """Straight towards the ventricle, bending into the nearest collector at the end."""
    count = int(np.exp(rng.uniform(*np.log(MEDULLARY))))
    start = random_points_mm(anatomy, tissue.WHITE_MATTER_LABELS, 2 * count, rng)
    if len(start) == 0:
        return []
    distance, direction = towards_ventricle(anatomy, start)
    fit = (distance > MEDULLARY_FROM_MM[0]) & (distance < MEDULLARY_FROM_MM[1])
    start, distance, direction = start[fit], distance[fit, None], direction[fit]
    away = np.linalg.norm(start[:, None] - collectors_mm, axis=2)
    stop = collectors_mm[np.argmin(away, axis=1)]
    near = away.min(axis=1) < BUNDLE_WITHIN * distance[:, 0]
    bend = start + 0.7 * distance * (direction + rng.normal(0, 0.06, start.shape))
    radius = rng.uniform(*MEDULLARY_RADIUS_MM, len(start))
    return [
        bent_tube(start[i], bend[i], stop[i], (0.6 * radius[i], radius[i]))
        for i in np.flatnonzero(near)[:count]
    ]


def _internal_veins(
    monro_mm: FloatArray, third_mm: FloatArray, sinus_mm: FloatArray, rng: np.random.Generator
) -> list[Tube]:
    """From each foramen over the roof of the third ventricle, and the great vein behind it."""
    if len(third_mm) == 0:
        return []
    middle_mm = float(np.median(third_mm[:, 0]))
    back = np.quantile(third_mm[:, 1], 0.03)
    top = np.quantile(third_mm[:, 2], 0.97)
    meeting = np.array([middle_mm, back - 4.0, top + 1.0])
    straight_sinus = meeting + np.array([0.0, -GREAT_MM, GREAT_MM / 2])
    behind = sinus_mm[(sinus_mm[:, 1] < meeting[1]) & (np.abs(sinus_mm[:, 0] - middle_mm) < 10)]
    if len(behind):
        away = np.linalg.norm(behind - meeting, axis=1)
        if away.min() < SINUS_WITHIN_MM:
            straight_sinus = behind[np.argmin(away)]
    great = float(rng.uniform(*GREAT_RADIUS_MM))
    arch = np.array([0.0, -1.0, 4.0]) + rng.normal(0, 1.0, 3)
    tubes = [bent_tube(meeting, meeting + arch, straight_sinus, (0.8 * great, great))]
    for foramen in monro_mm:
        side = np.sign(foramen[0] - middle_mm) * rng.uniform(1.0, 2.5)
        over = np.array([middle_mm + side, (foramen[1] + meeting[1]) / 2, top + 2.5])
        radius = float(rng.uniform(*INTERNAL_RADIUS_MM))
        tubes.append(bent_tube(foramen, over, meeting, (0.8 * radius, radius)))
    return tubes
