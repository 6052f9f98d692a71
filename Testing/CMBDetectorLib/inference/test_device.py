from __future__ import annotations

import platform
import sys
from pathlib import Path

import pytest
import torch

from CMBDetectorLib.errors import DeviceError
from CMBDetectorLib.inference.device import (
    cpu_has_fast_bf16,
    list_devices,
    resolve_device,
    trial_problem,
)

HAS_CUDA = torch.cuda.is_available()
HAS_MPS = torch.backends.mps.is_available()


def test_cpu_is_always_there() -> None:
    compute = resolve_device("cpu", "fp32")
    assert (compute.device, compute.precision, compute.warnings) == ("cpu", "fp32", ())
    assert compute.name
    assert list_devices()[-1].device == "cpu"
    assert list_devices()[-1].problem is None


@pytest.mark.skipif(HAS_CUDA or HAS_MPS, reason="there is a GPU")
def test_auto_without_a_gpu_is_the_cpu_and_no_surprise() -> None:
    compute = resolve_device("auto", "auto")
    assert compute.device == "cpu"
    assert compute.precision == ("bf16" if cpu_has_fast_bf16() else "fp32")
    assert compute.warnings == ()


@pytest.mark.skipif(HAS_CUDA, reason="there is a CUDA GPU")
@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:3"])
def test_cuda_that_is_not_there(device: str) -> None:
    with pytest.raises(DeviceError, match=rf"{device} is not there; there is .*cpu") as caught:
        resolve_device(device, "auto")
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not HAS_CUDA, reason="no CUDA GPU")
def test_cuda_that_is_there() -> None:
    assert resolve_device("cuda", "auto").device == "cuda:0"
    assert resolve_device("auto", "fp32").device == "cuda:0"
    with pytest.raises(DeviceError, match="is not there; there is cuda:0"):
        resolve_device(f"cuda:{torch.cuda.device_count()}", "auto")


@pytest.mark.skipif(HAS_MPS, reason="there is an Apple GPU")
def test_mps_that_is_not_there() -> None:
    with pytest.raises(DeviceError, match="mps is not there"):
        resolve_device("mps", "auto")


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:-1", "CPU", "", "cuda:0;"])
def test_unknown_device(device: str) -> None:
    with pytest.raises(DeviceError, match="unknown device"):
        resolve_device(device, "auto")


def test_fp16_on_a_cpu_is_refused() -> None:
    with pytest.raises(DeviceError, match="fp16 is for GPUs"):
        resolve_device("cpu", "fp16")


def test_bf16_is_taken_with_a_warning_where_it_is_slow() -> None:
    compute = resolve_device("cpu", "bf16")
    assert compute.precision == "bf16"
    codes = [warning.code for warning in compute.warnings]
    assert codes == ([] if cpu_has_fast_bf16() else ["slow-precision"])


@pytest.mark.skipif(
    not sys.platform.startswith("linux") or platform.machine() != "x86_64",
    reason="reads the flags of an x86 Linux kernel",
)
def test_fast_bf16_agrees_with_the_kernel() -> None:
    flags = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    assert cpu_has_fast_bf16() == bool(flags & {"avx512_bf16", "amx_bf16"})


def test_trial_tells_a_device_that_cannot_compute() -> None:
    assert trial_problem("cpu") is None
    # The meta device is known to torch and holds no numbers, as a GPU without kernels.
    assert trial_problem("meta")
