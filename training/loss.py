"""What training minimises: soft Dice and focal loss over two sigmoid channels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from monai.losses.dice import DiceLoss
from monai.losses.focal_loss import FocalLoss
from torch import Tensor

from training.settings import LossSettings
from training.targets import IGNORE, LESION, MIMIC, NO_MIMICS, VEIN

_SMOOTH = 1.0
_FEWEST_POSITIVES_SHARE = 1e-4
_AXES = (0, 2, 3, 4)


@dataclass(frozen=True)
class LossTerms:
    """``total`` is what is minimised; the others are its weighted parts, for the log."""

    total: Tensor
    dice: Tensor
    focal: Tensor


def targets_of(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Targets and weights of a bit field of labels (batch, i, j, k).

    Both are float32, (batch, 2, i, j, k). Channel 0 is CMB, channel 1 mimic. The weight is 0 on
    lesions too faint to teach, and in channel 1 where nobody knows the mimics.
    """
    lesion = (labels & LESION) > 0
    mimic = (labels & (VEIN | MIMIC)) > 0
    taught = (labels & IGNORE) == 0
    taught_mimic = (labels & (IGNORE | NO_MIMICS)) == 0
    targets = torch.stack([lesion, mimic], dim=1).float()
    return targets, torch.stack([taught, taught_mimic], dim=1).float()


def detection_loss(logits: Tensor, labels: Tensor, settings: LossSettings) -> LossTerms:
    """The loss of a batch, with MONAI's Dice and focal loss.

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
    soft_dice = DiceLoss(
        squared_pred=True, batch=True, smooth_nr=_SMOOTH, smooth_dr=_SMOOTH, reduction="none"
    )
    # MONAI's MaskedDiceLoss has one mask for all channels; a product does the same for each.
    misses = soft_dice(torch.sigmoid(logits) * weight, targets * weight).flatten()
    dice = settings.dice_weight * (channels * misses).sum()

    per_voxel = FocalLoss(gamma=settings.focal_gamma, alpha=settings.focal_alpha, reduction="none")(
        logits, targets
    )
    n_positive = (weight * targets).sum(_AXES)
    fewest = _FEWEST_POSITIVES_SHARE * targets.numel() / targets.shape[1]
    focal = (weight * per_voxel).sum(_AXES) / (n_positive + fewest)
    focal = settings.focal_weight * (channels * focal).sum()
    return LossTerms(dice + focal, dice.detach(), focal.detach())
