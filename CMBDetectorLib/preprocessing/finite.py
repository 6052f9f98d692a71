"""Voxels without a value (NaN or infinite): empty background, a few holes, or a broken image."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from CMBDetectorLib.errors import InputError
from CMBDetectorLib.results import ResultWarning

_BACKGROUND_SHARE = 0.01
_LARGEST_HOLE_SHARE = 0.01
_SMALLEST_HEAD_SHARE = 0.02
_ROUGHEST_OUTLINE = 1.0

BoolArray = npt.NDArray[np.bool_]


def fill_non_finite(
    array: npt.NDArray[Any],
) -> tuple[npt.NDArray[Any], tuple[ResultWarning, ...]]:
    """Give every voxel a finite value, or refuse the image.

    1. Non-finite voxels connected to the border that surround one compact finite region are empty
       background, as some public data sets publish their scans: set to 0, warning
       ``nan-background``.
    2. Other non-finite voxels, up to 1% of those with a value, take the median of their finite
       3×3×3 neighbors, from the rim of a hole inward, warning ``nan-replaced``. A median and not
       0, because a dark spot is what a microbleed looks like.

    Returns
    -------
    array, warnings
        The same array where nothing had to be done, else a copy.

    Raises
    ------
    InputError
        If more voxels than that are without a value.
    """
    missing = ~np.isfinite(array)
    n_missing = int(np.count_nonzero(missing))
    if n_missing == 0:
        return array, ()
    if n_missing == missing.size:
        raise InputError(
            "no voxel has a finite value (all are NaN or infinite), expected an image; "
            "export the image again"
        )
    filled = array.copy()
    warnings = []
    background = _background(missing)
    n_background = int(np.count_nonzero(background))
    if n_background > 0:
        filled[background] = 0
        missing &= ~background
        warnings.append(
            ResultWarning(
                "nan-background",
                f"{n_background / missing.size:.0%} of the voxels around the head are NaN or "
                "infinite; they were taken as background and set to 0",
            )
        )
    n_holes = n_missing - n_background
    if n_holes > _LARGEST_HOLE_SHARE * (missing.size - n_background):
        raise InputError(
            f"{n_holes} voxels ({n_holes / missing.size:.1%}) are NaN or infinite, expected at "
            f"most {_LARGEST_HOLE_SHARE:.0%}; export the image again"
        )
    if n_holes > 0:
        _fill_holes(filled, missing)
        warnings.append(
            ResultWarning(
                "nan-replaced",
                f"{n_holes} voxels were NaN or infinite and were replaced by the median of their "
                "neighbors; lesions there may be missed or invented",
            )
        )
    return filled, tuple(warnings)


def _background(missing: BoolArray) -> BoolArray:
    """The border-connected part of ``missing`` if it surrounds a compact region, else nothing."""
    nothing = np.zeros_like(missing)
    if np.count_nonzero(missing) < _BACKGROUND_SHARE * missing.size or not _is_smooth(missing):
        return nothing
    outside = np.pad(missing, 1, constant_values=True)
    labels, _ = ndimage.label(outside)
    background: BoolArray = (labels == labels[0, 0, 0])[1:-1, 1:-1, 1:-1]
    n_background = int(np.count_nonzero(background))
    if not _BACKGROUND_SHARE * missing.size < n_background:
        return nothing
    if missing.size - n_background < _SMALLEST_HEAD_SHARE * missing.size:
        return nothing
    return nothing if _has_gap(~background) else background


def _is_smooth(missing: BoolArray) -> bool:
    """Whether missing and present voxels form bulky regions instead of being sprinkled.

    Measured by faces between the two per voxel of the smaller one: a ball of radius r has 4.5/r,
    independent voxels at least 1.5.
    """
    n_faces = sum(int(np.count_nonzero(np.diff(missing, axis=axis))) for axis in range(3))
    n_missing = int(np.count_nonzero(missing))
    return n_faces < _ROUGHEST_OUTLINE * min(n_missing, missing.size - n_missing)


def _has_gap(present: BoolArray) -> bool:
    """Whether whole slices are missing between slices that are present."""
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        occupied = np.flatnonzero(present.any(axis=others))
        if occupied[-1] - occupied[0] + 1 != len(occupied):
            return True
    return False


def _fill_holes(array: npt.NDArray[Any], missing: BoolArray) -> None:
    """Replace ``missing`` voxels in place, rim first; at least one voxel must be present."""
    steps = np.indices((3, 3, 3)).reshape(3, 27) - 1
    limits = np.array(array.shape)[:, None, None] - 1
    remaining = np.argwhere(missing).T
    array[missing] = np.nan
    while remaining.size:
        around = np.clip(remaining[:, :, None] + steps[:, None, :], 0, limits)
        neighbors = array[tuple(around)]
        has_value = np.isfinite(neighbors).any(axis=1)
        array[tuple(remaining[:, has_value])] = np.nanmedian(neighbors[has_value], axis=1)
        remaining = remaining[:, ~has_value]
