from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import monai.networks.nets
import numpy as np
import pytest
import safetensors.torch
import torch
from monai.bundle import ConfigParser

from CMBDetectorLib.errors import ModelError
from CMBDetectorLib.importing.monai_bundle import read_monai_bundle
from CMBDetectorLib.models.networks import build_network, without_repeated_names

UNET: dict[str, Any] = {
    "_target_": "UNet",
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 2,
    "channels": [4, 6, 8],
    "strides": [2, 2],
    "num_res_units": 1,
    "norm": "batch",
}
BASIC = {
    "_target_": "BasicUNet",
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 2,
    "features": [4, 4, 8, 8, 8, 4],
}
SEGRESNET = {
    "_target_": "SegResNet",
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 2,
    "init_filters": 8,
    "blocks_down": [1, 2],
    "blocks_up": [1],
    "dropout_prob": 0.2,
}
DYNUNET = {
    "_target_": "DynUNet",
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 2,
    "kernel_size": [3, 3, 3],
    "strides": [1, 2, 2],
    "upsample_kernel_size": [2, 2],
    "filters": [4, 8, 8],
}
MODULES = {
    "UNet": "unet",
    "BasicUNet": "basic_unet",
    "SegResNet": "segresnet",
    "DynUNet": "dynunet",
}
# As in MONAI's own templates: code in all places but the network.
TEMPLATE = {
    "imports": ["$import glob", "$import os"],
    "bundle_root": "/workspace/bundle",
    "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
    "ckpt_path": "$@bundle_root + '/models/model.pt'",
    "network": "$@network_def.to(@device)",
    "checkpointloader": {"_target_": "CheckpointLoader", "load_dict": {"model": "@network"}},
}
METADATA = {
    "version": "0.1.0",
    "name": "Microbleeds",
    "monai_version": "1.4.0",
    "description": "Finds\nmicrobleeds",
    "authors": ["A. One", "B. Two"],
    "copyright": "Copyright (c) Nobody",
    "license": "",
    "network_data_format": {"inputs": {}, "outputs": {}},
}


def built(network_def: dict[str, Any]) -> torch.nn.Module:
    """The network as MONAI itself makes it from a configuration."""
    torch.manual_seed(3)
    network = ConfigParser({"net": network_def}).get_parsed_content("net")
    assert isinstance(network, torch.nn.Module)
    return network


