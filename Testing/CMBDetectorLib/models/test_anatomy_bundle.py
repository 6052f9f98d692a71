from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from brightness_model import (
    NETWORK_DEF,
    anatomy_manifest,
    brightness_weights,
    uniform_atlas,
    write_brightness_bundle,
)

from CMBDetectorLib.anatomy.alignment import ATLAS_SHAPE
from CMBDetectorLib.anatomy.parcellation import CLASSES, N_CHANNELS
from CMBDetectorLib.errors import ModelError
from CMBDetectorLib.models.anatomy_bundle import (
    CELL_VOXELS,
    INPUT_CHANNELS,
    AnatomyBundle,
    load_anatomy_bundle,
    write_anatomy_bundle,
)
from CMBDetectorLib.models.bundle import ModelBundle, load_bundle
from CMBDetectorLib.models.install import install_bundle
from CMBDetectorLib.models.library import (
    DEFAULT_ANATOMY_ID,
    DEFAULT_MODEL_ID,
    find_anatomy_bundle,
    find_any_bundle,
    find_bundle,
    list_bundles,
)
from CMBDetectorLib.models.networks import build_network, load_atlas, load_member

DYNUNET: dict[str, Any] = {
    "_target_": "monai.networks.nets.DynUNet",
    "spatial_dims": 3,
    "in_channels": len(INPUT_CHANNELS),
    "out_channels": CELL_VOXELS * N_CHANNELS,
    "kernel_size": [3, 3, 3, 3],
    "strides": [1, 2, 2, 2],
    "upsample_kernel_size": [2, 2, 2],
    "filters": [2, 4, 4, 6],
    "norm_name": "BATCH",
    "act_name": "RELU",
}


@pytest.fixture
def bundle(tmp_path: Path) -> AnatomyBundle:
    return write_brightness_bundle(tmp_path / "brightness")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CMBDETECTOR_MODELS", str(tmp_path / "mine"))
    return tmp_path / "mine"


def write_with_atlas(root: Path, atlas: np.ndarray) -> AnatomyBundle:
    return write_anatomy_bundle(
        root,
        anatomy_manifest(id=root.name),
        brightness_weights(),
        atlas,
        model_card="-",
        license_text="-",
    )


def trained_state() -> dict[str, np.ndarray]:
    """Norms that do something, so that folding them can go wrong."""
    torch.manual_seed(4)
    network = build_network(DYNUNET)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.2, 3.0)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_()
    return {name: tensor.numpy() for name, tensor in network.state_dict().items()}


def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def test_reads_back_what_was_written(bundle: AnatomyBundle) -> None:
    again = load_anatomy_bundle(bundle.root)
    assert again == bundle
    assert again.spacing_mm == 1.5
    assert again.classes == tuple(one.name for one in CLASSES)
    assert again.architecture == "monai.networks.nets.UNet"
    assert again.card.read_text(encoding="utf-8") == "# Brightness\n"
    assert again.metadata["cmbdetector"]["kind"] == "anatomy"
    outputs = again.metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
    assert (outputs["0"], outputs["183"]) == (
        "background, voxel 0 of the cell",
        "right side, voxel 7 of the cell",
    )
    inputs = again.metadata["network_data_format"]["inputs"]["image"]["channel_def"]
    assert (inputs["0"], inputs["8"]) == ("image, voxel 0 of the cell", "atlas: background")
    assert (inputs["51"], inputs["54"]) == (
        "atlas and intensity: cerebellar cortex",
        "superior in the atlas, 100 mm",
    )


