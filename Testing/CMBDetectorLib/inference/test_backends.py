"""OpenVINO beside PyTorch: the same numbers, and the same lesions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from whole_head_model import darkness_graph, darkness_tensors

from CMBDetectorLib.errors import DeviceError, MissingDependencyError
from CMBDetectorLib.inference.backends import OpenVinoNetwork, on_backend
from CMBDetectorLib.inference.device import ComputeDevice, resolve_backend, resolve_device
from CMBDetectorLib.models.bundle import ModelBundle
from CMBDetectorLib.models.graph_network import GraphNetwork
from CMBDetectorLib.models.library import find_bundle
from CMBDetectorLib.models.networks import load_member
from CMBDetectorLib.pipeline import detect
from CMBDetectorLib.settings import DetectionRequest

OPENVINO = ComputeDevice("cpu", "test", "fp32", backend="openvino")


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    pytest.importorskip("openvino", reason="the extra openvino is not installed")


def test_the_bundled_network_gives_the_same() -> None:
    bundle = find_bundle(None)
    network = load_member(bundle, bundle.members[0])
    # More than one shape, one after the other: a result must not change when the next comes.
    images = [torch.randn(n, 1, 48, 48, 16) for n in (2, 1, 2)]

    compiled = OpenVinoNetwork(network, OPENVINO)
    found = [compiled(image) for image in images]

    with torch.inference_mode():
        for image, result in zip(images, found, strict=True):
            torch.testing.assert_close(result, network(image), rtol=1e-4, atol=1e-4)


def test_a_graph_gives_the_same() -> None:
    tensors = {name: torch.from_numpy(a) for name, a in darkness_tensors(30.0).items()}
    network = GraphNetwork(darkness_graph(), tensors).eval()
    image = torch.rand(1, 1, 160, 214, 176)

    found = on_backend(network, OPENVINO)(image)

    with torch.inference_mode():
        torch.testing.assert_close(found, network(image), rtol=0, atol=1e-5)


def test_what_it_cannot_run_is_told() -> None:
    class Odd(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return torch.linalg.qr(image).Q

    with pytest.raises(DeviceError, match="use --backend torch") as caught:
        OpenVinoNetwork(Odd(), OPENVINO)(torch.rand(1, 1, 4, 4, 4))

    assert "\n" not in str(caught.value)


def test_where_memory_runs_out_a_smaller_batch_is_tried() -> None:
    """The network that was compiled for the larger batch is not used for the smaller one."""
    network = OpenVinoNetwork(nn.Conv3d(1, 1, 1), OPENVINO)
    seen = []

    def exhausted(values: np.ndarray) -> None:
        seen.append(values.shape)
        raise RuntimeError("bad allocation: not enough memory")

    network._compiled[(4, 1, 6, 6, 6)] = exhausted

    with pytest.raises(RuntimeError, match="not enough memory"):
        network(torch.rand(4, 1, 6, 6, 6))

    assert seen == [(4, 1, 6, 6, 6)]
    assert network(torch.rand(2, 1, 6, 6, 6)).shape == (2, 1, 6, 6, 6)


def test_the_same_lesions(tiny_scan: object, tiny_bundle: ModelBundle) -> None:
    request = DetectionRequest(
        tiny_scan.image_path, brain_mask_path=tiny_scan.mask_path, anatomy="none", device="cpu"
    )

    by_torch = detect(request, bundle=tiny_bundle)
    by_openvino = detect(
        DetectionRequest(**{**vars(request), "backend": "openvino"}), bundle=tiny_bundle
    )

    assert len(by_torch.detections) == 2
    np.testing.assert_array_equal(by_openvino.label_map.array, by_torch.label_map.array)
    assert by_openvino.provenance.settings["backend"] == "openvino"
    assert "OpenVINO" in by_openvino.provenance.device_name
    assert "openvino" in by_openvino.provenance.library_versions


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "mps"])
def test_it_is_for_cpus(device: str) -> None:
    with pytest.raises(DeviceError, match=f"openvino is for CPUs, got device {device}"):
        resolve_backend(device, "auto", "openvino")


def test_without_it_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "openvino", None)

    with pytest.raises(MissingDependencyError, match=r"cmbdetector\[openvino\]"):
        resolve_backend("auto", "auto", "openvino")


def test_torch_stays_the_default() -> None:
    assert resolve_backend("cpu", "fp32", "torch") == resolve_device("cpu", "fp32")
    assert DetectionRequest(input_path=None).backend == "torch"  # type: ignore[arg-type]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_device_has_its_precision(precision: str) -> None:
    compute = resolve_backend("cpu", precision, "openvino")

    assert (compute.device, compute.backend, compute.precision) == ("cpu", "openvino", precision)


def test_the_command_says_so_before_it_reads(tmp_path: Path) -> None:
    from CMBDetectorLib.cli import main

    image = tmp_path / "scan.nii.gz"
    image.write_bytes(b"not an image")
    options = ["--backend", "openvino", "--device", "cuda", "--progress", "none"]

    assert main(["detect", str(image), "-o", str(tmp_path / "out"), *options]) == 5
