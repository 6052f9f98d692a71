"""How a head lies in the frame of the atlas.

The frame has its origin in the middle of the brain, axes to the right, anterior and superior, and
millimeters of an average head. The atlas is a grid of ``ATLAS_SPACING_MM`` centered on the origin.
"""

from __future__ import annotations

import numpy as np

from CMBDetectorLib.geometry import FloatArray

ATLAS_SPACING_MM = 3.0
ATLAS_SHAPE = (68, 80, 72)
STIFFNESS = 0.02
"""How much a fit prefers no change of shape: of the points' own weight and spread."""


def fit_affine(
    source_mm: FloatArray, target_mm: FloatArray, weights: FloatArray, stiffness: float = STIFFNESS
) -> FloatArray:
    """The affine map, (4, 4), that brings points closest to others, weighted least squares.

    Parameters
    ----------
    source_mm, target_mm
        Corresponding points, (n, 3), n at least 1.
    weights
        Of the pairs, (n,), not negative and not all 0.
    stiffness
        Weight of leaving sizes and angles as they are; with few or with flat points the map is a
        translation. 0 for none.
    """
    share = weights / weights.sum()
    source_center, target_center = share @ source_mm, share @ target_mm
    source, target = source_mm - source_center, target_mm - target_center
    moments = (source * share[:, None]).T @ source
    # 40 mm is about the spread of a brain's structures, so that flat sets are held as well.
    held = stiffness * max(np.trace(moments) / 3, 40.0**2) * np.eye(3)
    linear = np.linalg.solve(moments + held, (source * share[:, None]).T @ target + held).T
    result = np.eye(4)
    result[:3, :3] = linear
    result[:3, 3] = target_center - linear @ source_center
    return result


def atlas_index_of_mm() -> FloatArray:
    """From the frame's millimeters to indices of the atlas, (4, 4)."""
    matrix = np.diag([1 / ATLAS_SPACING_MM] * 3 + [1.0])
    matrix[:3, 3] = (np.array(ATLAS_SHAPE) - 1) / 2
    return matrix
