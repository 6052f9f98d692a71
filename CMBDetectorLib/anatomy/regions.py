"""The region of each point, by the structure of the label map it lies in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from CMBDetectorLib.anatomy.label_values import Kind, Side
from CMBDetectorLib.anatomy.lobes import LOBES, BrainFrame, approximate_lobes, find_brain_frame
from CMBDetectorLib.anatomy.midplane import Midplane
from CMBDetectorLib.anatomy.schemes import BOMBS_REGIONS, REGIONS
from CMBDetectorLib.anatomy.tissue_map import BoolArray, Cloud, CodeArray, IntArray, TissueMap
from CMBDetectorLib.anatomy.white_matter import (
    callosal_core,
    is_corpus_callosum,
    is_deep_or_periventricular,
    is_external_capsule,
    is_internal_capsule,
)
from CMBDetectorLib.geometry import FloatArray

REGION_NAMES: tuple[str, ...] = tuple(name for names in REGIONS.values() for name in names)
"""All regions of MARS, in the order of the scheme."""
JUNCTION_MM = 2.0
"""White matter up to here from the cortex is at its junction with it."""

_NO_REGION, _NO_BOMBS = len(REGION_NAMES), len(BOMBS_REGIONS)
_REGION_OF_KIND: dict[Kind, tuple[str, str]] = {
    "basal ganglia": ("basal ganglia", "basal ganglia gray matter"),
    "thalamus": ("thalamus", "thalamus"),
    "ventral diencephalon": ("thalamus", "thalamus"),
    "internal capsule": ("internal capsule", "internal/external capsule"),
    "external capsule": ("external capsule", "internal/external capsule"),
    "corpus callosum": ("corpus callosum", "subcortical white matter"),
    "hippocampus and amygdala": ("temporal", "cortex/gray-white junction"),
    "brainstem": ("brainstem", "brainstem"),
    "cerebellum": ("cerebellum", "cerebellum"),
}
_SUBCORTICAL = BOMBS_REGIONS.index("subcortical white matter")
_JUNCTION = BOMBS_REGIONS.index("cortex/gray-white junction")
_CAPSULE = BOMBS_REGIONS.index("internal/external capsule")
_PERIVENTRICULAR = REGION_NAMES.index("deep and periventricular white matter")
_LOBE_REGIONS = np.array([REGION_NAMES.index(lobe) for lobe in LOBES])


@dataclass(frozen=True, eq=False)
class PointRegions:
    """Of each point its position in ``REGION_NAMES`` and ``BOMBS_REGIONS`` (their length: none).

    ``approximate`` is where the region is a lobe without a parcellation.
    """

    region: IntArray
    bombs: IntArray
    approximate: BoolArray


class RegionFinder:
    """Finds regions in one map."""

    def __init__(self, tissue: TissueMap, midplane: Midplane | None) -> None:
        self._tissue = tissue
        self._midplane = midplane
        self._callosal_core: Cloud | None = None
        self._frame: BrainFrame | None = None
        self._frame_is_known = False

    def find(self, points_ras_mm: FloatArray, codes: CodeArray) -> PointRegions:
        """The region of points (n, 3) that lie in structures with these codes (n,)."""
        n = len(points_ras_mm)
        found = PointRegions(
            np.full(n, _NO_REGION, dtype=np.int64),
            np.full(n, _NO_BOMBS, dtype=np.int64),
            np.zeros(n, dtype=np.bool_),
        )
        for kind, (region, bombs) in _REGION_OF_KIND.items():
            here = self._tissue.of_kind(kind)[codes]
            found.region[here] = REGION_NAMES.index(region)
            found.bombs[here] = BOMBS_REGIONS.index(bombs)
        side_of = self._sides(points_ras_mm, codes)
        for side in ("left", "right"):
            cortex = self._tissue.of_kind("cortex")[codes] & (side_of == side)
            self._lobes(found, np.flatnonzero(cortex), points_ras_mm, codes, side)
            found.bombs[cortex] = _JUNCTION
            white = self._tissue.of_kind("white matter")[codes] & (side_of == side)
            self._white_matter(found, np.flatnonzero(white), points_ras_mm, codes, side)
        return found

    def _sides(self, points: FloatArray, codes: CodeArray) -> npt.NDArray[np.str_]:
        """``left`` or ``right`` by the structure, else by the midplane; ``none`` without both."""
        sides = np.array([structure.side for structure in self._tissue.structures])[codes]
        if self._midplane is not None:
            open_ = sides == "none"
            right = self._midplane.distance_mm(points[open_]) > 0
            sides[open_] = np.where(right, "right", "left")
        return sides

    def _white_matter(
        self, found: PointRegions, rows: IntArray, points: FloatArray, codes: CodeArray, side: Side
    ) -> None:
        if rows.size == 0:
            return
        tissue, midplane, here = self._tissue, self._midplane, points[rows]
        if self._callosal_core is None:
            self._callosal_core = callosal_core(tissue, midplane)
        callosal = is_corpus_callosum(here, self._callosal_core, midplane)
        internal = is_internal_capsule(here, tissue, side)
        external = is_external_capsule(here, tissue, midplane, side)
        found.bombs[rows] = _SUBCORTICAL
        named: IntArray = np.full(len(rows), _NO_REGION, dtype=np.int64)
        named[is_deep_or_periventricular(here, tissue, side)] = _PERIVENTRICULAR
        named[external] = REGION_NAMES.index("external capsule")
        named[internal] = REGION_NAMES.index("internal capsule")
        named[callosal] = REGION_NAMES.index("corpus callosum")
        found.region[rows] = named
        found.bombs[rows[(internal | external) & ~callosal]] = _CAPSULE
        rest = rows[named == _NO_REGION]
        has_ventricle = tissue.has("lateral ventricle", side=side)
        if has_ventricle and not tissue.cloud(side=side, named=("Putamen",)).is_empty:
            self._lobes(found, rest, points, codes, side)
            cortex = tissue.cloud("cortex", side=side)
            at_junction = np.isfinite(cortex.nearest(points[rest], within_mm=JUNCTION_MM)[0])
            found.bombs[rest[at_junction]] = _JUNCTION

    def _lobes(
        self, found: PointRegions, rows: IntArray, points: FloatArray, codes: CodeArray, side: Side
    ) -> None:
        """Lobes of cortex or white matter of one side, for these rows."""
        if rows.size == 0:
            return
        lobe_of_code = np.array(
            [LOBES.index(lobe) if lobe else -1 for lobe in self._tissue.lobes()]
        )
        lobe = lobe_of_code[codes[rows]]
        open_ = np.flatnonzero(lobe < 0)
        parcellated = self._tissue.cloud("cortex", side=side, with_lobe=True)
        if not parcellated.is_empty:
            _, nearest = parcellated.nearest(points[rows[open_]])
            lobe[open_] = lobe_of_code[parcellated.codes[nearest]]
        elif (frame := self._brain_frame()) is not None:
            putamen = self._tissue.cloud(side=side, named=("Putamen",))
            lobe[open_] = approximate_lobes(points[rows[open_]], side, frame, putamen)
            found.approximate[rows[open_]] = True
        known = lobe >= 0
        found.region[rows[known]] = _LOBE_REGIONS[lobe[known]]

    def _brain_frame(self) -> BrainFrame | None:
        if not self._frame_is_known:
            self._frame = find_brain_frame(self._tissue)
            self._frame_is_known = True
        return self._frame
