"""How well a network does on patches of heads that it does not learn from."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn

from CMBDetectorLib.evaluation.figures import ratio
from training.loss import detection_loss
from training.settings import LossSettings
from training.targets import IGNORE, LESION

_THRESHOLD = 0.5


@torch.inference_mode()
def validate(
    network: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    settings: LossSettings,
    autocast: Callable[[], AbstractContextManager[Any]],
) -> dict[str, float]:
    """Figures on patches; whole scans are for :mod:`training.scan_validation`.

    Returns
    -------
    dict
        ``loss`` as in training; ``patch_dice`` of the lesion channel over all voxels;
        ``patch_recall``, the share of lesions touched at probability 0.5; ``false_per_patch``,
        components that touch no lesion. NaN where there is nothing to divide by.
    """
    network.eval()
    losses: list[float] = []
    overlap = sizes = n_lesions = n_found = n_false = n_patches = 0.0
    for images, labels in batches:
        with autocast():
            logits = network(images)
        losses.append(float(detection_loss(logits, labels, settings).total))
        found = (torch.sigmoid(logits[:, 0].float()) >= _THRESHOLD).cpu().numpy()
        bits = labels.cpu().numpy()
        for patch_found, patch_bits in zip(found, bits, strict=True):
            lesion = (patch_bits & LESION) > 0
            counted = patch_found & ((patch_bits & IGNORE) == 0)
            overlap += float((counted & lesion).sum())
            sizes += float(counted.sum() + lesion.sum())
            n_patches += 1
            n_lesions += _components(lesion)
            n_found += _touched(lesion, patch_found)
            n_false += _components(patch_found) - _touched(
                patch_found, (patch_bits & (LESION | IGNORE)) > 0
            )
    return {
        "loss": float(np.mean(losses)) if losses else float("nan"),
        "patch_dice": float(ratio(2 * overlap, sizes)),
        "patch_recall": float(ratio(n_found, n_lesions)),
        "false_per_patch": float(ratio(n_false, n_patches)),
    }


def _components(mask: np.ndarray[Any, np.dtype[np.bool_]]) -> int:
    return int(ndimage.label(mask, np.ones((3, 3, 3)))[1])


def _touched(
    mask: np.ndarray[Any, np.dtype[np.bool_]], other: np.ndarray[Any, np.dtype[np.bool_]]
) -> int:
    """How many components of ``mask`` share a voxel with ``other``."""
    components, _ = ndimage.label(mask, np.ones((3, 3, 3)))
    return int(np.count_nonzero(np.unique(components[other])))
