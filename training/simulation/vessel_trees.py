"""Branching trees as least-cost paths through the cerebrospinal fluid around the brain.

Every end is joined to the nearest root along the path of least cost. As paths that meet stay
together, they form trees; random costs make them tortuous. Radii follow Murray's law (Murray 1926):
the cube of a vessel's radius is the sum of the cubes of the vessels it feeds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.graph import MCP_Geometric

from training.simulation.anatomy import Anatomy
from training.simulation.tubes import Tube

FloatArray = npt.NDArray[np.float64]
CostArray = npt.NDArray[np.float32]

GRID_MM = 1.0
SMOOTHING_ROUNDS = 5


@dataclass(frozen=True)
class TreeGrid:
    """Every ``step``-th voxel of the fine grid, about 1 mm apart, within a box of it.

    ``origin_mm`` is the box's first voxel in mm from the fine grid's first voxel center.
    """

    labels: npt.NDArray[np.int16]
    spacing_mm: float
    origin_mm: FloatArray

    def to_mm(self, voxels: npt.ArrayLike) -> FloatArray:
        """Places of voxels, (n, 3), in mm from the fine grid's first voxel center."""
        return np.asarray(self.origin_mm + np.asarray(voxels) * self.spacing_mm)

    def to_voxels(self, points_mm: FloatArray) -> npt.NDArray[np.int64]:
        """The voxels nearest to places, kept within the box."""
        voxels = np.round((points_mm - self.origin_mm) / self.spacing_mm).astype(np.int64)
        return np.clip(voxels, 0, np.array(self.labels.shape) - 1)

    def kept_inside(self, points_mm: FloatArray) -> FloatArray:
        """Places moved into the box where they lie beyond it."""
        last_mm = self.to_mm(np.array(self.labels.shape) - 1)
        return np.asarray(np.clip(points_mm, self.origin_mm, last_mm))

    def boxed(self, box: tuple[slice, ...]) -> TreeGrid:
        """A part of this grid, by slices of the first axes."""
        part = self.labels[box]
        start = [s.start for s in box] + [0] * (3 - len(box))
        return TreeGrid(np.ascontiguousarray(part), self.spacing_mm, self.to_mm(np.array(start)))

    def box_around(self, mask: npt.NDArray[np.bool_], margin_mm: float = 2.0) -> tuple[slice, ...]:
        """The part of this grid around a mask that is not empty."""
        margin = round(margin_mm / self.spacing_mm)
        planes: npt.NDArray[np.bool_] = np.asarray(mask.any(axis=0))
        filled: list[npt.NDArray[np.bool_]] = [
            np.asarray(mask.any(axis=(1, 2))),
            np.asarray(planes.any(axis=1)),
            np.asarray(planes.any(axis=0)),
        ]
        ends = [(int(np.argmax(f)), len(f) - int(np.argmax(f[::-1]))) for f in filled]
        return tuple(slice(max(0, low - margin), high + margin) for low, high in ends)


def tree_grid(anatomy: Anatomy) -> TreeGrid:
    """The whole field of view at about 1 mm."""
    fine_mm = anatomy.geometry.spacing_mm[0]
    step = max(1, round(GRID_MM / fine_mm))
    labels = np.ascontiguousarray(anatomy.labels[::step, ::step, ::step])
    return TreeGrid(labels, step * fine_mm, np.zeros(3))


