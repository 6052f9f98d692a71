"""How dark a lesion is: as the image has it, and against the tissue around it."""

from __future__ import annotations

import math

import numpy as np

from CMBDetectorLib.geometry import FloatArray
from training.analysis.surroundings import (
    FEWEST_SHELL_VOXELS,
    Surroundings,
    noise_sigma,
    robust_sigma,
)


def first_order(values: FloatArray) -> dict[str, float]:
    """PyRadiomics' first-order features of a lesion's voxels that need no binning.

    Parameters
    ----------
    values
        Of the voxels, shape (n,), in the image's units, not normalized.

    Returns
    -------
    dict
        Names as in PyRadiomics. Variance is over n, kurtosis is 3 for a normal distribution, and
        skewness and kurtosis of equal values are 0.
    """
    p10, p25, median, p75, p90 = np.percentile(values, [10, 25, 50, 75, 90]).tolist()
    mean = float(values.mean())
    deviation = values - mean
    # Equal values have none, whatever rounding leaves of it.
    variance = float((deviation**2).mean()) if np.ptp(values) > 0 else 0.0
    third, fourth = float((deviation**3).mean()), float((deviation**4).mean())
    features = {
        "10Percentile": p10,
        "90Percentile": p90,
        "InterquartileRange": p75 - p25,
        "Kurtosis": fourth / variance**2 if variance else 0.0,
        "Maximum": float(values.max()),
        "MeanAbsoluteDeviation": float(np.abs(deviation).mean()),
        "Mean": mean,
        "Median": median,
        "Minimum": float(values.min()),
        "Range": float(values.max() - values.min()),
        "RootMeanSquared": math.sqrt(float((values**2).mean())),
        "Skewness": third / variance**1.5 if variance else 0.0,
        "Variance": variance,
    }
    return {f"original_firstorder_{name}": value for name, value in features.items()}


def intensity_features(around: Surroundings) -> dict[str, float]:
    """First-order features, and the lesion against its surroundings.

    - ``surround_median``, ``surround_sigma``: of the shell, 2 to 5 mm around; the second is robust
      (from the median absolute deviation) and holds anatomy and noise;
    - ``mean_contrast``, ``peak_contrast``: share of ``surround_median`` by which the lesion's mean
      and its darkest voxel lie below it; 0 is no contrast, 1 is black;
    - ``noise_sigma``: from neighbors' differences, see
      :func:`training.analysis.surroundings.noise_sigma`;
    - ``depth_to_noise``: ``surround_median`` minus the darkest voxel, over ``noise_sigma``. It is
      not the ``contrast_to_noise`` of simulated cases, which is the largest difference to the
      same scan without the lesion over the noise that was added: no image alone has that;
    - ``depth_to_texture``: ``surround_median`` minus the lesion's mean, over ``surround_sigma``;
    - ``edge_sharpness_per_mm``: mean rise per mm from the lesion's voxels to their neighbors in the
      plane that are none, as a share of the depth of the darkest voxel.

    NaN where it is not defined: fewer than 12 voxels in the shell, a median that is not positive,
    no noise, a lesion that is not darker than what surrounds it (edge sharpness).
    """
    inside = around.values[tuple((around.lesion - around.start_ijk).T)]
    features = first_order(inside)
    shell = around.values[around.shell]
    enough = len(shell) >= FEWEST_SHELL_VOXELS
    median = float(np.median(shell)) if enough else math.nan
    sigma = robust_sigma(shell) if enough else math.nan
    noise = noise_sigma(around.values, around.tissue, around.geometry)
    mean_depth, depth = median - float(inside.mean()), median - float(inside.min())
    reference = median if median > 0 else math.nan
    return features | {
        "n_shell_voxels": float(len(shell)),
        "surround_median": median,
        "surround_sigma": sigma,
        "mean_contrast": mean_depth / reference,
        "peak_contrast": depth / reference,
        "noise_sigma": noise,
        "depth_to_noise": _ratio(depth, noise),
        "depth_to_texture": _ratio(mean_depth, sigma),
        "edge_sharpness_per_mm": _ratio(_mean_rise_per_mm(around), depth),
    }


def _mean_rise_per_mm(around: Surroundings) -> float:
    """Over the faces between lesion and rest that lie within slices."""
    mask = np.zeros(around.values.shape, dtype=np.bool_)
    mask[tuple((around.lesion - around.start_ijk).T)] = True
    rises = []
    for axis, spacing_mm in enumerate(around.geometry.spacing_mm):
        if axis == around.geometry.slice_axis:
            continue
        values, within = np.moveaxis(around.values, axis, 0), np.moveaxis(mask, axis, 0)
        step = np.diff(values, axis=0)
        leaves, enters = within[:-1] & ~within[1:], ~within[:-1] & within[1:]
        rises += [step[leaves] / spacing_mm, -step[enters] / spacing_mm]
    rise = np.concatenate(rises)
    rise = rise[np.isfinite(rise)]
    return float(rise.mean()) if len(rise) else math.nan


def _ratio(value: float, unit: float) -> float:
    return value / unit if unit > 0 else math.nan
