"""Where in a head the microbleeds of one scan lie.

Shares of the regions as published for 957 lesions of five sets. Scans differ from each other: in
cerebral amyloid angiopathy lesions are lobar and often gather in one lobe, in hypertensive disease
deep and infratentorial (Greenberg et al., Lancet Neurology 8, 2009), in many mixed.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from training.simulation import tissue
from training.simulation.anatomy import Anatomy, brain_labels
from training.simulation.tissue import labels_in

FloatArray = npt.NDArray[np.float64]

REGION_LABELS: dict[str, tuple[int, ...]] = {
    "white matter": (2, 41, 77, *tissue.WHITE_MATTER_LESION_LABELS),
    "cortex": tissue.CORTEX_LABELS,
    "basal ganglia": tissue.CAUDATE_LABELS + tissue.PUTAMEN_LABELS + tissue.PALLIDUM_LABELS,
    "cerebellum": tissue.CEREBELLUM_LABELS,
    "thalamus": tissue.THALAMUS_LABELS,
    "brainstem": tissue.BRAINSTEM_LABELS,
    "other deep grey": tissue.VENTRAL_DC_LABELS + tissue.HIPPOCAMPUS_LABELS,
}
REGION_SHARE = (0.40, 0.33, 0.08, 0.08, 0.05, 0.04, 0.02)
LOBAR_REGIONS = ("white matter", "cortex")
PATTERN_SHARE = {"lobar": 0.45, "deep": 0.25, "mixed": 0.30}
DEEP_PATTERN_LOBAR_SHARE = 0.40
"""Of a deep scan's lesions; the lobar pattern's follows, so that all together are as published."""
FOCUS_SHARE, FOCUS_SD_MM = 0.3, 16.0
"""Scans whose lobar lesions gather around one place, and how closely."""
FOCUS_MEMBERS = 0.7
JUNCTION_MM = 5.0
"""Lesions of the white matter are mostly near the cortex: their share falls with this distance."""
EDGE_MM = 10.0
"""From the end of the field of view, so that a lesion's field has room."""
AROUND_MM, AROUND_BRAIN_SHARE = 1.0, 0.7
"""Share of a lesion's immediate surroundings that must be brain and not cerebrospinal fluid."""


def pattern_shares(pattern: str) -> FloatArray:
    """Share of each region of ``REGION_LABELS`` in a scan of pattern lobar, deep or mixed."""
    share = np.array(REGION_SHARE)
    lobar = np.array([region in LOBAR_REGIONS for region in REGION_LABELS])
    mean = share[lobar].sum()
    wanted = {"mixed": mean, "deep": DEEP_PATTERN_LOBAR_SHARE}
    rest = 1 - PATTERN_SHARE["mixed"]
    wanted["lobar"] = (rest * mean - PATTERN_SHARE["deep"] * wanted["deep"]) / PATTERN_SHARE[
        "lobar"
    ]
    scale = np.where(lobar, wanted[pattern] / mean, (1 - wanted[pattern]) / (1 - mean))
    return np.asarray(share * scale)


class LesionPlaces:
    """Candidate places of one head, and the pattern of one scan."""

    def __init__(self, anatomy: Anatomy, rng: np.random.Generator) -> None:
        self.pattern = str(rng.choice(list(PATTERN_SHARE), p=list(PATTERN_SHARE.values())))
        self._labels = anatomy.labels
        self._fine_mm = anatomy.geometry.spacing_mm[0]
        self._coarse_mm = anatomy.coarse_mm
        coarse = anatomy.labels[1::4, 1::4, 1::4]
        self._voxels = {
            region: np.argwhere(labels_in(coarse, labels))
            for region, labels in REGION_LABELS.items()
        }
        weights = {
            region: _weights(coarse, anatomy.coarse_mm, region, v)
            for region, v in self._voxels.items()
        }
        self._cumulative = {region: np.cumsum(w) for region, w in weights.items()}
        self._focused: dict[str, npt.NDArray[np.float64]] = {}
        if rng.random() < FOCUS_SHARE and len(self._voxels["cortex"]):
            focus = self._voxels["cortex"][rng.integers(0, len(self._voxels["cortex"]))]
            for region in LOBAR_REGIONS:
                away_mm = np.linalg.norm(self._voxels[region] - focus, axis=1) * anatomy.coarse_mm
                near = np.exp(-0.5 * (away_mm / FOCUS_SD_MM) ** 2)
                self._focused[region] = np.cumsum(weights[region] * near)

    def draw_regions(self, count: int, rng: np.random.Generator) -> list[str]:
        """Regions of ``count`` lesions, by the pattern's shares among those the head has."""
        present = [len(voxels) > 0 for voxels in self._voxels.values()]
        share = pattern_shares(self.pattern) * present
        if count == 0 or share.sum() == 0:
            return []
        return [str(r) for r in rng.choice(list(REGION_LABELS), size=count, p=share / share.sum())]

    def draw_center_mm(self, region: str, rng: np.random.Generator) -> FloatArray | None:
        """A place in mm from the fine grid's first voxel center; None if the one drawn is unfit.

        Unfit are places outside the region on the fine grid, at the surface, and at the end of
        the field of view.
        """
        cumulative = self._cumulative[region]
        if region in self._focused and rng.random() < FOCUS_MEMBERS:
            cumulative = self._focused[region]
        index = int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"))
        voxel = self._voxels[region][min(index, len(cumulative) - 1)]
        # a coarse voxel is 4 fine ones wide, and its label that of the second of them
        center_mm = np.asarray((4 * voxel - 0.5 + 4 * rng.random(3)) * self._fine_mm)
        limit_mm = np.array(self._labels.shape) * self._fine_mm - EDGE_MM
        if (center_mm < EDGE_MM).any() or (center_mm > limit_mm).any():
            return None
        middle = np.round(center_mm / self._fine_mm).astype(int)
        if self._labels[tuple(middle)] not in REGION_LABELS[region]:
            return None
        reach = max(1, round(AROUND_MM / self._fine_mm))
        around = self._labels[tuple(slice(m - reach, m + reach + 1) for m in middle)]
        fluid = labels_in(around, tissue.CSF_LABELS)
        if (brain_labels(around) & ~fluid).mean() < AROUND_BRAIN_SHARE:
            return None
        return center_mm


def _weights(
    coarse: npt.NDArray[np.int16], coarse_mm: float, region: str, voxels: npt.NDArray[np.int_]
) -> npt.NDArray[np.float64]:
    """How likely each candidate voxel of a region is, not normalized."""
    if region == "white matter":
        cortex = labels_in(coarse, tissue.CORTEX_LABELS)
        to_cortex = ndimage.distance_transform_edt(~cortex, sampling=coarse_mm)
        return np.asarray(0.15 + np.exp(-to_cortex[tuple(voxels.T)] / JUNCTION_MM))
    values = coarse[tuple(voxels.T)]
    if region == "cerebellum":  # around the dentate as often as in the much larger cortex
        white = np.isin(values, (7, 46))
        share = white.mean() if 0 < white.sum() < len(white) else 0.5
        return np.where(white, 0.5 / share, 0.5 / (1 - share))
    if region == "basal ganglia":  # readers can seldom tell them from the pallidum's iron
        return np.where(np.isin(values, tissue.PALLIDUM_LABELS), 0.5, 1.0)
    return np.ones(len(voxels))
