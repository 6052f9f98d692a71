"""Which white matter is a capsule, the corpus callosum, or near the ventricle.

aseg and its like call all cerebral white matter by one name; these rules tell its deep parts
apart, by distance and direction from the structures around them.

- Corpus callosum: within 5 mm of its core and 8 mm of the plane between the hemispheres. The core
  is what the map labels so (251–255), else the white matter that crosses the plane.
- Internal capsule: between the caudate nucleus, thalamus or ventral diencephalon on one side and
  the putamen or pallidum on the other: within 12 mm of both, on a way from one to the other that
  is at most a quarter longer than the straight one.
- External capsule: beside the putamen, up to 5 mm from it, toward the insula. The extreme capsule
  and the claustrum, which the map does not show, lie in this sheet.
- Deep and periventricular: within 10 mm of the lateral ventricle, its inferior horn included; and
  within 10 mm of the basal ganglia and the thalamus where the cortex is farther (the foot of the
  corona radiata, the temporal stem).

All distances are between centers of voxels.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from CMBDetectorLib.anatomy.label_values import Side
from CMBDetectorLib.anatomy.midplane import Midplane
from CMBDetectorLib.anatomy.tissue_map import BoolArray, Cloud, TissueMap
from CMBDetectorLib.geometry import FloatArray

DEEP_MM = 10.0
"""White matter up to here from the lateral ventricle is deep (MARS)."""
CALLOSAL_MM = 5.0
_CALLOSAL_HALF_WIDTH_MM = 8.0
CAPSULE_WIDTH_MM = 12.0
EXTERNAL_CAPSULE_MM = 5.0

_CROSSING_MM = 2.0
_LEAST_CORE_MM3 = 200.0
_LONGEST_DETOUR = 1.25
_BESIDE_COSINE = 0.5


def callosal_core(tissue: TissueMap, midplane: Midplane | None) -> Cloud:
    """The labelled corpus callosum, else the white matter that crosses the midplane.

    Of what crosses, the largest connected piece counts, where it is large enough for one; the
    anterior commissure and the fornix are smaller.
    """
    labelled = tissue.cloud("corpus callosum")
    if not labelled.is_empty or midplane is None:
        return labelled
    crossing = np.zeros(tissue.codes.shape, dtype=np.bool_)
    index = np.argwhere(tissue.of_kind("white matter")[tissue.codes])
    distance = midplane.distance_mm(tissue.geometry.ijk_to_ras_mm(index))
    reach = max(_CROSSING_MM, tissue.largest_spacing_mm)
    crossing[tuple(index[np.abs(distance) <= reach].T)] = True
    pieces, n = ndimage.label(crossing)
    if n == 0:
        return labelled
    sizes = np.bincount(pieces.ravel())[1:]
    if sizes.max() * tissue.geometry.voxel_volume_mm3 < _LEAST_CORE_MM3:
        return labelled
    return tissue.cloud_of(pieces == 1 + int(np.argmax(sizes)))


def is_corpus_callosum(
    points_ras_mm: FloatArray, core: Cloud, midplane: Midplane | None
) -> BoolArray:
    """Which points of white matter, (n, 3), lie in the corpus callosum."""
    if core.is_empty or midplane is None:
        return np.zeros(len(points_ras_mm), dtype=np.bool_)
    near = np.isfinite(core.nearest(points_ras_mm, within_mm=CALLOSAL_MM)[0])
    return np.asarray(
        near & (np.abs(midplane.distance_mm(points_ras_mm)) <= _CALLOSAL_HALF_WIDTH_MM)
    )


def is_internal_capsule(points_ras_mm: FloatArray, tissue: TissueMap, side: Side) -> BoolArray:
    """Which points of white matter of one side, (n, 3), lie between the deep nuclei."""
    medial = tissue.cloud("thalamus", "ventral diencephalon", side=side, named=("Caudate",))
    lateral = tissue.cloud(side=side, named=("Putamen", "Pallidum"))
    between: BoolArray = np.zeros(len(points_ras_mm), dtype=np.bool_)
    to_medial, medial_row = medial.nearest(points_ras_mm, within_mm=CAPSULE_WIDTH_MM)
    to_lateral, lateral_row = lateral.nearest(points_ras_mm, within_mm=CAPSULE_WIDTH_MM)
    near = np.flatnonzero(np.isfinite(to_medial) & np.isfinite(to_lateral))
    if near.size:
        a = medial.points_ras_mm[medial_row[near]]
        b = lateral.points_ras_mm[lateral_row[near]]
        straight = np.linalg.norm(a - b, axis=1)
        farther = np.maximum(to_medial[near], to_lateral[near])
        way = to_medial[near] + to_lateral[near]
        # Beyond one of the two, the other one is farther than they are from each other.
        between[near] = (way <= _LONGEST_DETOUR * straight) & (farther <= straight)
    return between


def is_external_capsule(
    points_ras_mm: FloatArray, tissue: TissueMap, midplane: Midplane | None, side: Side
) -> BoolArray:
    """Which points of white matter of one side, (n, 3), lie beside the putamen."""
    putamen = tissue.cloud(side=side, named=("Putamen",))
    if midplane is None or putamen.is_empty:
        return np.zeros(len(points_ras_mm), dtype=np.bool_)
    reach = max(EXTERNAL_CAPSULE_MM, tissue.largest_spacing_mm)
    distance, row = putamen.nearest(points_ras_mm, within_mm=reach)
    outward = midplane.normal * (-1 if side == "left" else 1)
    beside = (points_ras_mm - putamen.points_ras_mm[row]) @ outward
    return np.asarray(np.isfinite(distance) & (beside >= _BESIDE_COSINE * distance))


def is_deep_or_periventricular(
    points_ras_mm: FloatArray, tissue: TissueMap, side: Side
) -> BoolArray:
    """Which points of white matter of one side, (n, 3), are near the ventricle or the nuclei."""
    ventricle = tissue.cloud("lateral ventricle")
    near = np.isfinite(ventricle.nearest(points_ras_mm, within_mm=DEEP_MM)[0])
    nuclei = tissue.cloud("basal ganglia", "thalamus", "ventral diencephalon", side=side)
    to_nuclei, _ = nuclei.nearest(points_ras_mm, within_mm=DEEP_MM)
    to_cortex, _ = tissue.cloud("cortex", side=side).nearest(points_ras_mm, within_mm=DEEP_MM)
    return np.asarray(near | (to_nuclei < to_cortex))
