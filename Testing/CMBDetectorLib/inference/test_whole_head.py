"""Networks that see the whole head, one after the other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from whole_head_model import DARKNESS, SHAPE, write_darkness

from CMBDetectorLib.errors import DeviceError, ModelError
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.inference import whole_head
from CMBDetectorLib.inference.device import ComputeDevice
from CMBDetectorLib.inference.whole_head import predict_whole_head
from CMBDetectorLib.models.checksums import write_sums
from CMBDetectorLib.models.library import find_detector, load_any_bundle
from CMBDetectorLib.models.whole_head_bundle import WholeHeadBundle, load_whole_head_bundle
from CMBDetectorLib.progress import PartOfStage, ProgressReporter
from CMBDetectorLib.volume import Volume

FP32 = ComputeDevice("cpu", "test", "fp32")
REPORTER = PartOfStage(ProgressReporter({"inference": 1.0}), 0, 1)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> WholeHeadBundle:
    return write_darkness(tmp_path_factory.mktemp("models") / "dark")


def image(shape: tuple[int, int, int] = SHAPE) -> Volume:
    array = np.random.default_rng(1).random(shape, dtype=np.float32)
    return Volume(array, Geometry(shape, np.eye(4)))


def test_one_output_for_each_network(bundle: WholeHeadBundle) -> None:
    given = image()

    outputs, statistics = predict_whole_head(given, bundle, FP32, REPORTER)

    for output, steepness in zip(outputs, (30.0, 20.0), strict=True):
        expected = 1 / (1 + np.exp(-steepness * (DARKNESS - given.array.astype(np.float64))))
        assert output.dtype == np.float32
        np.testing.assert_allclose(output, expected, rtol=0, atol=1e-6)
    assert statistics == {"members": 2, "shape": list(SHAPE)}


def test_another_shape_is_refused(bundle: WholeHeadBundle) -> None:
    with pytest.raises(ModelError, match=r"takes images of \(160, 214, 176\), got \(20, 20, 20\)"):
        predict_whole_head(image((20, 20, 20)), bundle, FP32, REPORTER)


def test_too_little_memory_is_told(
    bundle: WholeHeadBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*_: object) -> None:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(whole_head, "load_graph_member", exhausted)
    with pytest.raises(DeviceError, match="not enough memory for the model dark"):
        predict_whole_head(image(), bundle, FP32, REPORTER)


def test_a_defect_is_no_lack_of_memory(
    bundle: WholeHeadBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("something else")

    monkeypatch.setattr(whole_head, "load_graph_member", broken)
    with pytest.raises(RuntimeError, match="something else"):
        predict_whole_head(image(), bundle, FP32, REPORTER)


def test_tf32_is_off_while_it_computes_and_back_after(
    bundle: WholeHeadBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    load = whole_head.load_graph_member

    def watched(*arguments: object) -> object:
        network = load(*arguments)
        network.register_forward_pre_hook(
            lambda *_: seen.append(
                (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32)
            )
        )
        return network

    monkeypatch.setattr(whole_head, "load_graph_member", watched)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    predict_whole_head(image(), bundle, FP32, REPORTER)

    assert seen == [(False, False)] * 2
    assert torch.backends.cudnn.allow_tf32


def test_weights_keep_their_precision(bundle: WholeHeadBundle) -> None:
    stored = load_file(bundle.members[0])

    assert {array.dtype for array in stored.values()} == {np.dtype(np.float32)}


def test_a_bundle_is_found_as_what_it_is(
    bundle: WholeHeadBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CMBDETECTOR_MODELS", str(bundle.root.parent))

    assert find_detector("dark") == bundle == load_any_bundle(bundle.root)
    assert bundle.training_range is None


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('"masking": "output"', '"masking": "both"', "masking is 'both'"),
        ('"variant": "whole_head"', '"variant": "half_head"', "half_head"),
        ('"min_voxels": 1', '"min_voxels": 0', "min_voxels is 0"),
        ('"threshold": 0.5', '"threshold": 0', "threshold is 0"),
        ('"clip": 1.3', '"clip": "1.3"', "clip is '1.3'"),
    ],
)
def test_a_wrong_setting_is_refused(old: str, new: str, told: str, tmp_path: object) -> None:
    root = write_darkness(tmp_path / "dark", steepnesses=(30.0,)).root
    path = root / "configs" / "metadata.json"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    write_sums(root)

    with pytest.raises(ModelError, match=told) as caught:
        load_whole_head_bundle(root)
    assert "\n" not in str(caught.value)


def test_weights_that_are_not_numbers_are_refused(tmp_path: object) -> None:
    bundle = write_darkness(tmp_path / "dark", steepnesses=(30.0,))
    tensors = load_file(bundle.members[0])
    tensors["gain"] = np.full_like(tensors["gain"], np.nan)
    save_file(tensors, bundle.members[0])
    write_sums(bundle.root)

    with pytest.raises(ModelError, match="gain holds values that are not finite"):
        predict_whole_head(image(), load_whole_head_bundle(bundle.root), FP32, REPORTER)


def test_a_result_that_is_not_finite_is_an_error(tmp_path: object) -> None:
    bundle = write_darkness(tmp_path / "dark", steepnesses=(30.0,))
    given = image()
    given.array[0, 0, 0] = np.nan

    with pytest.raises(DeviceError, match="not finite in fp32"):
        predict_whole_head(given, bundle, replace(FP32), REPORTER)