def test_the_atlas_is_the_second_member(tmp_path: Path) -> None:
    shape = (len(CLASSES), ATLAS_SHAPE[0] // 2, *ATLAS_SHAPE[1:])
    half = np.random.default_rng(2).integers(0, 256, shape, dtype=np.uint8)
    atlas = np.concatenate([half[:, ::-1], half], axis=1)
    stored = write_with_atlas(tmp_path / "random", atlas)
    assert [path.name for path in stored.members] == [
        "member_1.safetensors",
        "member_2.safetensors",
    ]
    np.testing.assert_array_equal(load_atlas(stored).numpy(), atlas)
    assert stored.members[1].stat().st_size < 1.01 * half.size  # one side of it
    assert half[3, 0, 4, 5] != half[3, 1, 4, 5]
    with pytest.raises(ModelError, match="differs between left and right"):
        write_with_atlas(tmp_path / "lopsided", np.roll(atlas, 1, axis=1))


@pytest.mark.parametrize(
    ("atlas", "words"),
    [
        (uniform_atlas()[:5], "5, 68, 80, 72"),
        (uniform_atlas()[:, 1:], "22, 67, 80, 72"),
        (uniform_atlas().astype(np.float32), "float32"),
    ],
    ids=["classes", "grid", "type"],
)
def test_an_atlas_of_another_kind_is_refused(
    bundle: AnatomyBundle,
    resign: Callable[[Path], None],
    tmp_path: Path,
    atlas: np.ndarray,
    words: str,
) -> None:
    with pytest.raises(ModelError, match=words):
        write_with_atlas(tmp_path / "other", atlas)
    assert not (tmp_path / "other").exists()
    safetensors.numpy.save_file({"atlas": atlas}, bundle.members[1])
    resign(bundle.root)
    with pytest.raises(ModelError, match=words) as caught:
        load_atlas(load_anatomy_bundle(bundle.root))
    half = (len(CLASSES), ATLAS_SHAPE[0] // 2, *ATLAS_SHAPE[1:])
    assert str(half) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_network_in_the_atlas_place_is_refused(
    bundle: AnatomyBundle, resign: Callable[[Path], None]
) -> None:
    shutil.copy(bundle.members[0], bundle.members[1])
    resign(bundle.root)
    with pytest.raises(ModelError, match=r"member_2.*expected 'atlas'") as caught:
        load_atlas(load_anatomy_bundle(bundle.root))
    assert len(str(caught.value)) < 500


def test_a_damaged_atlas_is_noticed(bundle: AnatomyBundle, resign: Callable[[Path], None]) -> None:
    path = bundle.members[1]
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"member_2\.safetensors: changed after it was checked"):
        load_atlas(bundle)
    with pytest.raises(ModelError, match=r"member_2\.safetensors"):
        load_anatomy_bundle(bundle.root)
    path.write_bytes(content[: len(content) // 2])
    resign(bundle.root)
    with pytest.raises(ModelError, match=r"member_2\.safetensors") as caught:
        load_anatomy_bundle(bundle.root)
    assert "\n" not in str(caught.value)


def test_tensors_with_several_names_are_stored_once(tmp_path: Path) -> None:
    state = trained_state()
    stored = write_anatomy_bundle(
        tmp_path / "dyn",
        anatomy_manifest(id="dyn", network_def=DYNUNET),
        {name: array.copy() for name, array in state.items()},
        uniform_atlas(),
        model_card="-",
        license_text="-",
    )
    distinct = {array.__array_interface__["data"][0]: array for array in state.values()}
    n_values = sum(array.size for array in distinct.values())
    assert sum(array.size for array in state.values()) > 1.5 * n_values
    assert stored.members[0].stat().st_size < 4 * n_values + 20_000

    original, folded = (load_member(stored, stored.members[0], fold=f) for f in (False, True))
    assert not any(isinstance(module, torch.nn.BatchNorm3d) for module in folded.modules())
    image = torch.rand(
        1, len(INPUT_CHANNELS), 16, 16, 8, generator=torch.Generator().manual_seed(3)
    )
    with torch.inference_mode():
        expected, found = original(image), folded(image)
    assert expected.std() > 0.01
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_weights_of_another_network_are_refused_and_nothing_is_left(tmp_path: Path) -> None:
    weights = brightness_weights()
    del weights["model.2.conv.bias"]
    with pytest.raises(ModelError, match=r"lack 1 .*model\.2\.conv\.bias"):
        write_anatomy_bundle(
            tmp_path / "broken",
            anatomy_manifest(),
            weights,
            uniform_atlas(),
            model_card="-",
            license_text="-",
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"classes": ["background", "brain"]}, "classes"),
        ({"spacing_mm": 0}, "spacing_mm"),
        ({"kind": "weather"}, "kind"),
        ({"members": ["models/member_1.safetensors"]}, "two files, the network and its atlas"),
        ({"members": ["models/member_1.safetensors"] * 3}, "two files, the network and its atlas"),
        ({"schema_version": 3}, "update CMBDetector"),
        ({"id": "../up"}, "id"),
    ],
    ids=str,
)
def test_descriptions_that_are_refused(
    bundle: AnatomyBundle, resign: Callable[[Path], None], change: dict[str, Any], words: str
) -> None:
    edit(bundle.root / "configs/metadata.json", lambda all_: all_["cmbdetector"].update(change))
    resign(bundle.root)
    with pytest.raises(ModelError, match=words):
        load_anatomy_bundle(bundle.root)


