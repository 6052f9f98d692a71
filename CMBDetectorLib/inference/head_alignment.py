"""Find how the head in an image lies in the frame of the atlas, by looking at it coarsely.

The network labels the image at a coarse resolution, with a guess of the alignment; where it finds
the structures is compared with where the atlas has them in the same field of view, and the guess
is corrected by the affine map between the two. A few rounds of this find heads that are turned,
small or cut.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from CMBDetectorLib.anatomy.alignment import fit_affine
from CMBDetectorLib.anatomy.parcellation import CLASSES
from CMBDetectorLib.geometry import FloatArray

ROUNDS = 5
HEAD_HEIGHT_MM = 150.0
"""A field of view higher than this holds the head's top and more than the brain below it."""
TOP_TO_MIDDLE_MM = 82.0
"""From the top of the scalp to the middle of the brain."""
_FIRST_STRUCTURE = [one.name for one in CLASSES].index("cerebral white matter")
_FEWEST_ML = 0.2
_CONVERGED_MM = 1.0
_STIFFNESS = (1.0, 0.3, 0.1, 0.05)
_LARGEST_CHANGE = 0.35

Probabilities = Callable[[FloatArray], tuple[Tensor, Tensor]]


def first_guess(shape: tuple[int, ...], spacing_mm: float) -> FloatArray:
    """From voxel indices of the box that holds the head to the atlas's frame, upright, (4, 4)."""
    middle = (np.array(shape) - 1) / 2
    height_mm = shape[2] * spacing_mm
    if height_mm > HEAD_HEIGHT_MM:
        middle[2] = shape[2] - 1 - TOP_TO_MIDDLE_MM / spacing_mm
    result = np.diag([spacing_mm] * 3 + [1.0])
    result[:3, 3] = -spacing_mm * middle
    return result


def align_head(
    shape: tuple[int, ...], spacing_mm: float, probabilities: Probabilities
) -> FloatArray:
    """The map from voxel indices to millimeters of the atlas's frame, (4, 4).

    Parameters
    ----------
    shape, spacing_mm
        Of the coarse image, cropped to the head.
    probabilities
        Given a map as above, what the network finds, and what the atlas expects there:
        probabilities (structures of either side, x, y, z), see :func:`by_side`.
    """
    guess = first_guess(shape, spacing_mm)
    voxel_ml = spacing_mm**3 / 1000
    for number in range(ROUNDS):
        found, expected = probabilities(guess)
        found_at, found_ml = _centers(found, voxel_ml)
        expected_at, expected_ml = _centers(expected, voxel_ml)
        both = (found_ml > _FEWEST_ML) & (expected_ml > _FEWEST_ML)
        if np.count_nonzero(both) < 3:
            return guess
        weights = np.sqrt(np.minimum(found_ml, expected_ml)[both])
        source, target = _moved(guess, found_at[both]), _moved(guess, expected_at[both])
        stiffness = _STIFFNESS[min(number, len(_STIFFNESS) - 1)]
        step = fit_affine(source, target, weights, stiffness)
        changed = step @ guess
        if not _is_sane(changed[:3, :3] / spacing_mm):
            return guess
        guess = changed
        if np.abs(_moved(step, source) - source).max() < _CONVERGED_MM:
            break
    return guess


def by_side(classes: Tensor, right: Tensor) -> Tensor:
    """Probabilities of the structures, paired ones for left and right, (n, x, y, z).

    ``classes`` (1, classes, x, y, z) and ``right`` (1, 1, x, y, z) are probabilities.
    """
    rows = []
    for number in range(_FIRST_STRUCTURE, len(CLASSES)):
        if CLASSES[number].is_paired:
            rows += [classes[0, number] * (1 - right[0, 0]), classes[0, number] * right[0, 0]]
        else:
            rows.append(classes[0, number])
    return torch.stack(rows)


def _centers(probabilities: Tensor, voxel_ml: float) -> tuple[FloatArray, npt.NDArray[np.float64]]:
    """Center of mass (n, 3) in voxel indices and volume (n,) of each map."""
    total = probabilities.sum(dim=(1, 2, 3)).double()
    centers = []
    for axis in range(3):
        others = [a + 1 for a in range(3) if a != axis]
        along = probabilities.sum(dim=others).double()
        index = torch.arange(along.shape[1], device=along.device, dtype=torch.float64)
        centers.append((along @ index) / total.clamp(min=1e-6))
    at = torch.stack(centers, dim=1).cpu().numpy()
    return at, (total * voxel_ml).cpu().numpy()


def _moved(matrix: FloatArray, points: FloatArray) -> FloatArray:
    return np.asarray(points @ matrix[:3, :3].T + matrix[:3, 3])


def _is_sane(linear: FloatArray) -> bool:
    """Whether a map keeps sizes within a third: no head is smaller or larger than that."""
    sizes = np.linalg.svd(linear, compute_uv=False)
    return bool(np.linalg.det(linear) > 0 and np.abs(np.log(sizes)).max() < _LARGEST_CHANGE)
