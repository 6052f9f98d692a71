"""Where the tiles lie, and how overlapping tiles are weighted."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
Shape = tuple[int, int, int]

# The width of the weighting and its floor are those of MONAI's sliding_window_inference.
SIGMA_SCALE = 0.125
MIN_WEIGHT = 1e-3


@dataclass(frozen=True)
class Tile:
    """One tile: the first voxel of the volume it covers; negative where it reaches beyond."""

    start: Shape


def plan_tiles(
    mask: BoolArray, tile_shape: Shape, overlap: float, strides: Shape = (1, 1, 1)
) -> tuple[Tile, ...]:
    """Place tiles so that each voxel of the mask lies in at least one.

    Slabs of slices are placed first, over the slices that hold mask; then rows within each slab,
    over the mask of that slab; then tiles along each row, over the mask of that row. So the tiles
    follow the outline of the head, and fewer are needed than on one grid over its bounding box.
    Neighbors along each axis share at least ``overlap`` of their length, but are a stride apart.
    A volume smaller than a tile lies centred in it, to a stride.

    Parameters
    ----------
    mask
        Shape (i, j, k), bool.
    tile_shape
        Voxels along i, j, k.
    overlap
        Share of a tile, from 0 to below 1.
    strides
        Tiles begin at multiples of these, which divide ``tile_shape``. With the network's total
        strides its values hardly depend on where the mask happens to end; a tile may then reach
        beyond the volume.
    """
    tiles: list[Tile] = []
    size_i, size_j, size_k = mask.shape
    length_i, length_j, length_k = tile_shape
    for k in _starts(_any(mask, (0, 1)), length_k, overlap, strides[2]):
        slab = _any(mask[:, :, _clipped(k, length_k, size_k)], (2,))
        for i in _starts(_any(slab, (1,)), length_i, overlap, strides[0]):
            row = _any(slab[_clipped(i, length_i, size_i)], (0,))
            for j in _starts(row, length_j, overlap, strides[1]):
                if row[_clipped(j, length_j, size_j)].any():
                    tiles.append(Tile((i, j, k)))
    return tuple(tiles)


def importance_map(tile_shape: Shape) -> FloatArray:
    """Gaussian weight of each voxel of a tile, 1 at its center, never below :data:`MIN_WEIGHT`.

    Voxels near a tile's border see less of their surroundings, so neighbors outweigh them there.
    """
    profiles = [
        np.exp(-0.5 * ((np.arange(n) - (n - 1) / 2) / (SIGMA_SCALE * n)) ** 2) for n in tile_shape
    ]
    weights = profiles[0][:, None, None] * profiles[1][:, None] * profiles[2]
    return np.asarray(np.maximum(weights, MIN_WEIGHT), dtype=np.float32)


def cut_tile(image: FloatArray, tile: Tile, tile_shape: Shape) -> FloatArray:
    """The part of the image under a tile, zero where the tile reaches beyond the image."""
    inside, within = _overlap_slices(image.shape, tile, tile_shape)
    if all(s.stop - s.start == n for s, n in zip(within, tile_shape, strict=True)):
        return image[inside]
    cut = np.zeros(tile_shape, dtype=np.float32)
    cut[within] = image[inside]
    return cut


def add_tile(target: FloatArray, tile: Tile, values: FloatArray) -> None:
    """Add a tile's values to the volume, in place; what lies beyond the volume is dropped."""
    a, b, c = values.shape
    inside, within = _overlap_slices(target.shape, tile, (a, b, c))
    target[inside] += values[within]


def _any(occupied: BoolArray, axes: tuple[int, ...]) -> BoolArray:
    return np.asarray(occupied.any(axis=axes), dtype=np.bool_)


def _starts(occupied: BoolArray, length: int, overlap: float, stride: int) -> list[int]:
    """First voxels of the tiles that cover the occupied stretch of one axis."""
    size = occupied.size
    places = np.flatnonzero(occupied)
    if places.size == 0:
        return []
    if size <= length:
        return [-((length - size) // 2 // stride) * stride]
    # From here on in strides: what is occupied, and what a tile covers wherever it begins.
    first, last = int(places[0]) // stride, int(places[-1]) // stride
    span, covered, most = last + 1 - first, length // stride, -(-size // stride)
    if span <= covered:
        centered = first - (covered - span) // 2
        return [min(max(centered, 0), most - covered) * stride]
    step = max(1, math.floor(covered * (1 - overlap)))
    count = 1 + math.ceil((span - covered) / step)
    return [(first + round(n * (span - covered) / (count - 1))) * stride for n in range(count)]


def _clipped(start: int, length: int, size: int) -> slice:
    return slice(min(max(start, 0), size), max(min(start + length, size), 0))


def _overlap_slices(
    volume_shape: tuple[int, ...], tile: Tile, tile_shape: Shape
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """The shared part of volume and tile, as slices of the volume and slices of the tile."""
    inside = tuple(
        _clipped(start, length, size)
        for start, length, size in zip(tile.start, tile_shape, volume_shape, strict=True)
    )
    within = tuple(
        slice(s.start - start, s.stop - start) for s, start in zip(inside, tile.start, strict=True)
    )
    return inside, within
