"""The space that the vessels of the brain's surface run in: fluid and the rim of the cortex."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from training.simulation import tissue
from training.simulation.anatomy import Anatomy
from training.simulation.tissue import labels_in
from training.simulation.tubes import Tube
from training.simulation.vessel_trees import CostArray, TreeGrid, grown, rough, tree_grid

FloatArray = npt.NDArray[np.float64]

SINUS_LABELS = (514,)
IMPASSABLE = -1.0
CORTEX_COST = 5.0
SURFACE_LABELS = tissue.CORTEX_LABELS + tissue.CEREBELLAR_CORTEX_LABELS
PENETRATING_MM = (1.0, 5.0)
"""Length of the vessels that leave a tree's end for the cortex, at right angles to its surface."""
PENETRATING_RADIUS = 0.7
"""Of theirs to that of the tree's end."""


@dataclass(frozen=True)
class SubarachnoidSpace:
    """Fluid, vessels of the label map, and a layer of cortex beside them, on a grid of about 1 mm.

    ``cortex`` is that layer, and ``rim`` its voxels, (n, 3). ``brain_share`` is the share of brain
    within 2 mm: near 1 deep in a sulcus, small in a cistern.
    """

    grid: TreeGrid
    passable: npt.NDArray[np.bool_]
    cortex: npt.NDArray[np.bool_]
    brain_share: npt.NDArray[np.float32]
    rim: npt.NDArray[np.int64]

    def cost(self, rng: np.random.Generator, *, sulci: float, roughness: float) -> CostArray:
        """Of passing each voxel; ``sulci`` is how much cheaper they are than open cisterns."""
        cost = rough(self.passable.shape, rng, roughness)
        cost *= 1 + sulci * (1 - self.brain_share) ** 2
        cost[self.cortex] *= CORTEX_COST
        cost[~self.passable] = IMPASSABLE
        return cost

    def draw_ends(self, count: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """Random voxels of the rim, (n, 3), at most ``count``."""
        if len(self.rim) == 0:
            return np.empty((0, 3), dtype=np.int64)
        return self.rim[rng.integers(0, len(self.rim), count)]

    def inward(self, points_mm: FloatArray) -> FloatArray:
        """Unit vectors into the brain at places in mm, (n, 3)."""
        smooth = ndimage.uniform_filter(self.brain_share, 3)
        voxels = np.clip(self.grid.to_voxels(points_mm), 1, np.array(smooth.shape) - 2)
        rise = np.empty(voxels.shape)
        for axis in range(3):
            step = np.eye(3, dtype=np.int64)[axis]
            rise[:, axis] = smooth[tuple((voxels + step).T)] - smooth[tuple((voxels - step).T)]
        return np.asarray(rise / (np.linalg.norm(rise, axis=1, keepdims=True) + 1e-6))

    def penetrating(self, trees: list[Tube], share: float, rng: np.random.Generator) -> list[Tube]:
        """Vessels into the cortex from the ends of a ``share`` of the tubes."""
        chosen = [tube for tube in trees if rng.random() < share]
        if not chosen:
            return []
        start = np.array([tube.points_mm[-1] for tube in chosen])
        direction = self.inward(start) + rng.normal(0, 0.25, start.shape)
        length = rng.uniform(*PENETRATING_MM, (len(chosen), 1))
        stop = self.grid.kept_inside(start + length * direction)
        return [
            Tube(np.stack([a, b]), tube.radius_mm[-1] * np.array([PENETRATING_RADIUS] * 2))
            for a, b, tube in zip(start, stop, chosen, strict=True)
        ]


def subarachnoid_space(anatomy: Anatomy) -> SubarachnoidSpace | None:
    """The space of one head; None if it has no fluid around the brain."""
    whole = tree_grid(anatomy)
    fluid = labels_in(whole.labels, (tissue.OUTER_CSF_LABEL,))
    if not fluid.any():
        return None
    grid = whole.boxed(whole.box_around(fluid))
    fluid = labels_in(grid.labels, (tissue.OUTER_CSF_LABEL, *tissue.ARTERY_LABELS, *SINUS_LABELS))
    cortex = labels_in(grid.labels, SURFACE_LABELS)
    cortex &= grown(fluid)
    brain = labels_in(grid.labels, (k for k in range(1, 100) if k != tissue.OUTER_CSF_LABEL))
    share = ndimage.uniform_filter(brain.astype(np.float32), 5)
    return SubarachnoidSpace(grid, fluid | cortex, cortex, share, np.argwhere(cortex))
