"""How well a parcellation agrees with the truth: Dice, and distance of the brain's surface."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from CMBDetectorLib.anatomy.parcellation import CLASSES, values_of
from CMBDetectorLib.anatomy.surfaces import outermost
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.preprocessing.brain_of_anatomy import brain_of_anatomy
from CMBDetectorLib.preprocessing.resample import resample
from CMBDetectorLib.volume import Volume
from training.anatomy.heads import class_of_label, side_of_label

BoolArray = npt.NDArray[np.bool_]

STRUCTURES: tuple[str, ...] = tuple(one.name for one in CLASSES[1:])
OUTSIDE_BRAIN = ("soft tissue", "bone", "orbit", "venous sinus")
DEEP_NUCLEI = ("thalamus", "caudate", "putamen", "pallidum")
SMALLEST_MM3 = 200.0
"""A structure of which the field of view shows less is not measured."""
_SUBSTEPS = (-1 / 3, 0.0, 1 / 3)
_SLAB = 16


def parcellation_of(labels: Volume) -> Volume:
    """A head label map in the values of the network's classes.

    The few labels without a side that belong to a paired class (77, 80) take that of the half of
    the grid, in whose middle the simulated head lies.
    """
    classes = class_of_label()[labels.array]
    side = side_of_label()[labels.array]
    x_mm = labels.geometry.ijk_to_ras_mm([[i, 0, 0] for i in range(labels.array.shape[0])])[:, 0]
    in_right_half = (x_mm > labels.geometry.center_ras_mm[0])[:, None, None]
    return labels.with_array(values_of(classes, (side == 1) | ((side == -1) & in_right_half)))


def by_majority(labels: Volume, grid: Geometry) -> Volume:
    """A label map on another grid: of each voxel the value that most of 27 points in it have.

    Of values that are equally frequent the smallest; 0 counts outside of the field of view.
    """
    result = np.zeros(grid.shape, dtype=labels.array.dtype)
    for start in range(0, grid.shape[0], _SLAB):
        stop = min(start + _SLAB, grid.shape[0])
        slab = grid.cropped((start, 0, 0), (stop, grid.shape[1], grid.shape[2]))
        samples = np.stack(
            [
                resample(labels, _shifted(slab, steps), order=0).array.ravel()
                for steps in itertools.product(_SUBSTEPS, repeat=3)
            ],
            axis=1,
        )
        values = samples[:, len(_SUBSTEPS) ** 3 // 2].copy()
        mixed = np.flatnonzero((samples != samples[:, :1]).any(axis=1))
        values[mixed] = _most_frequent(samples[mixed])
        result[start:stop] = values.reshape(slab.shape)
    return Volume(result, grid)


def dice_by_structure(predicted: Volume, true: Volume) -> dict[str, float]:
    """Dice of every structure of which the truth has at least 200 mm³; of two sides the mean.

    Both in the values of the classes, on one grid. A voxel on the wrong side is wrong.
    """
    least = SMALLEST_MM3 / true.geometry.voxel_volume_mm3
    n_values = 1 + max(max(one.left, one.right) for one in CLASSES)
    in_truth = np.bincount(true.array.ravel(), minlength=n_values)
    found = np.bincount(predicted.array.ravel(), minlength=n_values)
    shared = np.bincount(predicted.array[predicted.array == true.array], minlength=n_values)
    result = {}
    for one in CLASSES[1:]:
        sides = [value for value in {one.left, one.right} if in_truth[value] >= least]
        if sides:
            dice = [2 * shared[value] / (in_truth[value] + found[value]) for value in sides]
            result[one.name] = float(np.mean(dice))
    return result


def mean_of(dice: dict[str, float], structures: Sequence[str]) -> float:
    """Mean over those of the structures that were measured; NaN if none was."""
    values = [dice[name] for name in structures if name in dice]
    return float(np.mean(values)) if values else math.nan


def brain_with_sulci(labels: Volume) -> Volume:
    """The brain that masks are compared by, bool, on the map's own isotropic grid.

    Tissue, ventricles and the sulci between, as the pipeline's brain mask has them, without its
    rim; empty where the map has no brain.
    """
    return labels.with_array(brain_of_anatomy(labels, labels.geometry, rim_mm=0.0))


def on_grid(mask: Volume, grid: Geometry) -> BoolArray:
    """A mask on another grid: half of the voxel or more."""
    return np.asarray(resample(mask, grid).array >= 0.5)


def dice(one: BoolArray, other: BoolArray) -> float:
    """Twice the shared voxels by the voxels of both; NaN where both are empty."""
    n = np.count_nonzero(one) + np.count_nonzero(other)
    return 2 * np.count_nonzero(one & other) / n if n else math.nan


def surface_distance_95_mm(one: BoolArray, other: BoolArray, grid: Geometry) -> float:
    """The larger of the two 95th percentiles of surface distances; NaN if a mask is empty.

    Between centers of voxels that share a face with something else (Maier-Hein et al., Nature
    Methods 21, 2024: HD95).
    """
    points = [grid.ijk_to_ras_mm(np.argwhere(outermost(mask))) for mask in (one, other)]
    if not all(len(some) for some in points):
        return math.nan
    there, _ = cKDTree(points[1]).query(points[0])
    back, _ = cKDTree(points[0]).query(points[1])
    return float(max(np.percentile(there, 95), np.percentile(back, 95)))


def _shifted(grid: Geometry, steps: Sequence[float]) -> Geometry:
    affine = grid.affine.copy()
    affine[:3, 3] = grid.ijk_to_ras_mm(steps)
    return Geometry(grid.shape, affine)


def _most_frequent(samples: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
    """Of every row."""
    ordered = np.sort(samples, axis=1)
    count = np.ones(len(ordered), dtype=np.int16)
    best_count = count.copy()
    best = ordered[:, 0].copy()
    for column in range(1, ordered.shape[1]):
        same = ordered[:, column] == ordered[:, column - 1]
        count = np.where(same, count + 1, 1)
        better = count > best_count
        best[better] = ordered[better, column]
        best_count[better] = count[better]
    return best
