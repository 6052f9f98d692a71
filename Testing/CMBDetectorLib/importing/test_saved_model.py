"""TensorFlow SavedModels, against what TensorFlow computed with them; and damaged ones."""

from __future__ import annotations

import contextlib
import json
import tempfile
import tracemalloc
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from crafted_saved_models import assert_refused
from hypothesis import given, settings
from hypothesis import strategies as st

from CMBDetectorLib.errors import ModelError
from CMBDetectorLib.importing.saved_model import DEFAULT_SHAPE, read_saved_model
from CMBDetectorLib.models.graph import graph_to_json, parse_graph
from CMBDetectorLib.models.graph_network import GraphNetwork

STANDINS = Path(__file__).parent / "standins"
WITH_OUTPUT = (
    "resunet",
    "every_layer",
    "mixed_precision",
    "direct",
    "plain_module",
    "repeat_module",
)


def unpacked(name: str, folder: Path) -> Path:
    with zipfile.ZipFile(STANDINS / f"saved_{name}.zip") as archive:
        archive.extractall(folder)
    return folder / name


def computed(
    folder: Path, image: np.ndarray, image_shape: tuple[int, int, int] | None = None
) -> np.ndarray:
    graph, tensors = read_saved_model(folder, image_shape)
    # As from a bundle: through JSON.
    graph = parse_graph(json.loads(json.dumps(graph_to_json(graph))), "test")
    network = GraphNetwork(graph, {name: torch.from_numpy(a) for name, a in tensors.items()})
    with torch.inference_mode():
        output = network(torch.from_numpy(image.transpose(0, 4, 1, 2, 3).copy()))
    return output.numpy().transpose(0, 2, 3, 4, 1)


# What TensorFlow wrote


@pytest.mark.parametrize("name", WITH_OUTPUT)
def test_same_as_tensorflow(name: str, tmp_path: Path) -> None:
    stored = np.load(STANDINS / f"saved_{name}.npz")
    image, expected = stored["input"], stored["output"]

    output = computed(unpacked(name, tmp_path), image, image.shape[1:4])

    assert output.shape == expected.shape
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(output, expected, rtol=0, atol=1e-5)


def operations(name: str, folder: Path) -> Counter[str]:
    graph, _ = read_saved_model(unpacked(name, folder))
    return Counter(one.op for one in graph.nodes)


def test_norms_are_folded_and_repeats_recognised(tmp_path: Path) -> None:
    assert operations("resunet", tmp_path) == {
        "conv": 17,
        "silu": 11,
        "add": 5,
        "repeat": 3,
        "concat": 2,
        "max_pool": 1,
        "conv_transpose": 1,
        "slice": 1,
        "pad": 1,
        "sigmoid": 1,
    }
    found = operations("repeat_module", tmp_path)
    assert (found["repeat"], found["concat"], found["slice"]) == (3, 0, 1)


def test_open_shape(tmp_path: Path) -> None:
    folder = unpacked("plain_module", tmp_path)

    assert read_saved_model(folder)[0].image_shape == (*DEFAULT_SHAPE, 1)
    assert read_saved_model(folder, (6, 7, 5))[0].image_shape == (6, 7, 5, 1)


def test_shape_that_the_model_does_not_take(tmp_path: Path) -> None:
    folder = unpacked("repeat_module", tmp_path)

    assert read_saved_model(folder)[0].image_shape == (15, 18, 11, 1)
    with pytest.raises(ModelError, match=r"expected \(1, 16, 18, 11, channels\)"):
        read_saved_model(folder, (16, 18, 11))


def test_tensors_can_be_written_to(tmp_path: Path) -> None:
    _, tensors = read_saved_model(unpacked("resunet", tmp_path))

    assert all(array.flags.writeable and array.dtype == np.float32 for array in tensors.values())


def test_what_is_not_supported_is_named(tmp_path: Path) -> None:
    assert_refused(unpacked("unsupported", tmp_path), "'Lgamma'", "not supported", "please report")
    assert_refused(unpacked("loop", tmp_path), "'StatelessWhile' (node 'while')", "not supported")


def test_missing_and_cut_files(tmp_path: Path) -> None:
    folder = unpacked("resunet", tmp_path)
    graph, shard = folder / "saved_model.pb", folder / "variables/variables.data-00000-of-00001"
    data, numbers = graph.read_bytes(), shard.read_bytes()
    for n in (0, 1, 100, 5000, len(data) // 2, len(data) - 1):
        graph.write_bytes(data[:n])
        assert_refused(folder)
    graph.write_bytes(data)
    shard.write_bytes(numbers[:-5])
    assert_refused(folder, "variables.data-00000-of-00001", "cut off")
    shard.write_bytes(bytes(len(numbers)))
    assert_refused(folder, "variables.data-00000-of-00001", "checksum")
    shard.unlink()
    assert_refused(folder, "variables.data-00000-of-00001", "No such file")
    graph.unlink()
    assert_refused(folder, "saved_model.pb cannot be read")


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(["plain_module", "repeat_module"]), st.data())
def test_damaged_graph_is_read_or_refused(name: str, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = unpacked(name, Path(scratch))
        path = folder / "saved_model.pb"
        changed = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(1, 6))):
            place = data.draw(st.integers(0, len(changed) - 1))
            changed[place] = data.draw(st.integers(0, 255))
        path.write_bytes(changed)
        tracemalloc.start()
        with contextlib.suppress(ModelError):
            read_saved_model(folder, (15, 18, 11))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 20 * len(changed) + 4 * 2**20
