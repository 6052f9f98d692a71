from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from torch import nn

from CMBDetectorLib.errors import ModelError
from CMBDetectorLib.models.bundle import ModelBundle, load_bundle
from CMBDetectorLib.models.networks import (
    build_network,
    fold_batch_norms,
    load_member,
    load_members,
)

MakeBundle = Callable[..., ModelBundle]
UNET: dict[str, Any] = {
    "_target_": "monai.networks.nets.UNet",
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 2,
    "channels": [4, 6, 8],
    "strides": [[2, 2, 1], [2, 2, 2]],
    "norm": "BATCH",
}
ARCHITECTURES = [
    UNET | {"num_res_units": 2, "act": ["LEAKYRELU", {"negative_slope": 0.01, "inplace": True}]},
    UNET | {"num_res_units": 0, "act": "RELU", "dropout": 0.2, "bias": False},
    UNET | {"num_res_units": 1, "adn_ordering": "AND"},
    {
        "_target_": "monai.networks.nets.BasicUNet",
        "spatial_dims": 3,
        "in_channels": 1,
        "out_channels": 2,
        "features": [4, 4, 8, 8, 8, 4],
        "norm": "BATCH",
    },
    {
        "_target_": "monai.networks.nets.SegResNet",
        "spatial_dims": 3,
        "in_channels": 1,
        "out_channels": 2,
        "init_filters": 8,
        "blocks_down": [1, 2],
        "blocks_up": [1],
    },
    {
        "_target_": "monai.networks.nets.DynUNet",
        "spatial_dims": 3,
        "in_channels": 1,
        "out_channels": 2,
        "kernel_size": [3, 3, 3],
        "strides": [1, 2, 2],
        "upsample_kernel_size": [2, 2],
        "filters": [4, 6, 8],
        "norm_name": "BATCH",
        "res_block": True,
    },
]


def n_batch_norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm3d) for module in network.modules())


@pytest.mark.parametrize("network_def", ARCHITECTURES, ids=lambda d: str(d["_target_"]))
def test_folded_network_equals_the_original(
    make_bundle: MakeBundle, network_def: dict[str, Any]
) -> None:
    bundle = make_bundle(members=1, network_def=network_def)
    original = load_member(bundle, bundle.members[0], fold=False)
    folded = load_members(bundle)[0]
    image = torch.rand(2, 1, 32, 32, 16, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        expected, found = original(image), folded(image)
    assert expected.std() > 0.01
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_every_norm_of_the_usual_network_is_folded(make_bundle: MakeBundle) -> None:
    bundle = make_bundle(members=1, network_def=ARCHITECTURES[0])
    assert n_batch_norms(load_member(bundle, bundle.members[0], fold=False)) > 5
    assert n_batch_norms(load_members(bundle)[0]) == 0


def test_norm_before_a_convolution_is_left_alone() -> None:
    chain = nn.Sequential(nn.BatchNorm3d(2), nn.Conv3d(2, 2, 3), nn.ReLU(), nn.BatchNorm3d(2))
    assert fold_batch_norms(chain.eval()) == 0
    assert n_batch_norms(chain) == 2


def test_monai_builds_the_same_network_from_the_bundle(tiny: ModelBundle) -> None:
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    parser.read_config(tiny.root / "configs/inference.json")
    parser.read_meta(tiny.root / "configs/metadata.json")
    theirs = parser.get_parsed_content("network_def")
    ours = build_network(tiny.network_def)
    assert type(theirs) is type(ours)
    assert str(theirs) == str(ours)
    theirs.load_state_dict(ours.state_dict())
    image = torch.rand(1, 1, 16, 16, 16)
    with torch.inference_mode():
        assert torch.equal(theirs.eval()(image), ours.eval()(image))


def test_members_are_float32_frozen_and_different(tiny: ModelBundle) -> None:
    first, second = load_members(tiny)
    assert not first.training
    assert all(p.dtype == torch.float32 and not p.requires_grad for p in first.parameters())
    image = torch.rand(1, 1, 16, 16, 16)
    assert not torch.allclose(first(image), second(image))


def test_kernels_are_stored_in_float16(tiny: ModelBundle) -> None:
    stored = load_file(tiny.members[0])
    kinds = {(array.dtype.name, array.ndim > 1) for array in stored.values()}
    assert kinds == {("float16", True), ("float32", False), ("int64", False)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(sorted(t)[0]), "1 missing"),
        (lambda t: t.update(spare=np.zeros(2, np.float32)), "1 unknown"),
        (lambda t: t.update({sorted(t)[0]: np.zeros((7, 7), np.float32)}), "shape"),
        (lambda t: t.update({sorted(t)[0]: t[sorted(t)[0]] * np.float32("nan")}), "not finite"),
    ],
)
def test_tensors_that_do_not_fit(
    tiny: ModelBundle,
    resign: Callable[[Path], None],
    change: Callable[[dict[str, np.ndarray]], None],
    message: str,
) -> None:
    tensors = load_file(tiny.members[1])
    change(tensors)
    save_file(tensors, tiny.members[1])
    resign(tiny.root)
    with pytest.raises(ModelError, match=message) as caught:
        load_members(load_bundle(tiny.root))
    assert "member_2.safetensors" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_weights_swapped_after_the_check(tiny: ModelBundle) -> None:
    tiny.members[1].replace(tiny.members[0])
    with pytest.raises(ModelError, match="changed after it was checked"):
        load_members(tiny)


def test_arguments_that_do_not_fit_together() -> None:
    with pytest.raises(ModelError, match="refused") as caught:
        build_network(ARCHITECTURES[0] | {"strides": [2]})
    assert "\n" not in str(caught.value)