@pytest.fixture
def bundle(tmp_path: Path) -> Callable[..., Path]:
    def make(
        inference: Any = None, *, weights: Any = None, metadata: Any = METADATA, **changes: Any
    ) -> Path:
        folder = tmp_path / "bundle"
        if inference is None:
            inference = TEMPLATE | {"network_def": UNET | changes}
        for name in ("configs", "models"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        for name, content in (("metadata", metadata), ("inference", inference)):
            path = folder / "configs" / f"{name}.json"
            path.write_text(json.dumps(content), encoding="utf-8")
        torch.save(
            built(UNET).state_dict() if weights is None else weights, folder / "models/model.pt"
        )
        return folder

    return make


@pytest.mark.parametrize(
    "network_def", [UNET, BASIC, SEGRESNET, DYNUNET], ids=lambda d: d["_target_"]
)
@pytest.mark.parametrize("prefix", ["", "monai.networks.nets.", "module"])
def test_a_bundle_is_the_network_monai_makes(
    bundle: Callable[..., Path], network_def: dict[str, Any], prefix: str
) -> None:
    name = network_def["_target_"]
    prefix = f"monai.networks.nets.{MODULES[name]}." if prefix == "module" else prefix
    stated = network_def | {"_target_": prefix + name}
    theirs = built(stated)
    assert isinstance(theirs, getattr(monai.networks.nets, name))
    state = theirs.state_dict()
    read = read_monai_bundle(bundle(TEMPLATE | {"network_def": stated}, weights={"model": state}))

    assert read.network_def == network_def | {"_target_": f"monai.networks.nets.{name}"}
    expected = without_repeated_names(
        read.network_def, {name: tensor.numpy() for name, tensor in state.items()}
    )
    assert list(read.weights) == list(expected)
    for tensor_name, values in expected.items():
        np.testing.assert_array_equal(read.weights[tensor_name], values)
    ours = build_network(read.network_def)
    ours.load_state_dict({n: torch.from_numpy(v) for n, v in read.weights.items()}, strict=False)
    image = torch.rand(1, 1, 32, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(image), theirs.eval()(image))


def test_what_the_publisher_says(bundle: Callable[..., Path]) -> None:
    assert read_monai_bundle(bundle()).metadata == {
        "name": "Microbleeds",
        "version": "0.1.0",
        "description": "Finds\nmicrobleeds",
        "authors": "A. One, B. Two",
        "copyright": "Copyright (c) Nobody",
    }
    assert read_monai_bundle(bundle(metadata={})).metadata == {}
    with pytest.raises(ModelError, match=r"version is 1\.5, expected a text"):
        read_monai_bundle(bundle(metadata=METADATA | {"version": 1.5}))


@pytest.mark.parametrize(
    "inference",
    [
        {"network": UNET},
        {"network": "$@net.to(@device)", "net": UNET},
        {"network_def": "@nets::0", "nets": [UNET]},
        {"network": "@net#def", "net": {"def": UNET}},
        {
            "network_def": UNET
            | {"channels": "@sizes::channels", "out_channels": "@classes", "strides": ["@step", 2]},
            "sizes": {"channels": ["@first", 6, 8]},
            "first": 4,
            "step": 2,
            "classes": "@n",
            "n": 2,
        },
        {
            "network_def": UNET
            | {"_desc_": "a text", "_mode_": "default", "_disabled_": "False", "_requires_": []}
        },
    ],
)
def test_references_and_keys_of_monai(bundle: Callable[..., Path], inference: Any) -> None:
    read = read_monai_bundle(bundle(TEMPLATE | {"network": 0} | inference))
    assert read.network_def == UNET | {"_target_": "monai.networks.nets.UNet"}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"channels": "$[4, 6, 8]"}, r"network_def.channels is the expression '\$\[4, 6, 8\]'"),
        ({"norm": ["group", {"num_groups": "$2"}]}, r"network_def.norm.num_groups is the expres"),
        ({"_target_": "$monai.networks.nets.UNet"}, r"the expression '\$monai"),
        ({"channels": "%other.json::channels"}, "the expression '%other.json::channels'"),
        ({"channels": "@sizes"}, "the reference '@sizes', expected one to a value in this file"),
        ({"channels": "@"}, "the reference '@'"),
        ({"channels": "@imports::7"}, "the reference '@imports::7'"),
        ({"channels": "@imports::-1"}, "the reference '@imports::-1'"),
        ({"channels": "@imports::0"}, r"the expression '\$import glob'"),
        ({"channels": "@network_def"}, "too large or refers to itself"),
        ({"channels": "@network_def::channels"}, "too large or refers to itself"),
        ({"_requires_": "$import os"}, r"_requires_ is the expression"),
        ({"_requires_": ["@bundle_root"]}, "_requires_ is .* expected nothing"),
        ({"_mode_": "callable"}, "_mode_ is 'callable', expected 'default'"),
        ({"_disabled_": True}, "_disabled_ is True, expected false"),
        ({"_target_": "UNETR"}, "unknown architecture 'UNETR'"),
        ({"_target_": "os.system"}, "unknown architecture 'os.system'"),
        ({"_target_": "my.networks.UNet"}, "unknown architecture 'my.networks.UNet'"),
        ({"_target_": ["UNet"]}, "unknown architecture"),
        ({"spatial_dims": 2}, "does not accept spatial_dims"),
        ({"path": "x"}, "no argument 'path'"),
        ({"strides": [2]}, "refused it"),
    ],
)
def test_networks_that_are_not_plain_are_refused(
    bundle: Callable[..., Path], changes: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ModelError, match=problem) as caught:
        read_monai_bundle(bundle(**changes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("inference", "problem"),
    [
        ([], "expected a JSON object"),
        ({"trainer": {}}, "describes no network, expected one of the keys network_def, network"),
        ({"network": "$monai.networks.nets.UNet(3, 1, 2)"}, "network is the expression"),
        ({"network_def": None}, "network_def is None, expected an object with _target_"),
        ({"network_def": {}}, "unknown architecture None"),
        # Ten times ten times ten ... values, and as deep as it goes.
        (
            {"network_def": "@a0", **{f"a{n}": [f"@a{n + 1}"] * 10 for n in range(9)}, "a9": 1},
            "too large or refers to itself",
        ),
        ({"network_def": "@network"} | {"network": "@network_def"}, "refers to itself"),
    ],
)
def test_other_configurations_are_refused(
    bundle: Callable[..., Path], inference: Any, problem: str
) -> None:
    with pytest.raises(ModelError, match=problem):
        read_monai_bundle(bundle(inference))


def test_nothing_of_the_configuration_is_executed(
    bundle: Callable[..., Path], tmp_path: Path
) -> None:
    code = f"$__import__('os').mkdir({str(tmp_path / 'marker')!r})"
    read_monai_bundle(bundle(TEMPLATE | {"network_def": UNET, "imports": [code], "x": code}))
    with pytest.raises(ModelError, match="is the expression"):
        read_monai_bundle(bundle(channels=code))
    assert not (tmp_path / "marker").exists()


def changed(name: str, tensor: torch.Tensor | None) -> dict[str, torch.Tensor]:
    state = built(UNET).state_dict()
    state.pop(name, None)
    return state if tensor is None else state | {name: tensor}


NAME = "model.0.conv.unit0.conv.weight"


@pytest.mark.parametrize(
    ("weights", "problem"),
    [
        (changed(NAME, None), f"model.pt: lacks the tensor '{NAME}' of the network"),
        (changed("extra", torch.ones(2)), "model.pt: the network has no tensor 'extra'"),
        (changed(NAME, torch.ones(4, 1, 3, 3)), rf"'{NAME}' has shape \(4, 1, 3, 3\), .*expects"),
        ({"epoch": 3}, "model.pt: 'epoch' is of type int"),
    ],
)
def test_weights_of_another_network_are_refused(
    bundle: Callable[..., Path], weights: Any, problem: str
) -> None:
    with pytest.raises(ModelError, match=problem):
        read_monai_bundle(bundle(weights=weights))


def test_a_tensor_may_be_there_under_any_of_its_names(bundle: Callable[..., Path]) -> None:
    folder = bundle(TEMPLATE | {"network_def": DYNUNET})
    (folder / "models/model.pt").unlink()
    state = built(DYNUNET).state_dict()
    with pytest.raises(ModelError, match=r"has no weights, expected models/model\.pt or"):
        read_monai_bundle(folder)
    # Keeps one name of each tensor, and not always the first.
    safetensors.torch.save_model(built(DYNUNET), str(folder / "models/model.safetensors"))
    read = read_monai_bundle(folder)
    assert len(read.weights) < len(state)
    for name, values in read.weights.items():
        np.testing.assert_array_equal(values, state[name].numpy())


def test_an_absurdly_large_network_takes_no_memory(bundle: Callable[..., Path]) -> None:
    # Hundreds of terabytes, if its values were made.
    with pytest.raises(ModelError, match=r"the network expects \(4096, 1, 99, 99, 99\)"):
        read_monai_bundle(bundle(channels=[4096, 4095, 4094], kernel_size=99, up_kernel_size=99))


def test_folders_that_are_not_bundles(bundle: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not a folder"):
        read_monai_bundle(tmp_path / "absent")
    folder = bundle()
    (folder / "configs/inference.json").replace(folder / "configs/inference.yml")
    with pytest.raises(
        ModelError, match=r"inference\.yml: YAML, expected inference\.json; convert"
    ):
        read_monai_bundle(folder)
    (folder / "configs/inference.yml").unlink()
    with pytest.raises(ModelError, match=r"inference\.json: cannot be read"):
        read_monai_bundle(folder)
    shutil.rmtree(folder / "configs")
    with pytest.raises(ModelError, match=r"metadata\.json: cannot be read"):
        read_monai_bundle(folder)
