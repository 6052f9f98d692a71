"""Where the brain is: a given mask, the image's own background, anatomy, or a simple method."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from CMBDetectorLib.errors import InputError
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.preprocessing.brain_extraction import (
    GRID_SPACING_MM,
    LARGEST_BRAIN_ML,
    closed,
    distance_mm,
    extract_brain,
)
from CMBDetectorLib.preprocessing.brain_of_anatomy import brain_of_anatomy
from CMBDetectorLib.preprocessing.resample import resample
from CMBDetectorLib.results import ResultWarning
from CMBDetectorLib.volume import Volume

BoolArray = npt.NDArray[np.bool_]

SOURCE_USER = "user file"
SOURCE_BACKGROUND = "zero background"
SOURCE_METHOD = "threshold and morphology"
SOURCE_NETWORK = "anatomy network"
SOURCE_ANATOMY_FILE = "anatomy file"

_MIN_ZERO_FRACTION = 0.05
_STRIPPED_FRACTION = 0.88
_SIGNED_FRACTION = 0.01
_SMALLEST_PIECE_ML = 0.5
_CAVITY_MM = 4.0
_MIN_OVERLAP = 0.5


@dataclass(frozen=True)
class BrainMask:
    """The brain on the image's grid (bool), where it came from, and what to doubt about it."""

    mask: Volume
    source: str
    warnings: tuple[ResultWarning, ...] = ()


def find_brain(
    volume: Volume,
    user_mask: Volume | None = None,
    anatomy: Volume | None = None,
    *,
    anatomy_source: str = SOURCE_NETWORK,
) -> BrainMask:
    """The brain with its surface and its cavities, on the image's grid.

    Parameters
    ----------
    volume
        Validated image (finite, background low). Any contrast where there is a mask or anatomy,
        else one in which the brain is brighter than the skull.
    user_mask
        Voxels above 0 are brain; on any grid in the same space. Used as it is.
    anatomy
        Label map in FreeSurfer's values, on any grid in the same space.
    anatomy_source
        What ``source`` says where the anatomy was used: ``"anatomy network"`` or
        ``"anatomy file"``.

    Returns
    -------
    BrainMask
        ``source`` says how: ``"user file"``; ``"zero background"`` where the image is
        skull-stripped; ``anatomy_source``; else ``"threshold and morphology"``.

    Raises
    ------
    InputError
        If the given mask is empty or does not overlap with the image, the anatomy has no brain
        within the image, or neither was given and no brain is found.

    Notes
    -----
    The brain of the anatomy is that of
    :func:`~CMBDetectorLib.preprocessing.brain_of_anatomy.brain_of_anatomy`.

    Without anatomy the method is
    :func:`~CMBDetectorLib.preprocessing.brain_extraction.extract_brain`. It needs no
    training and errs towards too much: the brain's surface is kept at the price of a rim of skull
    and of what touches the brain and is as bright (parts of the orbits, large sinuses, skull
    base, in some scans scalp).

    An image with a background of exact zeros is skull-stripped if the brain found so is nearly
    all of what is not zero, and that is no larger than a brain. A head cut out of its background,
    scalp and all, is therefore not mistaken for a brain. The mask is then what is not zero,
    pieces of at least 0.5 ml, with its cavities (zeros within lesions, ventricles) filled.
    """
    if user_mask is not None:
        return _from_user(volume, user_mask)
    grid = _coarse_grid(volume.geometry)
    if anatomy is not None:
        brain, source = brain_of_anatomy(anatomy, grid), anatomy_source
    else:
        # Signed maps (susceptibility, phase) are no input for detection, yet must get this far
        # for the check that says so.
        brain, source = extract_brain(np.abs(resample(volume, grid).array)), SOURCE_METHOD
    head = _nonzero_region(volume, grid)
    if head is not None and _is_stripped(volume, head, brain, grid.voxel_volume_mm3 / 1000):
        mask, source = _restore_nonzero(volume, head, grid), SOURCE_BACKGROUND
    else:
        mask = _restore(brain if head is None else brain & head, grid, volume.geometry)
    if not mask.any():
        raise InputError(
            "no brain was found in the image; check that it is a brain scan, or give a brain mask"
            if anatomy is None
            else "the anatomy has no brain within the image; give the label map of the same scan"
        )
    return BrainMask(volume.with_array(mask), source)


