"""What the anatomy network sees of an image: a coarse isotropic grid and scaled intensities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from CMBDetectorLib.preprocessing.resample import resample
from CMBDetectorLib.volume import Volume

PERCENTILES = (0.5, 99.5)
_LARGEST_SAMPLE = 500_000


@dataclass(frozen=True, eq=False)
class AnatomyInput:
    """``image`` is float32 between 0 and 1; ``is_seen`` where it was not exactly 0 before."""

    image: Volume
    is_seen: npt.NDArray[np.bool_]


def prepare_for_anatomy(volume: Volume, spacing_mm: float) -> AnatomyInput:
    """The image over its whole field of view, axes closest to right, anterior, superior.

    Parameters
    ----------
    volume
        Validated image (finite), any contrast, any grid.
    spacing_mm
        Of the isotropic grid.

    Returns
    -------
    AnatomyInput
        The image, see :func:`scale_intensities`, and what is not background of zeros.
    """
    canonical = volume.canonical()
    grid = canonical.geometry.with_spacing((spacing_mm,) * 3)
    resampled = resample(canonical, grid)
    scaled = resampled.with_array(scale_intensities(resampled.array))
    return AnatomyInput(scaled, resampled.array != 0)


def scale_intensities(array: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """From the 0.5th to the 99.5th percentile of what is not 0, to 0 to 1, clipped.

    Zero is what a mask or a field of view left out; it does not count, but is scaled with the
    rest. An image of one value becomes 0. Of more than 500,000 voxels every n-th is looked at.
    """
    values = array[array != 0]
    values = values[:: 1 + values.size // _LARGEST_SAMPLE]
    if values.size == 0:
        return np.zeros(array.shape, dtype=np.float32)
    low, high = np.percentile(values, PERCENTILES)
    if high <= low:
        return np.zeros(array.shape, dtype=np.float32)
    scaled = (array.astype(np.float32, copy=False) - np.float32(low)) / np.float32(high - low)
    return np.asarray(np.clip(scaled, 0, 1), dtype=np.float32)
