"""The values of an anatomical label map: whole numbers, and all of them known."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt

from CMBDetectorLib.anatomy.label_values import STRUCTURES, structures_in
from CMBDetectorLib.errors import InputError

LARGEST_VALUE = max(STRUCTURES)
_NAMED_IN_ERRORS = 5


def known_values(labels: npt.NDArray[Any]) -> tuple[int, ...]:
    """The values in a map of whole numbers, rising.

    Raises
    ------
    InputError
        If one of them is not known.
    """
    counts = np.zeros(LARGEST_VALUE + 1, dtype=np.int64)
    unknown: set[int] = set()
    for whole in np.moveaxis(labels, 2, 0):  # plane by plane: the count needs wide integers
        plane = whole
        if plane.min() < 0 or plane.max() > LARGEST_VALUE:
            outside = (plane < 0) | (plane > LARGEST_VALUE)
            unknown.update(np.unique(plane[outside]).tolist())
            plane = plane[~outside]
        counts += np.bincount(plane.ravel(order="K"), minlength=len(counts))
    present = np.flatnonzero(counts).tolist()
    known = structures_in(present)
    unknown.update(value for value in present if value not in known)
    if unknown:
        raise InputError(
            f"the anatomy file has values that are no structure: {some_of(sorted(unknown))}; "
            "expected a label map in FreeSurfer's values (aseg, aparc+aseg with Desikan-Killiany "
            "regions, wmparc, SynthSeg, FastSurfer)"
        )
    return tuple(present)


def whole_numbers(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The array as integers; one that is of integers already is returned itself.

    Raises
    ------
    InputError
        If a value is not a whole number.
    """
    if np.issubdtype(array.dtype, np.integer):
        return array
    if np.issubdtype(array.dtype, np.bool_):
        return array.astype(np.uint8)
    for plane in np.moveaxis(array, 2, 0):
        if not np.isfinite(plane).all() or (plane != np.rint(plane)).any():
            raise InputError(
                "the anatomy file has values that are not whole numbers; expected a label map "
                "(resampled, if at all, with nearest neighbors)"
            )
    return np.asarray(np.clip(array, -1, 2**31 - 128).astype(np.int32))


def some_of(values: Collection[int]) -> str:
    """The first few values as text."""
    shown = ", ".join(str(value) for value in list(values)[:_NAMED_IN_ERRORS])
    return shown + (" and more" if len(values) > _NAMED_IN_ERRORS else "")
