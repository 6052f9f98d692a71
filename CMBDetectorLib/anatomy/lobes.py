"""Lobes of a brain without cortical parcellation: an approximation by planes in a standard frame.

The frame is that of Talairach and Tournoux: rotated by the centers of the deep structures, which
are compared with their usual places in MNI space, then stretched in six directions so that
the cerebrum reaches as far as the MNI brain does (the proportional grid). In this frame the
central sulcus, the Sylvian fissure and the parieto-occipital border are planes, and the insula is
the cortex at the side of the putamen. The places and planes were fitted to one average brain in MNI
space with Desikan–Killiany regions, where 92 % of the cortex then gets its own lobe; the rest lies
beside the borders. On other brains, where sulci vary, expect less. That is why every such lobe is
marked approximate.

References
----------
Talairach and Tournoux, "Co-planar stereotaxic atlas of the human brain", Thieme 1988. Kabsch, "A
solution for the best rotation to relate two sets of vectors", Acta Crystallographica A32, 1976.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from CMBDetectorLib.anatomy.label_values import Side
from CMBDetectorLib.anatomy.tissue_map import Cloud, TissueMap
from CMBDetectorLib.geometry import FloatArray

LOBES = ("frontal", "parietal", "temporal", "occipital", "insula")
_FRONTAL, _PARIETAL, _TEMPORAL, _OCCIPITAL, _INSULA = range(5)

# Usual centers in MNI space in mm: distance from the midline, y, z.
_LANDMARKS = {
    "Thalamus": (11.5, -18.5, 6.5),
    "Caudate": (13.5, 7.5, 10.5),
    "Putamen": (26.0, 1.5, -1.0),
    "Pallidum": (20.0, -4.0, -1.0),
    "Hippocampus": (26.0, -22.0, -14.0),
    "Amygdala": (23.5, -4.5, -20.0),
    "Accumbens-area": (9.0, 12.0, -7.0),
    "VentralDC": (11.5, -15.0, -10.0),
}
_FEWEST_LANDMARKS = 4
# How far the MNI cerebrum reaches: left, back, down; right, front, up.
_REACH_MM = np.array([[68.5, 104.0, 48.0], [68.5, 70.0, 78.5]])
_REACH_PERCENTILE = 0.1
_LARGEST_STRETCH = 1.3


@dataclass(frozen=True, eq=False)
class BrainFrame:
    """From RAS mm of one brain to the standard frame in mm.

    Rotation (rows are the frame's right, anterior, superior), the place of the origin, and the
    stretch toward the negative and positive end of each axis.
    """

    rotation: FloatArray
    origin_ras_mm: FloatArray
    stretch: FloatArray

    def to_standard_mm(self, points_ras_mm: FloatArray) -> FloatArray:
        """Coordinates (right, anterior, superior) in the standard frame, same shape (n, 3)."""
        turned = (points_ras_mm - self.origin_ras_mm) @ self.rotation.T
        return np.asarray(turned * np.where(turned < 0, self.stretch[0], self.stretch[1]))


def find_brain_frame(tissue: TissueMap) -> BrainFrame | None:
    """The frame of a map; None where it lacks the deep structures or the cerebrum of a side."""
    centers = tissue.centers_of_mass()
    found, usual = [], []
    for name, (x, y, z) in _LANDMARKS.items():
        if (name, "left") in centers and (name, "right") in centers:
            found += [centers[name, "left"][0], centers[name, "right"][0]]
            usual += [(-x, y, z), (x, y, z)]
    cerebrum = [
        tissue.cloud("cortex", "white matter", side=side).points_ras_mm
        for side in ("left", "right")
    ]
    if len(found) < 2 * _FEWEST_LANDMARKS or min(map(len, cerebrum)) == 0:
        return None
    rotation, scale, shift = _similarity(np.array(found), np.array(usual))
    origin = -rotation.T @ shift / scale
    turned = (np.concatenate(cerebrum) - origin) @ rotation.T
    low = -np.percentile(turned, _REACH_PERCENTILE, axis=0)
    high = np.percentile(turned, 100 - _REACH_PERCENTILE, axis=0)
    side = (low[0] + high[0]) / 2
    actual = np.array([[side, low[1], low[2]], [side, high[1], high[2]]])
    # A map that is cut off would stretch without limit.
    stretch = np.clip(
        _REACH_MM / np.maximum(actual, 1.0), scale / _LARGEST_STRETCH, scale * _LARGEST_STRETCH
    )
    return BrainFrame(rotation, origin, stretch)


def approximate_lobes(
    points_ras_mm: FloatArray, side: Side, frame: BrainFrame, putamen: Cloud
) -> npt.NDArray[np.int64]:
    """Position in ``LOBES`` for points in the cerebrum of one side, shape (n,).

    ``putamen`` is that of the side.
    """
    standard = frame.to_standard_mm(points_ras_mm)
    x = standard[:, 0] * (-1 if side == "left" else 1)
    y, z = standard[:, 1], standard[:, 2]
    central_y = -20 - 0.25 * z + 0.37 * x
    lobe = np.where(y < central_y, _PARIETAL, _FRONTAL)
    sylvian_z = np.minimum(np.where(y > 0, 2.7 - 0.68 * y, 2.7 - 0.49 * y), 18.5)
    # Toward the midline the temporal lobe ends below the splenium, not at the fissure.
    outward = np.clip((x - 20.5) / 12, 0, 1)
    temporal_z = outward * sylvian_z + (1 - outward) * np.minimum(sylvian_z, -1.7)
    # Gyrus rectus and orbital gyri lie medial of the temporal pole, and above its tip.
    is_pole_or_behind = (y < 22) & (x > 14 + np.maximum(y, 0))
    is_temporal = (z < temporal_z) & (is_pole_or_behind | (z < -27))
    lobe[is_temporal] = _TEMPORAL
    occipital_y = -56 - np.maximum(z - 8, 0) - 0.33 * (x - 10)
    occipital_y[(z <= 8) & (x < 28)] = -48
    lobe[y < occipital_y] = _OCCIPITAL
    lobe[_is_insula(points_ras_mm, standard, side, frame, putamen)] = _INSULA
    return lobe


def _is_insula(
    points_ras_mm: FloatArray, standard: FloatArray, side: Side, frame: BrainFrame, putamen: Cloud
) -> npt.NDArray[np.bool_]:
    if putamen.is_empty:
        return np.zeros(len(points_ras_mm), dtype=np.bool_)
    outward = frame.rotation[0] * (-1 if side == "left" else 1)
    distance, row = putamen.nearest(points_ras_mm, within_mm=14.0)
    beside = (points_ras_mm - putamen.points_ras_mm[row]) @ outward
    in_ellipse = ((standard[:, 1] - 2) / 26) ** 2 + (standard[:, 2] / 20) ** 2 < 1
    in_depth = np.abs(standard[:, 0]) < 46
    return np.asarray(np.isfinite(distance) & (beside > 0.35 * distance) & in_ellipse & in_depth)


def _similarity(found: FloatArray, usual: FloatArray) -> tuple[FloatArray, float, FloatArray]:
    """Rotation, scale and shift that bring the points found closest to the usual ones."""
    found_mean, usual_mean = found.mean(axis=0), usual.mean(axis=0)
    a, b = found - found_mean, usual - usual_mean
    left, singular, right = np.linalg.svd(b.T @ a)
    flip = np.array([1.0, 1.0, np.sign(np.linalg.det(left @ right))])
    rotation = left @ np.diag(flip) @ right
    scale = float((singular * flip).sum() / (a**2).sum())
    return rotation, scale, usual_mean - scale * rotation @ found_mean
