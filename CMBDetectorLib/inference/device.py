"""The one decision on which device a run computes, and in which precision.

Nothing is swapped silently. What was asked for and is not there is an error; what was left to
the software and turned out otherwise than a user would expect is a warning in the result.
"""

from __future__ import annotations

import platform
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812 (the name everybody knows it by)

from CMBDetectorLib.errors import DeviceError, MissingDependencyError
from CMBDetectorLib.results import ResultWarning
from CMBDetectorLib.settings import Backend, Precision

FixedPrecision = Literal["fp32", "bf16", "fp16"]

DTYPES: dict[FixedPrecision, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}
_OUT_OF_MEMORY_MESSAGES = ("out of memory", "not enough memory", "can't allocate memory")
_CUDA_NAME = re.compile(r"cuda(?::(\d{1,3}))?")


@dataclass(frozen=True)
class ComputeDevice:
    """Where and how the networks run.

    ``device`` is a name torch takes (``cpu``, ``cuda:0``, ``mps``), ``name`` is for people,
    ``precision`` that of weights and activations; probabilities are always averaged in float32.
    ``backend`` computes the networks that find microbleeds.
    """

    device: str
    name: str
    precision: FixedPrecision
    warnings: tuple[ResultWarning, ...] = ()
    backend: Backend = "torch"


@dataclass(frozen=True)
class DeviceReport:
    """A device torch knows of; ``problem`` says why it cannot be used, None if it can."""

    device: str
    name: str
    precision: FixedPrecision
    problem: str | None


def resolve_device(device: str, precision: Precision) -> ComputeDevice:
    """Decide on device and precision.

    Parameters
    ----------
    device
        ``auto`` takes the first CUDA GPU that passes a trial convolution, else Apple's GPU if it
        does, else the CPU. ``cpu``, ``cuda`` (the first), ``cuda:N`` and ``mps`` are taken or
        refused.
    precision
        ``auto`` takes bf16 on CPUs with AMX or AVX512-bf16 and on GPUs of compute capability 8.0
        or later, fp16 on GPUs of capability 7, else fp32. A precision that the device computes
        correctly but slowly is taken with a warning; one that it cannot compute is refused, and
        so is fp16 on a CPU.

    Raises
    ------
    DeviceError
        If the device or the precision asked for is not there; the message says what is.
    """
    warnings: list[ResultWarning] = []
    chosen = _choose(warnings) if device == "auto" else _requested(device)
    kind = torch.device(chosen).type
    automatic = _automatic_precision(chosen)
    if precision == "auto":
        return ComputeDevice(chosen, _device_name(chosen), automatic, tuple(warnings))
    if kind == "cpu" and precision == "fp16":
        raise DeviceError(
            "precision fp16 is for GPUs, got device cpu; use --precision auto, bf16 or fp32"
        )
    problem = trial_problem(chosen, precision)
    if problem is not None:
        raise DeviceError(f"{chosen} cannot compute in {precision} ({problem}); use fp32")
    if precision == "bf16" and automatic != "bf16" and kind in {"cpu", "cuda"}:
        warnings.append(
            ResultWarning(
                "slow-precision",
                f"{_device_name(chosen)} has no bf16 arithmetic of its own; bf16 was computed as "
                f"asked for, slower than {automatic}",
            )
        )
    return ComputeDevice(chosen, _device_name(chosen), precision, tuple(warnings))


