"""Images that hold nothing but the brain: how to tell, and what their edge says of the brain's."""

from __future__ import annotations

import torch
import torch.nn.functional as nnf
from torch import Tensor

from CMBDetectorLib.anatomy.parcellation import class_number

_FIRST_OF_BRAIN = class_number("cerebrospinal fluid") + 1
_CLOSING_VOXELS = 5
_EXPECTED = 0.5
_SMALLEST_SCALP_MM3, _SEEN_SHARE = 40_000.0, 0.15
_MISTAKEN = 0.05
"""How likely a place is on the other side of the edge than the atlas is sure of."""


def is_stripped(scalp: Tensor, seen: Tensor, voxel_mm3: float) -> bool:
    """Whether the image has nothing but zeros where the atlas has the scalp.

    That is said of 40 mL of scalp or more, if under 15 % of it is not 0: 1 to 6 % were in images
    that are stripped, over half in others.

    Parameters
    ----------
    scalp
        Probability of scalp by the atlas, any shape.
    seen
        The same places' share of voxels that are not exactly 0.
    """
    looked = seen[scalp > _EXPECTED]
    is_enough = looked.numel() * voxel_mm3 >= _SMALLEST_SCALP_MM3
    return is_enough and float(looked.mean()) < _SEEN_SHARE


def closed_brain(atlas: Tensor) -> Tensor:
    """Probability of brain with the sulci and fissures in it, (1, x, y, z).

    The gray value closing of the atlas's (classes, x, y, z) brain by a cube of 15 mm.
    """
    brain = atlas[_FIRST_OF_BRAIN:].sum(dim=0)[None, None]
    margin = _CLOSING_VOXELS // 2
    dilated = nnf.max_pool3d(brain, _CLOSING_VOXELS, stride=1, padding=margin)
    closed: Tensor = -nnf.max_pool3d(-dilated, _CLOSING_VOXELS, stride=1, padding=margin)
    return closed[0]


def overlap(brain: Tensor, seen: Tensor, counts: Tensor) -> Tensor:
    """Dice of two maps of shares (places,), of places that count differently."""
    shared = (torch.minimum(brain, seen) * counts).sum()
    return 2 * shared / ((brain + seen) * counts).sum()


def log_agreement(brain: Tensor, seen: Tensor) -> Tensor:
    """Mean logarithm of how well what is brain explains what is seen, both shares (places,)."""
    agreed = brain * seen + (1 - brain) * (1 - seen)
    return (agreed + _MISTAKEN).log().mean()
