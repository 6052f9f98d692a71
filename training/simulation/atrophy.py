"""Wider sulci, as in the aging brain: cortex beside fluid becomes fluid."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from training.simulation.tissue import CEREBELLAR_CORTEX_LABELS, CORTEX_LABELS, OUTER_CSF_LABEL

Int16Array = npt.NDArray[np.int16]
REGION_MM = 25.0
MAX_STEPS = 2
"""Voxels of the fine grid (half a millimeter) that cortex may lose on each side of a sulcus."""


def widen_sulci(
    labels: Int16Array, spacing_mm: float, amount_mm: float, rng: np.random.Generator
) -> Int16Array:
    """Cortex thinner by ``amount_mm`` on average, more in some regions than in others.

    The loss varies smoothly over the surface. Cortex is never lost through its whole thickness
    where it is thicker than two steps.
    """
    shape = labels.shape
    knots = [max(4, round(n * spacing_mm / REGION_MM)) for n in shape]
    steps = min(MAX_STEPS, round(2 * amount_mm / spacing_mm + 0.5))
    if amount_mm <= 0 or steps < 1:
        return labels
    wanted = rng.normal(amount_mm / spacing_mm, 0.5 * amount_mm / spacing_mm, knots)
    result = labels.copy()
    for step in range(steps):
        region = _upsampled(wanted - step, shape, rng)
        fluid = result == OUTER_CSF_LABEL
        beside = _beside(fluid)
        cortex = (result == CORTEX_LABELS[0]) | (result == CORTEX_LABELS[1])
        cortex |= (result == CEREBELLAR_CORTEX_LABELS[0]) | (result == CEREBELLAR_CORTEX_LABELS[1])
        result[beside & cortex & region] = OUTER_CSF_LABEL
    return result


def _upsampled(
    wanted: npt.NDArray[np.float64], shape: tuple[int, ...], rng: np.random.Generator
) -> npt.NDArray[np.bool_]:
    """Where the knots' value, between 0 and 1 a probability by patches of 4 voxels, says yes."""
    coarse = [-(-n // 4) for n in shape]
    smooth = ndimage.zoom(wanted, np.array(coarse) / wanted.shape, order=1, mode="nearest")
    noise = ndimage.gaussian_filter(rng.normal(0, 1, smooth.shape).astype(np.float32), 1.0)
    noise /= noise.std()
    yes = smooth > 0.5 + 0.3 * noise
    for axis in range(3):
        yes = np.repeat(yes, 4, axis=axis)
    return np.asarray(yes[: shape[0], : shape[1], : shape[2]])


def _beside(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Face neighbors of the mask, and the mask."""
    result = mask.copy()
    for axis in range(3):
        ahead, behind = [slice(None)] * 3, [slice(None)] * 3
        ahead[axis], behind[axis] = slice(1, None), slice(None, -1)
        result[tuple(ahead)] |= mask[tuple(behind)]
        result[tuple(behind)] |= mask[tuple(ahead)]
    return result
