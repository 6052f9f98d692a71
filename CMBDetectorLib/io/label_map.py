"""Label maps: voxels that say which lesion or region they belong to, 0 for none."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from CMBDetectorLib.errors import InputError
from CMBDetectorLib.io.reading import errors_naming, read_as_stored
from CMBDetectorLib.io.stored import StoredImage
from CMBDetectorLib.results import ResultWarning
from CMBDetectorLib.volume import Volume

FLOAT_MASK = "float-mask"
NAN_BACKGROUND = "nan-background"
# A slope such as 1/255, kept as float32, makes 0.99999994 of a 1.
_SCALING_ERROR = 1e-3
_LARGEST_SHARE = 0.5


class LabelMapError(InputError):
    """The file was read, and its values are no labels."""


@dataclass(frozen=True, eq=False)
class LoadedLabels:
    """A label map as it lies on disk.

    Attributes
    ----------
    volume
        Of an integer type, the stored one where it is one; in the file's own axis order. Where a
        threshold was applied, 1 from it on and 0 below.
    warnings
        Codes ``float-mask``, ``nan-background``, ``qform-sform-disagree`` and ``no-orientation``.
    probability
        float32, where a threshold was applied; else None.
    """

    volume: Volume
    warnings: tuple[ResultWarning, ...] = field(default=())
    probability: Volume | None = None


def read_label_map(
    path: Path, *, threshold: float | None = None, is_sparse: bool = True
) -> LoadedLabels:
    """Read a label map from a NIfTI or NRRD file.

    Slope and intercept are applied. NaN is taken for 0. A file of fractional type is accepted
    where all of its values are whole numbers, and with a threshold where they are probabilities:
    with a threshold, fractional types from 0 to 1 are always taken for probabilities, and integer
    types never.

    Parameters
    ----------
    threshold
        Probability from which a voxel belongs to a lesion, above 0 and up to 1.
    is_sparse
        Whether to refuse a map with more than half of its voxels marked, as lesions never are.

    Raises
    ------
    LabelMapError
        If the values are no labels: fractions without a threshold, infinite or negative numbers,
        several layers, or marks on most voxels. The message begins with the path.
    InputError
        As :func:`CMBDetectorLib.io.reading.read_image`.
    """
    stored, geometry = read_as_stored(path)
    with errors_naming(path):
        _refuse_layers(stored)
        values, warnings = stored.array, list[ResultWarning]()
        if values.dtype.kind in "bui":
            labels, is_probability = _whole(values), False
        else:
            values, warnings = _without_nan(values)
            labels, is_probability = _from_fractions(values, stored, threshold, warnings)
        if is_sparse and np.count_nonzero(labels) > _LARGEST_SHARE * labels.size:
            raise LabelMapError(
                f"more than half of the voxels are marked (values {labels.min()} to "
                f"{labels.max()}), expected a map of lesions; this looks like an image or a brain "
                "mask: pass the file with the lesions"
            )
    probability = None
    if is_probability:
        probability = Volume(values.astype(np.float32, copy=False), geometry)
    return LoadedLabels(
        volume=Volume(labels, geometry),
        warnings=(*stored.warnings, *warnings),
        probability=probability,
    )


def _refuse_layers(stored: StoredImage) -> None:
    if stored.n_volumes > 1:
        raise LabelMapError(
            f"the file has {stored.n_volumes} layers or volumes, expected one; a segmentation of "
            "3D Slicer with overlapping segments is exported as a label map first (Segmentations, "
            "Export to files, one label map)"
        )


def _whole(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if values.dtype.kind == "b":
        return values.view(np.uint8)
    is_negative = values.dtype.kind == "i" and values.size and int(values.min()) < 0
    is_too_large = values.dtype == np.uint64 and int(values.max(initial=0)) > np.iinfo(np.int64).max
    if is_negative or is_too_large:
        raise _out_of_range(float(values.min()), float(values.max()))
    return values


def _without_nan(values: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], list[ResultWarning]]:
    n_nan = int(np.count_nonzero(np.isnan(values)))
    if not n_nan:
        return values, []
    message = f"{n_nan} voxels are NaN and taken for background (0)"
    return np.where(np.isnan(values), 0, values), [ResultWarning(NAN_BACKGROUND, message)]


def _from_fractions(
    values: npt.NDArray[Any],
    stored: StoredImage,
    threshold: float | None,
    warnings: list[ResultWarning],
) -> tuple[npt.NDArray[Any], bool]:
    """Labels, and whether the values are probabilities; adds what there is to say of the file."""
    lowest, highest = float(values.min()), float(values.max())
    if not np.isfinite([lowest, highest]).all():
        raise LabelMapError("infinite values, expected labels from 0; export the label map again")
    is_scaled = np.dtype(stored.stored_dtype).kind != "f"
    if threshold is not None and not is_scaled and lowest >= 0 and highest <= 1:
        return (values >= threshold).astype(np.uint8), True
    if lowest < 0 or highest > np.iinfo(np.int32).max:
        raise _out_of_range(lowest, highest)
    whole = np.rint(values).astype(np.int32)
    tolerance = _SCALING_ERROR if is_scaled else 0.0
    # Slice by slice: a difference of the whole arrays would be a third one in memory.
    off = max(float(np.abs(values[..., k] - whole[..., k]).max()) for k in range(whole.shape[2]))
    if off > tolerance:
        if threshold is not None and highest <= 1:
            return (values >= threshold).astype(np.uint8), True
        raise _fractions(lowest, highest, threshold)
    if not is_scaled:
        message = (
            f"the labels are stored as fractions ({stored.stored_dtype}); all are whole numbers, "
            "and were taken as such"
        )
        warnings.append(ResultWarning(FLOAT_MASK, message))
    return whole, False


def _fractions(lowest: float, highest: float, threshold: float | None) -> LabelMapError:
    if highest > 1:
        advice = "this looks like an image: pass the label map"
    elif threshold is None:
        advice = "this looks like a probability map: pass a label map, or for a prediction a "
        advice += "threshold (--threshold)"
    else:
        advice = "pass a label map"
    return LabelMapError(
        f"the values are fractions from {lowest:.4g} to {highest:.4g}, expected whole numbers; "
        f"{advice}"
    )


def _out_of_range(lowest: float, highest: float) -> LabelMapError:
    return LabelMapError(
        f"the values go from {lowest:.4g} to {highest:.4g}, expected labels from 0; this looks "
        "like an image: pass the label map"
    )
