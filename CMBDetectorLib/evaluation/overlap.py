"""The overlap rule: a prediction is right if it shares a voxel with a true lesion."""

from __future__ import annotations

import numpy as np

from CMBDetectorLib.errors import UsageError
from CMBDetectorLib.evaluation.lesions import IntArray, LesionSet
from CMBDetectorLib.evaluation.matching import Candidates, MatchResult, assign
from CMBDetectorLib.evaluation.shared_grid import (
    SharedGrid,
    nearest_voxels,
    on_shared_grid,
    voxel_keys,
)
from CMBDetectorLib.geometry import FloatArray


def match_overlaps(predicted: LesionSet, true: LesionSet) -> MatchResult:
    """Match lesions that overlap one to one: as many pairs as possible, then the most overlap.

    Two lesions overlap if they share a voxel: on their own grid where both have the same, else on
    the one of :func:`CMBDetectorLib.evaluation.shared_grid.on_shared_grid`, so that a coarse mask
    against a fine one works both ways. A point overlaps a lesion if it lies in one of its voxels;
    of several points in one lesion the one nearest to its center is matched. Pairs and second
    hits carry the distance of the centers.

    Raises
    ------
    UsageError
        If both sides have points: points have no extent, so that they cannot overlap.
    """
    candidates = overlap_candidates(predicted, true)
    return assign(candidates, range(len(predicted.lesions)), range(len(true.lesions)))


def overlap_candidates(
    predicted: LesionSet, true: LesionSet, both: SharedGrid | None = None
) -> Candidates:
    """Pairs of lesions that overlap; ``both`` is them on one grid, where it is known already.

    The cost is the negative volume in mm³ that both share, or with points the distance.

    Raises
    ------
    UsageError
        If both sides have points.
    """
    if not predicted.lesions or not true.lesions:
        predictions = truths = np.empty(0, dtype=np.int64)
    elif predicted.has_masks and true.has_masks:
        both = both or on_shared_grid(predicted, true)
        shared = both.shared
        distance_mm = _distances_mm(predicted, true, shared.predictions, shared.truths)
        volume_mm3 = shared.n_voxels.astype(np.float64) * both.geometry.voxel_volume_mm3
        return Candidates(shared.predictions, shared.truths, distance_mm, -volume_mm3)
    elif true.has_masks:
        predictions, truths = _points_in(predicted.centers_ras_mm, true)
    elif predicted.has_masks:
        truths, predictions = _points_in(true.centers_ras_mm, predicted)
    else:
        raise UsageError(
            "truth and prediction are both points, which cannot overlap; use the center rule"
        )
    distance_mm = _distances_mm(predicted, true, predictions, truths)
    return Candidates(predictions, truths, distance_mm, distance_mm)


def _distances_mm(
    predicted: LesionSet, true: LesionSet, predictions: IntArray, truths: IntArray
) -> FloatArray:
    apart_mm = predicted.centers_ras_mm[predictions] - true.centers_ras_mm[truths]
    return np.asarray(np.linalg.norm(apart_mm, axis=1), dtype=np.float64)


def _points_in(points_ras_mm: FloatArray, masks: LesionSet) -> tuple[IntArray, IntArray]:
    """Rows of points and of the lesions they lie in."""
    assert masks.geometry is not None
    inside = nearest_voxels(points_ras_mm, masks.geometry)
    in_grid = np.flatnonzero(((inside >= 0) & (inside < masks.geometry.shape)).all(axis=1))
    start, shape = np.zeros(3, dtype=np.int64), np.array(masks.geometry.shape)
    point_key = voxel_keys(inside[in_grid], start, shape)
    lesion_key = voxel_keys(np.concatenate(masks.voxels_ijk), start, shape)
    lesion = np.repeat(np.arange(len(masks.voxels_ijk)), [len(v) for v in masks.voxels_ijk])
    order = np.argsort(lesion_key)
    place = np.minimum(np.searchsorted(lesion_key[order], point_key), len(order) - 1)
    hit = lesion_key[order][place] == point_key
    return in_grid[hit], lesion[order][place[hit]]
