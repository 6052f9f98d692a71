"""Total strides, against what the networks themselves do with a moved image."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from CMBDetectorLib.models.networks import build_network
from CMBDetectorLib.models.strides import total_strides

BASE = {"spatial_dims": 3, "in_channels": 1, "out_channels": 1}
NETWORKS: list[tuple[dict[str, Any], tuple[int, int, int]]] = [
    (
        {"_target_": "monai.networks.nets.UNet", "channels": [2, 4, 4], "norm": "BATCH"}
        | {"strides": [[2, 2, 1], [2, 2, 2]]},
        (4, 4, 2),
    ),
    (
        {"_target_": "monai.networks.nets.UNet", "channels": [2, 4], "norm": "BATCH"}
        | {"strides": [2]},
        (2, 2, 2),
    ),
    (
        {"_target_": "monai.networks.nets.DynUNet", "kernel_size": [3, 3, 3]}
        | {"strides": [1, 2, [2, 2, 1]], "upsample_kernel_size": [2, [2, 2, 1]]}
        | {"filters": [2, 4, 4], "norm_name": "BATCH"},
        (4, 4, 2),
    ),
    (
        {"_target_": "monai.networks.nets.BasicUNet", "features": [2, 2, 2, 2, 2, 2]}
        | {"norm": "BATCH"},
        (16, 16, 16),
    ),
    (
        {"_target_": "monai.networks.nets.SegResNet", "init_filters": 2, "norm": "BATCH"}
        | {"blocks_down": [1, 1], "blocks_up": [1]},
        (2, 2, 2),
    ),
]


@pytest.mark.parametrize(("network_def", "strides"), NETWORKS)
def test_values_move_with_the_image_by_whole_strides_only(
    network_def: dict[str, Any], strides: tuple[int, int, int]
) -> None:
    network_def = BASE | network_def
    assert total_strides(network_def) == strides
    torch.manual_seed(1)
    network = build_network(network_def).eval()
    for axis, stride in enumerate(strides):
        # Long enough along one axis for a middle that no border reaches.
        shape = [2 * n for n in strides]
        shape[axis] = 24 * stride
        image = torch.rand(1, 1, *shape)
        by_strides = _change(network, image, axis, stride)
        assert by_strides < 1e-4
        if stride > 1:
            assert _change(network, image, axis, stride // 2) > 10 * max(by_strides, 1e-6)


def _change(network: nn.Module, image: Tensor, axis: int, n_voxels: int) -> float:
    """How much the values in the middle differ when the image is moved, over their spread."""
    axis += 2
    with torch.inference_mode():
        still = network(image)
        moved = network(image.roll(n_voxels, axis)).roll(-n_voxels, axis)
    length = image.shape[axis]
    still, moved = (x.narrow(axis, length // 2 - 1, 2) for x in (still, moved))
    return float((still - moved).abs().max() / still.std())


def test_no_strides_where_the_definition_does_not_say() -> None:
    assert total_strides({"_target_": "CMBDetectorLib.models.graph"}) == (1, 1, 1)
    default = {"_target_": "monai.networks.nets.SegResNet"}
    assert total_strides(BASE | default) == (8, 8, 8)
