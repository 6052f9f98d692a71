"""Surfaces of masks: their outermost voxels, and those around them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

BoolArray = npt.NDArray[np.bool_]


def filled(mask: BoolArray) -> BoolArray:
    """The mask and what it encloses: what a path along faces cannot reach from the border."""
    pieces, n = ndimage.label(~mask)
    reached = np.zeros(n + 1, dtype=np.bool_)
    for axis in range(3):
        for end in (0, -1):
            reached[np.take(pieces, end, axis=axis)] = True
    reached[0] = False
    return np.asarray(~reached[pieces])


def outermost(mask: BoolArray) -> BoolArray:
    """Voxels of the mask with a face on something else."""
    inner = mask.copy()
    for axis in range(3):
        ahead = np.moveaxis(inner, axis, 0)
        source = np.moveaxis(mask, axis, 0)
        ahead[1:] &= source[:-1]
        ahead[:-1] &= source[1:]
        ahead[0] = False
        ahead[-1] = False
    return mask & ~inner


def surroundings(mask: BoolArray) -> BoolArray:
    """Voxels with a face on the mask, on its grid, that are outside of it and not enclosed."""
    mask = filled(mask)
    near = np.zeros_like(mask)
    for axis in range(3):
        target, source = np.moveaxis(near, axis, 0), np.moveaxis(mask, axis, 0)
        target[1:] |= source[:-1]
        target[:-1] |= source[1:]
    return np.asarray(near & ~mask)