def resolve_backend(device: str, precision: Precision, backend: Backend) -> ComputeDevice:
    """Decide on device and precision for a backend; OpenVINO computes on the CPU only.

    Raises
    ------
    DeviceError
        As :func:`resolve_device`; also if another device is asked for with OpenVINO.
    MissingDependencyError
        If OpenVINO is asked for and not installed.
    """
    if backend == "torch":
        return resolve_device(device, precision)
    if device not in {"auto", "cpu"}:
        raise DeviceError(
            f"the backend openvino is for CPUs, got device {device}; use --device cpu or "
            "--backend torch"
        )
    try:
        import openvino
    except ImportError as error:
        raise MissingDependencyError(
            "the backend openvino needs the package openvino, not installed here; "
            'install with: python -m pip install "cmbdetector[openvino]"'
        ) from error
    compute = resolve_device("cpu", precision)
    name = f"{compute.name}, OpenVINO {openvino.__version__.split('-')[0]}"
    return replace(compute, name=name, backend="openvino")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch or NumPy means that memory ran out."""
    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
        return True
    message = str(error).lower()
    return isinstance(error, RuntimeError) and any(m in message for m in _OUT_OF_MEMORY_MESSAGES)


def list_devices() -> tuple[DeviceReport, ...]:
    """Every device torch knows of, each after a trial convolution; the CPU comes last."""
    return tuple(
        DeviceReport(
            device, _device_name(device), _automatic_precision(device), trial_problem(device)
        )
        for device in [*_gpu_names(), "cpu"]
    )


def trial_problem(device: str, precision: FixedPrecision = "fp32") -> str | None:
    """Run one small 3D convolution; None if it gives the right number, else what went wrong.

    A GPU that is visible may still be too old for the kernels in the installed torch, which only
    running one of them tells.
    """
    try:
        with torch.inference_mode():
            ones = torch.ones(1, 1, 4, 4, 4, device=device, dtype=DTYPES[precision])
            total = float(F.conv3d(ones, ones[:, :, :3, :3, :3]).float().sum().cpu())
    except (RuntimeError, AssertionError, TypeError) as error:
        # A kernel that is missing, a driver that is too old, a type that is not supported.
        return (str(error).strip() or type(error).__name__).splitlines()[0]
    return None if total == 8 * 27 else f"a trial convolution gave {total}, expected {8 * 27}"


def cpu_has_fast_bf16() -> bool:
    """Whether this CPU multiplies bf16 in hardware (AMX or AVX512-bf16) and torch can use it."""
    if platform.machine().lower() not in {"x86_64", "amd64"}:
        return False
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    # Not torch.ops.mkldnn._is_mkldnn_bf16_supported: that is true of CPUs that only emulate it.
    queries = [
        getattr(torch.cpu, name, None)
        for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    ]
    known = [query for query in queries if callable(query)]
    if len(known) == len(queries):
        return any(bool(query()) for query in known)
    return bool({"avx512_bf16", "amx_bf16"} & _linux_cpu_flags())


def _choose(warnings: list[ResultWarning]) -> str:
    """The first GPU that works, else the CPU, with a warning for each GPU that does not."""
    for gpu in _gpu_names():
        problem = trial_problem(gpu)
        if problem is None:
            return gpu
        warnings.append(
            ResultWarning("gpu-not-used", f"{_device_name(gpu)} ({gpu}) was not used: {problem}")
        )
    return "cpu"


def _requested(device: str) -> str:
    match = _CUDA_NAME.fullmatch(device)
    if device not in {"cpu", "mps"} and match is None:
        raise DeviceError(f"unknown device {device!r}; expected auto, cpu, cuda, cuda:N or mps")
    chosen = f"cuda:{int(match[1] or 0)}" if match else device
    there = [*_gpu_names(), "cpu"]
    if chosen not in there:
        raise DeviceError(
            f"device {device} is not there; there is {', '.join(there)}{_why_no_cuda(chosen)}"
        )
    problem = trial_problem(chosen)
    if problem is not None:
        raise DeviceError(
            f"device {device} ({_device_name(chosen)}) cannot run a convolution ({problem}); "
            "use --device cpu, or install a torch made for this GPU"
        )
    return chosen


def _why_no_cuda(device: str) -> str:
    if device.startswith("cuda") and torch.version.cuda is None and torch.version.hip is None:
        return f" (torch {torch.__version__} is installed without CUDA)"
    return ""


def _gpu_names() -> list[str]:
    names = []
    if torch.cuda.is_available():
        names += [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        names.append("mps")
    return names


def _automatic_precision(device: str) -> FixedPrecision:
    target = torch.device(device)
    if target.type == "cpu":
        return "bf16" if cpu_has_fast_bf16() else "fp32"
    if target.type == "cuda":
        generation, _ = torch.cuda.get_device_capability(target)
        if generation >= 8:
            return "bf16"
        return "fp16" if generation == 7 else "fp32"
    return "fp32"


def _device_name(device: str) -> str:
    target = torch.device(device)
    if target.type == "cuda":
        return str(torch.cuda.get_device_name(target))
    if target.type == "mps":
        return f"Apple GPU ({platform.machine()})"
    return f"{_cpu_name()}, {torch.get_num_threads()} threads"


def _cpu_name() -> str:
    for line in _linux_cpu_lines():
        key, _, value = line.partition(":")
        if key.strip() == "model name" and value.strip():
            return value.strip()
    return platform.processor() or platform.machine() or "CPU"


def _linux_cpu_flags() -> set[str]:
    for line in _linux_cpu_lines():
        key, _, value = line.partition(":")
        if key.strip() == "flags":
            return set(value.split())
    return set()


def _linux_cpu_lines() -> list[str]:
    path = Path("/proc/cpuinfo")
    if not sys.platform.startswith("linux") or not path.is_file():
        return []
    return path.read_text(encoding="utf-8", errors="replace").splitlines()
