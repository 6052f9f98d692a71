"""Which part of a large image to compute at once, and which part of that to keep."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Box = tuple[slice, slice, slice]

_CONTENT_DIFFERENCE = 0.06
_CONTENT_SHARE = 0.002


@dataclass(frozen=True)
class Block:
    """A part of an image.

    ``whole`` is what is computed, ``kept`` what of it is used; ``kept_in_whole`` is the latter
    counted from the start of ``whole``.
    """

    whole: Box
    kept: Box

    @property
    def kept_in_whole(self) -> Box:
        """See the class."""
        a, b, c = (
            slice(kept.start - whole.start, kept.stop - whole.start)
            for whole, kept in zip(self.whole, self.kept, strict=True)
        )
        return a, b, c


def content_box(image: npt.NDArray[np.float32], margin_voxels: int) -> Box | None:
    """The box of what is not background, with a margin; None if all is.

    Parameters
    ----------
    image
        Between 0 and 1. The background is the median of the outermost voxels: air, the zeros of a
        mask, or the middle of the range in a signed map. A plane has content if 0.2 % of its
        voxels differ from it by 0.06, which noise in air rarely does.
    """
    shell = np.concatenate(
        [np.moveaxis(image, axis, 0)[end].ravel() for axis in range(3) for end in (0, -1)]
    )
    differs = np.abs(image - np.median(shell)) > _CONTENT_DIFFERENCE
    ends = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        counts = np.count_nonzero(differs, axis=others)
        used = np.flatnonzero(counts > _CONTENT_SHARE * (differs.size / differs.shape[axis]))
        if used.size == 0:
            return None
        low = max(int(used[0]) - margin_voxels, 0)
        ends.append(slice(low, min(int(used[-1]) + 1 + margin_voxels, image.shape[axis])))
    return ends[0], ends[1], ends[2]


def plan_blocks(shape: Sequence[int], longest: int, overlap: int) -> list[Block]:
    """Blocks of at most ``longest`` voxels along an axis that cover an image.

    Neighbors share at least ``overlap`` voxels; each keeps its half of what they share. All
    lengths are in voxels, and ``longest`` is more than twice the overlap.
    """
    along_axes = [_segments(int(length), longest, overlap) for length in shape]
    return [
        Block((a[0], b[0], c[0]), (a[1], b[1], c[1])) for a, b, c in itertools.product(*along_axes)
    ]


def _segments(length: int, longest: int, overlap: int) -> list[tuple[slice, slice]]:
    """What is computed and what is kept along one axis."""
    if length <= longest:
        return [(slice(0, length), slice(0, length))]
    number = -(-(length - overlap) // (longest - overlap))
    starts = np.linspace(0, length - longest, number).round().astype(int).tolist()
    borders = [(start + before + longest) // 2 for before, start in itertools.pairwise(starts)]
    kept = itertools.pairwise([0, *borders, length])
    return [
        (slice(start, start + longest), slice(low, high))
        for start, (low, high) in zip(starts, kept, strict=True)
    ]
