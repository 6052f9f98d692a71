"""Whether lesions get the right zone and region by the network's map instead of the true one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from CMBDetectorLib.anatomy.location import Location, locate_lesions
from CMBDetectorLib.errors import InputError
from CMBDetectorLib.geometry import FloatArray
from CMBDetectorLib.results import NOT_ASSESSED
from CMBDetectorLib.volume import Volume
from training.anatomy.heads import class_of_label
from training.anatomy.measures_overlap import OUTSIDE_BRAIN, STRUCTURES
from training.simulation.anatomy import Anatomy
from training.simulation.lesions import draw_lesions

DIAMETERS_MM = (2.0, 4.0)
_STEP_MM = 0.5
_NOT_TISSUE = {
    "background",
    *OUTSIDE_BRAIN,
    "cerebrospinal fluid",
    "lateral ventricle",
    "third ventricle",
    "fourth ventricle",
}


def random_points(anatomy: Anatomy, count: int, rng: np.random.Generator) -> list[FloatArray]:
    """Points anywhere in the parenchyma, each (1, 3) in RAS mm."""
    names = ("background", *STRUCTURES)
    is_tissue = np.array([name not in _NOT_TISSUE for name in names])
    voxels = np.flatnonzero(is_tissue[class_of_label()[anatomy.labels]])
    chosen = rng.choice(voxels, size=min(count, len(voxels)), replace=False)
    voxel = np.stack(np.unravel_index(chosen, anatomy.labels.shape), axis=1)
    points = anatomy.geometry.ijk_to_ras_mm(voxel + rng.uniform(-0.5, 0.5, voxel.shape))
    return list(points[:, None])


def random_lesions(anatomy: Anatomy, count: int, rng: np.random.Generator) -> list[FloatArray]:
    """Balls of 2 to 4 mm where the simulator puts lesions, each (n, 3) in RAS mm."""
    first_mm = anatomy.geometry.ijk_to_ras_mm((0, 0, 0))
    lesions = []
    for lesion in draw_lesions(anatomy, count, rng):
        radius_mm = float(rng.uniform(*DIAMETERS_MM)) / 2
        steps = np.arange(-radius_mm, radius_mm + 1e-6, _STEP_MM)
        lattice = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
        ball = lattice[np.linalg.norm(lattice, axis=1) <= radius_mm]
        lesions.append(first_mm + np.array(lesion.center_mm) + ball)
    return lesions


def locations(points: Sequence[FloatArray], labels: Volume) -> tuple[Location, ...] | None:
    """As the library tells them; None from a map without a brain."""
    try:
        return locate_lesions(points, labels)
    except InputError:
        return None


def agreement(
    predicted: Sequence[Location] | None, true: Sequence[Location]
) -> dict[str, int | dict[str, int]]:
    """How many of those whose true zone is known have the same zone, region and side.

    Plain JSON: ``n``, ``zone``, ``bombs_region``, ``mars_region``, ``hemisphere`` (equal), and
    ``confused``, how often a BOMBS region was taken for another, by ``"true > told"``.
    """
    assessed = [row for row, one in enumerate(true) if one.zone != NOT_ASSESSED]
    counts: dict[str, Any] = dict.fromkeys(
        ("n", "zone", "bombs_region", "mars_region", "hemisphere"), 0
    )
    confused: Counter[str] = Counter()
    counts["n"] = len(assessed)
    for row in assessed:
        one = true[row]
        other = predicted[row] if predicted is not None else None
        told = other.bombs_region if other is not None else NOT_ASSESSED
        if told != one.bombs_region:
            confused[f"{one.bombs_region} > {told}"] += 1
        if other is None:
            continue
        counts["zone"] += one.zone == other.zone
        counts["bombs_region"] += one.bombs_region == other.bombs_region
        counts["mars_region"] += one.region == other.region
        counts["hemisphere"] += one.hemisphere == other.hemisphere
    return counts | {"confused": dict(confused.most_common())}
