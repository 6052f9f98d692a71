"""A sharp atlas: heads are bent to their average, and the average made anew of the bent heads.

An average of heads that are aligned by affine maps alone is blurred by what such maps leave, about
3.5 mm. Bending every head to it, averaging, and bending again gives an atlas as sharp as what heads
have in common (Joshi et al., NeuroImage 23, 2004; Van Leemput, IEEE Transactions on Medical Imaging
28, 2009). It is bent back to a head where it is used.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from CMBDetectorLib.anatomy.alignment import ATLAS_SHAPE, atlas_index_of_mm
from CMBDetectorLib.anatomy.parcellation import CLASSES
from CMBDetectorLib.inference.atlas_lookup import displaced
from CMBDetectorLib.inference.deformation import (
    FRAME_MM,
    Levels,
    cells_near_brain,
    fit_displacement,
)
from training.anatomy.atlas import AlignedHead
from training.anatomy.heads import class_of_label

ROUNDS = 4
_LEVELS: Levels = ((24.0, 6), (12.0, 12), (8.0, 12))
_SEEN_STEP, _COUNTED_STEP = 3, 2
_LARGEST_SAMPLE = 60_000
_SMOOTHING_VOXELS = 0.6
_FEWEST = 1e-3
"""Where less than this of a voxel was seen, all heads end: background."""


def sharpen(atlas: Tensor, heads: Sequence[AlignedHead]) -> tuple[Tensor, list[AlignedHead]]:
    """A sharper atlas (uint8, classes first, symmetric), and the heads with what it is bent by.

    Parameters
    ----------
    atlas
        Of heads aligned by affine maps, see :func:`training.anatomy.atlas.build_atlas`.
    heads
        Of those made of one label map the first counts; all of them are bent to the result.
    """
    first = list({one.head.head: one for one in reversed(heads)}.values())[::-1]
    for number in range(ROUNDS):
        print(f"atlas, round {number + 1} of {ROUNDS}", flush=True)
        fields = [_bend(one, atlas) for one in first]
        mean = torch.stack(fields).mean(dim=0)
        mean = (mean + mirrored(mean)) / 2
        counts = torch.zeros(len(CLASSES), *ATLAS_SHAPE)
        for one, field in zip(first, fields, strict=True):
            # Less the mean, or the atlas would drift towards whatever it began with.
            _count(counts, one, field - mean)
        atlas = _shares(counts)
    print(f"bending the atlas to {len(heads)} heads", flush=True)
    return atlas, [replace(one, displacement_mm=_bend(one, atlas)) for one in heads]


def mirrored(field: Tensor) -> Tensor:
    """A displacement (3, x, y, z) as it is in the mirror image of the frame."""
    return field.flip(1) * torch.tensor([-1.0, 1.0, 1.0]).view(3, 1, 1, 1)


def _bend(one: AlignedHead, atlas: Tensor) -> Tensor:
    """What the atlas is displaced by such that it expects the classes that the head has."""
    shares = atlas.float() / 255
    place_mm, classes = _voxels(one, _SEEN_STEP)
    chosen = cells_near_brain(place_mm, shares, _LARGEST_SAMPLE)
    is_class = torch.nn.functional.one_hot(classes[chosen], len(CLASSES)).T[:, None].float()
    return fit_displacement(place_mm[:, chosen], shares, lambda _: is_class, _LEVELS)


def _voxels(one: AlignedHead, step: int) -> tuple[Tensor, Tensor]:
    """Places in the frame (3, n), float32, and classes (n,) of every ``step``-th voxel."""
    labels = np.asarray(one.head.subject().anatomy.labels[::step, ::step, ::step])
    index = np.indices(labels.shape, dtype=np.float32).reshape(3, -1) * step
    matrix = one.to_atlas_mm.astype(np.float32)
    place_mm = matrix[:3, :3] @ index + matrix[:3, 3:]
    classes = class_of_label()[labels].ravel().astype(np.int64)
    return torch.from_numpy(place_mm), torch.from_numpy(classes)


def _count(counts: Tensor, one: AlignedHead, field: Tensor) -> None:
    """Add the head's voxels to those of the atlas, each shared by the 8 nearest."""
    place_mm, classes = _voxels(one, _COUNTED_STEP)
    to_index = torch.from_numpy(atlas_index_of_mm().astype(np.float32))
    position = to_index[:3, :3] @ displaced(place_mm, field, FRAME_MM) + to_index[:3, 3:]
    lowest = position.floor()
    share = position - lowest
    size = torch.tensor(ATLAS_SHAPE)[:, None]
    for corner in itertools.product((0, 1), repeat=3):
        at = torch.tensor(corner)[:, None]
        index = lowest.long() + at
        weight = torch.where(at == 1, share, 1 - share).prod(dim=0)
        inside = ((index >= 0) & (index < size)).all(dim=0)
        i, j, k = index[:, inside]
        counts.index_put_((classes[inside], i, j, k), weight[inside], accumulate=True)


def _shares(counts: Tensor) -> Tensor:
    """Counts as probabilities times 255, the same on both sides."""
    both = (counts + counts.flip(1)).numpy()
    for one in both:
        one[:] = ndimage.gaussian_filter(one, _SMOOTHING_VOXELS, mode="nearest")
    total = both.sum(axis=0)
    shares = both / np.maximum(total, _FEWEST)
    shares[:, total < _FEWEST] = 0
    shares[0, total < _FEWEST] = 1
    result = torch.from_numpy(np.round(shares * 255).astype(np.uint8))
    right_half = result[:, ATLAS_SHAPE[0] // 2 :]
    return torch.cat([right_half.flip(1), right_half], dim=1)
