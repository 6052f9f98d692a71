"""An array together with its geometry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from CMBDetectorLib.errors import InputError
from CMBDetectorLib.geometry import Geometry


@dataclass(frozen=True, eq=False)
class Volume:
    """A three-dimensional image; the array is always indexed (i, j, k).

    Raises
    ------
    InputError
        If the array's shape is not the geometry's.
    """

    array: npt.NDArray[Any]
    geometry: Geometry

    def __post_init__(self) -> None:
        if tuple(self.array.shape) != self.geometry.shape:
            raise InputError(
                f"the array has shape {tuple(self.array.shape)}, "
                f"its geometry {self.geometry.shape}; they must be equal"
            )

    def with_array(self, array: npt.NDArray[Any]) -> Volume:
        """Another array on the same grid."""
        return Volume(array, self.geometry)

    def reoriented(self, orientation: npt.ArrayLike) -> Volume:
        """Axes permuted and flipped, exactly, without resampling; the array may be a view."""
        targets, ways = np.asarray(orientation).astype(int).T
        flipped = self.array[tuple(slice(None, None, int(way)) for way in ways)]
        return Volume(flipped.transpose(np.argsort(targets)), self.geometry.reoriented(orientation))

    def canonical(self) -> Volume:
        """The same voxels with axes closest to right, anterior, superior."""
        return self.reoriented(self.geometry.orientation)
