"""A grid that holds all layers of a segmentation: each layer may be on one of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from CMBDetectorLib.errors import InputError
from CMBDetectorLib.geometry import Geometry
from CMBDetectorSlicer.segments import imageToLocal

if TYPE_CHECKING:
    from CMBDetectorSlicer.volumes import FloatArray

# A head of 400 mm in voxels of 1 mm. Segments may be on a grid that is finer than any scan.
_MOST_VOXELS = 2**26
_COARSEST_MM = 1.0
_SAME_INDEX = 1e-3


def jointGrid(images: Sequence[Any], field: FloatArray | None = None) -> Geometry:
    """The finest layer's grid, over all that any layer covers, in the segmentation's own space.

    Parameters
    ----------
    images
        The layers, at least one, each with voxels.
    field
        Corners of a field of view, (n, 3), in the same space: the grid is continued as far as its
        voxels' centers are in their box. 3D Slicer crops what it saves to what is drawn.

    Raises
    ------
    InputError
        If the layers reach over more than any head does. A grid that is only very fine is given
        voxels of 1 mm.
    """
    toLocal = min(
        (imageToLocal(image) for image in images),
        key=lambda matrix: abs(float(np.linalg.det(matrix[:3, :3]))),
    )
    fromLocal = np.linalg.inv(toLocal)
    reached = np.concatenate([_corners(image, fromLocal) for image in images])
    low = np.floor(reached.min(axis=0) + _SAME_INDEX).astype(int)
    high = np.ceil(reached.max(axis=0) - _SAME_INDEX).astype(int)
    if field is not None:
        ends = field @ fromLocal[:3, :3].T + fromLocal[:3, 3]
        low = np.minimum(low, np.ceil(ends.min(axis=0)).astype(int))
        high = np.maximum(high, np.floor(ends.max(axis=0)).astype(int))
    place = np.eye(4)
    place[:3, 3] = low
    i, j, k = (high - low + 1).tolist()
    grid = Geometry((i, j, k), toLocal @ place)
    if math.prod(grid.shape) > _MOST_VOXELS:
        grid = grid.with_spacing([max(spacing, _COARSEST_MM) for spacing in grid.spacing_mm])
    if math.prod(grid.shape) > _MOST_VOXELS:
        box = " x ".join(f"{length:.0f}" for length in grid.extent_mm)
        raise InputError(
            f"the segments reach over {box} mm, expected the structures of one head; remove those "
            "that lie elsewhere, or select another segmentation"
        )
    return grid


def _corners(image: Any, fromLocal: FloatArray) -> FloatArray:
    """The centers of a layer's corner voxels as indices of the grid, (8, 3)."""
    extent = np.array(image.GetExtent(), dtype=float).reshape(3, 2)
    own = np.stack(np.meshgrid(*extent, indexing="ij"), axis=-1).reshape(-1, 3)
    matrix = fromLocal @ imageToLocal(image)
    return np.asarray(own @ matrix[:3, :3].T + matrix[:3, 3])
