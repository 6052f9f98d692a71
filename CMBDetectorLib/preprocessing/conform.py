"""From the input image to what SHIVA's networks see: SHiVAi's grid, crop and intensities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nibabel import processing
from scipy import ndimage

from CMBDetectorLib.errors import InputError
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.results import ResultWarning
from CMBDetectorLib.settings import ConformSettings
from CMBDetectorLib.volume import Volume

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float32]

_WHOLE_SHAPE = (256, 256, 256)
_LARGEST_DEVIATION = 0.005
_SAME_SPACING_MM = 1e-6
_MARGIN_ABOVE_MASK = 5


@dataclass(frozen=True)
class ConformedImage:
    """What a network of SHIVA sees.

    Attributes
    ----------
    image
        float32, 0 to 1, voxels of 1 mm closest to right, anterior, superior, around the brain.
    mask
        bool brain mask on the same grid.
    intensity_scale
        The input's intensity that the percentile is; it became ``1 / clip``.
    native
        Where the input's voxels lie in the space of ``image``: the input's geometry, or, with the
        warning ``sheared-affine``, its voxels without rotation. What is brought back to this grid
        has the input's voxels either way; put it on the input's own geometry then.
    warnings
        Code ``sheared-affine``.
    """

    image: Volume
    mask: Volume
    intensity_scale: float
    native: Geometry
    warnings: tuple[ResultWarning, ...]


def conform(volume: Volume, brain_mask: Volume, settings: ConformSettings) -> ConformedImage:
    """Resample to 1 mm, crop around the brain, normalize, as SHiVAi does.

    Parameters
    ----------
    volume
        Validated image (finite) in its native axes. For the very values that SHiVAi gets, the array
        has the file's data type: where that is an integer, interpolated values are rounded.
    brain_mask
        bool, on the image's own grid.
    settings
        From the model.

    Raises
    ------
    InputError
        If the mask is on another grid, or is empty, there or in the cropped image; if the image has
        NaN or infinite voxels; or if the percentile within the mask is not above 0.

    Notes
    -----
    After SHiVAi 0.5.9 (https://github.com/pboutinaud/SHiVAi), step by step:

    1. An affine that is not a rotation and a scaling, by more than 0.005, is replaced by one
       without rotation that keeps spacing and handedness and has its origin at the image's center
       of mass.
    2. :func:`nibabel.processing.conform` to 256 × 256 × 256 voxels of 1 mm with a cubic spline
       (the nearest voxel, if the input's voxels are of 1 mm), clipped to the input's range; the
       grid stays as oblique as the input. The mask takes the nearest voxel.
    3. A box around the center of the mask, and 0 where it reaches beyond the grid. If the mask goes
       on above the box, the box is moved up, to 4 voxels beyond the mask's uppermost.
    4. In float64: negative values to 0, divided by the percentile within the mask, clipped, divided
       by the clip.

    SHiVAi fails where a box that was moved up leaves the grid; here it is 0 there too. Removing the
    face is not reproduced: it changes nothing in the brain.
    """
    if not brain_mask.geometry.is_close(volume.geometry):
        raise InputError(
            f"the brain mask's grid, shape {brain_mask.geometry.shape}, is not the image's, shape "
            f"{volume.geometry.shape}; resample the mask onto the image first"
        )
    if not brain_mask.array.any():
        raise InputError("the brain mask is empty; give a mask that covers the brain")
    if not np.isfinite(volume.array).all():
        raise InputError("the image has NaN or infinite voxels; replace them before preparing it")

    deviation = _deviation_from_rotation(volume.geometry)
    warnings: tuple[ResultWarning, ...] = ()
    if deviation > _LARGEST_DEVIATION:
        warnings = (_sheared(deviation),)
        geometry = _without_rotation(volume)
        volume = Volume(volume.array.astype(np.float32), geometry)

    whole = _to_one_mm(volume)
    inside = _mask_to_one_mm(brain_mask.array, volume.geometry, whole.geometry)
    if not inside.any():
        raise _no_mask_left()
    start = _box_start(inside, settings.shape)
    cropped = _crop(whole.array, start, settings.shape)
    mask = _crop(inside, start, settings.shape)
    if not mask.any():
        raise _no_mask_left()
    image, scale = _normalized(cropped, mask, settings)
    if settings.masking == "input":
        image *= mask
    stop = start + np.array(settings.shape)
    box = whole.geometry.cropped(start.tolist(), stop.tolist())
    return ConformedImage(Volume(image, box), Volume(mask, box), scale, volume.geometry, warnings)


def _deviation_from_rotation(geometry: Geometry) -> float:
    """How far the affine, its spacing taken out, is from an orthogonal matrix."""
    directions = geometry.affine[:3, :3] / np.array(geometry.spacing_mm)
    off_identity = np.abs(directions @ directions.T - np.eye(3)).max()
    return max(float(off_identity), abs(abs(float(np.linalg.det(directions))) - 1))


def _without_rotation(volume: Volume) -> Geometry:
    """The image's voxels along right, anterior, superior, or left where it is left-handed."""
    steps_mm = np.array(volume.geometry.spacing_mm)
    if np.linalg.det(volume.geometry.affine[:3, :3]) < 0:
        steps_mm[0] *= -1
    center_ijk = np.round(ndimage.center_of_mass(volume.array.astype(np.float64)))
    affine = np.diag([*steps_mm, 1.0])
    affine[:3, 3] = -steps_mm * center_ijk
    return Geometry(volume.geometry.shape, affine)


def _sheared(deviation: float) -> ResultWarning:
    return ResultWarning(
        "sheared-affine",
        f"the affine is sheared (off a rotation by {deviation:.3f}, expected at most "
        f"{_LARGEST_DEVIATION:g}), so the model got the voxels without any rotation, as if stored "
        "from left to right (or back), posterior to anterior, inferior to superior; it finds "
        "little where they are not; positions in the result are by the image's own affine",
    )


def _no_mask_left() -> InputError:
    side_mm = _WHOLE_SHAPE[0]
    return InputError(
        f"the brain mask has no voxel on the model's grid of 1 mm, expected a brain within "
        f"{side_mm} mm around the middle of the image; crop the image to the head, and look at the "
        "mask"
    )


def _to_one_mm(volume: Volume) -> Volume:
    """float32 on the whole grid, within the input's range of values."""
    off_one_mm = np.abs(np.array(volume.geometry.spacing_mm) - 1).max()
    resampled = processing.conform(
        nib.Nifti1Image(volume.array, volume.geometry.affine, dtype=volume.array.dtype),
        out_shape=_WHOLE_SHAPE,
        voxel_size=(1.0, 1.0, 1.0),
        order=0 if off_one_mm <= _SAME_SPACING_MM else 3,
        cval=0.0,
        orientation="RAS",
    )
    array = np.asarray(resampled.dataobj, dtype=np.float32)
    low, high = np.float32(volume.array.min()), np.float32(volume.array.max())
    # SHiVAi writes this image to a file and reads it back, and there the affine is float32. Without
    # that, mask voxels halfway between two of the input's fall the other way.
    affine = resampled.affine.astype(np.float32)
    return Volume(np.clip(array, low, high), Geometry(_WHOLE_SHAPE, affine))


def _mask_to_one_mm(mask: npt.NDArray[Any], native: Geometry, whole: Geometry) -> BoolArray:
    resampled = processing.resample_from_to(
        nib.Nifti1Image((mask > 0).astype(np.uint8), native.affine),
        (whole.shape, whole.affine),
        order=0,
    )
    inside: BoolArray = np.asarray(resampled.dataobj) > 0.5
    return inside


def _box_start(inside: BoolArray, shape: tuple[int, int, int]) -> npt.NDArray[np.int64]:
    """The box's first voxel on the whole grid; may be negative."""
    center = np.ceil(ndimage.center_of_mass(inside)).astype(np.int64)
    start: npt.NDArray[np.int64] = center - np.array(shape) // 2
    stop = start[2] + shape[2]
    uppermost = int(np.flatnonzero(inside.any(axis=(0, 1)))[-1])
    if stop <= uppermost:
        start[2] += uppermost - stop + _MARGIN_ABOVE_MASK
    return start


def _crop(
    array: npt.NDArray[Any], start: npt.NDArray[np.int64], shape: tuple[int, int, int]
) -> npt.NDArray[Any]:
    """A box of the array, 0 where it reaches beyond."""
    out = np.zeros(shape, dtype=array.dtype)
    first = np.maximum(start, 0)
    last = np.minimum(start + np.array(shape), array.shape)
    source = tuple(slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
    target = tuple(slice(int(a), int(b)) for a, b in zip(first - start, last - start, strict=True))
    out[target] = array[source]
    return out


def _normalized(
    cropped: npt.NDArray[Any], mask: BoolArray, settings: ConformSettings
) -> tuple[FloatArray, float]:
    array = np.maximum(cropped.astype(np.float64), 0)
    scale = float(np.percentile(array[mask], settings.percentile))
    if scale <= 0:
        raise InputError(
            f"the image's {settings.percentile:g}th percentile within the brain mask is 0, "
            "expected positive intensities; check that both belong to the same scan"
        )
    array /= scale
    np.minimum(array, settings.clip, out=array)
    array /= settings.clip
    return array.astype(np.float32), scale
