"""Arteries in the subarachnoid space, as trees from the circle of Willis to the cortex.

Radii after Rhoton 2002: stem of the middle cerebral artery 1.2-2 mm, its branches on the cortex
.25-.6 mm; .13-.32 mm where they end here, with a penetrating vessel into the cortex here and there.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from training.simulation import tissue
from training.simulation.anatomy import Anatomy
from training.simulation.subarachnoid import (
    SINUS_LABELS,
    SubarachnoidSpace,
    subarachnoid_space,
)
from training.simulation.tissue import labels_in
from training.simulation.tubes import Tube
from training.simulation.vessel_trees import Caliber, TreeGrid, grow_trees

FloatArray = npt.NDArray[np.float64]

THIRD_VENTRICLE_LABEL = 14

ENDS = (800, 3000)
"""Of all trees of a head; of tens of thousands of arterioles those that a scan might show."""
END_RADIUS_MM, TRUNK_RADIUS_MM = (0.13, 0.32), (1.1, 1.9)
SULCI = (0.5, 3.0)
ROUGHNESS = 0.9
LABELED_COST, SINUS_COST = 0.1, 20.0
"""Arteries of the label map are followed as far as they go; sinuses are hardly crossed."""
PENETRATING_SHARE = (0.1, 0.5)


def draw_arteries(anatomy: Anatomy, rng: np.random.Generator) -> list[Tube]:
    """Trees of one head from the arteries at the base of the brain to the cortex."""
    space = subarachnoid_space(anatomy)
    if space is None:
        return []
    count = int(np.exp(rng.uniform(*np.log(ENDS))))
    caliber = Caliber(float(rng.uniform(*END_RADIUS_MM)), float(rng.uniform(*TRUNK_RADIUS_MM)))
    cost = space.cost(rng, sulci=float(rng.uniform(*SULCI)), roughness=ROUGHNESS)
    cost[labels_in(space.grid.labels, tissue.ARTERY_LABELS)] *= LABELED_COST
    cost[labels_in(space.grid.labels, SINUS_LABELS)] *= SINUS_COST
    roots = arterial_roots(space)
    trees = grow_trees(
        space.grid, cost, roots, space.draw_ends(count, rng), caliber=caliber, rng=rng
    )
    return trees + space.penetrating(trees, float(rng.uniform(*PENETRATING_SHARE)), rng)


def arterial_roots(space: SubarachnoidSpace) -> npt.NDArray[np.int64]:
    """Where the two carotids and the basilar artery end, voxels of the space, (2 or 3, 3).

    The carotids end on the label map's arteries, or without such a label in the fluid, below and
    before the third ventricle; the basilar in front of the upper brainstem, if that is labeled.
    """
    grid = space.grid
    fluid = np.argwhere(labels_in(grid.labels, (tissue.OUTER_CSF_LABEL,)))
    labeled = np.argwhere(labels_in(grid.labels, tissue.ARTERY_LABELS))
    chiasm = _chiasm(grid, fluid)
    roots = []
    for side in (-1, 1):
        terminus = chiasm + np.array([side * 9.0, 0.0, 0.0]) / grid.spacing_mm
        on_side = labeled[(labeled[:, 0] - chiasm[0]) * side > 0]
        nearest = _nearest(on_side, terminus, within=15.0 / grid.spacing_mm)
        roots.append(_nearest(fluid, terminus) if nearest is None else nearest)
    stem = np.argwhere(labels_in(grid.labels, tissue.BRAINSTEM_LABELS))
    if len(stem):
        upper = stem[stem[:, 2] >= np.quantile(stem[:, 2], 0.6)]
        front = np.array([upper[:, 0].mean(), np.quantile(upper[:, 1], 0.98), upper[:, 2].min()])
        roots.append(_nearest(fluid, front + np.array([0.0, 3.0, 0.0]) / grid.spacing_mm))
    return np.array([root for root in roots if root is not None])


def _chiasm(grid: TreeGrid, fluid: npt.NDArray[np.int64]) -> FloatArray:
    """Where the optic chiasm lies, in voxels: landmarks of the third ventricle, or of the head."""
    third = np.argwhere(labels_in(grid.labels, (THIRD_VENTRICLE_LABEL,)))
    if len(third):
        x, y, z = third.mean(axis=0)
        return np.array([x, y + 9.0 / grid.spacing_mm, z - 14.0 / grid.spacing_mm])
    low, high = fluid.min(axis=0), fluid.max(axis=0)
    return np.asarray(low + (high - low) * np.array([0.5, 0.58, 0.2]))


def _nearest(
    voxels: npt.NDArray[np.int64], place: FloatArray, within: float = np.inf
) -> npt.NDArray[np.int64] | None:
    """The voxel nearest to a place, if there is one at most ``within`` voxels away."""
    if len(voxels) == 0:
        return None
    away = np.linalg.norm(voxels - place, axis=1)
    best = int(np.argmin(away))
    return voxels[best] if away[best] <= within else None
