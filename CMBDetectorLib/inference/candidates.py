"""Places that the networks take for microbleeds, and what a classifier is shown of each.

Two stages, the first to miss little and the second to tell lesions from what resembles them, are
the usual way with microbleeds (Dou et al., IEEE TMI 35, 2016). The second one sees what the first
cannot: the first one's answer, and the brain around, as far as the other side of the deep nuclei.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from CMBDetectorLib.inference.tiles import FloatArray, Tile, cut_tile
from CMBDetectorLib.volume import Volume

IntArray = npt.NDArray[np.int64]

DETAIL_SHAPE = (40, 40, 7)
"""Voxels of the model's grid around a candidate, slices last."""
SURROUNDINGS_SHAPE = (10, 48, 48)
"""Mean and minimum in each of five slabs, in cells of about 2 mm."""
PEAK_DISTANCE_MM = 2.0
CELL_MM = 2.0
SLAB_CENTERS_MM = (-6.0, -3.0, 0.0, 3.0, 6.0)
SLAB_HALF_MM = 1.5


@dataclass(frozen=True, eq=False)
class CandidatePatches:
    """What a classifier is shown of n candidates, float32.

    Attributes
    ----------
    detail, probability
        (n, 40, 40, 7) on the model's grid: the prepared image, and the networks' probability.
    surroundings
        (n, 10, 48, 48): of five slabs of 3 mm the mean and the minimum, in cells of 2 mm.
    peak
        (n,) The networks' probability at the candidate.
    slice_spacing_mm
        (n,)
    """

    detail: FloatArray
    probability: FloatArray
    surroundings: FloatArray
    peak: FloatArray
    slice_spacing_mm: FloatArray


def find_peaks(probability: Volume, lowest: float) -> IntArray:
    """Voxels (n, 3) of probability ``lowest`` or more that none within 2 mm along an axis exceeds.

    The highest come first. Equal neighbors are all given.
    """
    values = probability.array
    reach = [max(1, round(PEAK_DISTANCE_MM / mm)) for mm in probability.geometry.spacing_mm]
    highest = ndimage.maximum_filter(values, size=[2 * n + 1 for n in reach], mode="nearest")
    peaks = np.argwhere((values >= lowest) & (values == highest))
    order = np.argsort(-values[tuple(peaks.T)], kind="stable")
    return np.asarray(peaks[order], dtype=np.int64)


def cut_patches(
    image: Volume, probability: Volume, centers: IntArray, margin: int = 0
) -> CandidatePatches:
    """Cut what a classifier is shown of each candidate; zero beyond the image.

    Parameters
    ----------
    image, probability
        On the model's grid, slices along the last axis.
    centers
        Voxels, shape (n, 3).
    margin
        More voxels in plane on each side of ``detail`` and ``probability``, to shift within.
    """
    pixels = np.asarray(image.array, dtype=np.float32)
    width, height, depth = DETAIL_SHAPE
    shape = (width + 2 * margin, height + 2 * margin, depth)
    detail = np.empty((len(centers), *shape), dtype=np.float32)
    chance = np.empty_like(detail)
    around = np.empty((len(centers), *SURROUNDINGS_SHAPE), dtype=np.float32)
    for row, (i, j, k) in enumerate(centers.tolist()):
        tile = Tile((i - shape[0] // 2, j - shape[1] // 2, k - depth // 2))
        detail[row] = cut_tile(pixels, tile, shape)
        chance[row] = cut_tile(probability.array, tile, shape)
        around[row] = _surroundings(pixels, (i, j, k), image.geometry.spacing_mm)
    peak = np.asarray(probability.array[tuple(centers.T)], dtype=np.float32)
    slices_mm = np.full(len(centers), image.geometry.spacing_mm[2], dtype=np.float32)
    return CandidatePatches(detail, chance, around, peak, slices_mm)


def _surroundings(
    pixels: FloatArray, center: tuple[int, int, int], spacing_mm: tuple[float, float, float]
) -> FloatArray:
    """Mean and minimum by cell, slab by slab, (10, 48, 48)."""
    i, j, k = center
    _, wide, high = SURROUNDINGS_SHAPE
    cell_i, cell_j = (max(1, round(CELL_MM / mm)) for mm in spacing_mm[:2])
    parts = []
    for middle_mm in SLAB_CENTERS_MM:
        first = k + round((middle_mm - SLAB_HALF_MM) / spacing_mm[2])
        end = max(first + 1, k + round((middle_mm + SLAB_HALF_MM) / spacing_mm[2]))
        corner = Tile((i - wide * cell_i // 2, j - high * cell_j // 2, first))
        slab = cut_tile(pixels, corner, (wide * cell_i, high * cell_j, end - first))
        cells = slab.reshape(wide, cell_i, high, cell_j, -1)
        parts += [cells.mean(axis=(1, 3, 4)), cells.min(axis=(1, 3, 4))]
    return np.stack(parts)