def _from_user(volume: Volume, user_mask: Volume) -> BrainMask:
    given = user_mask.with_array(user_mask.array > 0)
    if not given.array.any():
        raise InputError("the brain mask is empty; give one in which the brain is above 0")
    mask = resample(given, volume.geometry, order=0)
    if not mask.array.any():
        raise InputError(
            "the brain mask does not overlap with the image in space: the mask's centre is at "
            f"{_as_text(given.geometry.center_ras_mm)} RAS mm, the image's at "
            f"{_as_text(volume.geometry.center_ras_mm)}; give a mask made for this scan"
        )
    return BrainMask(mask, SOURCE_USER, _lost_overlap(given, mask))


def _as_text(point_mm: npt.NDArray[np.float64]) -> str:
    return "(" + ", ".join(f"{x:.0f}" for x in point_mm) + ")"


def _lost_overlap(given: Volume, mask: Volume) -> tuple[ResultWarning, ...]:
    """A warning if much of the given mask lies outside the image."""
    given_ml = np.count_nonzero(given.array) * given.geometry.voxel_volume_mm3 / 1000
    used_ml = np.count_nonzero(mask.array) * mask.geometry.voxel_volume_mm3 / 1000
    if used_ml >= _MIN_OVERLAP * given_ml:
        return ()
    message = (
        f"only {used_ml:.0f} of the brain mask's {given_ml:.0f} ml lie within the image; "
        "check that the mask belongs to this scan"
    )
    return (ResultWarning("brain-mask-outside-image", message),)


def _coarse_grid(geometry: Geometry) -> Geometry:
    canonical = geometry.reoriented(geometry.orientation)
    return canonical.with_spacing((GRID_SPACING_MM,) * 3)


def _nonzero_region(volume: Volume, grid: Geometry) -> BoolArray | None:
    """What is not exactly zero, specks left out; None if the image has no zero background."""
    nonzero = volume.array != 0
    if nonzero.mean() > 1 - _MIN_ZERO_FRACTION:
        return None
    head = resample(volume.with_array(nonzero), grid).array >= 0.5
    labels, _ = ndimage.label(head)
    sizes_ml = np.bincount(labels.ravel()) * grid.voxel_volume_mm3 / 1000
    keep = sizes_ml >= _SMALLEST_PIECE_ML
    keep[0] = False
    return closed(keep[labels], _CAVITY_MM)


def _is_stripped(volume: Volume, head: BoolArray, brain: BoolArray, voxel_ml: float) -> bool:
    """Whether what is not zero is the brain alone."""
    size = np.count_nonzero(head)
    if size == 0 or size * voxel_ml > LARGEST_BRAIN_ML:
        return False
    signed = np.count_nonzero(volume.array < 0) > _SIGNED_FRACTION * volume.array.size
    return bool(signed or np.count_nonzero(brain & head) >= _STRIPPED_FRACTION * size)


def _restore(mask: BoolArray, grid: Geometry, native: Geometry) -> BoolArray:
    """From the coarse to the native grid, with a smooth surface."""
    restored: BoolArray = resample(Volume(mask, grid), native).array >= 0.5
    return restored


def _restore_nonzero(volume: Volume, head: BoolArray, grid: Geometry) -> BoolArray:
    """The nonzero voxels themselves, and the cavities within them."""
    near = distance_mm(~head) <= 2 * GRID_SPACING_MM
    mask: BoolArray = (volume.array != 0) & _restore(near, grid, volume.geometry)
    mask |= _restore(head, grid, volume.geometry)
    return mask
