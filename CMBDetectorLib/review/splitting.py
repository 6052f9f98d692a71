"""Where to cut a lesion in two."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import dijkstra

from CMBDetectorLib.errors import UsageError
from CMBDetectorLib.geometry import FloatArray, Geometry

IntArray = npt.NDArray[np.int64]

_TOUCHING = np.ones((3, 3, 3), dtype=bool)
_HALF_OF_NEIGHBORS = np.argwhere(_TOUCHING)[14:] - 1
_SMALLEST_PART = 0.1
_SAME_DEPTH_MM = 1e-6


def split_voxels(voxels_ijk: IntArray, geometry: Geometry) -> tuple[IntArray, ...]:
    """The parts of a lesion, largest first.

    Parts that do not touch, not even at a corner, are taken apart. A connected lesion is cut in
    two connected parts where it is thinnest: between the two summits of the distance to its
    surface, in mm, that the deepest saddle divides. One that has no such waist, or whose waist
    would cut off less than a tenth of it, is cut in the middle of its longest way through.

    Parameters
    ----------
    voxels_ijk
        Shape (n, 3), each voxel once.
    geometry
        The grid of the voxels.

    Raises
    ------
    UsageError
        If it has a single voxel.
    """
    if len(voxels_ijk) < 2:
        raise UsageError(f"a lesion of {len(voxels_ijk)} voxel cannot be split; it takes 2 or more")
    voxels_ijk = voxels_ijk[np.lexsort(voxels_ijk.T[::-1])]
    start = voxels_ijk.min(axis=0) - 1
    inside = np.zeros(voxels_ijk.max(axis=0) - start + 2, dtype=bool)
    inside[tuple((voxels_ijk - start).T)] = True
    component, n_components = ndimage.label(inside, structure=_TOUCHING)
    part = component[tuple((voxels_ijk - start).T)]
    if n_components == 1:
        part = _cut(voxels_ijk - start, inside, geometry)
    parts = [voxels_ijk[part == number] for number in np.unique(part)]
    return tuple(sorted(parts, key=len, reverse=True))


def _cut(ijk: IntArray, inside: npt.NDArray[np.bool_], geometry: Geometry) -> npt.NDArray[np.bool_]:
    """Which voxels of a connected lesion belong to the second half."""
    ways_mm = _ways_mm(ijk, inside.shape, geometry)
    depth_mm = ndimage.distance_transform_edt(inside, sampling=geometry.spacing_mm)
    seeds = _summits(depth_mm[tuple(ijk.T)], ways_mm)
    if seeds is not None:
        second = _nearer_to_second(ways_mm, *seeds)
        if min(second.sum(), (~second).sum()) >= _SMALLEST_PART * len(second):
            return second
    return _nearer_to_second(ways_mm, *_ends(ways_mm))


def _ways_mm(ijk: IntArray, shape: tuple[int, ...], geometry: Geometry) -> csr_array:
    """The graph of voxels that touch, symmetric, with their distances in mm."""
    number = np.full(shape, -1, dtype=np.int64)
    number[tuple(ijk.T)] = np.arange(len(ijk))
    rows, columns, lengths = [], [], []
    for step in _HALF_OF_NEIGHBORS:
        other = number[tuple((ijk + step).T)]
        here = np.flatnonzero(other >= 0)
        rows.append(here)
        columns.append(other[here])
        lengths.append(np.full(len(here), np.linalg.norm(geometry.affine[:3, :3] @ step)))
    row, column, length = map(np.concatenate, (rows, columns, lengths))
    graph = coo_array(
        (np.tile(length, 2), (np.append(row, column), np.append(column, row))),
        shape=(len(ijk), len(ijk)),
    )
    return graph.tocsr()


def _summits(depth_mm: FloatArray, ways_mm: csr_array) -> tuple[IntArray, IntArray] | None:
    """Cores on either side of the deepest saddle; None if there is but one summit.

    Voxels are laid from the deepest up to the surface. Where two islands meet for the first time
    lies their saddle; it is as deep as the lower of their summits rises above it. The cores are
    what of the two islands is deeper within the lesion than the saddle.
    """
    island = np.full(len(depth_mm), -1, dtype=np.int64)
    members: dict[int, list[int]] = {}
    best_mm = 0.0
    cores: tuple[IntArray, IntArray] | None = None
    for voxel in np.argsort(-depth_mm, kind="stable").tolist():
        near = ways_mm.indices[ways_mm.indptr[voxel] : ways_mm.indptr[voxel + 1]]
        touched = sorted(set(island[near].tolist()) - {-1}, key=lambda i: -depth_mm[i])
        if not touched:
            touched = [voxel]  # an island bears the number of its summit
            members[voxel] = []
        home = touched[0]
        for lower in touched[1:]:
            saddle_mm = float(depth_mm[lower] - depth_mm[voxel])
            if saddle_mm > best_mm + _SAME_DEPTH_MM:
                best_mm = saddle_mm
                first, second = np.array(members[home]), np.array(members[lower])
                deeper_than_mm = depth_mm[voxel] + _SAME_DEPTH_MM
                cores = (
                    first[depth_mm[first] > deeper_than_mm],
                    second[depth_mm[second] > deeper_than_mm],
                )
            island[members[lower]] = home
            members[home] += members.pop(lower)
        island[voxel] = home
        members[home].append(voxel)
    return cores


def _nearer_to_second(
    ways_mm: csr_array, first: IntArray, second: IntArray
) -> npt.NDArray[np.bool_]:
    """Which voxels are nearer to the second core than to the first, on ways within the lesion."""
    sources = dijkstra(
        ways_mm, indices=np.append(first, second), min_only=True, return_predecessors=True
    )[2]
    return np.isin(sources, second)


def _ends(ways_mm: csr_array) -> tuple[IntArray, IntArray]:
    """Two voxels that lie far from each other on ways within the lesion.

    The farthest voxel from any one, and the farthest from that.
    """
    one = int(np.argmax(dijkstra(ways_mm, indices=[0])[0]))
    other = int(np.argmax(dijkstra(ways_mm, indices=[one])[0]))
    return np.array([one]), np.array([other])
