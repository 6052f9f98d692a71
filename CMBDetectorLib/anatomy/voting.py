"""What a lesion's voxels elect: zone, region, side."""

from __future__ import annotations

import numpy as np

from CMBDetectorLib.anatomy.label_values import Side
from CMBDetectorLib.anatomy.regions import REGION_NAMES
from CMBDetectorLib.anatomy.schemes import BOMBS_REGIONS, REGIONS, ZONES
from CMBDetectorLib.anatomy.tissue_map import BoolArray, CodeArray, IntArray, TissueMap
from CMBDetectorLib.geometry import FloatArray
from CMBDetectorLib.results import NOT_ASSESSED

MIDLINE_MM = 2.0
"""Brainstem and corpus callosum up to here from the midplane are of neither side."""
_SIDES: tuple[Side, ...] = ("left", "right", "none")


def count_values(owner: IntArray, value: IntArray, n: int, n_values: int) -> IntArray:
    """How often each lesion has each value, (n, n_values)."""
    counts = np.bincount(owner * n_values + value, minlength=n * n_values)
    return np.asarray(counts.reshape(n, n_values))


def fractions(owner: IntArray, is_so: BoolArray, n: int) -> FloatArray:
    """Of each lesion the part of its voxels where it is so, (n,)."""
    return np.asarray(np.bincount(owner, weights=is_so, minlength=n) / np.bincount(owner))


def winning_region(votes: IntArray) -> tuple[str, str, float]:
    """The region with most votes in the zone with most, its BOMBS region, and its share of all.

    ``votes`` is (regions + 1, BOMBS regions + 1), the last of each for none. A draw goes to what
    comes first in the scheme.
    """
    by_region = votes.sum(axis=1)
    rows = {zone: [REGION_NAMES.index(name) for name in names] for zone, names in REGIONS.items()}
    zone = max((z for z in ZONES if z in rows), key=lambda z: int(by_region[rows[z]].sum()))
    row = max(rows[zone], key=lambda r: int(by_region[r]))
    if not by_region[row]:
        return NOT_ASSESSED, NOT_ASSESSED, 0.0
    bombs = (*BOMBS_REGIONS, NOT_ASSESSED)[int(np.argmax(votes[row]))]
    return REGION_NAMES[row], bombs, float(by_region[row] / by_region.sum())


def count_sides(
    owner: IntArray, tissue_codes: CodeArray, codes: CodeArray, n: int, tissue: TissueMap
) -> IntArray:
    """Votes for left, right and neither, (n, 3)."""
    side_of_code = np.array([_SIDES.index(structure.side) for structure in tissue.structures])
    voting = np.where(tissue_codes > 0, tissue_codes, codes)
    return count_values(owner, side_of_code[voting], n, len(_SIDES))


def hemisphere(region: str, votes: IntArray, across_mm: float) -> str:
    """The side with most votes; by the midplane where the structure is of neither.

    ``across_mm`` is how far to the right of the midplane the lesion's center is, NaN without one.
    """
    left, right, neither = votes.tolist()
    on_midline = region in ("brainstem", "corpus callosum")
    if (on_midline or neither > left + right) and not np.isnan(across_mm):
        if on_midline and abs(across_mm) <= MIDLINE_MM:
            return "midline"
        return "right" if across_mm > 0 else "left"
    if left == right:
        return NOT_ASSESSED if np.isnan(across_mm) else ("right" if across_mm > 0 else "left")
    return "left" if left > right else "right"
