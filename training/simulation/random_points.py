"""Random places within labeled structures."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from training.simulation.anatomy import Anatomy
from training.simulation.tissue import labels_in


def random_points_mm(
    anatomy: Anatomy, labels: tuple[int, ...], count: int, rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """At most ``count`` places within some labels, (n, 3), mm from the first voxel's center.

    Places whose voxel of the fine grid has another label are left out.
    """
    candidates = np.argwhere(labels_in(anatomy.labels[1::4, 1::4, 1::4], labels))
    if len(candidates) == 0 or count == 0:
        return np.empty((0, 3))
    chosen = candidates[rng.integers(0, len(candidates), count)]
    # a coarse voxel is 4 fine ones wide, and its label that of the second of them
    places = 4 * chosen - 0.5 + 4 * rng.random((count, 3))
    nearest = np.clip(np.round(places).astype(int), 0, np.array(anatomy.labels.shape) - 1)
    inside = labels_in(anatomy.labels[tuple(nearest.T)], labels)
    return np.asarray(places[inside] * anatomy.geometry.spacing_mm[0])


def towards_ventricle(
    anatomy: Anatomy, points_mm: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Distance in mm, (n,), and unit vectors, (n, 3), to the nearest lateral ventricle."""
    distance = anatomy.distance_to_ventricle_mm
    last = np.array(distance.shape) - 1
    voxels = np.clip(np.round(points_mm / anatomy.coarse_mm).astype(int), 0, last)
    rise = np.empty(voxels.shape)
    for axis in range(3):
        step = 2 * np.eye(3, dtype=int)[axis]
        ahead, behind = np.minimum(voxels + step, last), np.maximum(voxels - step, 0)
        rise[:, axis] = distance[tuple(ahead.T)] - distance[tuple(behind.T)]
    length = np.linalg.norm(rise, axis=1, keepdims=True)
    return distance[tuple(voxels.T)].astype(float), -rise / (length + 1e-6)
