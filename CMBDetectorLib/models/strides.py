"""By how much a network coarsens its input, which decides where its tiles may begin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

Strides = tuple[int, int, int]

_BASIC_UNET_LEVELS = 4
_SEG_RES_NET_BLOCKS = (1, 2, 2, 4)  # MONAI's default


def total_strides(network_def: Mapping[str, Any]) -> Strides:
    """Voxels of the input along i, j, k that are one voxel of the coarsest level.

    A network with strides gives the same values for an image that is moved by a multiple of these,
    and others for any other move. (1, 1, 1) where the definition does not say.

    Parameters
    ----------
    network_def
        Checked by :func:`CMBDetectorLib.models.architectures.check_network_def`.

    >>> total_strides({"_target_": "monai.networks.nets.UNet", "strides": [[2, 2, 1], 2]})
    (4, 4, 2)
    """
    name = str(network_def.get("_target_", "")).rpartition(".")[2]
    if name in {"UNet", "DynUNet"} and "strides" in network_def:
        steps = [np.broadcast_to(np.array(step), 3) for step in network_def["strides"]]
        i, j, k = np.prod(steps, axis=0, dtype=int).tolist()
        return i, j, k
    levels = 0
    if name == "BasicUNet":
        levels = _BASIC_UNET_LEVELS
    elif name == "SegResNet":
        levels = len(network_def.get("blocks_down", _SEG_RES_NET_BLOCKS)) - 1
    return 2**levels, 2**levels, 2**levels
