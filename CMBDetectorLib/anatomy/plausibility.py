"""Whether labels that were made for an image are those of one human brain.

A network gives labels to anything. Where they are not plausible, nothing is told of regions.

The limits are wide: they are to let pass every brain from childhood to severe atrophy and fields
of view that cut the vertex or the cerebellum, and to stop at what is no brain.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from CMBDetectorLib.anatomy.label_values import BRAIN, Kind, Structure, structures_in
from CMBDetectorLib.anatomy.map_values import LARGEST_VALUE
from CMBDetectorLib.geometry import FloatArray, Geometry
from CMBDetectorLib.results import ResultWarning
from CMBDetectorLib.volume import Volume

BoolArray = npt.NDArray[np.bool_]

ANATOMY_NOT_ASSESSED = "anatomy-not-assessed"
"""Code of the warning that regions could not be told."""

_THINNEST_FIELD_MM = 40.0
_SMALLEST_FIELD_MM = 100.0
_LEAST_BRAIN_ML = 50.0
_WHOLE_BRAIN_ML = (700.0, 2200.0)
_CUT_BRAIN_ML = (200.0, 2200.0)
_SMALLEST_CUT_MM2 = 300.0
_SECOND_PIECE_SHARE = 0.2
_LEAST_BRAIN_HEIGHT_MM = 40.0
_LARGEST_SIDE_RATIO = 2.0
_LEAST_SIDE_DISTANCE_MM = 20.0
_LEAST_SHARE_ACROSS = 0.5
_CORTEX_SHARE = (0.2, 0.9)
_DEEP = ("Thalamus", "Caudate", "Putamen")
_LEAST_DEEP_ML = 0.5
_MOST_DEEP_ML = 30.0
_MOST_MISSING = 1
_LARGEST_EMPTY_SHARE = 0.3
_SAMPLE = 50_000


@dataclass(frozen=True, eq=False)
class _Labels:
    """A map in canonical axes, cropped to the brain, with what is asked of it.

    ``is_cut`` is whether the brain reaches the end of the field of view by more than a tip.
    """

    array: npt.NDArray[Any]
    brain: BoolArray
    geometry: Geometry
    structures: dict[int, Structure]
    counts: npt.NDArray[np.int64]
    is_cut: bool

    @property
    def voxel_ml(self) -> float:
        return self.geometry.voxel_volume_mm3 / 1000

    def values(self, *kinds: Kind, side: str | None = None) -> list[int]:
        return [
            value
            for value, one in self.structures.items()
            if one.kind in kinds and side in (None, one.side)
        ]

    def ml(self, values: list[int]) -> float:
        return float(self.counts[values].sum()) * self.voxel_ml if values else 0.0

    def center_ras_mm(self, values: list[int]) -> FloatArray:
        index = np.argwhere(_where(values)[self.array])
        return self.geometry.ijk_to_ras_mm(index.mean(axis=0))


def doubt(label_map: Volume, image: Volume) -> ResultWarning | None:
    """Why the labels cannot be those of the one human brain in the image; None if they can.

    Parameters
    ----------
    label_map
        FreeSurfer's values, as :func:`~CMBDetectorLib.inference.parcellation.parcellate` gives
        them, over the image's field of view.
    image
        The image itself.

    Returns
    -------
    ResultWarning or None
        With the code ``"anatomy-not-assessed"`` and the reason in words and numbers: a field of
        view too thin or too small, no brain, two, one too small or too large, one half of it only,
        without deep structures, or one that lies where the image is empty. Where the field of view
        cuts through the brain, less of it has to be there.
    """
    reason = _first_reason(label_map, image)
    if reason is None:
        return None
    return ResultWarning(
        ANATOMY_NOT_ASSESSED, f"the regions of the brain were not assessed: {reason}"
    )


def _first_reason(label_map: Volume, image: Volume) -> str | None:
    reason = _field_too_small(image.geometry)
    if reason is not None:
        return reason
    labels = _read(label_map)
    if labels is None:
        return "no brain was found in the image"
    brain_ml = np.count_nonzero(labels.brain) * labels.voxel_ml
    checks: tuple[Callable[[], str | None], ...] = (
        lambda: _second_brain(labels),
        lambda: _wrong_size(labels, brain_ml),
        lambda: _sides_do_not_match(labels),
        lambda: _wrong_parts(labels),
        lambda: _lies_in_nothing(labels, image),
    )
    return next((found for check in checks if (found := check()) is not None), None)


def _field_too_small(geometry: Geometry) -> str | None:
    extents = np.array(geometry.shape) * geometry.spacing_mm
    size = " x ".join(f"{extent:.0f}" for extent in extents)
    if extents.max() < _SMALLEST_FIELD_MM:
        return (
            f"the field of view, {size} mm, is too small for a human head "
            f"(at least {_SMALLEST_FIELD_MM:.0f} mm along an axis)"
        )
    if extents.min() < _THINNEST_FIELD_MM:
        return (
            f"the field of view, {size} mm, is a slab of only {extents.min():.0f} mm "
            f"(at least {_THINNEST_FIELD_MM:.0f} mm are needed)"
        )
    return None


def _read(label_map: Volume) -> _Labels | None:
    """None where there is no brain."""
    canonical = label_map.canonical()
    array = canonical.array
    counts = np.zeros(LARGEST_VALUE + 1, dtype=np.int64)
    for plane in np.moveaxis(array, 2, 0):  # plane by plane: the count needs wide integers
        counts += np.bincount(plane.ravel(order="K"), minlength=counts.size)
    structures = structures_in(np.flatnonzero(counts))
    is_brain = _where([value for value, one in structures.items() if one.kind in BRAIN])
    brain = is_brain[array]
    found = ndimage.find_objects(brain.view(np.uint8))
    if not found:
        return None
    box = found[0]
    geometry = canonical.geometry.cropped([one.start for one in box], [one.stop for one in box])
    is_cut = _is_cut(brain, geometry)
    return _Labels(array[box], brain[box], geometry, structures, counts, is_cut)


def _where(values: list[int]) -> BoolArray:
    """For every value whether it is one of these."""
    wanted = np.zeros(LARGEST_VALUE + 1, dtype=np.bool_)
    wanted[values] = True
    return wanted


def _second_brain(labels: _Labels) -> str | None:
    numbers, _ = ndimage.label(labels.brain)
    sizes_ml = np.sort(np.bincount(numbers.ravel())[1:])[::-1] * labels.voxel_ml
    if len(sizes_ml) > 1 and sizes_ml[1] > _SECOND_PIECE_SHARE * sizes_ml[0]:
        return (
            f"there is more than one brain in the image, of {sizes_ml[0]:.0f} and "
            f"{sizes_ml[1]:.0f} ml"
        )
    return None


def _wrong_size(labels: _Labels, brain_ml: float) -> str | None:
    if brain_ml < _LEAST_BRAIN_ML:
        return f"no brain was found in the image ({brain_ml:.0f} ml of brain)"
    low, high = _CUT_BRAIN_ML if labels.is_cut else _WHOLE_BRAIN_ML
    if not low <= brain_ml <= high:
        what = "the part of the brain in the image" if labels.is_cut else "the brain"
        return f"{what} has {brain_ml:.0f} ml, expected {low:.0f} to {high:.0f} ml"
    height_mm = labels.brain.shape[2] * labels.geometry.spacing_mm[2]
    if height_mm < _LEAST_BRAIN_HEIGHT_MM:
        return (
            f"only {height_mm:.0f} mm of the brain's height are in the image, at least "
            f"{_LEAST_BRAIN_HEIGHT_MM:.0f} mm are needed"
        )
    return None


def _is_cut(brain: BoolArray, geometry: Geometry) -> bool:
    """See the class; ``brain`` is on the whole grid, ``geometry`` gives the spacing."""
    for axis in range(3):
        spacing = [geometry.spacing_mm[other] for other in range(3) if other != axis]
        for end in (0, -1):
            area_mm2 = np.count_nonzero(np.moveaxis(brain, axis, 0)[end]) * spacing[0] * spacing[1]
            if area_mm2 > _SMALLEST_CUT_MM2:
                return True
    return False


def _sides_do_not_match(labels: _Labels) -> str | None:
    """Hemispheres of very different size, or in each other's place."""
    left = labels.values("cortex", "white matter", side="left")
    right = labels.values("cortex", "white matter", side="right")
    left_ml, right_ml = labels.ml(left), labels.ml(right)
    if max(left_ml, right_ml) > _LARGEST_SIDE_RATIO * min(left_ml, right_ml):
        return (
            f"the left hemisphere has {left_ml:.0f} ml and the right one {right_ml:.0f} ml; "
            "halves of a brain differ less"
        )
    if left_ml == 0:
        return "there is no cortex or white matter with a side"
    way = labels.center_ras_mm(right) - labels.center_ras_mm(left)
    distance_mm = float(np.linalg.norm(way))
    if distance_mm < _LEAST_SIDE_DISTANCE_MM or way[0] < _LEAST_SHARE_ACROSS * distance_mm:
        return (
            "left and right could not be told apart: the middles of the hemispheres are "
            f"{way[0]:.0f} mm apart from left to right, and {distance_mm:.0f} mm in all"
        )
    return None


