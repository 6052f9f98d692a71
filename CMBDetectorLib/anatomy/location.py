"""Where a lesion lies, by an anatomical label map: hemisphere, zone, region.

Every voxel of a lesion has a vote, by the structure it lies in; one outside the tissue (in a
sulcus, in a ventricle, beside the brain) votes for the nearest tissue up to 3 mm away. The zone
with most votes is the lesion's, and in it the region with most. The rules, by MARS:

- Lobar: cortex, hippocampus and amygdala (temporal), and white matter that is none of the deep
  kinds. Its lobe is that of the nearest parcellated cortex of the same hemisphere, or an
  approximation where the map has none (:mod:`CMBDetectorLib.anatomy.lobes`).
- Deep: caudate, putamen, pallidum, accumbens (basal ganglia), thalamus, the capsules, corpus
  callosum, white matter within 10 mm of the lateral ventricle
  (:mod:`CMBDetectorLib.anatomy.white_matter`).
- The ventral diencephalon (subthalamic region, upper substantia nigra, hypothalamus), which MARS
  does not name, counts as thalamus: it is diencephalon, lies above the tentorium and is supplied by
  deep perforating arteries. Its confidence is always low.
- Infratentorial: brainstem and cerebellum.
- A map without the lateral ventricle of a side cannot tell deep from lobar white matter there, and
  one without the putamen not the external capsule: such white matter is not assessed.

References
----------
MARS: Gregoire et al., Neurology 73, 2009. BOMBS: Cordonnier et al., Stroke 40, 2009. Within 10 mm
of the ventricle as periventricular: DeCarli et al., "Anatomical mapping of white matter
hyperintensities", Stroke 36, 2005.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from CMBDetectorLib.anatomy.label_values import BRAIN, PARENCHYMA
from CMBDetectorLib.anatomy.midplane import find_midplane
from CMBDetectorLib.anatomy.outside import SLACK_VOXELS, has_whole_brain, reasons_outside
from CMBDetectorLib.anatomy.regions import REGION_NAMES, RegionFinder
from CMBDetectorLib.anatomy.schemes import BOMBS_REGIONS, Zone, zone_of
from CMBDetectorLib.anatomy.tissue_map import (
    BoolArray,
    CodeArray,
    IntArray,
    TissueMap,
    read_tissue_map,
)
from CMBDetectorLib.anatomy.voting import (
    count_sides,
    count_values,
    fractions,
    hemisphere,
    winning_region,
)
from CMBDetectorLib.errors import UsageError
from CMBDetectorLib.geometry import FloatArray
from CMBDetectorLib.volume import Volume

REACH_MM = 3.0
"""How far from tissue a voxel may lie and still belong to it, beyond half a voxel of the map."""
SURE_SHARE = 0.6

IN_VENTRICLE = "in ventricle"
IN_CHOROID_PLEXUS = "in choroid plexus"
IN_FLUID = "in cerebrospinal fluid"
OUTSIDE_BRAIN = "outside brain"
OUTSIDE_MAP = "outside map"


@dataclass(frozen=True)
class Location:
    """Where one lesion lies; "not assessed" where the map does not tell.

    Attributes
    ----------
    hemisphere
        ``left``, ``right`` or ``midline`` (brainstem and corpus callosum within 2 mm of the plane
        between the hemispheres).
    zone, region
        As :mod:`CMBDetectorLib.anatomy.schemes` names them (MARS).
    bombs_region
        One of ``BOMBS_REGIONS``. Deep white matter and corpus callosum are there subcortical.
    structure
        The structure of the map with the largest share, tissue or not, by FreeSurfer's name.
    shares
        Fraction of the lesion's voxels in each structure, largest first.
    distance_to_ventricle_mm, distance_to_brain_surface_mm
        From the lesion's center of mass to the nearest voxel center of a lateral ventricle (0
        within it; NaN in a map without), and to the nearest one outside the brain (its sulci
        count as outside, its ventricles do not; 0 outside the brain).
    confidence
        ``low`` where under 60 % of the voxels vote for the region, where most of them lie
        outside the tissue, and for the ventral diencephalon.
    approximate
        Whether the region is a lobe that comes from the approximation.
    flags
        Of ``in ventricle``, ``in choroid plexus``, ``in cerebrospinal fluid`` (most voxels do),
        ``outside brain`` (every voxel is farther than a voxel of the map from the tissue, and
        in no ventricle; only told by a map of a whole brain), ``outside map`` (most voxels are
        beyond the map's edge).
    reason_outside
        Why it is surely none of the brain, in words; empty where that is not sure, by the softer
        rule of :mod:`CMBDetectorLib.anatomy.outside`.
    """

    hemisphere: str
    zone: Zone
    region: str
    bombs_region: str
    structure: str
    shares: Mapping[str, float]
    distance_to_ventricle_mm: float
    distance_to_brain_surface_mm: float
    confidence: Literal["high", "low"]
    approximate: bool
    flags: tuple[str, ...] = ()
    reason_outside: str = ""


def locate_lesions(
    lesion_voxels_ras_mm: Sequence[FloatArray],
    anatomy: Volume | TissueMap,
    *,
    slack_mm: float = 0.0,
) -> tuple[Location, ...]:
    """The location of every lesion, in their order.

    Parameters
    ----------
    lesion_voxels_ras_mm
        Of each lesion the centers of its voxels in RAS mm, shape (n, 3) with n at least 1; a
        lesion that is only a point has one. Any grid.
    anatomy
        Label map in FreeSurfer's values, in the same space; any grid. Whoever asks again and again
        makes it ready once (:func:`~CMBDetectorLib.anatomy.tissue_map.read_tissue_map`).
    slack_mm
        The longest edge of the voxels that the lesions were drawn on. What lies as close to tissue
        is not surely outside.

    Raises
    ------
    InputError
        If the map has values that are not known, or no brain.
    UsageError
        If a lesion has no voxel, or its points are not finite triples.
    """
    lesions = [_checked(points) for points in lesion_voxels_ras_mm]
    tissue = anatomy if isinstance(anatomy, TissueMap) else read_tissue_map(anatomy)
    if not lesions:
        return ()
    return _locate(lesions, tissue, slack_mm)


def _locate(lesions: list[FloatArray], tissue: TissueMap, slack_mm: float) -> tuple[Location, ...]:
    points = np.concatenate(lesions)
    owner = np.repeat(np.arange(len(lesions)), [len(one) for one in lesions])
    midplane = find_midplane(tissue)
    codes, in_map = tissue.codes_at(points)
    tissue_codes, tissue_points, gap_mm = _nearest_tissue(points, codes, tissue)
    votes = RegionFinder(tissue, midplane).find(tissue_points, tissue_codes)

    n_regions, n_bombs = len(REGION_NAMES) + 1, len(BOMBS_REGIONS) + 1
    pairs = count_values(
        owner, votes.region * n_bombs + votes.bombs, len(lesions), n_regions * n_bombs
    ).reshape(-1, n_regions, n_bombs)
    sides = count_sides(owner, tissue_codes, codes, len(lesions), tissue)
    found = count_values(owner, codes.astype(np.int64), len(lesions), len(tissue.structures))
    approximate = fractions(owner, votes.approximate, len(lesions))
    ventral = fractions(owner, tissue.of_kind("ventral diencephalon")[tissue_codes], len(lesions))
    in_tissue = fractions(owner, gap_mm == 0, len(lesions))
    beyond = fractions(owner, ~in_map, len(lesions))

    centers = np.array([one.mean(axis=0) for one in lesions])
    to_ventricle = _distance_to_ventricle(centers, tissue)
    to_surface = _distance_to_surface(centers, tissue)
    across = (
        midplane.distance_mm(centers) if midplane is not None else np.full(len(lesions), np.nan)
    )
    far = _all_far(owner, gap_mm, codes, len(lesions), tissue)
    reasons = reasons_outside(owner, points, codes, in_map, tissue, slack_mm=slack_mm)

    locations = []
    for i in range(len(lesions)):
        region, bombs_region, share = winning_region(pairs[i])
        n_by_name = _by_name(found[i], tissue)
        n = sum(n_by_name.values())
        unsure = share < SURE_SHARE or in_tissue[i] < 0.5 or ventral[i] >= 0.5
        locations.append(
            Location(
                hemisphere=hemisphere(region, sides[i], float(across[i])),
                zone=zone_of(region),
                region=region,
                bombs_region=bombs_region,
                structure=next(iter(n_by_name)),
                shares={name: count / n for name, count in n_by_name.items()},
                distance_to_ventricle_mm=float(to_ventricle[i]),
                distance_to_brain_surface_mm=float(to_surface[i]),
                confidence="low" if unsure else "high",
                approximate=zone_of(region) == "lobar" and bool(approximate[i] >= share / 2),
                flags=_flags(found[i], tissue, outside_brain=far[i], outside_map=beyond[i] > 0.5),
                reason_outside=reasons[i],
            )
        )
    return tuple(locations)


def _checked(points_ras_mm: FloatArray) -> FloatArray:
    points = np.asarray(points_ras_mm, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 3 or not len(points) or not np.isfinite(points).all():
        raise UsageError(
            "the voxels of a lesion are one or more finite (x, y, z) triples in RAS mm, "
            f"got an array of shape {points.shape}"
        )
    return points


def _nearest_tissue(
    points: FloatArray, codes: CodeArray, tissue: TissueMap
) -> tuple[CodeArray, FloatArray, FloatArray]:
    """Of every point the tissue that it votes for (code 0: none), where, and how far away it is."""
    in_tissue = tissue.of_kind(*PARENCHYMA)[codes]
    tissue_codes = np.where(in_tissue, codes, 0).astype(np.uint8)
    tissue_points = points.copy()
    gap_mm = np.where(in_tissue, 0.0, np.inf)
    rows = np.flatnonzero(~in_tissue)
    if rows.size:
        parenchyma = tissue.cloud(*PARENCHYMA)
        reach = REACH_MM + tissue.largest_spacing_mm / 2
        gap_mm[rows], nearest = parenchyma.nearest(points[rows], within_mm=reach)
        taken = rows[np.isfinite(gap_mm[rows])]
        nearest = nearest[np.isfinite(gap_mm[rows])]
        tissue_codes[taken] = parenchyma.codes[nearest]
        tissue_points[taken] = parenchyma.points_ras_mm[nearest]
    return tissue_codes, tissue_points, gap_mm


def _by_name(counts: IntArray, tissue: TissueMap) -> dict[str, int]:
    names: dict[str, int] = {}
    for code in np.flatnonzero(counts).tolist():
        name = tissue.structures[code].name
        names[name] = names.get(name, 0) + int(counts[code])
    return dict(sorted(names.items(), key=lambda item: (-item[1], item[0])))


def _distance_to_ventricle(centers: FloatArray, tissue: TissueMap) -> FloatArray:
    ventricle = tissue.cloud("lateral ventricle")
    if ventricle.is_empty:
        return np.full(len(centers), np.nan)
    within = tissue.of_kind("lateral ventricle")[tissue.codes_at(centers)[0]]
    return np.where(within, 0.0, ventricle.nearest(centers)[0])


def _distance_to_surface(centers: FloatArray, tissue: TissueMap) -> FloatArray:
    outside = tissue.outside_cloud()
    if outside.is_empty:
        return np.full(len(centers), np.nan)
    within = tissue.of_kind(*BRAIN)[tissue.codes_at(centers)[0]]
    return np.where(within, outside.nearest(centers)[0], 0.0)


def _all_far(
    owner: IntArray, gap_mm: FloatArray, codes: CodeArray, n: int, tissue: TissueMap
) -> BoolArray:
    """Which lesions have every voxel outside the brain, and farther from tissue than a voxel."""
    if not has_whole_brain(tissue):
        return np.zeros(n, dtype=np.bool_)
    far = (gap_mm > SLACK_VOXELS * tissue.largest_spacing_mm) & ~tissue.of_kind(*BRAIN)[codes]
    return np.asarray(fractions(owner, far, n) == 1)


def _flags(
    counts: IntArray, tissue: TissueMap, *, outside_brain: bool, outside_map: bool
) -> tuple[str, ...]:
    n = counts.sum()
    in_ventricle = counts[tissue.of_kind("lateral ventricle", "other ventricle")].sum()
    in_plexus = counts[tissue.of_kind("choroid plexus")].sum()
    in_fluid = counts[tissue.of_kind("cerebrospinal fluid")].sum()
    flags = [
        flag
        for flag, count in (
            (IN_VENTRICLE, in_ventricle),
            (IN_CHOROID_PLEXUS, in_plexus),
            (IN_FLUID, in_fluid),
        )
        if count > n / 2
    ]
    if outside_map:
        flags.append(OUTSIDE_MAP)
    elif outside_brain:
        flags.append(OUTSIDE_BRAIN)
    return tuple(flags)
