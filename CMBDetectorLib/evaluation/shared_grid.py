"""Lesions of two sources on one grid, so that their voxels can be compared one by one."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from CMBDetectorLib.errors import UsageError
from CMBDetectorLib.evaluation.lesions import IntArray, LesionSet
from CMBDetectorLib.geometry import FloatArray, Geometry

_ROUNDING = 1e-6
_SAMPLES_AT_ONCE = 2_000_000


@dataclass(frozen=True, eq=False)
class GridLesions:
    """The lesions of one source on the shared grid.

    Attributes
    ----------
    ijk
        Voxel indices, shape (m, 3); may lie outside the grid's shape. No voxel comes twice.
    lesion
        Row of the lesion each voxel belongs to, shape (m,), in rising order.
    n_voxels
        Of each lesion, shape (n,).
    """

    ijk: IntArray
    lesion: IntArray
    n_voxels: IntArray


@dataclass(frozen=True, eq=False)
class SharedVoxels:
    """Which lesions share voxels, and how many; all arrays have the shape (c,).

    ``predictions`` and ``truths`` are rows of the two sources; no pair comes twice.
    """

    predictions: IntArray
    truths: IntArray
    n_voxels: IntArray

    def of_pairs(self, predictions: IntArray, truths: IntArray) -> IntArray:
        """How many voxels these pairs share, rows of shape (p,); 0 where none."""
        known = zip(self.predictions.tolist(), self.truths.tolist(), strict=True)
        counts = dict(zip(known, self.n_voxels.tolist(), strict=True))
        asked = zip(predictions.tolist(), truths.tolist(), strict=True)
        return np.array([counts.get(pair, 0) for pair in asked], dtype=np.int64)


@dataclass(frozen=True, eq=False)
class SharedGrid:
    """Both sources on one grid; its shape says nothing, as voxels may lie outside of it."""

    geometry: Geometry
    true: GridLesions
    predicted: GridLesions
    shared: SharedVoxels


def on_shared_grid(predicted: LesionSet, true: LesionSet) -> SharedGrid:
    """Bring the lesions of two label maps on one grid.

    Where both are on the same grid, it is that one, and nothing is changed. Else it is the one
    with the smaller voxels by volume (of equal ones the truth's), divided evenly along those of
    its axes where the voxels of the other are smaller: so small that each voxel of the other holds
    the center of at least one. A lesion has those voxels of it whose centers lie within its own
    voxels. So no lesion gets lost, and the lesions of the finer grid keep their exact shape.

    Raises
    ------
    UsageError
        If a source has points only.
    """
    if predicted.geometry is None or true.geometry is None:
        raise UsageError("lesions without voxels cannot be brought on a grid; give label maps")
    if predicted.geometry.is_close(true.geometry):
        sides = _as_they_are(predicted), _as_they_are(true)
        return _joined(true.geometry, *sides)
    finer_is_predicted = predicted.geometry.voxel_volume_mm3 < true.geometry.voxel_volume_mm3 * (
        1 - _ROUNDING
    )
    finer, other = (predicted, true) if finer_is_predicted else (true, predicted)
    assert finer.geometry is not None
    assert other.geometry is not None
    parts = _parts(finer.geometry, other.geometry)
    geometry = _divided(finer.geometry, parts)
    exact = _divide(_as_they_are(finer), parts)
    sampled = _sample(_as_they_are(other), other.geometry, geometry)
    sides = (exact, sampled) if finer_is_predicted else (sampled, exact)
    return _joined(geometry, *sides)


def nearest_voxels(ras_mm: FloatArray, geometry: Geometry) -> IntArray:
    """The voxel each point lies in, shape (n, 3), also outside of the grid's shape.

    A point on the border of two voxels belongs to the one further right, anterior or superior, in
    whatever order and direction the axes are.
    """
    return _nearest(geometry.ras_mm_to_ijk(ras_mm), geometry.orientation[:, 1])


def voxel_keys(ijk: IntArray, start: IntArray, shape: IntArray) -> IntArray:
    """One number for each voxel of a box, in the order of i, then j, then k."""
    i, j, k = (ijk - start).T
    return np.asarray((i * shape[1] + j) * shape[2] + k, dtype=np.int64)


def _nearest(index: FloatArray, direction: FloatArray) -> IntArray:
    up = np.floor(index + (0.5 + _ROUNDING))
    down = np.ceil(index - (0.5 + _ROUNDING))
    return np.where(direction > 0, up, down).astype(np.int64)


def _as_they_are(lesions: LesionSet) -> GridLesions:
    n_voxels = np.array([len(voxels) for voxels in lesions.voxels_ijk], dtype=np.int64)
    ijk = np.concatenate([np.empty((0, 3), dtype=np.int64), *lesions.voxels_ijk])
    return GridLesions(ijk, np.repeat(np.arange(len(n_voxels)), n_voxels), n_voxels)


def _parts(finer: Geometry, other: Geometry) -> IntArray:
    """Into how many parts to divide each axis, shape (3,).

    A box of edge 1, which a voxel of the other grid is in its own indices, holds a point of a
    lattice wherever it lies, if no edge of the lattice's cell is longer than 1 along any axis.
    """
    steps = np.abs(np.linalg.inv(other.affine[:3, :3]) @ finer.affine[:3, :3])
    parts = np.ones(3, dtype=np.int64)
    while (extent := (steps / parts).sum(axis=1)).max() > 1 + _ROUNDING:
        widest = int(np.argmax(extent))
        parts[int(np.argmax(steps[widest] / parts))] += 1
    return parts


def _divided(geometry: Geometry, parts: IntArray) -> Geometry:
    affine = geometry.affine.copy()
    affine[:3, :3] = geometry.affine[:3, :3] / parts
    affine[:3, 3] = geometry.ijk_to_ras_mm((1 / parts - 1) / 2)
    i, j, k = (np.array(geometry.shape) * parts).tolist()
    return Geometry((i, j, k), affine)


def _divide(lesions: GridLesions, parts: IntArray) -> GridLesions:
    offsets = np.array(list(itertools.product(*map(range, parts.tolist()))), dtype=np.int64)
    ijk = (lesions.ijk[:, None] * parts + offsets).reshape(-1, 3)
    return GridLesions(
        ijk, np.repeat(lesions.lesion, len(offsets)), lesions.n_voxels * len(offsets)
    )


def _sample(lesions: GridLesions, source: Geometry, target: Geometry) -> GridLesions:
    """The voxels of the target grid whose centers lie within the lesions' voxels.

    Around each voxel all of the target are tried that may have their center in it, so that the
    effort goes with the number of voxels.
    """
    to_target, to_source = target.index_map_from(source), source.index_map_from(target)
    reach = np.abs(to_target[:3, :3]).sum(axis=1) / 2 + _ROUNDING
    widths = np.floor(2 * reach).astype(int) + 1
    offsets = np.array(list(itertools.product(*map(range, widths.tolist()))), dtype=np.int64)
    direction = source.orientation[:, 1]
    found, owners = [np.empty((0, 3), dtype=np.int64)], [np.empty(0, dtype=np.int64)]
    step = max(1, _SAMPLES_AT_ONCE // len(offsets))
    for start in range(0, len(lesions.ijk), step):
        voxels = lesions.ijk[start : start + step]
        center = voxels @ to_target[:3, :3].T + to_target[:3, 3]
        tried = np.ceil(center - reach).astype(np.int64)[:, None] + offsets
        index = tried @ to_source[:3, :3].T + to_source[:3, 3]
        inside = (_nearest(index, direction) == voxels[:, None]).all(axis=-1)
        found.append(tried[inside])
        owners.append(np.nonzero(inside)[0] + start)
    lesion = lesions.lesion[np.concatenate(owners)]
    n_voxels = np.bincount(lesion, minlength=len(lesions.n_voxels))
    return GridLesions(np.concatenate(found), lesion, n_voxels)


def _joined(geometry: Geometry, predicted: GridLesions, true: GridLesions) -> SharedGrid:
    return SharedGrid(geometry, true, predicted, _shared(predicted, true))


def _shared(predicted: GridLesions, true: GridLesions) -> SharedVoxels:
    none = np.empty(0, dtype=np.int64)
    if len(predicted.ijk) == 0 or len(true.ijk) == 0:
        return SharedVoxels(none, none, none)
    # Only where the two boxes meet: of lesions far apart, that around both may be immense.
    boxes = [box_of(side.ijk) for side in (predicted, true)]
    start = np.max([first for first, _ in boxes], axis=0)
    shape = np.min([first + size for first, size in boxes], axis=0) - start
    keys, lesions = [], []
    for side in (predicted, true):
        inside = ((side.ijk >= start) & (side.ijk < start + shape)).all(axis=1)
        keys.append(voxel_keys(side.ijk[inside], start, shape))
        lesions.append(side.lesion[inside])
    _, in_predicted, in_true = np.intersect1d(
        keys[0], keys[1], assume_unique=True, return_indices=True
    )
    n_true = len(true.n_voxels)
    pair = lesions[0][in_predicted] * n_true + lesions[1][in_true]
    pairs, counts = np.unique(pair, return_counts=True)
    return SharedVoxels(pairs // n_true, pairs % n_true, counts)


def box_of(ijk: IntArray) -> tuple[IntArray, IntArray]:
    """First voxel, shape (3,), and shape (3,) of the box around voxels; there is at least one."""
    first = ijk.min(axis=0)
    return first, ijk.max(axis=0) - first + 1
