"""Veins of one head: pial trees to the sinuses, medullary veins, and the deep system.

Radii and courses after Rhoton 2002 and Okudera et al. 1999: pial veins .13-.32 mm at their ends to
1-2 mm where they bridge to a sinus, medullary veins .1-.3 mm, subependymal veins .2-1 mm, internal
cerebral veins .5-1.2 mm, the great vein 1-2 mm. Sinuses are in the label maps and not drawn again.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from training.simulation import tissue
from training.simulation.anatomy import Anatomy
from training.simulation.deep_veins import draw_deep_veins
from training.simulation.subarachnoid import (
    SINUS_LABELS,
    SubarachnoidSpace,
    subarachnoid_space,
)
from training.simulation.tissue import labels_in
from training.simulation.tubes import Tube
from training.simulation.vessel_trees import Caliber, grow_trees

ENDS = (500, 2500)
END_RADIUS_MM, TRUNK_RADIUS_MM = (0.13, 0.32), (1.1, 1.9)
SULCI = (0.0, 1.5)
"""Veins cross gyri more freely than arteries do."""
ROUGHNESS = 1.0
LABELED_COST, ARTERY_COST = 0.3, 20.0
SINUS_RADIUS_MM = (1.5, 3.0)
FEWEST_SINUS_VOXELS = 500


def draw_veins(anatomy: Anatomy, rng: np.random.Generator) -> list[Tube]:
    """All veins of one head."""
    tubes = draw_deep_veins(anatomy, rng)
    space = subarachnoid_space(anatomy)
    if space is None:
        return tubes
    return tubes + _pial_veins(space, rng)


def _pial_veins(space: SubarachnoidSpace, rng: np.random.Generator) -> list[Tube]:
    """Trees that drain the cortex into the sinuses; and the sagittal one, if it has no label."""
    count = int(np.exp(rng.uniform(*np.log(ENDS))))
    caliber = Caliber(float(rng.uniform(*END_RADIUS_MM)), float(rng.uniform(*TRUNK_RADIUS_MM)))
    cost = space.cost(rng, sulci=float(rng.uniform(*SULCI)), roughness=ROUGHNESS)
    sinus = labels_in(space.grid.labels, SINUS_LABELS)
    cost[sinus] *= LABELED_COST
    cost[labels_in(space.grid.labels, tissue.ARTERY_LABELS)] *= ARTERY_COST
    roots = _sinus_roots(sinus)
    sinuses = []
    if len(roots) < FEWEST_SINUS_VOXELS / space.grid.spacing_mm**3:
        sinuses = [_sagittal_sinus(space, rng)]
        roots = np.unique(space.grid.to_voxels(sinuses[0].points_mm), axis=0)
        cost[tuple(roots.T)] = LABELED_COST
    return sinuses + grow_trees(
        space.grid, cost, roots, space.draw_ends(count, rng), caliber=caliber, rng=rng
    )


def _sinus_roots(sinus: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """The large connected parts of the label, without the specks that it has over the brain."""
    parts, n = ndimage.label(sinus, np.ones((3, 3, 3)))
    if n == 0:
        return np.empty((0, 3), dtype=np.int64)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return np.argwhere(sizes[parts] >= 0.05 * sizes.sum())


def _sagittal_sinus(space: SubarachnoidSpace, rng: np.random.Generator) -> Tube:
    """Along the top of the midline, from front to back, growing wider."""
    middle = space.passable.shape[0] // 2
    reach = max(1, round(4 / space.grid.spacing_mm))
    slab = np.any(space.passable[middle - reach : middle + reach + 1], axis=0)
    rows = np.flatnonzero(np.any(slab, axis=1))
    top = np.array([np.flatnonzero(slab[row]).max() for row in rows], dtype=float)
    top = ndimage.gaussian_filter1d(top, 6.0 / space.grid.spacing_mm)
    points = np.stack([np.full(len(rows), middle), rows, top], axis=1)
    width = float(rng.uniform(*SINUS_RADIUS_MM))
    return Tube(space.grid.to_mm(points), np.linspace(width * 1.3, width * 0.6, len(rows)))
