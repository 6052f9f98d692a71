"""Size, shape, place and probability of connected components, in mm on any grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial import ConvexHull
from scipy.spatial.distance import cdist, pdist

from CMBDetectorLib.geometry import FloatArray, Geometry

IntArray = npt.NDArray[np.int64]

_FEW_VOXELS = 12
_PAIRWISE_LIMIT = 300
_BLOCK_ROWS = 1024
_CORNER_OFFSETS = np.array(
    [[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)], dtype=np.int64
)


@dataclass(frozen=True)
class ComponentMeasures:
    """Measurements of n components; every array has n rows, in the order of the components.

    Attributes
    ----------
    n_voxels, volume_mm3
        Shape (n,).
    center_ijk, center_ras_mm
        Centre of mass with every voxel weighted alike, shape (n, 3).
    elongation
        Least over major axis of the ellipsoid with the same second moments, 0 to 1, shape (n,).
        The second moment of a voxel itself is included, so that one voxel has that of a box.
    mean_probability, peak_probability
        Shape (n,).
    """

    n_voxels: IntArray
    volume_mm3: FloatArray
    center_ijk: FloatArray
    center_ras_mm: FloatArray
    elongation: FloatArray
    mean_probability: FloatArray
    peak_probability: FloatArray


def measure_components(
    ijk: IntArray, component: IntArray, probability: FloatArray, geometry: Geometry
) -> ComponentMeasures:
    """Measure all components at once from the list of their voxels.

    The values do not depend on the order of the voxels, except for rounding in the last digits
    of ``elongation``.

    Parameters
    ----------
    ijk
        Voxel indices, shape (m, 3).
    component
        The component of each voxel, shape (m,), from 0; none may be without voxels.
    probability
        Of each voxel, shape (m,).
    geometry
        The grid of the voxels.
    """
    n_voxels = np.bincount(component)
    center_ijk = _sums(component, ijk) / n_voxels[:, None]
    offset = ijk - center_ijk[component]
    rows, columns = np.triu_indices(3)
    moments = _sums(component, offset[:, rows] * offset[:, columns]) / n_voxels[:, None]
    covariance = np.zeros((len(n_voxels), 3, 3))
    covariance[:, rows, columns] = moments
    covariance[:, columns, rows] = moments
    # A uniform box of edge 1 has the variance 1/12 along each of its axes.
    covariance += np.eye(3) / 12
    matrix = geometry.affine[:3, :3]
    variances_mm2 = np.linalg.eigvalsh(matrix @ covariance @ matrix.T)

    # In ascending order the sum of the probabilities is the same in every orientation.
    order = np.lexsort((probability, component))
    starts = np.concatenate(([0], np.cumsum(n_voxels)[:-1]))
    sorted_probability = probability[order].astype(np.float64)
    mean = np.add.reduceat(sorted_probability, starts) / n_voxels
    peak = np.maximum.reduceat(sorted_probability, starts)
    return ComponentMeasures(
        n_voxels=n_voxels,
        volume_mm3=n_voxels.astype(np.float64) * geometry.voxel_volume_mm3,
        center_ijk=center_ijk,
        center_ras_mm=geometry.ijk_to_ras_mm(center_ijk),
        elongation=np.sqrt(variances_mm2[:, 0] / variances_mm2[:, 2]),
        mean_probability=np.minimum(mean, peak),
        peak_probability=peak,
    )


def equivalent_diameter_mm(volume_mm3: float) -> float:
    """Diameter of the sphere of this volume."""
    return float(np.cbrt(6 * volume_mm3 / np.pi))


def max_diameter_mm(ijk: IntArray, geometry: Geometry) -> float:
    """Largest distance between two points of a component, voxel edges included.

    The farthest points of a set are corners of its convex hull, and a hull keeps its corners
    under an affine map; for large components it is therefore taken in voxel indices first.

    Parameters
    ----------
    ijk
        Voxel indices of the component, shape (m, 3).
    geometry
        The grid of the voxels.
    """
    corners = _corners(ijk) if len(ijk) <= _FEW_VOXELS else _outer_corners(ijk)
    if len(corners) > _PAIRWISE_LIMIT:
        corners = corners[ConvexHull(corners).vertices]
    points_mm = corners @ geometry.affine[:3, :3].T
    if len(points_mm) <= _BLOCK_ROWS:
        return float(pdist(points_mm).max())
    blocks = range(0, len(points_mm), _BLOCK_ROWS)
    return max(
        float(cdist(points_mm[start : start + _BLOCK_ROWS], points_mm[start:]).max())
        for start in blocks
    )


def _corners(ijk: IntArray) -> IntArray:
    """The eight corners of every voxel, those of neighbours more than once, (8 m, 3)."""
    return (ijk[:, None, :] + _CORNER_OFFSETS).reshape(-1, 3)


def _outer_corners(ijk: IntArray) -> IntArray:
    """Corners of the first and last voxel of each row along i: the hull needs no others."""
    ijk = ijk - ijk.min(axis=0)
    _, n_j, n_k = ijk.max(axis=0) + 1
    row = ijk[:, 1] * n_k + ijk[:, 2]
    order = np.lexsort((ijk[:, 0], row))
    first = np.flatnonzero(np.diff(row[order], prepend=-1))
    last = np.append(first[1:], len(order)) - 1
    ends = ijk[order[np.union1d(first, last)]]
    corners = _corners(ends)
    _, n_j, n_k = np.array([0, n_j, n_k]) + 1
    key = (corners[:, 0] * n_j + corners[:, 1]) * n_k + corners[:, 2]
    _, unique = np.unique(key, return_index=True)
    return np.asarray(corners[unique], dtype=np.int64)


def _sums(component: IntArray, values: npt.NDArray[np.number]) -> FloatArray:
    """Sum of each column of ``values`` (m, c) per component, shape (n, c)."""
    columns = [np.bincount(component, weights=column) for column in values.T]
    return np.stack(columns, axis=1)
