"""Weights of PyTorch and MONAI bundles as models that work on tiles."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.numpy import save_file

from CMBDetectorLib.errors import ModelError
from CMBDetectorLib.importing.import_model import ImportRequest, import_model
from CMBDetectorLib.models.bundle import ModelBundle
from CMBDetectorLib.models.library import find_bundle
from CMBDetectorLib.models.networks import load_member


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder of models."""
    monkeypatch.setenv("CMBDETECTOR_MODELS", str(tmp_path / "user"))
    return tmp_path / "user"


def nothing_left(folder: Path) -> bool:
    return not folder.exists() or list(folder.iterdir()) == []


def do_import(source: Path, **options: object) -> object:
    return import_model(ImportRequest(source, **options), accept=lambda _: True)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_weights_with_the_settings_of_another_model(
    suffix: str, tmp_path: Path, folder: Path
) -> None:
    bundled = find_bundle(None)
    state = load_member(bundled, bundled.members[0], fold=False).state_dict()
    changed = {
        name: (tensor * 1.5 if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in state.items()
    }
    path = tmp_path / f"mine{suffix}"
    if suffix == ".pt":
        torch.save({"state_dict": changed, "epoch": 3}, path)
    else:
        save_file({name: tensor.numpy() for name, tensor in changed.items()}, path)

    bundle = do_import(path)

    assert isinstance(bundle, ModelBundle)
    assert bundle.preprocessing == bundled.preprocessing
    assert bundle.metrics == {}
    imported = load_member(bundle, bundle.members[0], fold=False).state_dict()
    for name, tensor in changed.items():
        if tensor.is_floating_point():
            torch.testing.assert_close(imported[name], tensor, rtol=0, atol=0)


def test_weights_of_another_network_are_refused(tmp_path: Path, folder: Path) -> None:
    torch.save({"a.weight": torch.zeros(2)}, tmp_path / "other.pt")

    with pytest.raises(ModelError, match=r"a\.weight"):
        do_import(tmp_path / "other.pt")
    assert nothing_left(folder)


def test_a_monai_bundle(tmp_path: Path, tiny_bundle: ModelBundle) -> None:
    root = tmp_path / "monai"
    (root / "configs").mkdir(parents=True)
    (root / "models").mkdir()
    metadata = {"name": "Their net", "version": "0.9", "authors": "them", "license": "MIT"}
    (root / "configs" / "metadata.json").write_text(json.dumps(metadata))
    network_def = {**tiny_bundle.network_def, "_target_": "UNet"}
    (root / "configs" / "inference.json").write_text(json.dumps({"network_def": network_def}))
    state = load_member(tiny_bundle, tiny_bundle.members[0], fold=False).state_dict()
    torch.save(state, root / "models" / "model.pt")

    bundle = do_import(root, name="theirs", like=str(tiny_bundle.root))

    assert (bundle.name, bundle.version, bundle.license) == ("Their net", "0.9", "MIT")
    assert bundle.channels == tiny_bundle.channels
    assert bundle.operating_point == tiny_bundle.operating_point


def test_weights_with_an_absurd_header(tmp_path: Path, folder: Path) -> None:
    path = tmp_path / "large.safetensors"
    path.write_bytes((4 * 2**30).to_bytes(8, "little") + b"{}" + b" " * 100)

    with pytest.raises(ModelError, match=r"large\.safetensors") as caught:
        do_import(path)

    assert "\n" not in str(caught.value)
    assert nothing_left(folder)
