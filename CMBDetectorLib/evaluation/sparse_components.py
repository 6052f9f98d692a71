"""Connected components of few voxels in a large image, without an array of its size."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from CMBDetectorLib.evaluation.lesions import IntArray
from CMBDetectorLib.evaluation.rule import Connectivity

# Of the rows of voxels beside a row, one of each two opposite ones: its place in i and j, and the
# number of axes along which it differs.
_NEXT_ROWS = ((0, 1, 1), (1, 0, 1), (1, -1, 2), (1, 1, 2))
_AXES_APART = {6: 1, 18: 2, 26: 3}


def find_components(
    ijk: IntArray, connectivity: Connectivity, values: IntArray | None = None
) -> IntArray:
    """The component of each voxel, shape (m,), numbered from 0 without gaps.

    Runs of voxels along the last axis are joined where they touch, so that the effort goes with
    the number of runs, not with the size of the image.

    Parameters
    ----------
    ijk
        Voxel indices, shape (m, 3), each once, in rising order of i, then j, then k.
    connectivity
        Whether voxels that share a face (6), also an edge (18), or also a corner (26) touch.
    values
        Of each voxel, shape (m,): only voxels of the same value touch. Without, all do.

    References
    ----------
    Run-based labeling: He, Chao, Suzuki, "A run-based two-scan labeling algorithm", IEEE
    Transactions on Image Processing 17, 2008.
    """
    if len(ijk) == 0:
        return np.empty(0, dtype=np.int64)
    i, j, k = (ijk - ijk.min(axis=0)).T
    # Two more than there are, so that the end of one row does not touch the start of another.
    n_j, n_k = int(j.max()) + 3, int(k.max()) + 3
    key = (i * n_j + j) * n_k + k
    begins = np.diff(key, prepend=-2) != 1
    if values is not None:
        begins |= np.diff(values, prepend=values[0]) != 0
    run = np.cumsum(begins) - 1
    starts = np.flatnonzero(begins)
    first, last = key[starts], key[np.append(starts[1:], len(key)) - 1]

    ones, others = [], []
    for next_i, next_j, apart in _NEXT_ROWS:
        reach = _AXES_APART[connectivity] - apart
        if reach < 0:
            continue
        shift = (next_i * n_j + next_j) * n_k
        reach = min(reach, 1)
        below = np.searchsorted(last, first + (shift - reach))
        above = np.searchsorted(first, last + (shift + reach), side="right")
        counts = np.maximum(above - below, 0)
        one = np.repeat(np.arange(len(first)), counts)
        within = np.arange(len(one)) - np.repeat(np.cumsum(counts) - counts, counts)
        ones.append(one)
        others.append(np.repeat(below, counts) + within)
    if values is not None:
        # Runs of two values that follow each other are cut, not joined.
        same = [values[starts[a]] == values[starts[b]] for a, b in zip(ones, others, strict=True)]
        ones = [one[keep] for one, keep in zip(ones, same, strict=True)]
        others = [other[keep] for other, keep in zip(others, same, strict=True)]
    pairs = (np.concatenate(ones), np.concatenate(others))
    n_runs = len(first)
    graph = coo_array((np.ones(len(pairs[0]), dtype=bool), pairs), shape=(n_runs, n_runs))
    _, component = connected_components(graph, directed=False)
    return np.asarray(component[run], dtype=np.int64)
