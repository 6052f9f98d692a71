"""``cmbdetector info``: versions, processor, devices, and whether they really compute."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess

from CMBDetectorLib.errors import DeviceError
from CMBDetectorLib.preflight import INFERENCE_PACKAGES, is_installed
from CMBDetectorLib.version import __version__

DESCRIPTION = """\
Print versions, what the processor can do and which devices there are; run one small convolution
on each of them. Works without torch, and says what to install."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the subcommand."""
    parser = subparsers.add_parser(
        "info", help="versions, devices and a GPU smoke test", description=DESCRIPTION
    )
    parser.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    """Print it all; returns DeviceError's exit code if a GPU is there and does not compute."""
    from CMBDetectorLib.provenance import library_versions, platform_description

    _print("cmbdetector", __version__)
    _print("platform", platform_description())
    for package, version in library_versions().items():
        _print(package, version)
    missing = [package for package in INFERENCE_PACKAGES if not is_installed(package)]
    if missing:
        _print("missing", ", ".join(missing))
        _print("to install", 'python -m pip install "cmbdetector[inference]"')
        _print("CPU cores", str(os.cpu_count()))
        return 0
    _print_processor()
    return _check_devices()


def _print(name: str, value: str) -> None:
    print(f"{name:<14} {value}", flush=True)


def _print_processor() -> None:
    import torch

    _print("CPU cores", f"{os.cpu_count()}, torch uses {torch.get_num_threads()} threads")
    _print("CPU features", torch.backends.cpu.get_cpu_capability())


def _check_devices() -> int:
    """Describe every device, each after a trial convolution on it."""
    import torch

    from CMBDetectorLib.inference.device import list_devices

    exit_code = 0
    for report in list_devices():
        verdict = "test convolution passed"
        if report.problem is not None:
            verdict = f"test convolution FAILED: {report.problem}"
            exit_code = DeviceError.exit_code
        _print(report.device, f"{report.name}{_details(report.device)}; {report.precision}")
        _print("", verdict)
    if torch.cuda.is_available():
        _print("CUDA", f"{torch.version.cuda}, driver {_driver_version()}")
        _print("torch made for", ", ".join(torch.cuda.get_arch_list()))
    elif torch.version.cuda is not None:
        _print("CUDA", f"{torch.version.cuda} in this torch, but no usable NVIDIA GPU")
    else:
        _print("CUDA", "not in this torch")
    return exit_code


def _details(device: str) -> str:
    if not device.startswith("cuda"):
        return ""
    import torch

    properties = torch.cuda.get_device_properties(device)
    memory_gib = properties.total_memory / 2**30
    return f", sm_{properties.major}{properties.minor}, {memory_gib:.1f} GiB"


def _driver_version() -> str:
    """What nvidia-smi says; torch itself does not tell."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return "unknown (no nvidia-smi)"
    command = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, encoding="utf-8", timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        return f"unknown ({type(error).__name__} from nvidia-smi)"
    return ", ".join(sorted(set(answer.stdout.split())))