def grown(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """A mask and the voxels that share a face with it; scipy's dilation takes ten times as long."""
    result = mask.copy()
    for axis in range(3):
        one, other = [slice(None)] * 3, [slice(None)] * 3
        one[axis], other[axis] = slice(1, None), slice(None, -1)
        result[tuple(one)] |= mask[tuple(other)]
        result[tuple(other)] |= mask[tuple(one)]
    return result


def rough(shape: tuple[int, ...], rng: np.random.Generator, sd: float) -> CostArray:
    """Factors that make paths wander and meet: log-normal, half of it smooth over a few voxels."""
    smooth = rng.standard_normal([n // 4 + 2 for n in shape], dtype=np.float32)
    for axis in range(3):
        smooth = np.repeat(smooth, 4, axis=axis)
    smooth = ndimage.uniform_filter(smooth, 4)[tuple(slice(n) for n in shape)]
    fine = rng.standard_normal(shape, dtype=np.float32)
    return np.asarray(np.exp(sd * (1.2 * smooth + 0.7 * fine)), dtype=np.float32)


@dataclass(frozen=True)
class Caliber:
    """Radius in mm of an average end and of the thickest trunk."""

    end_mm: float
    trunk_mm: float
    spread: float = 0.3
    """Standard deviation of the logarithm of the ends' radii."""


def grow_trees(
    grid: TreeGrid,
    cost: CostArray,
    roots: npt.NDArray[np.int64],
    ends: npt.NDArray[np.int64],
    *,
    caliber: Caliber,
    rng: np.random.Generator,
) -> list[Tube]:
    """Tubes from the trunks to the ends; each starts at a root or on the tube it leaves.

    Parameters
    ----------
    cost
        Of each voxel of the grid; negative ones cannot be passed.
    roots, ends
        Voxels, (n, 3). Ends that no path leads to are left out.
    """
    if len(roots) == 0 or len(ends) == 0:
        return []
    search = MCP_Geometric(cost)
    cumulative, came_from = search.find_costs(roots)
    ends = np.unique(ends, axis=0)
    ends = ends[np.isfinite(cumulative[tuple(ends.T)])]
    nodes, parent, flow = _flow(came_from, np.asarray(search.offsets), ends, caliber, rng)
    if len(nodes) == 0:
        return []
    heir = _heirs(parent, flow)
    voxels = np.stack(np.unravel_index(nodes, cost.shape), axis=1)
    position = _smoothed(voxels + rng.uniform(-0.4, 0.4, voxels.shape), parent, heir)
    position = grid.kept_inside(grid.to_mm(position))
    radius = np.minimum(caliber.end_mm * np.cbrt(flow), caliber.trunk_mm)
    return _tubes(position, radius, parent, heir)


def _flow(
    came_from: npt.NDArray[np.int_],
    offsets: npt.NDArray[np.int_],
    ends: npt.NDArray[np.int64],
    caliber: Caliber,
    rng: np.random.Generator,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], FloatArray]:
    """Flat voxel, parent (index among the nodes, -1 for roots) and flow of all nodes on paths."""
    strides = np.cumprod([1, *came_from.shape[:0:-1]])[::-1]
    back = offsets @ strides
    direction = came_from.ravel()
    flow = np.zeros(direction.size)
    here = np.ravel_multi_index(tuple(ends.T), came_from.shape)
    carried = rng.lognormal(0.0, 3 * caliber.spread, len(here))
    carried /= np.median(carried) if len(carried) else 1.0
    while len(here):
        np.add.at(flow, here, carried)
        on = direction[here] >= 0
        here, carried = here[on], carried[on]
        here = here - back[direction[here]]
    nodes = np.flatnonzero(flow)
    steps = direction[nodes]
    before = nodes - np.where(steps >= 0, back[steps], 0)
    parent = np.where(steps >= 0, np.searchsorted(nodes, before), -1)
    return nodes, parent, flow[nodes]


def _heirs(parent: npt.NDArray[np.int64], flow: FloatArray) -> npt.NDArray[np.int64]:
    """The child of each node that most flows to, -1 for ends."""
    heir = np.full(len(parent), -1)
    rising = np.argsort(flow, kind="stable")
    rising = rising[parent[rising] >= 0]
    heir[parent[rising]] = rising  # of several children the last one stays
    return heir


def _smoothed(
    position: FloatArray, parent: npt.NDArray[np.int64], heir: npt.NDArray[np.int64]
) -> FloatArray:
    """Positions without the grid's steps; roots and ends stay."""
    inner = np.flatnonzero((parent >= 0) & (heir >= 0))
    for _ in range(SMOOTHING_ROUNDS):
        between = (position[parent[inner]] + position[heir[inner]]) / 2
        position[inner] = (position[inner] + between) / 2
    return position


def _tubes(
    position: FloatArray,
    radius: npt.NDArray[np.float64],
    parent: npt.NDArray[np.int64],
    heir: npt.NDArray[np.int64],
) -> list[Tube]:
    """One tube for each end: from where it leaves a larger one, or from a root."""
    is_heir = np.zeros(len(parent), dtype=np.bool_)
    is_heir[heir[heir >= 0]] = True
    next_node = heir.tolist()
    tubes = []
    for start in np.flatnonzero(~is_heir).tolist():
        chain = [] if parent[start] < 0 else [int(parent[start])]
        branch = len(chain)
        node = start
        while node >= 0:
            chain.append(node)
            node = next_node[node]
        radii = radius[chain]
        radii[:branch] = radii[branch]  # a branch does not begin as wide as its trunk
        tubes.append(Tube(position[chain], radii))
    return tubes
