"""What of an image a picture shows: the brain, its range of intensities, the lesions' places."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from scipy import ndimage

from CMBDetectorLib.geometry import FloatArray, Geometry
from CMBDetectorLib.reporting.planes import slice_frame
from CMBDetectorLib.results import Detection
from CMBDetectorLib.volume import Volume

Point = tuple[float, float, float]


def plane_centers(label_map: Volume, lesions: Sequence[Detection]) -> Iterator[FloatArray]:
    """Of each lesion the voxel that its planes go through, RAS mm."""
    boxes = ndimage.find_objects(label_map.array)
    for lesion in lesions:
        box = boxes[lesion.label - 1]
        start = np.array([part.start for part in box])
        ijk = np.argwhere(label_map.array[box] == lesion.label) + start
        yield _nearest_center(label_map.geometry.ijk_to_ras_mm(ijk))


def brain_box(
    mask: Volume | None, geometry: Geometry, frame: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Middle and size, in mm along the frame's axes, of the box around the brain.

    Of the whole image, which has this geometry, without a mask or where it is empty.
    """
    start, stop = [0, 0, 0], list(geometry.shape)
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        within = np.zeros(0) if mask is None else mask.array.any(axis=others)
        inside = np.flatnonzero(within)
        if len(inside):
            start[axis], stop[axis] = int(inside[0]), int(inside[-1]) + 1
    corners_mm = geometry.cropped(start, stop).corners_ras_mm() @ frame
    low, high = corners_mm.min(axis=0), corners_mm.max(axis=0)
    return (low + high) / 2, high - low


def point_ras_mm(frame: FloatArray, across_mm: FloatArray, height_mm: float) -> Point:
    """The RAS mm of a point given along the frame's axes."""
    return triple(frame @ np.array([*across_mm, height_mm]))


def nearest_voxel(geometry: Geometry, ras_mm: Point) -> Point:
    """The nearest centre of a voxel, so that a plane shows one slice and not a mix of two."""
    ijk = geometry.ras_mm_to_ijk(np.array(ras_mm) + slice_frame(geometry) @ (1e-3, 1e-3, 1e-3))
    return triple(geometry.ijk_to_ras_mm(np.rint(ijk)))


def triple(values: FloatArray) -> Point:
    """Three coordinates as plain numbers."""
    x, y, z = values.tolist()
    return x, y, z


def brain_window(image: Volume, mask: Volume | None) -> tuple[float, float]:
    """Black and white of the picture, from the brain's intensities, else from the image's."""
    values = image.array.ravel() if mask is None else image.array[mask.array.astype(bool)]
    if values.size == 0:
        values = image.array.ravel()
    values = values[np.isfinite(values)]
    if values.size == 0:
        return 0.0, 1.0
    low, high = np.percentile(values, (0.1, 99.7)).tolist()
    return low, max(high, low + 1e-6 * max(1.0, abs(low)))


def _nearest_center(voxels_ras_mm: FloatArray) -> FloatArray:
    """The voxel of a lesion nearest to its centre of mass, RAS mm, from all its voxels (n, 3).

    Planes through it show the lesion even where the lesion is bent around its centre.
    """
    distance_mm = np.linalg.norm(voxels_ras_mm - voxels_ras_mm.mean(axis=0), axis=1)
    x, y, z = np.round(voxels_ras_mm, 3).T
    first = np.lexsort((x, y, z, np.round(distance_mm, 3)))[0]
    return np.asarray(voxels_ras_mm[first], dtype=np.float64)
