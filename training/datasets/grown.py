"""What grew from the listed points or outlines of a scan: label map and measurements."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from CMBDetectorLib.geometry import FloatArray, Geometry
from CMBDetectorLib.postprocessing.measure import equivalent_diameter_mm
from CMBDetectorLib.volume import Volume
from training.datasets.shared_voxels import Claim, share_voxels

SeedStatus = Literal["grown", "shared", "merged", "refused", "outside", "ball", "given"]
Refused = Literal["nothing", "ball"]
IntArray = npt.NDArray[np.int64]
Point = tuple[float, float, float]

USUAL_DIAMETER_MM = 2.74
"""Median of 957 real lesions; of a ball where nothing else in the scan could be grown."""

_LARGEST_INT16 = int(np.iinfo(np.int16).max)
_NOWHERE: Point = (math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class GrownLesion:
    """What became of one listed lesion.

    Attributes
    ----------
    number
        Its value in the label map: the row of the seed, counted from 1.
    seed_ras_mm
        The listed point; of an outline its darkest voxel.
    status
        ``grown``; ``shared``: grown, and voxels that another lesion also claims were divided;
        ``merged``: it marks the same dark spot as ``partner``, which has the voxels;
        ``refused``: nothing could be grown, for the ``reason``; ``outside`` of the image;
        ``ball``: refused, and a ball was drawn on request; ``given``: the mask came with the data.
    reason
        Why it is not simply grown; empty where it is.
    partner
        Number of the lesion it is merged or shares voxels with.
    n_voxels, volume_mm3
        0 where it has no voxels of its own.
    equivalent_diameter_mm, center_ras_mm, moved_mm
        Diameter of the sphere of the same volume, center of mass, and its distance from the seed;
        NaN where it has no voxels.
    """

    number: int
    seed_ras_mm: Point
    status: SeedStatus
    reason: str = ""
    partner: int | None = None
    n_voxels: int = 0
    volume_mm3: float = 0.0
    equivalent_diameter_mm: float = math.nan
    center_ras_mm: Point = _NOWHERE
    moved_mm: float = math.nan


@dataclass(frozen=True, eq=False)
class GrownMasks:
    """A label map on the image's grid (int16, or int32 from 32768 lesions on), and its lesions.

    ``lesions`` has an entry for every seed, in the order of their numbers, also for those without
    voxels. The map of :func:`given_masks` is of the type that was given.
    """

    labels: Volume
    lesions: tuple[GrownLesion, ...]

    def of(self, *statuses: SeedStatus) -> tuple[GrownLesion, ...]:
        """The lesions with one of these statuses."""
        return tuple(lesion for lesion in self.lesions if lesion.status in statuses)

    @property
    def with_voxels(self) -> tuple[GrownLesion, ...]:
        """The lesions that are in the label map."""
        return tuple(lesion for lesion in self.lesions if lesion.n_voxels)


def given_masks(labels: Volume) -> GrownMasks:
    """Masks that came with the data, one value a lesion, in the form of those that were grown.

    ``seed_ras_mm`` is the center of mass. The label map stays as it is, and so do its numbers.

    Parameters
    ----------
    labels
        Whole numbers, 0 where there is no lesion.
    """
    lesions = []
    for number, box in enumerate(ndimage.find_objects(labels.array), start=1):
        if not box:  # None for a number that no voxel has
            continue
        corner = np.array([part.start for part in box])
        ijk = np.argwhere(labels.array[box] == number) + corner
        center = point_of(labels.geometry.ijk_to_ras_mm(ijk.mean(axis=0)))
        lesions.append(_measured(GrownLesion(number, center, "given"), ijk, labels.geometry))
    return GrownMasks(labels, tuple(lesions))


def assemble_masks(
    image: Volume, lesions: Sequence[GrownLesion], claims: Sequence[Claim], refused: Refused
) -> GrownMasks:
    """Divide what several lesions claim, write the label map and measure.

    Parameters
    ----------
    lesions
        One per seed, numbered from 1 on, not measured yet.
    claims
        The voxels of those that were grown.
    refused
        What becomes of a lesion that was refused: ``nothing``, or a ``ball`` around its seed.
    """
    dtype = np.int16 if len(lesions) <= _LARGEST_INT16 else np.int32
    labels = image.with_array(np.zeros(image.geometry.shape, dtype=dtype))
    final = {lesion.number: lesion for lesion in lesions}
    for share in share_voxels(claims, image):
        lesion = final[share.number]
        if share.kind == "merged":
            reason = f"marks the same dark spot as lesion {share.partner}"
            final[lesion.number] = replace(
                lesion, status="merged", reason=reason, partner=share.partner
            )
            continue
        if share.kind == "shared":
            reason = f"voxels that lesion {share.partner} also claims were divided"
            lesion = replace(lesion, status="shared", reason=reason, partner=share.partner)
        labels.array[tuple(share.voxels_ijk.T)] = lesion.number
        final[lesion.number] = _measured(lesion, share.voxels_ijk, labels.geometry)
    if refused == "ball":
        grown = [lesion.equivalent_diameter_mm for lesion in final.values() if lesion.n_voxels]
        diameter_mm = float(np.median(grown)) if grown else USUAL_DIAMETER_MM
        for lesion in final.values():
            if lesion.status == "refused":
                final[lesion.number] = _as_ball(lesion, diameter_mm, labels)
    return GrownMasks(labels, tuple(final.values()))


def _measured(lesion: GrownLesion, voxels: IntArray, geometry: Geometry) -> GrownLesion:
    volume_mm3 = len(voxels) * geometry.voxel_volume_mm3
    center = point_of(geometry.ijk_to_ras_mm(voxels.mean(axis=0)))
    return replace(
        lesion,
        n_voxels=len(voxels),
        volume_mm3=volume_mm3,
        equivalent_diameter_mm=equivalent_diameter_mm(volume_mm3),
        center_ras_mm=center,
        moved_mm=math.dist(center, lesion.seed_ras_mm),
    )


def _as_ball(lesion: GrownLesion, diameter_mm: float, labels: Volume) -> GrownLesion:
    """A ball around the seed, at least the voxel it lies in, without voxels of other lesions."""
    geometry = labels.geometry
    seed = geometry.ras_mm_to_ijk(lesion.seed_ras_mm)
    reach = np.linalg.norm(np.linalg.inv(geometry.affine[:3, :3]), axis=1) * diameter_mm / 2
    start = np.maximum(np.floor(seed - reach), 0).astype(np.int64)
    stop = np.minimum(np.ceil(seed + reach) + 1, geometry.shape).astype(np.int64)
    ijk = np.indices(stop - start).reshape(3, -1).T + start
    distance_mm = np.linalg.norm((ijk - seed) @ geometry.affine[:3, :3].T, axis=1)
    ijk = ijk[distance_mm <= max(diameter_mm / 2, float(distance_mm.min()))]
    free = ijk[labels.array[tuple(ijk.T)] == 0]
    if len(free) == 0:
        return replace(lesion, reason=f"{lesion.reason}; other lesions fill the place of a ball")
    reason = f"{lesion.reason}; a ball of {diameter_mm:.1f} mm was drawn"
    labels.array[tuple(free.T)] = lesion.number
    return _measured(replace(lesion, status="ball", reason=reason), free, geometry)


def point_of(values: FloatArray) -> Point:
    """Three coordinates as plain numbers."""
    x, y, z = values.tolist()
    return x, y, z
