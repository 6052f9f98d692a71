"""What a network is taught about a case: its label maps on the model's grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from CMBDetectorLib.geometry import FloatArray, Geometry
from CMBDetectorLib.preprocessing.resample import resample
from CMBDetectorLib.volume import Volume
from training.cases import Case, visibility

LESION, IGNORE, VEIN, MIMIC, NO_MIMICS = 1, 2, 4, 8, 16
LabelArray = npt.NDArray[np.uint8]

_MARGIN_VOXELS = 2
_VISIBLE_FRACTION = 0.5


@dataclass(frozen=True)
class Targets:
    """What is taught.

    Attributes
    ----------
    labels
        uint8 bit field on the model's grid: LESION, IGNORE (a lesion too faint to teach, and one
        voxel around it), VEIN, MIMIC (calcification and the like). A lesion's voxel has no other
        of these. NO_MIMICS is set everywhere where the case has no map of mimics.
    taught, ignored
        Ids of the case's lesions that are taught and that are not.
    centers_ijk
        Centres of the taught lesions, shape (n, 3), voxels of the model's grid.
    """

    labels: LabelArray
    taught: tuple[int, ...]
    ignored: tuple[int, ...]
    centers_ijk: FloatArray


def make_targets(case: Case, grid: Geometry, min_contrast_to_noise: float) -> Targets:
    """Bring a case's lesions and mimics to ``grid``.

    A lesion is taught if it has voxels in the truth, contrast enough, and lies within the grid.
    It takes the voxels that it fills by half or more after linear resampling; where there is no
    such voxel (a small lesion in thick slices, or between the grid's centres) it takes those it
    fills most, so that every taught lesion keeps at least one.
    """
    labels = np.zeros(grid.shape, dtype=np.uint8)
    mimics = case.mimics.array
    for value, bit in ((1, VEIN), (2, MIMIC)):
        fractions = resample(case.mimics.with_array(mimics == value), grid)
        labels[fractions.array >= _VISIBLE_FRACTION] |= bit
    if np.any(mimics > 2):
        raise ValueError(f"case {case.case_id}: mimics are 1 or 2, got {int(mimics.max())}")

    taught: list[int] = []
    ignored: list[int] = []
    centers: list[FloatArray] = []
    boxes = ndimage.find_objects(case.truth.array)
    lesions = sorted(case.lesions, key=visibility)
    for lesion in lesions:
        label = int(lesion["label"])
        box = boxes[label - 1] if 0 < label <= len(boxes) else None
        visible = visibility(lesion) >= min_contrast_to_noise
        region, place = _lesion_on_grid(case.truth, label, box, grid)
        if visible and region is not None and region.any():
            labels[place][region] = LESION
            corner = np.array([axis.start for axis in place])
            centers.append(corner + np.argwhere(region).mean(axis=0))
            taught.append(label)
        else:
            _ignore(labels, lesion, region, place, grid)
            ignored.append(label)
    return Targets(
        labels=labels,
        taught=tuple(taught),
        ignored=tuple(ignored),
        centers_ijk=np.array(centers, dtype=np.float64).reshape(-1, 3),
    )


def _lesion_on_grid(
    truth: Volume, label: int, box: tuple[slice, ...] | None, grid: Geometry
) -> tuple[npt.NDArray[np.bool_] | None, tuple[slice, ...]]:
    """The voxels of one lesion within a box of the grid; (None, ()) if it is not there."""
    if box is None:
        return None, ()
    start = [max(0, axis.start - _MARGIN_VOXELS) for axis in box]
    stop = [
        min(n, axis.stop + _MARGIN_VOXELS) for axis, n in zip(box, truth.array.shape, strict=True)
    ]
    native = truth.geometry.cropped(start, stop)
    cut = truth.array[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] == label
    place = _box_within(grid, grid.ras_mm_to_ijk(native.corners_ras_mm()))
    if place is None:
        return None, ()
    part = grid.cropped([axis.start for axis in place], [axis.stop for axis in place])
    fractions = resample(Volume(cut, native), part).array
    most = float(fractions.max())
    if most <= 0.0:
        return None, ()
    return fractions >= min(_VISIBLE_FRACTION, most * (1 - 1e-6)), place


def _ignore(
    labels: LabelArray,
    lesion: dict[str, Any],
    region: npt.NDArray[np.bool_] | None,
    place: tuple[slice, ...],
    grid: Geometry,
) -> None:
    """Mark a lesion that is not taught: its voxels, and a ball of its size about its centre."""
    if region is not None:
        grown = ndimage.binary_dilation(region, np.ones((3, 3, 3), dtype=np.bool_))
        labels[place][grown] |= IGNORE
    center = grid.ras_mm_to_ijk(np.array(lesion["center_ras_mm"], dtype=np.float64))
    radius_mm = float(lesion["diameter_mm"]) / 2 + max(grid.spacing_mm[:2])
    reach = radius_mm / np.array(grid.spacing_mm) + 0.5
    ball_place = _box_within(grid, np.stack([center - reach, center + reach]))
    if ball_place is None:
        return
    ijk = np.stack(
        np.meshgrid(*[np.arange(a.start, a.stop) for a in ball_place], indexing="ij"), -1
    )
    offset_voxels = ijk - center
    offset_voxels[np.abs(offset_voxels) <= 0.5] = 0.0
    distance_mm = np.linalg.norm(offset_voxels @ grid.affine[:3, :3].T, axis=-1)
    labels[ball_place][distance_mm <= radius_mm] |= IGNORE


def _box_within(grid: Geometry, points_ijk: FloatArray) -> tuple[slice, ...] | None:
    """The box of the grid's voxels around some points; None where they are all outside."""
    start = np.maximum(0, np.floor(points_ijk.min(axis=0))).astype(int)
    stop = np.minimum(grid.shape, np.ceil(points_ijk.max(axis=0)).astype(int) + 1)
    if np.any(start >= stop):
        return None
    return tuple(slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