@pytest.mark.parametrize("change", [{"in_channels": 8}, {"out_channels": 23}])
def test_other_numbers_of_channels_are_refused(
    bundle: AnatomyBundle, resign: Callable[[Path], None], change: dict[str, int]
) -> None:
    edit(bundle.root / "configs/inference.json", lambda all_: all_["network_def"].update(change))
    resign(bundle.root)
    with pytest.raises(ModelError, match=next(iter(change))):
        load_anatomy_bundle(bundle.root)


def test_one_kind_is_not_taken_for_the_other(
    bundle: AnatomyBundle, tiny: ModelBundle, folder: Path
) -> None:
    with pytest.raises(ModelError, match=r"finds the regions .* expected one that detects"):
        load_bundle(bundle.root)
    with pytest.raises(ModelError, match=r"detects microbleeds; expected one that finds"):
        load_anatomy_bundle(tiny.root)
    with pytest.raises(ModelError, match=f"such as {DEFAULT_MODEL_ID}"):
        find_bundle(str(bundle.root))
    with pytest.raises(ModelError, match=f"such as {DEFAULT_ANATOMY_ID}"):
        find_anatomy_bundle(str(tiny.root))
    assert find_any_bundle(str(bundle.root)) == bundle
    assert find_any_bundle(str(tiny.root)) == tiny


def test_installed_listed_and_found_by_id(bundle: AnatomyBundle, folder: Path) -> None:
    copy = install_bundle(bundle.root)
    assert copy.root == folder / "brightness"
    assert find_anatomy_bundle("brightness") == copy
    (listing,) = [entry for entry in list_bundles() if entry.source == "user"]
    assert (listing.kind, listing.is_default, listing.bundle) == ("anatomy", False, copy)
    with pytest.raises(ModelError, match="installed already"):
        install_bundle(bundle.root)


def test_only_models_of_the_wanted_kind_are_offered(
    bundle: AnatomyBundle, tiny: ModelBundle, folder: Path
) -> None:
    shutil.copytree(bundle.root, folder / "brightness")
    shutil.copytree(tiny.root, folder / "tiny")
    with pytest.raises(ModelError) as caught:
        find_bundle("nonsense")
    assert "tiny" in str(caught.value)
    assert "brightness" not in str(caught.value)
    with pytest.raises(ModelError) as caught:
        find_anatomy_bundle("nonsense")
    assert "brightness" in str(caught.value)
    assert "tiny" not in str(caught.value)


def test_models_from_before_there_were_kinds_are_detectors(
    tiny: ModelBundle, resign: Callable[[Path], None]
) -> None:
    edit(tiny.root / "configs/metadata.json", lambda all_: all_["cmbdetector"].pop("kind"))
    resign(tiny.root)
    assert load_bundle(tiny.root).id == "tiny"


def test_a_kind_that_is_not_known_is_a_problem_and_no_crash(
    bundle: AnatomyBundle, resign: Callable[[Path], None], folder: Path
) -> None:
    edit(bundle.root / "configs/metadata.json", lambda a: a["cmbdetector"].update(kind="weather"))
    resign(bundle.root)
    shutil.copytree(bundle.root, folder / "brightness")
    (listing,) = [entry for entry in list_bundles() if entry.source == "user"]
    assert listing.bundle is None
    assert "weather" in str(listing.problem)


def test_monai_builds_the_same_network_from_the_bundle(bundle: AnatomyBundle) -> None:
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    parser.read_config(bundle.root / "configs/inference.json")
    parser.read_meta(bundle.root / "configs/metadata.json")
    assert str(parser.get_parsed_content("network_def")) == str(build_network(NETWORK_DEF))
