"""How well matched lesions are outlined."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from CMBDetectorLib.evaluation.lesions import IntArray, LesionSet
from CMBDetectorLib.evaluation.shared_grid import (
    GridLesions,
    SharedGrid,
    box_of,
    on_shared_grid,
    voxel_keys,
)
from CMBDetectorLib.geometry import FloatArray, Geometry

_FACES = ((1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1))


@dataclass(frozen=True)
class PairMeasures:
    """A predicted lesion compared with the true one; see :func:`pair_measures`."""

    dice: float
    volume_error_mm3: float
    surface_distance_mm: float
    hausdorff_95_mm: float


def pair_measures(
    predicted: LesionSet,
    true: LesionSet,
    pairs: Sequence[tuple[int, int]],
    *,
    both: SharedGrid | None = None,
) -> tuple[PairMeasures, ...]:
    """Compare matched lesions voxel by voxel, in the order of the pairs.

    On their own grid where both sides have the same, else on the one of
    :func:`CMBDetectorLib.evaluation.shared_grid.on_shared_grid`.

    - Dice: twice the shared voxels by the voxels of both.
    - Volume error: predicted minus true, each measured on its own grid.
    - Average symmetric surface distance: the mean over the surface voxels of both lesions
      together, of each the distance to the nearest surface voxel of the other lesion.
    - 95 % Hausdorff distance: the larger of the two 95th percentiles (interpolated linearly) of
      these distances, from the prediction to the truth and back.

    A voxel is on the surface if it shares a face with a voxel that is not of its lesion, or with
    the edge of the image. Distances are between voxel centers in mm, in space: right with oblique
    and sheared axes too.

    Parameters
    ----------
    predicted, true
        Both with masks.
    pairs
        Rows of the two: (prediction, truth).
    both
        The lesions on one grid, where it is known already.

    Raises
    ------
    UsageError
        If a side has points only.

    References
    ----------
    Maier-Hein et al., "Metrics reloaded: recommendations for image analysis validation", Nature
    Methods 21, 2024: DSC, ASSD and HD95. Those are also MONAI's.
    """
    both = both or on_shared_grid(predicted, true)
    if not pairs:
        return ()
    rows, others = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    n_both = both.predicted.n_voxels[rows] + both.true.n_voxels[others]
    dice = 2 * both.shared.of_pairs(rows, others) / n_both
    distance_mm, hausdorff_mm = _surface_distances(
        _surfaces(both.predicted, both.geometry, rows),
        _surfaces(both.true, both.geometry, others),
    )
    return tuple(
        PairMeasures(
            dice=float(dice[number]),
            volume_error_mm3=predicted.lesions[row].volume_mm3 - true.lesions[other].volume_mm3,
            surface_distance_mm=float(distance_mm[number]),
            hausdorff_95_mm=float(hausdorff_mm[number]),
        )
        for number, (row, other) in enumerate(pairs)
    )


def whole_mask_dice(
    true: LesionSet, predicted: LesionSet, *, both: SharedGrid | None = None
) -> float:
    """Dice of all voxels of the truth and of the prediction, whichever lesion they belong to.

    1 where both are empty; NaN where a side has no mask. ``both`` is them on one grid, where
    it is known already.
    """
    if not true.has_masks or not predicted.has_masks:
        return math.nan
    both = both or on_shared_grid(predicted, true)
    n_both = int(both.predicted.n_voxels.sum() + both.true.n_voxels.sum())
    return 2 * int(both.shared.n_voxels.sum()) / n_both if n_both else 1.0


@dataclass(frozen=True, eq=False)
class _Surfaces:
    """Surface voxels of lesions, one after the other: centers (m, 3), and how many each has."""

    points_mm: FloatArray
    n_points: IntArray

    @property
    def owner(self) -> IntArray:
        """Of each point, shape (m,)."""
        return np.repeat(np.arange(len(self.n_points)), self.n_points)


def _surfaces(lesions: GridLesions, geometry: Geometry, rows: IntArray) -> _Surfaces:
    wanted, position = np.unique(rows, return_inverse=True)
    keep = np.isin(lesions.lesion, wanted)
    ijk, lesion = lesions.ijk[keep], lesions.lesion[keep]
    start, shape = box_of(ijk)
    # One more on each side, so that a neighbor outside of the box has a key of its own.
    start, shape = start - 1, shape + 2
    # The lesion is part of the key: a neighbor in another lesion is outside of this one.
    key = lesion * int(shape.prod()) + voxel_keys(ijk, start, shape)
    in_order = np.sort(key)
    inner: npt.NDArray[np.bool_] = np.ones(len(ijk), dtype=bool)
    for face in np.array(_FACES):
        step = int(voxel_keys(face, np.zeros(3, dtype=np.int64), shape))
        place = np.minimum(np.searchsorted(in_order, key + step), len(in_order) - 1)
        inner &= in_order[place] == key + step
    points_mm, lesion = geometry.ijk_to_ras_mm(ijk[~inner]), lesion[~inner]
    parts = np.split(points_mm, np.searchsorted(lesion, wanted)[1:])
    in_turn = [parts[place] for place in position.tolist()]
    return _Surfaces(np.concatenate(in_turn), np.array([len(part) for part in in_turn]))


def _surface_distances(one: _Surfaces, other: _Surfaces) -> tuple[FloatArray, FloatArray]:
    """Average symmetric surface distance and 95 % Hausdorff distance of each pair, in mm."""
    # One tree for all: a fourth axis keeps the pairs further apart than any two of their points.
    points_mm = np.concatenate([one.points_mm, other.points_mm])
    apart_mm = 2 * float(np.linalg.norm(np.ptp(points_mm, axis=0))) + 1
    one_mm, other_mm = (
        np.column_stack([side.points_mm, apart_mm * side.owner]) for side in (one, other)
    )
    there_mm = np.asarray(cKDTree(other_mm).query(one_mm)[0])
    back_mm = np.asarray(cKDTree(one_mm).query(other_mm)[0])
    total_mm = np.bincount(one.owner, there_mm) + np.bincount(other.owner, back_mm)
    hausdorff_mm = np.maximum(_percentiles_95(there_mm, one), _percentiles_95(back_mm, other))
    return total_mm / (one.n_points + other.n_points), hausdorff_mm


def _percentiles_95(distance_mm: FloatArray, surfaces: _Surfaces) -> FloatArray:
    """Of the distances of each surface, between two of them by linear interpolation."""
    in_order = distance_mm[np.lexsort((distance_mm, surfaces.owner))]
    starts = np.cumsum(surfaces.n_points) - surfaces.n_points
    place = 0.95 * (surfaces.n_points - 1)
    below, above = (starts + end(place).astype(np.int64) for end in (np.floor, np.ceil))
    share = place - np.floor(place)
    return np.asarray(in_order[below] * (1 - share) + in_order[above] * share, dtype=np.float64)
