"""Whether two things can be of the same head: where their boxes lie in the patient."""

from __future__ import annotations

import numpy as np

from CMBDetectorLib.geometry import FloatArray, Geometry

LEAST_SHARED = 0.25
"""Two boxes that share less of the smaller one are taken to lie in different places.

A lost affine puts one corner of the image at 0 instead of the middle, which leaves an eighth.
"""
_MARGIN_MM = 10.0


def is_elsewhere(first: Geometry, second: Geometry) -> bool:
    """Whether the boxes of two grids, along RAS, share too little to be of the same head."""
    boxes = [(c.min(axis=0), c.max(axis=0)) for c in map(Geometry.corners_ras_mm, (first, second))]
    low = np.maximum(boxes[0][0], boxes[1][0])
    high = np.minimum(boxes[0][1], boxes[1][1])
    shared = float(np.prod(np.clip(high - low, 0, None)))
    smaller = min(float(np.prod(top - bottom)) for bottom, top in boxes)
    return shared < LEAST_SHARED * smaller


def lies_outside(points_ras_mm: FloatArray, grid: Geometry) -> bool:
    """Whether there are points and all of them lie more than 10 mm outside of a grid."""
    if len(points_ras_mm) == 0:
        return False
    ijk = grid.ras_mm_to_ijk(points_ras_mm)
    margin = _MARGIN_MM / np.array(grid.spacing_mm) + 0.5
    inside = (ijk >= -margin) & (ijk <= np.array(grid.shape) - 1 + margin)
    return not inside.all(axis=1).any()