def _wrong_parts(labels: _Labels) -> str | None:
    cortex_ml = labels.ml(labels.values("cortex"))
    both_ml = cortex_ml + labels.ml(labels.values("white matter"))
    low, high = _CORTEX_SHARE
    if not low * both_ml <= cortex_ml <= high * both_ml:
        return (
            f"of {both_ml:.0f} ml of cortex and white matter {cortex_ml:.0f} ml are cortex, which "
            "is not so in a human brain"
        )
    volumes_ml: dict[str, float] = {
        f"{side} {name.lower()}": 0.0 for name in _DEEP for side in ("left", "right")
    }
    for value, structure in labels.structures.items():
        side, _, name = structure.name.partition("-")
        key = f"{side.lower()} {name.lower()}"
        if key in volumes_ml:
            volumes_ml[key] += labels.ml([value])
    too_large = [f"{key} {ml:.0f} ml" for key, ml in volumes_ml.items() if ml > _MOST_DEEP_ML]
    if too_large:
        return f"deep structures are too large for a human brain: {', '.join(too_large)}"
    missing = [key for key, ml in volumes_ml.items() if ml < _LEAST_DEEP_ML]
    if len(missing) > _MOST_MISSING and not labels.is_cut:
        return f"the brain lacks deep structures: {', '.join(missing)}"
    return None


def _lies_in_nothing(labels: _Labels, image: Volume) -> str | None:
    """Labels where the image is exactly 0."""
    index = np.argwhere(labels.brain)
    some = labels.geometry.ijk_to_ras_mm(index[:: 1 + len(index) // _SAMPLE])
    place = np.rint(image.geometry.ras_mm_to_ijk(some)).astype(np.int64)
    within = ((place >= 0) & (place < np.array(image.geometry.shape))).all(axis=1)
    values = image.array[tuple(place[within].T)]
    empty = 1 - np.count_nonzero(values) / len(some)
    if empty > _LARGEST_EMPTY_SHARE:
        return f"{100 * empty:.0f} % of what was taken for brain has no signal in the image"
    return None
