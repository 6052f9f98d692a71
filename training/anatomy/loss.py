"""What the anatomy network is taught: the class of every voxel, and the side of paired ones."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as nnf
from monai.losses.dice import DiceCELoss
from torch import Tensor

from CMBDetectorLib.anatomy.parcellation import CLASSES


@dataclass(frozen=True)
class AnatomyLoss:
    """``total`` is to be minimized; the others are parts of it, for the log."""

    total: Tensor
    structures: Tensor
    side: Tensor


def anatomy_loss(logits: Tensor, classes: Tensor, right: Tensor) -> AnatomyLoss:
    """Dice and cross-entropy of the classes, cross-entropy of the side.

    Parameters
    ----------
    logits
        (n, N_CHANNELS, x, y, z).
    classes
        Class numbers, (n, x, y, z).
    right
        1 right, 0 left, -1 where the side does not count, (n, x, y, z).
    """
    of_classes = DiceCELoss(to_onehot_y=True, softmax=True, batch=True)
    structures = of_classes(logits[:, : len(CLASSES)], classes.long()[:, None])
    paired = right >= 0
    guessed, wanted = logits[:, len(CLASSES)][paired], right[paired].float()
    if wanted.numel():
        side = nnf.binary_cross_entropy_with_logits(guessed, wanted)
    else:
        side = 0 * logits[:, len(CLASSES)].mean()
    return AnatomyLoss(structures + 0.5 * side, structures.detach(), side.detach())
