"""The plane between the hemispheres, from what a label map has on both sides."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from CMBDetectorLib.anatomy.tissue_map import TissueMap
from CMBDetectorLib.geometry import FloatArray

_FEWEST_VOXELS = 8


@dataclass(frozen=True, eq=False)
class Midplane:
    """``normal`` is a unit vector toward the patient's right, ``offset_mm`` the plane's place."""

    normal: FloatArray
    offset_mm: float

    def distance_mm(self, points_ras_mm: FloatArray) -> FloatArray:
        """How far to the right of the plane, shape (n,); negative on the left."""
        return np.asarray(points_ras_mm @ self.normal - self.offset_mm)


def find_midplane(tissue: TissueMap) -> Midplane | None:
    """The plane that the centers of paired structures lie symmetrically about.

    Its normal is the mean direction from the left structure to the right one (those farther apart
    count for more), and it runs through the mean of the middles. None without a pair.
    """
    centers = tissue.centers_of_mass()
    pairs = [
        (center, centers[name, "right"][0])
        for (name, side), (center, n) in centers.items()
        if side == "left"
        and n >= _FEWEST_VOXELS
        and centers.get((name, "right"), (None, 0))[1] >= _FEWEST_VOXELS
    ]
    if not pairs:
        return None
    across = np.sum([right - left for left, right in pairs], axis=0)
    length = float(np.linalg.norm(across))
    if length == 0:
        return None
    normal = across / length
    middles = np.array([(left + right) / 2 for left, right in pairs])
    return Midplane(normal, float(np.mean(middles @ normal)))
