"""Which lesions surely lie outside the brain: in a sinus, the orbit, the skull, the scalp.

The rule is soft, because it takes findings away. A microbleed in the cortex blooms into the sulcus
beside it, a label map is off by a voxel or so at borders, and a voxel of a thick slice reaches far
from its center. So every voxel of a lesion has to lie outside, and by more than the slack:

- in what the map calls something else than brain, fluid or vessel, farther from any tissue than 1.5
  of the map's voxels and than the image's own voxels are long;
- where the map has 0, farther than 5 mm besides: maps of the brain alone have 0 in the sulci too,
  whose middle is that far from cortex at most.

Nothing in cerebrospinal fluid, a ventricle or the choroid plexus is outside: rules that exclude
fluid take true microbleeds away on SWI. Nor is what lies beyond the map's edge. A map that lacks a
part of the brain tells nothing.
"""

from __future__ import annotations

import numpy as np

from CMBDetectorLib.anatomy.label_values import PARENCHYMA
from CMBDetectorLib.anatomy.tissue_map import BoolArray, CodeArray, IntArray, TissueMap
from CMBDetectorLib.geometry import FloatArray

SLACK_VOXELS = 1.5
UNNAMED_MM = 5.0

_UNNAMED = "Unknown"
# Values of FreeSurfer's color table, and from 501 on of head models.
_WORDS = {
    "Unknown": "no structure of the map",
    "Dura": "dura",
    "Skull": "skull",
    "Scalp": "scalp",
    "Extracerebral-258": "soft tissue of the head",
    "Extracerebral-259": "orbit",
    "Extracerebral-514": "venous sinus",
}


def has_whole_brain(tissue: TissueMap) -> bool:
    """Whether both halves of the cerebrum, the cerebellum and the brainstem are in the map."""
    cerebrum_is_whole = all(
        tissue.has("cortex", side=side) and tissue.has("white matter", side=side)
        for side in ("left", "right")
    )
    return cerebrum_is_whole and tissue.has("cerebellum") and tissue.has("brainstem")


def reasons_outside(
    owner: IntArray,
    points_ras_mm: FloatArray,
    codes: CodeArray,
    in_map: BoolArray,
    tissue: TissueMap,
    *,
    slack_mm: float,
) -> tuple[str, ...]:
    """Of every lesion why it is surely none of the brain, in words; empty where that is not sure.

    Parameters
    ----------
    owner
        Of each voxel the lesion it belongs to, (n,), rising from 0, none left out.
    points_ras_mm, codes, in_map
        Of each voxel its center, (n, 3), its structure, and whether it is in the map, (n,).
    slack_mm
        The longest edge of the image's voxels.
    """
    n = int(owner[-1]) + 1
    candidate = tissue.of_kind("outside")[codes] & in_map
    is_wholly = np.bincount(owner, weights=~candidate, minlength=n) == 0
    if not is_wholly.any() or not has_whole_brain(tissue):
        return ("",) * n
    tolerance_mm = max(SLACK_VOXELS * tissue.largest_spacing_mm, slack_mm)
    is_unnamed = np.array([one.name == _UNNAMED for one in tissue.structures])
    parenchyma = tissue.cloud(*PARENCHYMA)
    reasons = []
    for lesion in range(n):
        reason = ""
        if is_wholly[lesion]:
            rows = owner == lesion
            gap_mm, _ = parenchyma.nearest(points_ras_mm[rows])
            needed_mm = np.where(
                is_unnamed[codes[rows]], max(tolerance_mm, UNNAMED_MM), tolerance_mm
            )
            if (gap_mm > needed_mm).all():
                place = _place(codes[rows], tissue)
                reason = f"outside the brain ({place})"
        reasons.append(reason)
    return tuple(reasons)


def _place(codes: CodeArray, tissue: TissueMap) -> str:
    """The structure with most of these voxels, as people call it."""
    name = tissue.structures[int(np.bincount(codes).argmax())].name
    words = _WORDS.get(name)
    if words is None:
        value = name.removeprefix("Extracerebral-")
        words = f"what the map has as {value}" if value.isdecimal() else value
    return words
