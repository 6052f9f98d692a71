"""The tissue around a lesion, to compare it with, and the noise in it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from CMBDetectorLib.evaluation.lesions import IntArray
from CMBDetectorLib.geometry import FloatArray, Geometry
from CMBDetectorLib.volume import Volume

BoolArray = npt.NDArray[np.bool_]

SHELL_MM = (2.0, 5.0)
"""A lesion is compared with tissue this far from its nearest voxel center. Nearer lies its blurred
edge, farther is other tissue."""
FEWEST_SHELL_VOXELS = 12
MAD_TO_SIGMA = 1.4826
_ROUNDING_MM = 1e-6


@dataclass(frozen=True, eq=False)
class Surroundings:
    """A box of the image around one lesion.

    Attributes
    ----------
    values
        Of the box, shape (a, b, c).
    lesion
        Its voxels in the box, as indices of the image, shape (n, 3).
    start_ijk
        Index in the image of the box's first voxel, shape (3,).
    tissue
        Voxels that have a value, are not background, lie within the brain where a brain mask is
        known, and are at least 2 mm from every lesion.
    shell
        Those of them up to 5 mm from this lesion.
    geometry
        Grid of the image.
    """

    values: FloatArray
    lesion: IntArray
    start_ijk: IntArray
    tissue: BoolArray
    shell: BoolArray
    geometry: Geometry


def look_around(
    image: Volume,
    voxels_ijk: IntArray,
    *,
    lesions: npt.NDArray[np.bool_],
    brain: npt.NDArray[np.bool_] | None = None,
    background_value: float | None = None,
) -> Surroundings:
    """Cut out a lesion and judge what around it is tissue.

    Parameters
    ----------
    image
        Any units; NaN is background.
    voxels_ijk
        Voxels of the lesion, shape (n, 3).
    lesions
        All lesions of the scan, on the image's grid; they are no tissue to compare with.
    brain
        The brain on the image's grid; None where no brain mask is known.
    background_value
        The one value of the removed background, if the scan has such.
    """
    geometry = image.geometry
    matrix = geometry.affine[:3, :3]
    reach_mm = SHELL_MM[1] + SHELL_MM[0]
    # As far as a ball of the reach extends along each axis, also where the axes are oblique.
    reach = np.ceil(np.linalg.norm(np.linalg.inv(matrix), axis=1) * reach_mm).astype(np.int64)
    start = np.maximum(voxels_ijk.min(axis=0) - reach, 0)
    stop = np.minimum(voxels_ijk.max(axis=0) + reach + 1, geometry.shape)
    box = tuple(slice(a, b) for a, b in zip(start.tolist(), stop.tolist(), strict=True))
    values = image.array[box].astype(np.float64)
    places_mm = np.indices(values.shape).reshape(3, -1).T @ matrix.T

    def distance_mm(voxels: IntArray, limit_mm: float) -> FloatArray:
        """From each voxel of the box to the nearest of these; infinite beyond the limit."""
        tree = cKDTree(voxels @ matrix.T)
        distances, _ = tree.query(places_mm, distance_upper_bound=limit_mm + _ROUNDING_MM)
        return np.asarray(distances, dtype=np.float64).reshape(values.shape)

    # A voxel at just the limit is so in every order of the axes.
    nearest_mm = SHELL_MM[0] - _ROUNDING_MM
    from_lesion = distance_mm(voxels_ijk - start, SHELL_MM[1])
    tissue = np.isfinite(values)
    if background_value is not None:
        tissue &= values != background_value
    if brain is not None:
        tissue &= brain[box]
    tissue &= distance_mm(np.argwhere(lesions[box]), SHELL_MM[0]) >= nearest_mm
    shell = tissue & (from_lesion >= nearest_mm) & np.isfinite(from_lesion)
    return Surroundings(values, voxels_ijk, start, tissue, shell, geometry)


def robust_sigma(values: npt.NDArray[np.floating]) -> float:
    """Standard deviation of a normal distribution with the same median absolute deviation."""
    if len(values) == 0:
        return math.nan
    return MAD_TO_SIGMA * float(np.median(np.abs(values - np.median(values))))


def noise_sigma(
    values: npt.NDArray[np.floating], tissue: npt.NDArray[np.bool_], geometry: Geometry
) -> float:
    """Noise from the differences of neighbors in the plane, as region growing estimates it.

    They hold the noise and little of the anatomy. The larger of the two directions counts. Where
    a scanner has interpolated, neighbors share noise and the estimate is too low.

    Parameters
    ----------
    values, tissue
        A box of an image and which of its voxels to use, same shape.
    geometry
        Grid of the image; only its axes matter.

    Returns
    -------
    float
        In the image's units; NaN where no two neighbors are tissue.
    """
    largest = math.nan
    for axis in range(3):
        if axis == geometry.slice_axis:
            continue
        low = [slice(None)] * 3
        high = list(low)
        low[axis], high[axis] = slice(None, -1), slice(1, None)
        both = tissue[tuple(low)] & tissue[tuple(high)]
        if both.any():
            steps = np.abs(values[tuple(high)][both] - values[tuple(low)][both])
            sigma = MAD_TO_SIGMA * float(np.median(steps)) / math.sqrt(2)
            largest = sigma if math.isnan(largest) else max(largest, sigma)
    return largest
