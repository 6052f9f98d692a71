"""Starting from weights that are there: a bundle's member, a bundle, a file; nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch

from CMBDetectorLib.errors import InputError, UsageError
from CMBDetectorLib.models.networks import build_network
from training.export import export
from training.initial_weights import load_initial_weights

UNET = {"_target_": "monai.networks.nets.DynUNet", "spatial_dims": 3, "in_channels": 1} | {
    "out_channels": 2,
    "kernel_size": [3, 3, 3],
    "strides": [1, 2, 2],
    "upsample_kernel_size": [2, 2],
    "filters": [4, 8, 8],
}


def test_a_bundle_and_its_member_give_the_trained_weights(
    tmp_path: Path, trained: Path, tiny_config
) -> None:
    bundle = export(tiny_config, [trained], tmp_path / "one", metrics={})
    expected = build_network(tiny_config.network_def)
    load_initial_weights(trained, expected)
    for source in (bundle.root, bundle.members[0]):
        network = build_network(tiny_config.network_def)
        load_initial_weights(source, network)
        for name, tensor in expected.state_dict().items():
            torch.testing.assert_close(network.state_dict()[name], tensor, rtol=1e-3, atol=1e-4)


def test_of_several_members_one_is_to_be_named(tmp_path: Path, trained: Path, tiny_config) -> None:
    bundle = export(tiny_config, [trained, trained], tmp_path / "two", metrics={})
    with pytest.raises(UsageError, match="has 2 members; give one of them"):
        load_initial_weights(bundle.root, build_network(tiny_config.network_def))


def test_tensors_under_several_names_are_stored_once(tmp_path: Path) -> None:
    network, other = build_network(UNET), build_network(UNET)
    names = dict(network.named_parameters())  # each tensor under one name
    stored = {name: tensor.detach().clone() for name, tensor in names.items()}
    assert len(stored) < len(network.state_dict())
    safetensors.torch.save_file(stored, tmp_path / "w.safetensors")
    load_initial_weights(tmp_path / "w.safetensors", other)
    for name, tensor in network.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(next(iter(t))), "it lacks"),
        (lambda t: t.update(extra=torch.zeros(1)), "it has unknown extra"),
        (lambda t: t.update({next(iter(t)): torch.zeros(1)}), "it has other sizes of"),
    ],
)
def test_weights_of_another_network_are_refused(change, message: str, tmp_path: Path) -> None:
    network = build_network(UNET)
    tensors = {name: tensor.detach().clone() for name, tensor in network.named_parameters()}
    change(tensors)
    safetensors.torch.save_file(tensors, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match=message):
        load_initial_weights(tmp_path / "w.safetensors", network)


def test_what_holds_no_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected a training's folder"):
        load_initial_weights(tmp_path, build_network(UNET))
    (tmp_path / "w.safetensors").write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"w\.safetensors"):
        load_initial_weights(tmp_path / "w.safetensors", build_network(UNET))
