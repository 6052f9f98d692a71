"""What every file format has in common: scalar voxels, one volume of possibly several."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from CMBDetectorLib.errors import InputError
from CMBDetectorLib.results import ResultWarning

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class StoredImage:
    """One volume of an image file as a format's reader hands it on.

    ``array`` is (i, j, k) in the file's own axis order, float32 unless the reader was asked for
    the stored type; ``affine`` goes from voxel centers to RAS mm and is not yet validated;
    ``files`` are all files that hold the image.
    """

    array: npt.NDArray[Any]
    affine: FloatArray
    file_format: str
    stored_dtype: str
    n_volumes: int
    files: tuple[Path, ...]
    warnings: tuple[ResultWarning, ...] = ()


def require_real_scalars(dtype: np.dtype[np.generic]) -> None:
    """Raise InputError unless each voxel is one real number."""
    if dtype.kind == "c":
        raise InputError(
            f"the voxels are complex numbers ({dtype}), expected a magnitude image; "
            "compute the magnitude first"
        )
    if dtype.kind not in "biuf":
        raise InputError(
            f"the voxels are colors or records ({dtype}), expected one number per voxel; "
            "pass the original gray-scale image, not a rendered or color-coded one"
        )


def count_volumes(shape: tuple[int, ...]) -> int:
    """Number of 3D volumes in an array whose first three axes are space.

    Raises
    ------
    InputError
        If there are fewer than three axes.
    """
    if len(shape) < 3:
        raise InputError(
            f"the image has {len(shape)} dimensions {shape}, expected 3; "
            "pass the whole stack of slices, not a single slice"
        )
    return math.prod(shape[3:])


def choose_volume(n_volumes: int, volume_index: int | None) -> int:
    """Index of the volume to use, from 0.

    Raises
    ------
    InputError
        If there are several volumes and none was chosen, or the chosen one does not exist.
    """
    if volume_index is None and n_volumes == 1:
        return 0
    if volume_index is None:
        raise InputError(
            f"the image holds {n_volumes} volumes, expected 1; choose one with "
            f"--volume-index N, N from 0 to {n_volumes - 1}"
        )
    if not 0 <= volume_index < n_volumes:
        allowed = "0" if n_volumes == 1 else f"0 to {n_volumes - 1}"
        raise InputError(
            f"volume index {volume_index} does not exist, the image holds {n_volumes} "
            f"volume{'s' if n_volumes > 1 else ''}; pass --volume-index {allowed}"
        )
    return volume_index
