"""From the input image to what the network sees: grid, intensities, crop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from CMBDetectorLib.errors import InputError
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.preprocessing.resample import resample
from CMBDetectorLib.settings import GridSettings, NormalizationSettings, PreprocessingSettings
from CMBDetectorLib.volume import Volume

CROP_UNIT_VOXELS = 16


@dataclass(frozen=True)
class PreparedImage:
    """What the network sees.

    Attributes
    ----------
    image
        float32 on the model's grid (right-handed, slice axis last), cropped to the brain and a
        margin, divided by ``intensity_scale`` and clipped. Tissue outside the brain is kept.
    mask
        bool brain mask on the same grid.
    intensity_scale
        The input's intensity that became 1.
    """

    image: Volume
    mask: Volume
    intensity_scale: float


def model_geometry(geometry: Geometry, grid: GridSettings) -> Geometry:
    """The grid a model works on, over the whole field of view.

    The axes are the image's own, in the order and direction closest to right, anterior, superior,
    then turned cyclically until the slice axis is last: ``RAS`` for axial, ``ASR`` for sagittal,
    ``SRA`` for coronal slices. The same image stored in any axis order gives the same grid.
    """
    canonical = geometry.reoriented(geometry.orientation)
    slice_axis = canonical.slice_axis
    turned = [[(axis - slice_axis - 1) % 3, 1] for axis in range(3)]
    slices_last = canonical.reoriented(turned)
    slice_spacing_mm = slices_last.spacing_mm[2]
    if grid.kind == "isotropic":
        slice_spacing_mm = grid.spacing_mm
    elif grid.min_slice_spacing_mm is not None:
        slice_spacing_mm = max(slice_spacing_mm, grid.min_slice_spacing_mm)
    return slices_last.with_spacing((grid.spacing_mm, grid.spacing_mm, slice_spacing_mm))


def prepare(volume: Volume, brain_mask: Volume, settings: PreprocessingSettings) -> PreparedImage:
    """Resample to the model's grid, crop to the brain, normalise.

    Parameters
    ----------
    volume
        Validated image (finite) in its native axes.
    brain_mask
        bool, on the image's own grid.
    settings
        From the model bundle.

    Raises
    ------
    InputError
        If the mask is on another grid or empty, or the image has NaN or infinite voxels, or no
        positive voxel within the mask.
    """
    if not brain_mask.geometry.is_close(volume.geometry):
        raise InputError(
            f"the brain mask's grid, shape {brain_mask.geometry.shape}, is not the image's, shape "
            f"{volume.geometry.shape}; resample the mask onto the image first"
        )
    # One order of axes, so that ties and rounding fall the same way however the file stores them.
    volume, brain_mask = volume.canonical(), brain_mask.canonical()
    inside = brain_mask.array.astype(np.bool_, copy=False)
    if not inside.any():
        raise InputError("the brain mask is empty; give a mask that covers the brain")
    if not np.isfinite(volume.array).all():
        raise InputError("the image has NaN or infinite voxels; replace them before preparing it")
    scale = _intensity_scale(volume.array, inside, settings.normalization)

    whole = model_geometry(volume.geometry, settings.grid)
    target = _cropped_to_mask(whole, inside, volume.geometry, settings.crop_margin_mm)
    image = resample(volume, target).array
    low, high = settings.normalization.clip
    image *= np.float32(1 / scale)
    np.clip(image, low, high, out=image)
    mask = resample(Volume(inside, volume.geometry), target, order=0)
    return PreparedImage(Volume(image, target), mask, scale)


def _intensity_scale(
    array: npt.NDArray[Any], inside: npt.NDArray[np.bool_], settings: NormalizationSettings
) -> float:
    """Percentile of the positive voxels within the brain, on the native grid."""
    values = array[inside]
    values = values[values > 0]
    if values.size == 0:
        raise InputError(
            "the image has no positive voxel within the brain mask; "
            "check that both belong to the same scan"
        )
    return float(np.percentile(values, settings.percentile))


def _cropped_to_mask(
    grid: Geometry, inside: npt.NDArray[np.bool_], native: Geometry, margin_mm: float
) -> Geometry:
    """The part of ``grid`` that holds the mask and a margin, within the field of view.

    It begins at a multiple of 16 voxels of the whole grid. Networks' strides divide that, so that a
    mask that is a voxel larger does not move the image against them.
    """
    ends = []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        used = np.flatnonzero(inside.any(axis=others))
        ends.append((used[0] - 0.5, used[-1] + 0.5))
    corners = np.array(np.meshgrid(*ends)).reshape(3, -1).T
    in_grid = grid.ras_mm_to_ijk(native.ijk_to_ras_mm(corners))
    margin = margin_mm / np.array(grid.spacing_mm)
    start = np.floor(np.round(in_grid.min(axis=0) - margin + 0.5, 6)).astype(int)
    stop = np.ceil(np.round(in_grid.max(axis=0) + margin + 0.5, 6)).astype(int)
    start = np.maximum(start, 0) // CROP_UNIT_VOXELS * CROP_UNIT_VOXELS
    return grid.cropped(start.tolist(), np.minimum(stop, grid.shape).tolist())
