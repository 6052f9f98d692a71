"""Bring a volume onto another grid in physical space."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage, sparse

from CMBDetectorLib.geometry import FloatArray, Geometry
from CMBDetectorLib.volume import Volume

AnyArray = npt.NDArray[Any]
Box = tuple[tuple[int, int], ...]

_ALIGNED_TOLERANCE_VOXELS = 1e-3
_POSITION_DECIMALS = 6
_SLAB_VOXELS = 4_000_000


def resample(volume: Volume, target: Geometry, *, order: int = 1, fill: float = 0.0) -> Volume:
    """The volume on another grid, voxel for voxel at the same place in the patient.

    Parameters
    ----------
    volume
        Image, probability map or mask on any grid: left-handed, permuted, oblique, anisotropic.
    target
        Grid of the result; may reach beyond the volume's field of view or lie within it.
    order
        1 interpolates linearly and averages where the target's voxels are larger; 0 takes the
        nearest voxel and keeps the dtype (for masks and label maps).
    fill
        Value of target voxels whose centre lies outside the volume's field of view, which
        reaches half a voxel beyond the outermost centres; within it the outermost value goes on.

    Returns
    -------
    Volume
        On ``target``; float32 for order 1, the volume's dtype for order 0. The array is C-ordered
        and never shares memory with the input.

    Raises
    ------
    ValueError
        If ``order`` is neither 0 nor 1.

    Notes
    -----
    Along an axis where target voxels are ``f > 1`` source voxels long, the result is the mean of
    the linear interpolant over a window of ``f - 1`` source voxels. It has no step at ``f = 1``,
    is the exact mean of the pair at ``f = 2``, and keeps centres of mass and linear ramps at
    every ``f``. Where the axes of both grids are parallel (a model's grid shares the native axes)
    each axis is one sparse product; otherwise the averaging comes first, with ``f`` the length of
    the target voxel's projection on each source axis, and ``scipy.ndimage.affine_transform``
    after it, in slabs.
    """
    if order not in (0, 1):
        raise ValueError(f"order is 0 (nearest) or 1 (linear), got {order}")
    dtype = volume.array.dtype if order == 0 else np.dtype(np.float32)
    if volume.geometry.is_close(target, tolerance_voxels=10**-_POSITION_DECIMALS):
        return Volume(np.array(volume.array, dtype=dtype, order="C"), target)
    index_map = volume.geometry.index_map_from(target)
    out = np.full(target.shape, fill, dtype=dtype)
    source_axes = _parallel_axes(index_map, target.shape)
    if source_axes is not None:
        _resample_parallel(volume.array, index_map, source_axes, order, out)
    else:
        _resample_oblique(volume.array, index_map, order, out)
    return Volume(out, target)


def _parallel_axes(index_map: FloatArray, shape: tuple[int, int, int]) -> list[int] | None:
    """Source axis that each target axis runs along; None if the grids are oblique."""
    linear = index_map[:3, :3]
    axes = [int(a) for a in np.argmax(np.abs(linear), axis=0)]
    if sorted(axes) != [0, 1, 2]:
        return None
    rest = np.abs(linear)
    rest[axes, [0, 1, 2]] = 0.0
    drift_voxels = (rest * np.array(shape)).sum(axis=1).max()
    return axes if drift_voxels <= _ALIGNED_TOLERANCE_VOXELS else None


def _resample_parallel(
    source: AnyArray, index_map: FloatArray, source_axes: list[int], order: int, out: AnyArray
) -> None:
    """Fill the part of ``out`` that the source covers, axis by axis."""
    array = source.transpose(source_axes)
    middle = (np.array(out.shape) - 1) / 2
    covered: list[slice] = []
    steps: list[tuple[int, FloatArray, float]] = []
    for axis, source_axis in enumerate(source_axes):
        step = index_map[source_axis, axis]
        center = index_map[source_axis, :3] @ middle + index_map[source_axis, 3]
        positions = center + step * (np.arange(out.shape[axis]) - middle[axis])
        positions = np.round(positions, _POSITION_DECIMALS)
        inside = np.flatnonzero(_within(positions, array.shape[axis]))
        if inside.size == 0:
            return
        covered.append(slice(int(inside[0]), int(inside[-1]) + 1))
        window = max(0.0, round(abs(step) - 1.0, _POSITION_DECIMALS)) if order == 1 else 0.0
        steps.append((axis, positions[inside], window))

    steps.sort(key=lambda s: s[1].size / array.shape[s[0]])
    for axis, positions, window in steps:
        array = _resample_axis(array, axis, positions, window, order)
    out[tuple(covered)] = array


def _within(positions: FloatArray, n_voxels: int) -> npt.NDArray[np.bool_]:
    tolerance = 2 * 10**-_POSITION_DECIMALS
    inside: npt.NDArray[np.bool_] = positions >= -0.5 - tolerance
    inside &= positions <= n_voxels - 0.5 + tolerance
    return inside


def _resample_axis(
    array: AnyArray, axis: int, positions: FloatArray, window: float, order: int
) -> AnyArray:
    """One axis at the given continuous indices; a view where these are whole and in a row."""
    n_voxels = array.shape[axis]
    if order == 0:
        positions = np.clip(np.floor(positions + 0.5), 0, n_voxels - 1)
    whole = positions.astype(np.intp)
    if window > 0 or not np.array_equal(whole, positions):
        return _weighted_sum(array, axis, _linear_weights(positions, n_voxels, window))
    steps = np.unique(np.diff(whole))
    if steps.tolist() in ([], [1], [-1]):
        index = [slice(None)] * array.ndim
        index[axis] = slice(int(whole.min()), int(whole.max()) + 1)
        run = array[tuple(index)]
        return np.flip(run, axis) if steps.tolist() == [-1] else run
    return np.take(array, whole, axis=axis)


def _linear_weights(positions: FloatArray, n_voxels: int, window: float) -> sparse.csr_array:
    """Weights, shape (positions, voxels), of the linear interpolant's mean over a window.

    ``positions`` and ``window`` (its full width; 0 for plain interpolation) are in voxels; the
    outermost voxels go on beyond the ends.
    """
    first = np.floor(positions - window / 2).astype(np.intp)
    n_taps = int(np.ceil(window)) + 2
    taps = first[:, None] + np.arange(n_taps)
    offset = positions[:, None] - taps
    if window > 0:
        weights = (_hat_integral(offset + window / 2) - _hat_integral(offset - window / 2)) / window
    else:
        weights = np.maximum(0.0, 1.0 - np.abs(offset))
    rows = np.repeat(np.arange(positions.size), n_taps)
    columns = np.clip(taps, 0, n_voxels - 1).ravel()
    shape = (positions.size, n_voxels)
    matrix = sparse.csr_array((weights.ravel().astype(np.float32), (rows, columns)), shape=shape)
    matrix.eliminate_zeros()
    return matrix


def _hat_integral(x: FloatArray) -> FloatArray:
    """Integral from minus infinity to ``x`` of the linear interpolation kernel."""
    x = np.clip(x, -1.0, 1.0)
    return np.where(x < 0, (1 + x) ** 2 / 2, 1 - (1 - x) ** 2 / 2)


def _weighted_sum(array: AnyArray, axis: int, weights: sparse.csr_array) -> AnyArray:
    """``weights`` times ``array`` along one axis, float32, in the array's own memory order.

    Goes sheet by sheet along the slowest other axis, so that a sheet stays in the cache.
    """
    support = np.unique(weights.indices)
    low, high = int(support[0]), int(support[-1]) + 1
    weights = weights[:, low:high]
    others = sorted((a for a in range(3) if a != axis), key=lambda a: -abs(array.strides[a]))
    sheets = array.transpose(others[0], axis, others[1])[:, low:high]
    layout = sorted(range(3), key=lambda a: -abs(array.strides[a]))
    shape = [weights.shape[0] if a == axis else array.shape[a] for a in layout]
    out = np.empty(shape, dtype=np.float32).transpose(np.argsort(layout))
    out_sheets = out.transpose(others[0], axis, others[1])
    for sheet, out_sheet in zip(sheets, out_sheets, strict=True):
        out_sheet[...] = weights @ np.ascontiguousarray(sheet, dtype=np.float32)
    return out


def _resample_oblique(source: AnyArray, index_map: FloatArray, order: int, out: AnyArray) -> None:
    """Fill the part of ``out`` that the source covers by a full affine map, in slabs."""
    box = _reachable_box(source.shape, index_map, out.shape)
    if box is None:
        return
    array = source
    if order == 1:
        array = np.asarray(source, dtype=np.float32)
        for axis, extent in enumerate(np.linalg.norm(index_map[:3, :3], axis=1)):
            if extent > 1.0:
                positions = np.arange(array.shape[axis], dtype=np.float64)
                weights = _linear_weights(positions, array.shape[axis], float(extent - 1.0))
                array = _weighted_sum(array, axis, weights)
    elif source.dtype == np.bool_:
        array = source.view(np.uint8)

    (i0, i1), (j0, j1), (k0, k1) = box
    rows = max(1, _SLAB_VOXELS // ((j1 - j0) * (k1 - k0)))
    for start in range(i0, i1, rows):
        stop = min(start + rows, i1)
        offset = index_map[:3, :3] @ (start, j0, k0) + index_map[:3, 3]
        shape = (stop - start, j1 - j0, k1 - k0)
        slab = ndimage.affine_transform(
            array,
            index_map[:3, :3],
            offset,
            output_shape=shape,
            order=1 if order == 1 else 0,
            mode="nearest",
        )
        part = out[start:stop, j0:j1, k0:k1]
        part[...] = np.where(_covered(index_map[:3, :3], offset, shape, array.shape), slab, part)


def _reachable_box(
    source_shape: tuple[int, ...], index_map: FloatArray, shape: tuple[int, ...]
) -> Box | None:
    """Smallest box of target voxels that holds all within the source's field of view."""
    corners = np.array(list(itertools.product(*[(-0.5, n - 0.5) for n in source_shape])))
    inverse = np.linalg.inv(index_map)
    in_target = corners @ inverse[:3, :3].T + inverse[:3, 3]
    start = np.maximum(0, np.floor(in_target.min(axis=0))).astype(int)
    stop = np.minimum(shape, np.ceil(in_target.max(axis=0)) + 1).astype(int)
    if np.any(stop <= start):
        return None
    return tuple((int(a), int(b)) for a, b in zip(start, stop, strict=True))


def _covered(
    linear: FloatArray, offset: FloatArray, shape: tuple[int, ...], source_shape: tuple[int, ...]
) -> npt.NDArray[np.bool_]:
    """Which voxels of a target slab have their centre within the source's field of view."""
    covered = np.ones(shape, dtype=np.bool_)
    i, j, k = np.ogrid[: shape[0], : shape[1], : shape[2]]
    for row, start, n_voxels in zip(linear, offset, source_shape, strict=True):
        covered &= _within(row[0] * i + row[1] * j + row[2] * k + start, n_voxels)
    return covered
