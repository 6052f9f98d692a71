"""Makes a network's labels a head: one brain, whole structures, and sides that do not mix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from CMBDetectorLib.anatomy.parcellation import CLASSES, class_number
from CMBDetectorLib.anatomy.sides import BoolArray, separate_sides

ClassArray = npt.NDArray[np.uint8]
CodeArray = npt.NDArray[np.int16]
Boxes = Sequence[tuple[slice, ...] | None]

_FLUID = class_number("cerebrospinal fluid")
_FIRST_BRAIN = class_number("cerebral white matter")
_VENTRICLE = class_number("lateral ventricle")
# Structures that reach far, so that a coarse grid cuts off parts of them that are real.
_FAR_REACHING = tuple(
    class_number(name)
    for name in (
        "cerebral white matter",
        "cerebral cortex",
        "lateral ventricle",
        "cerebellar white matter",
        "cerebellar cortex",
    )
)
_PAIRED = np.array([one.is_paired for one in CLASSES])
_IN_BRAIN = range(_FIRST_BRAIN, len(CLASSES))
_COMPACT_PAIRS = tuple(n for n in _IN_BRAIN if _PAIRED[n] and n not in _FAR_REACHING)

# A second head is left for others to complain about; anything smaller is a mistake.
_SECOND_HEAD_SHARE = 0.3
_SMALLEST_BRAIN_PIECE_SHARE = 0.05
_SMALLEST_PART_ML = 0.1
_LARGEST_HOLE_ML = 5.0
_LARGEST_PLEXUS_ML = 0.5
_ONE_SIDED_SHARE = 0.9
_EVERY_DIRECTION = np.ones((3, 3, 3), dtype=np.bool_)


@dataclass(frozen=True)
class _Pieces:
    """Connected pieces of a mask: their numbers from 1 (0 is outside) and their sizes."""

    numbers: npt.NDArray[np.signedinteger[Any]]
    sizes: npt.NDArray[np.int64]

    def smaller_than(self, least: float) -> BoolArray:
        """Voxels of pieces of fewer voxels."""
        small = self.sizes < least
        small[0] = False
        return np.asarray(small[self.numbers])


def clean_parcellation(
    classes: ClassArray, right: BoolArray, spacing_mm: float
) -> tuple[ClassArray, BoolArray]:
    """Remove islands and tell the sides apart.

    Parameters
    ----------
    classes
        Positions in :data:`~CMBDetectorLib.anatomy.parcellation.CLASSES`.
    right
        Whether a voxel lies on the right, of the same shape; only that of paired structures
        counts.
    spacing_mm
        Of the isotropic grid.

    Returns
    -------
    tuple
        New arrays of classes and sides.

    Notes
    -----
    1. Brain and fluid are one piece, and so is the brain within it: others, unless they are large
       enough for a second head, become what is around them. So does what is neither and enclosed
       by both: a lesion without signal is no bone.
    2. Left and right, see :func:`~CMBDetectorLib.anatomy.sides.separate_sides`. A deep structure
       that lies on one side by nine tenths lies there wholly.
    3. Of a deep structure, the brainstem, and the third and fourth ventricle the largest piece
       stays (on each side); of cortex, white matter and lateral ventricle pieces of 0.1 ml.
    4. What a lateral ventricle encloses belongs to it, up to 0.5 ml: choroid plexus or a
       calcification, which no tissue of the brain leads to.
    """
    classes, right = classes.copy(), right.copy()
    inside = classes >= _FLUID
    if not (classes >= _FIRST_BRAIN).any():
        return classes, right
    found = ndimage.find_objects(inside.view(np.uint8))[0]
    box = tuple(slice(max(one.start - 1, 0), one.stop + 1) for one in found)
    part, side = classes[box], right[box]
    voxel_ml = spacing_mm**3 / 1000
    _make_one_piece(part, side, voxel_ml)
    side[...] = separate_sides(side, _PAIRED[part], spacing_mm)
    _put_on_one_side(part, side)
    _remove_islands(part, side, voxel_ml)
    _fill(part, side, _enclosed(part == _VENTRICLE, _LARGEST_PLEXUS_ML / voxel_ml))
    return classes, right


def _make_one_piece(classes: ClassArray, right: BoolArray, voxel_ml: float) -> None:
    """Step 1, in place."""
    for first, share in (
        (_FLUID, _SECOND_HEAD_SHARE),
        (_FIRST_BRAIN, _SMALLEST_BRAIN_PIECE_SHARE),
    ):
        pieces = _pieces(classes >= first)
        # Of fluid and brain, the piece with most brain counts.
        brain = np.bincount(pieces.numbers[classes >= _FIRST_BRAIN], minlength=pieces.sizes.size)
        weighed = _Pieces(pieces.numbers, brain)
        _fill(classes, right, weighed.smaller_than(max(1.0, share * brain[1:].max())))
    _fill(classes, right, _enclosed(classes >= _FLUID, _LARGEST_HOLE_ML / voxel_ml))


def _put_on_one_side(classes: ClassArray, right: BoolArray) -> None:
    """The second half of step 2, in place."""
    boxes: Boxes = ndimage.find_objects(classes, max_label=len(CLASSES))
    for number in _COMPACT_PAIRS:
        box = boxes[number - 1]
        if box is None:
            continue
        side = right[box]
        pieces = _pieces(classes[box] == number, _EVERY_DIRECTION)
        n_right = np.bincount(pieces.numbers[side], minlength=pieces.sizes.size)
        share = n_right / np.maximum(pieces.sizes, 1)
        share[0] = 0.5
        side |= (share >= _ONE_SIDED_SHARE)[pieces.numbers]
        side &= ~(share <= 1 - _ONE_SIDED_SHARE)[pieces.numbers]


def _remove_islands(classes: ClassArray, right: BoolArray, voxel_ml: float) -> None:
    """Step 3, in place."""
    codes = _codes(classes, right)
    codes[classes < _FIRST_BRAIN] = 0
    islands = np.zeros(classes.shape, dtype=np.bool_)
    boxes: Boxes = ndimage.find_objects(codes)
    for code, box in enumerate(boxes, start=1):
        if box is None:
            continue
        pieces = _pieces(codes[box] == code, _EVERY_DIRECTION)
        largest = int(pieces.sizes[1:].max())
        is_far_reaching = code // 2 in _FAR_REACHING
        least = min(largest, _SMALLEST_PART_ML / voxel_ml) if is_far_reaching else largest
        islands[box] |= pieces.smaller_than(least)
    _fill(classes, right, islands)


def _pieces(mask: BoolArray, neighbors: BoolArray | None = None) -> _Pieces:
    """Pieces connected by faces, or by what ``neighbors`` says."""
    numbers, count = ndimage.label(mask, neighbors)
    sizes = np.bincount(numbers.ravel(), minlength=max(count + 1, 2))
    return _Pieces(numbers, sizes)


def _enclosed(mask: BoolArray, largest: float) -> BoolArray:
    """Pieces of what is not the mask of fewer voxels, unless they touch the edge of the grid."""
    holes = _pieces(~mask)
    at_edge = [np.moveaxis(holes.numbers, a, 0)[end].ravel() for a in range(3) for end in (0, -1)]
    holes.sizes[np.unique(np.concatenate(at_edge))] = np.iinfo(np.int64).max
    return holes.smaller_than(largest)


def _codes(classes: ClassArray, right: BoolArray) -> CodeArray:
    """Class and side in one number; the side of what is not paired does not count."""
    return np.asarray(2 * classes.astype(np.int16) + (right & _PAIRED[classes]))


def _fill(classes: ClassArray, right: BoolArray, unknown: BoolArray) -> None:
    """Give unknown voxels the most frequent label of their neighbors, from outside in."""
    if not unknown.any():
        return
    padded = np.full([n + 2 for n in classes.shape], -1, dtype=np.int16)
    inner = (slice(1, -1),) * 3
    padded[inner] = np.where(unknown, -1, _codes(classes, right))
    flat = padded.ravel()
    todo = np.flatnonzero(np.pad(unknown, 1))
    steps = np.array([sign * stride for stride in _strides(padded) for sign in (-1, 1)])
    while todo.size:
        around = flat[todo[:, None] + steps]
        is_known = around >= 0
        reached = is_known.any(axis=1)
        if not reached.any():
            flat[todo] = 0
            break
        votes = (around[:, :, None] == around[:, None, :]).sum(axis=2) * is_known
        best = np.take_along_axis(around, votes.argmax(axis=1)[:, None], axis=1)[:, 0]
        flat[todo[reached]] = best[reached]
        todo = todo[~reached]
    filled = padded[inner][unknown]
    classes[unknown] = (filled // 2).astype(np.uint8)
    # What is not paired keeps no side of its own; it is not asked for one.
    right[unknown] = filled % 2 == 1


def _strides(array: npt.NDArray[Any]) -> tuple[int, ...]:
    return tuple(stride // array.itemsize for stride in array.strides)
