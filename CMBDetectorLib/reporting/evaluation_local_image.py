"""The surroundings of a lesion in an image, with a window that suits them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from CMBDetectorLib.geometry import FloatArray, Geometry
from CMBDetectorLib.volume import Volume

_WINDOW_REACH_MM = (25.0, 25.0, 4.0)
_WINDOW_PERCENTILES = (0.5, 99.0)
_LARGEST_WINDOW_SAMPLE = 40_000
_SPLINE_MARGIN_VOXELS = 8


@dataclass(frozen=True, eq=False)
class LocalImage:
    """The part of an image around a point, without NaN, and what of it is black and white.

    Black and white are percentiles of a slab around the point, background of 0 and NaN aside;
    NaN is black.
    """

    volume: Volume
    window: tuple[float, float]

    @classmethod
    def around(
        cls,
        image: Volume,
        center_mm: tuple[float, float, float],
        frame: FloatArray,
        reach_mm: float,
    ) -> LocalImage:
        """What views through a point show that reach so far from it along the frame's axes."""
        box = _box(image.geometry, center_mm, frame, (reach_mm,) * 3, _SPLINE_MARGIN_VOXELS)
        window = _window(image, center_mm, frame)
        start = [part.start for part in box]
        values = np.asarray(image.array[box], dtype=np.float32)
        values = np.nan_to_num(values, nan=window[0], posinf=window[1], neginf=window[0])
        geometry = image.geometry.cropped(start, [part.stop for part in box])
        return cls(Volume(values, geometry), window)


def _window(
    image: Volume, center_mm: tuple[float, float, float], frame: FloatArray
) -> tuple[float, float]:
    """Black and white from a slab around the lesion, without the background."""
    box = _box(image.geometry, center_mm, frame, _WINDOW_REACH_MM, 0)
    values = np.asarray(image.array[box], dtype=np.float32).ravel()
    values = values[:: max(1, values.size // _LARGEST_WINDOW_SAMPLE)]
    values = values[np.isfinite(values) & (values != 0)]
    if not values.size:
        return 0.0, 1.0
    low, high = np.percentile(values, _WINDOW_PERCENTILES).tolist()
    if not math.isfinite(high - low):
        return 0.0, 1.0
    return low, max(high, low + 1e-6 * max(1.0, abs(low)))


def _box(
    geometry: Geometry,
    center_mm: tuple[float, float, float],
    frame: FloatArray,
    reach_mm: tuple[float, ...],
    margin_voxels: int,
) -> tuple[slice, slice, slice]:
    """Voxels within reach of a point along the frame's axes; at least one, inside the image."""
    corners = np.array(np.meshgrid((-1, 1), (-1, 1), (-1, 1))).reshape(3, 8).T * np.array(reach_mm)
    ijk = geometry.ras_mm_to_ijk(np.array(center_mm) + corners @ frame.T)
    # Where an end lies on a voxel's center, rounding errors would decide whether it is in.
    ijk = np.round(ijk, 3)
    shape = np.array(geometry.shape)
    low = np.clip(np.floor(ijk.min(axis=0)) - margin_voxels, 0, shape - 1).astype(int).tolist()
    high = np.ceil(ijk.max(axis=0)) + margin_voxels + 1
    stop = np.clip(high, np.array(low) + 1, shape).astype(int).tolist()
    i, j, k = (slice(a, b) for a, b in zip(low, stop, strict=True))
    return i, j, k
