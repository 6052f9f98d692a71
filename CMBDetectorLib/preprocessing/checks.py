"""Whether an image is usable, and whether "none found" on it can be trusted."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from CMBDetectorLib.errors import InputError
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.preprocessing.contrast import unexpected_contrast
from CMBDetectorLib.preprocessing.finite import fill_non_finite
from CMBDetectorLib.results import UNEXPECTED_CONTRAST, ResultWarning
from CMBDetectorLib.settings import TrainingRange
from CMBDetectorLib.volume import Volume

SMALLEST_DIMENSION_VOXELS = 16
LARGEST_SHEAR = 1e-2
SPACING_RANGE_MM = (0.05, 20.0)
FIELD_OF_VIEW_RANGE_MM = (30.0, 1000.0)
FARTHEST_ORIGIN_MM = 10_000.0

THICK_SLICE_MM = 3.0
BRAIN_VOLUME_RANGE_ML = (600.0, 2200.0)
COARSE_LEVELS = 256
CLIPPED_SHARE = 0.001
CUT_OFF_SHARE = 0.25

_SPACING_TOLERANCE = 1.02
_SAMPLE_VOXELS = 1_000_000
_SIDES = {
    "L": "left",
    "R": "right",
    "P": "posterior",
    "A": "anterior",
    "I": "inferior",
    "S": "superior",
}
_OPPOSITE = {"L": "R", "R": "L", "P": "A", "A": "P", "I": "S", "S": "I"}


def validate_volume(volume: Volume) -> tuple[Volume, tuple[ResultWarning, ...]]:
    """Refuse an image nothing can be found in; mend voxels without a value.

    Returns
    -------
    volume, warnings
        The volume, every voxel finite, on the same grid; codes ``nan-background`` and
        ``nan-replaced`` (see :func:`~CMBDetectorLib.preprocessing.finite.fill_non_finite`).

    Raises
    ------
    InputError
        If the geometry cannot be a head's (see :func:`check_geometry`), more than 1% of the
        voxels are NaN or infinite, or all voxels have one value.
    """
    check_geometry(volume.geometry)
    array, warnings = fill_non_finite(volume.array)
    low, high = float(array.min()), float(array.max())
    if low == high:
        kind = "zero" if low == 0 else f"constant ({low:g})"
        raise InputError(
            f"the image is {kind} everywhere, expected a head; "
            "check that the right file or volume was exported"
        )
    return volume.with_array(array), warnings


def check_geometry(geometry: Geometry) -> None:
    """Refuse a grid that no scan of a head has.

    Raises
    ------
    InputError
        If a dimension is under 16 voxels, two axes are not perpendicular (cosine over 0.01: image
        formats and viewers cannot hold such a grid), a spacing is outside 0.05 to 20 mm, the field
        of view exceeds 1 m or is under 30 mm in all directions, or its first voxel is more than
        10 m from the origin.
    """
    mend = "repair the header (are its units mm?) or convert the original DICOM files again"
    if min(geometry.shape) < SMALLEST_DIMENSION_VOXELS:
        raise InputError(
            f"the image has {_times(geometry.shape)} voxels, expected at least "
            f"{SMALLEST_DIMENSION_VOXELS} in each direction; pass the whole head"
        )
    smallest_mm, largest_mm = SPACING_RANGE_MM
    if min(geometry.spacing_mm) < smallest_mm or max(geometry.spacing_mm) > largest_mm:
        raise InputError(
            f"the voxels are {_times(geometry.spacing_mm)} mm, expected {smallest_mm:g} to "
            f"{largest_mm:g} mm; {mend}"
        )
    shortest_mm, longest_mm = FIELD_OF_VIEW_RANGE_MM
    if max(geometry.extent_mm) > longest_mm or max(geometry.extent_mm) < shortest_mm:
        raise InputError(
            f"the field of view is {_times(geometry.extent_mm)} mm, expected {shortest_mm:g} to "
            f"{longest_mm:g} mm; {mend}"
        )
    if geometry.shear > LARGEST_SHEAR:
        raise InputError(
            f"the affine is sheared (cosine {geometry.shear:.3f} between two voxel axes), expected "
            f"perpendicular axes (at most {LARGEST_SHEAR:g}); resample the image to a regular grid"
        )
    distance_mm = float(np.linalg.norm(geometry.affine[:3, 3]))
    if distance_mm > FARTHEST_ORIGIN_MM:
        raise InputError(
            f"the first voxel lies {distance_mm / 1000:.4g} m from the origin, expected at most "
            f"{FARTHEST_ORIGIN_MM / 1000:g} m; {mend}"
        )


def assess_suitability(
    volume: Volume, brain_mask: Volume, *training_ranges: TrainingRange
) -> tuple[ResultWarning, ...]:
    """Reasons to doubt a result on this image, above all "none found".

    Codes: ``thick-slices``, ``outside-training-range``, ``unexpected-contrast``,
    ``brain-mask-implausible``, ``brain-cut-off``, ``coarse-intensities``,
    ``clipped-intensities``.

    Parameters
    ----------
    volume
        As :func:`validate_volume` returned it.
    brain_mask
        bool, on the image's grid.
    training_ranges
        Of the models, as far as known.
    """
    brain = _sample(volume.array[brain_mask.array])
    found = (
        _thick_slices(volume.geometry),
        *(_outside_training_range(volume.geometry, limits) for limits in training_ranges),
        _unexpected_contrast(volume, brain_mask),
        _implausible_brain(brain_mask),
        _brain_cut_off(brain_mask),
        _coarse_intensities(brain),
        _clipped_intensities(brain, float(volume.array.max())),
    )
    return tuple(warning for warning in found if warning is not None)


def _thick_slices(geometry: Geometry) -> ResultWarning | None:
    slice_mm = geometry.spacing_mm[geometry.slice_axis]
    if slice_mm <= THICK_SLICE_MM * _SPACING_TOLERANCE:
        return None
    return ResultWarning(
        "thick-slices",
        f"slices are {slice_mm:.1f} mm apart: published recall over 3 mm is about 0.3, against "
        "0.7 for slices up to 1.5 mm, so most microbleeds may be missed",
    )


def _outside_training_range(geometry: Geometry, limits: TrainingRange) -> ResultWarning | None:
    slice_axis = geometry.slice_axis
    in_plane = [s for axis, s in enumerate(geometry.spacing_mm) if axis != slice_axis]
    slice_mm = geometry.spacing_mm[slice_axis]
    parts = []
    if not all(_is_within(spacing, limits.in_plane_spacing_mm) for spacing in in_plane):
        low, high = limits.in_plane_spacing_mm
        parts.append(f"{_times(in_plane)} mm in plane (trained on {low:g} to {high:g})")
    if not _is_within(slice_mm, limits.slice_spacing_mm):
        low, high = limits.slice_spacing_mm
        parts.append(f"{slice_mm:.3g} mm between slices (trained on {low:g} to {high:g})")
    if not parts:
        return None
    return ResultWarning(
        "outside-training-range",
        f"voxels are unlike those the model was trained on: {' and '.join(parts)}; "
        "how well it works there was not measured",
    )


def _is_within(spacing_mm: float, limits_mm: tuple[float, float]) -> bool:
    low_mm, high_mm = limits_mm
    return low_mm / _SPACING_TOLERANCE <= spacing_mm <= high_mm * _SPACING_TOLERANCE


def _unexpected_contrast(volume: Volume, brain_mask: Volume) -> ResultWarning | None:
    reason = unexpected_contrast(volume, brain_mask)
    if reason is None:
        return None
    return ResultWarning(
        UNEXPECTED_CONTRAST,
        f"this does not look like a T2*-weighted or SWI magnitude image: {reason}; "
        "the result means nothing on other contrasts",
    )


def _implausible_brain(brain_mask: Volume) -> ResultWarning | None:
    n_voxels = np.count_nonzero(brain_mask.array)
    volume_ml = n_voxels * brain_mask.geometry.voxel_volume_mm3 / 1000
    low_ml, high_ml = BRAIN_VOLUME_RANGE_ML
    if low_ml <= volume_ml <= high_ml:
        return None
    return ResultWarning(
        "brain-mask-implausible",
        f"the brain mask holds {volume_ml:.0f} mL, expected {low_ml:.0f} to {high_ml:.0f} mL for "
        "a whole brain; look at it, and give a better brain mask if it is wrong",
    )


def _brain_cut_off(brain_mask: Volume) -> ResultWarning | None:
    """The mask ends at the field of view with over a quarter of its largest cross-section.

    That is what a ball of a brain shows once about 1 cm of it is missing; less is within the
    uncertainty of a mask that is drawn generously.
    """
    sides = []
    for axis, code in enumerate(brain_mask.geometry.axis_codes):
        others = tuple(other for other in range(3) if other != axis)
        area = np.count_nonzero(brain_mask.array, axis=others)
        smallest = CUT_OFF_SHARE * area.max()
        if area[0] > smallest:
            sides.append(_SIDES[_OPPOSITE[code]])
        if area[-1] > smallest:
            sides.append(_SIDES[code])
    if not sides:
        return None
    return ResultWarning(
        "brain-cut-off",
        f"the field of view cuts off the brain ({', '.join(sorted(sides))}); "
        "microbleeds beyond it cannot be found",
    )


def _coarse_intensities(brain: npt.NDArray[np.generic]) -> ResultWarning | None:
    n_levels = len(np.unique(brain))
    if n_levels > COARSE_LEVELS:
        return None
    return ResultWarning(
        "coarse-intensities",
        f"the brain has only {n_levels} different intensities (8 bit or fewer): faint microbleeds "
        "may be lost; use the original image if this is a converted one",
    )


def _clipped_intensities(
    brain: npt.NDArray[np.generic], image_maximum: float
) -> ResultWarning | None:
    share = float(np.mean(brain == image_maximum)) if brain.size else 0.0
    if share <= CLIPPED_SHARE:
        return None
    return ResultWarning(
        "clipped-intensities",
        f"{share:.1%} of the brain has the image's largest value: intensities were clipped; "
        "use the original image",
    )


def _sample(values: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    return values[:: max(1, values.size // _SAMPLE_VOXELS)]


def _times(values: tuple[float, ...] | list[float]) -> str:
    return "×".join(f"{value:.4g}" for value in values)
