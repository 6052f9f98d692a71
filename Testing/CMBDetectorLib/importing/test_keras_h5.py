"""Keras models in .h5 files, against what TensorFlow computed with them."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from CMBDetectorLib.errors import ModelError
from CMBDetectorLib.importing.hdf5_reading import read_safely
from CMBDetectorLib.importing.keras_h5 import read_keras_h5
from CMBDetectorLib.models.graph import graph_to_json, parse_graph
from CMBDetectorLib.models.graph_network import GraphNetwork

STANDINS = Path(__file__).parent / "standins"
SHAPE = (12, 14, 10)
WITH_OUTPUT = [
    *(
        f"{name}_keras{n}"
        for name in ("v1", "layers", "shared_layer", "sequential")
        for n in (2, 3)
    ),
    "v1_mixed_keras2",
]


def unpacked(name: str, folder: Path) -> Path:
    with zipfile.ZipFile(STANDINS / f"{name}.zip") as archive:
        archive.extract(f"{name}.h5", folder)
    return folder / f"{name}.h5"


def computed(path: Path, image: np.ndarray, **options: object) -> np.ndarray:
    graph, tensors = read_keras_h5(path, **options)
    # As from a bundle: through JSON.
    graph = parse_graph(json.loads(json.dumps(graph_to_json(graph))), "test")
    network = GraphNetwork(graph, {name: torch.from_numpy(a) for name, a in tensors.items()})
    with torch.inference_mode():
        output = network(torch.from_numpy(image.transpose(0, 4, 1, 2, 3).copy()))
    return output.numpy().transpose(0, 2, 3, 4, 1)


@pytest.mark.parametrize("name", WITH_OUTPUT)
def test_same_as_tensorflow(name: str, tmp_path: Path) -> None:
    stored = np.load(STANDINS / f"{name}.npz")

    output = computed(unpacked(name, tmp_path), stored["image"])

    assert output.shape == stored["output"].shape
    assert np.ptp(stored["output"]) > 0.05
    np.testing.assert_allclose(output, stored["output"], rtol=0, atol=1e-5)


def test_an_open_shape_is_that_of_shiva_or_the_one_given(tmp_path: Path) -> None:
    path = unpacked("open_shape_keras2", tmp_path)
    stored = np.load(STANDINS / "open_shape_keras2.npz")

    assert read_keras_h5(path)[0].image_shape == (160, 214, 176, 1)
    output = computed(path, stored["image"], shape=SHAPE)
    np.testing.assert_allclose(output, stored["output"], rtol=0, atol=1e-5)


def test_another_shape_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"takes images of 12x14x10 voxels, expected \(8, 8, 8\)"):
        read_keras_h5(unpacked("v1_keras2", tmp_path), (8, 8, 8))


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("with_lambda", "is a Lambda, whose code is never executed"),
        ("unsupported", "the activation 'hard_sigmoid', which is not supported"),
        ("two_inputs", "the model has 2 inputs, expected one"),
    ],
)
@pytest.mark.parametrize("suffix", ["keras2", "keras3"])
def test_what_is_not_supported_is_named(name: str, suffix: str, told: str, tmp_path: Path) -> None:
    path = unpacked(f"{name}_{suffix}", tmp_path)

    with pytest.raises(ModelError, match=told) as caught:
        read_keras_h5(path)

    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def changed_config(name: str, folder: Path, change: object) -> Path:
    path = unpacked(name, folder)
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        change(config)
        file.attrs["model_config"] = json.dumps(config)
    return path


def test_an_unknown_layer_is_named(tmp_path: Path) -> None:
    def rename(config: dict) -> None:
        config["config"]["layers"][2]["class_name"] = "Novel3D"

    path = changed_config("v1_keras2", tmp_path, rename)

    with pytest.raises(ModelError, match=r"'batch_normalization.*' is a Novel3D, which is not"):
        read_keras_h5(path)


def test_a_network_that_goes_in_circles_is_refused(tmp_path: Path) -> None:
    def turn(config: dict) -> None:
        layers = config["config"]["layers"]
        layers[1]["inbound_nodes"] = [[[layers[3]["name"], 0, 0, {}]]]

    with pytest.raises(ModelError, match="depends on itself"):
        read_keras_h5(changed_config("v1_keras2", tmp_path, turn))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda c: c.update(class_name="Lambda"), "expected Functional or Sequential"),
        (lambda c: c.pop("config"), "not one of Keras"),
        (lambda c: c["config"].update(layers="x"), "no list of layers"),
        (lambda c: c["config"]["layers"].append(3), "expected an object with its settings"),
        (lambda c: c["config"].update(output_layers=[["nowhere", 0, 0]]), "not one of its layers"),
        (lambda c: c["config"].update(output_layers=[["input_1", "0", 0]]), "input is"),
        (lambda c: c["config"]["layers"][1]["config"].update(strides=[0, 1, 1]), "has strides"),
        (lambda c: c["config"]["layers"][1]["config"].update(kernel_size=5), "has kernel of shape"),
        (lambda c: c["config"]["layers"][1]["config"].update(padding="causal"), "has padding"),
        (lambda c: c["config"]["layers"][2]["config"].update(axis=[1]), "normalizes axis"),
        (
            lambda c: c["config"]["layers"][1]["config"].update(data_format="channels_first"),
            "has data_format = channels_first",
        ),
    ],
)
def test_a_wrong_configuration_is_told_in_a_line(change: object, told: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=told) as caught:
        read_keras_h5(changed_config("v1_keras2", tmp_path, change))

    assert "\n" not in str(caught.value)


def test_missing_weights_are_named(tmp_path: Path) -> None:
    path = unpacked("v1_keras2", tmp_path)
    with h5py.File(path, "r+") as file:
        layer = next(name for name in file["model_weights"] if name.startswith("conv3d"))
        file["model_weights"][layer].attrs["weight_names"] = []

    with pytest.raises(ModelError, match=f"the layer '{layer}' has no weights called 'kernel'"):
        read_keras_h5(path)


def test_weights_alone_are_no_model(tmp_path: Path) -> None:
    path = unpacked("v1_keras2", tmp_path)
    with h5py.File(path, "r+") as file:
        del file.attrs["model_config"]

    with pytest.raises(ModelError, match="expected a whole Keras model, not its weights alone"):
        read_keras_h5(path)


def test_links_to_other_files_are_not_followed(tmp_path: Path) -> None:
    path, other = unpacked("v1_keras2", tmp_path), tmp_path / "other.h5"
    shutil.copyfile(path, other)
    with h5py.File(path, "r+") as file:
        del file["model_weights"]
        file["model_weights"] = h5py.ExternalLink("other.h5", "/model_weights")

    with pytest.raises(ModelError, match="'model_weights' points elsewhere"):
        read_keras_h5(path)


def test_data_outside_of_the_file_is_not_read(tmp_path: Path) -> None:
    path = unpacked("v1_keras2", tmp_path)
    (tmp_path / "secret").write_bytes(b"\0" * 4000)
    with h5py.File(path, "r+") as file:
        groups = file["model_weights"]
        layer = next(name for name in groups if name.startswith("conv3d"))
        name = groups[layer].attrs["weight_names"][0]
        shape = groups[layer][name].shape
        del groups[layer][name]
        groups[layer].create_dataset(
            name, shape, "f4", external=[(str(tmp_path / "secret"), 0, 4000)]
        )

    with pytest.raises(ModelError, match="lie outside of the file"):
        read_keras_h5(path)


def test_weights_larger_than_the_file_are_not_read(tmp_path: Path) -> None:
    path = unpacked("v1_keras2", tmp_path)
    with h5py.File(path, "r+") as file:
        groups = file["model_weights"]
        layer = next(name for name in groups if name.startswith("conv3d"))
        name = groups[layer].attrs["weight_names"][0]
        del groups[layer][name]
        groups[layer].create_dataset(name, (3, 3, 3, 4096, 9709), "f4", chunks=True)  # 4 GiB

    with pytest.raises(ModelError, match="are larger than the file"):
        read_keras_h5(path)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.7, 0.99])
def test_a_truncated_file(share: float, tmp_path: Path) -> None:
    path = unpacked("v1_keras2", tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])

    with pytest.raises(ModelError) as caught:
        read_keras_h5(path)

    assert "download it again" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        read_keras_h5(tmp_path / "none.h5")


def test_damage_never_takes_the_process_along(tmp_path: Path) -> None:
    """Some of these crash the HDF5 library, and in some it does not return."""
    path = unpacked("sequential_keras2", tmp_path)
    content = path.read_bytes()
    random = np.random.default_rng(4)
    outcomes = []
    for _ in range(15):
        damaged = bytearray(content)
        for position in random.integers(0, min(len(content), 6000), size=12):
            damaged[position] = random.integers(256)
        path.write_bytes(damaged)
        try:
            read_safely(path, seconds=2)
        except ModelError as error:
            outcomes.append(str(error))

    assert outcomes
    assert all("\n" not in outcome for outcome in outcomes)
