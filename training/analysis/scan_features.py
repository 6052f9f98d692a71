"""What a scan is like: its grid, its background, how bright its tissue is over the noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import cKDTree
from skimage.filters import threshold_otsu

from CMBDetectorLib.geometry import FloatArray, Geometry
from CMBDetectorLib.volume import Volume
from training.analysis.surroundings import noise_sigma

BoolArray = npt.NDArray[np.bool_]

_NAN_SHARE = 0.01
_CONSTANT_SHARE = 0.05
_SAMPLED_SLICES = 16


@dataclass(frozen=True)
class Background:
    """What lies around the head.

    Attributes
    ----------
    kind
        ``nan``: over 1 % of the voxels have no value. ``zero`` or ``constant``: over 5 % have the
        lowest value, which is 0 or another. ``noise``: neither, the scan as the scanner made it.
    value
        The lowest value of ``zero`` and ``constant``, else None.
    """

    kind: Literal["nan", "zero", "constant", "noise"]
    value: float | None


def find_background(image: Volume) -> Background:
    """The kind of background; an image without any finite value has a ``nan`` background."""
    finite = np.isfinite(image.array)
    n_finite = int(np.count_nonzero(finite))
    if image.array.size - n_finite > _NAN_SHARE * image.array.size or n_finite == 0:
        return Background("nan", None)
    lowest = float(np.min(image.array, where=finite, initial=np.inf))
    if np.count_nonzero(image.array == lowest) <= _CONSTANT_SHARE * image.array.size:
        return Background("noise", None)
    return Background("zero" if lowest == 0 else "constant", lowest)


def grid_features(geometry: Geometry) -> dict[str, float | str]:
    """Spacing and matrix in the order of the file, and what a reader calls them."""
    spacing_mm = geometry.spacing_mm
    in_plane = [s for axis, s in enumerate(spacing_mm) if axis != geometry.slice_axis]
    axes = "ijk"
    return {
        **{f"spacing_{name}_mm": s for name, s in zip(axes, spacing_mm, strict=True)},
        **{f"n_{name}": float(n) for name, n in zip(axes, geometry.shape, strict=True)},
        "axes": geometry.axis_codes,
        "slice_spacing_mm": spacing_mm[geometry.slice_axis],
        "in_plane_mm": float(np.mean(in_plane)),
        "obliquity_deg": geometry.obliquity_deg,
    }


def tissue_to_noise(image: Volume, background: Background, brain: BoolArray | None) -> float:
    """Median of the tissue over the noise in it, on some slices of the middle half.

    Tissue is the brain where its mask is known, else what is no background, and in a scan with
    a background of noise what is above Otsu's threshold. Noise is estimated from differences of
    neighbors (:func:`training.analysis.surroundings.noise_sigma`).

    Returns
    -------
    float
        NaN where there is no tissue on these slices, or no noise in it.
    """
    axis = image.geometry.slice_axis
    n = image.geometry.shape[axis]
    slices = np.unique(
        np.linspace(n // 4, max(n // 4, (3 * n) // 4 - 1), _SAMPLED_SLICES).astype(int)
    )
    values = np.take(image.array, slices, axis=axis)
    tissue = np.isfinite(values)
    if brain is not None:
        tissue &= np.take(brain, slices, axis=axis)
    elif background.value is not None:
        tissue &= values != background.value
    elif background.kind == "noise" and np.ptp(values[tissue]) > 0:
        tissue &= values > threshold_otsu(values[tissue])
    if not tissue.any():
        return float("nan")
    noise = noise_sigma(values, tissue, image.geometry)
    return float(np.median(values[tissue])) / noise if noise > 0 else float("nan")


def distance_to_surface_mm(centers_ras_mm: FloatArray, brain: Volume) -> FloatArray:
    """From each point to the nearest voxel center outside the brain that has brain beside it.

    The end of the field of view is no surface.

    Parameters
    ----------
    centers_ras_mm
        Shape (n, 3).
    brain
        bool, on any grid.

    Returns
    -------
    FloatArray
        Shape (n,); NaN where the mask leaves nothing outside.
    """
    outside = ndimage.binary_dilation(brain.array) & ~brain.array
    surface = np.argwhere(outside)
    if len(surface) == 0 or len(centers_ras_mm) == 0:
        return np.full(len(centers_ras_mm), np.nan)
    tree = cKDTree(brain.geometry.ijk_to_ras_mm(surface))
    distances, _ = tree.query(centers_ras_mm)
    return np.asarray(distances, dtype=np.float64)
