"""Left and right of the brain from a side for every voxel, some of which are wrong."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]

# The midline of a brain with a mass or an old infarct is displaced by up to about this much.
_LARGEST_SHIFT_MM = 15.0
_LEAST_AGREEMENT = 0.9
_SAMPLE = 20_000
_SCALE_MM = 30.0
_ITERATIONS = 12
_RIDGE = 1e-3
_LARGEST_ISLAND_ML = 20.0
_LEAST_CONTACT = 0.15


def separate_sides(right: BoolArray, paired: BoolArray, spacing_mm: float) -> BoolArray:
    """Sides of which each is in one place.

    Parameters
    ----------
    right
        Whether a voxel is said to lie on the right.
    paired
        Voxels of structures that have sides; the others are left as they are.
    spacing_mm
        Of the isotropic grid.

    Notes
    -----
    1. A plane is put between the sides by logistic regression. If 90 % of the voxels lie where
       they are said to, those more than 15 mm from the plane are put on the side where they lie.
       With two heads no plane does that.
    2. Every voxel takes the side of most in the 3 x 3 x 3 around it.
    3. Pieces of less than 20 ml of whose surface more than 15 % is a border with the other side
       take that side. The cerebellum's half, apart from the cerebrum, is no such piece.
    """
    right = right & paired
    if not paired.any():
        return right
    right = _by_plane(right, paired, spacing_mm)
    balance = ndimage.uniform_filter(
        np.where(paired, np.where(right, 1, -1), 0).astype(np.float32), 3, mode="constant"
    )
    # A sum of floats that should be 0 is not quite.
    right = np.where(np.abs(balance) < 1e-4, right, balance > 0) & paired
    for side in (True, False):
        own = paired & (right == side)
        right[_islands(own, paired & ~own, spacing_mm)] = not side
    return np.asarray(right)


def _by_plane(right: BoolArray, paired: BoolArray, spacing_mm: float) -> BoolArray:
    """Step 1."""
    index = np.argwhere(paired)
    is_right = right[paired]
    some = slice(None, None, 1 + len(index) // _SAMPLE)
    if not 0 < np.count_nonzero(is_right[some]) < len(is_right[some]):
        return right
    middle = index.mean(axis=0)
    plane = _logistic_plane((index[some] - middle) * spacing_mm / _SCALE_MM, is_right[some])
    length = float(np.linalg.norm(plane[:3]))
    if length == 0:
        return right
    beyond_mm = ((index - middle) @ (plane[:3] * spacing_mm) + plane[3] * _SCALE_MM) / length
    if np.mean((beyond_mm > 0) == is_right) < _LEAST_AGREEMENT:
        return right
    far = np.abs(beyond_mm) > _LARGEST_SHIFT_MM
    corrected = right.copy()
    corrected[paired] = np.where(far, beyond_mm > 0, is_right)
    return corrected


def _logistic_plane(points: FloatArray, is_right: BoolArray) -> FloatArray:
    """Three coefficients and a constant; their sum is positive on the right."""
    design = np.column_stack([points, np.ones(len(points))])
    plane = np.zeros(4)
    ridge = _RIDGE * len(points) * np.diag([1.0, 1.0, 1.0, 0.0])
    for _ in range(_ITERATIONS):
        share = 1 / (1 + np.exp(-np.clip(design @ plane, -30, 30)))
        weight = np.maximum(share * (1 - share), 1e-6)
        curvature = design.T @ (design * weight[:, None]) + ridge
        slope = design.T @ (is_right - share) - ridge @ plane
        plane = plane + np.linalg.solve(curvature + 1e-9 * np.eye(4), slope)
    return plane


def _islands(own: BoolArray, other: BoolArray, spacing_mm: float) -> BoolArray:
    """Step 3: voxels of small pieces of one side that lie in the other."""
    numbers, count = ndimage.label(own)
    sizes = np.bincount(numbers.ravel(), minlength=count + 1)
    faces, contacts = np.zeros(count + 1), np.zeros(count + 1)
    for axis in range(3):
        for here, there in ((slice(1, None), slice(None, -1)), (slice(None, -1), slice(1, None))):
            number = np.moveaxis(numbers, axis, 0)[here]
            is_face = (number > 0) & (np.moveaxis(numbers, axis, 0)[there] == 0)
            faces += np.bincount(number[is_face], minlength=count + 1)
            is_contact = is_face & np.moveaxis(other, axis, 0)[there]
            contacts += np.bincount(number[is_contact], minlength=count + 1)
    is_island = sizes < _LARGEST_ISLAND_ML * 1000 / spacing_mm**3
    is_island &= contacts > _LEAST_CONTACT * faces
    is_island[[0, 1 + int(sizes[1:].argmax()) if count else 0]] = False
    return np.asarray(is_island[numbers])
