"""What training minimises: soft Dice and focal loss over two sigmoid channels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from training.configuration import LossSettings
from training.targets import IGNORE, LESION, MIMIC, VEIN

_SMOOTH = 1.0
_FEWEST_POSITIVES_SHARE = 1e-4


@dataclass(frozen=True)
class LossTerms:
    """``total`` is what is minimised; the others are its weighted parts, for the log."""

    total: Tensor
    dice: Tensor
    focal: Tensor


def targets_of(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Targets (batch, 2, i, j, k) and weights (batch, 1, i, j, k) of a bit field of labels.

    Both are float32. Channel 0 is CMB, channel 1 mimic; the weight is 0 on lesions too faint to
    teach.
    """
    lesion = (labels & LESION) > 0
    mimic = (labels & (VEIN | MIMIC)) > 0
    weight = (labels & IGNORE) == 0
    return torch.stack([lesion, mimic], dim=1).float(), weight.unsqueeze(1).float()


def detection_loss(logits: Tensor, labels: Tensor, settings: LossSettings) -> LossTerms:
    """The loss of a batch.

    Parameters
    ----------
    logits
        (batch, 2, i, j, k), any floating type.
    labels
        uint8 bit field, (batch, i, j, k).

    Notes
    -----
    Dice has squared terms in the denominator (Milletari et al. 2016) and is taken over the whole
    batch, so that patches without a lesion count. The focal loss (Lin et al. 2017) is divided by
    the number of positive voxels, so that lesions of ten voxels are heard among half a million.
    """
    logits = logits.float().contiguous()
    targets, weight = targets_of(labels)
    channels = torch.tensor(settings.channel_weights, device=logits.device)
    probability = torch.sigmoid(logits)
    dice = settings.dice_weight * (channels * _dice_loss(probability, targets, weight)).sum()
    focal = (
        settings.focal_weight * (channels * _focal_loss(logits, targets, weight, settings)).sum()
    )
    return LossTerms(dice + focal, dice.detach(), focal.detach())


def _dice_loss(probability: Tensor, targets: Tensor, weight: Tensor) -> Tensor:
    """1 - Dice per channel, over all voxels of the batch, shape (2,)."""
    axes = (0, 2, 3, 4)
    overlap = (weight * probability * targets).sum(axes)
    sizes = (weight * (probability**2 + targets**2)).sum(axes)
    return 1 - (2 * overlap + _SMOOTH) / (sizes + _SMOOTH)


def _focal_loss(logits: Tensor, targets: Tensor, weight: Tensor, settings: LossSettings) -> Tensor:
    """Focal loss per channel and positive voxel, shape (2,)."""
    axes = (0, 2, 3, 4)
    cross_entropy = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    miss = 1 - torch.exp(-cross_entropy)
    alpha = settings.focal_alpha * targets + (1 - settings.focal_alpha) * (1 - targets)
    total = (weight * alpha * miss**settings.focal_gamma * cross_entropy).sum(axes)
    n_voxels = targets.numel() / targets.shape[1]
    return total / ((weight * targets).sum(axes) + _FEWEST_POSITIVES_SHARE * n_voxels)
