"""``cmbdetector info``: versions, processor, devices, and whether they really compute."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
from dataclasses import asdict
from typing import Any

from CMBDetectorLib.cli.packages import package_state, package_states
from CMBDetectorLib.errors import DeviceError
from CMBDetectorLib.preflight import INFERENCE_PACKAGES, is_installed
from CMBDetectorLib.version import __version__

DESCRIPTION = """\
Print versions, what the processor can do and which devices there are; run one small convolution
on each of them. Works without torch, and says what to install. With --json, every package is really
imported, and the exit code is 0 whatever is missing."""

_GIB = 2**30


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the subcommand."""
    parser = subparsers.add_parser(
        "info", help="versions, devices and a GPU smoke test", description=DESCRIPTION
    )
    parser.add_argument("--json", action="store_true", help="one JSON object, for programs")
    parser.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    """Print it all; returns DeviceError's exit code if a GPU is there and does not compute."""
    if arguments.json:
        print(json.dumps(environment(), ensure_ascii=True), flush=True)
        return 0
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


def environment() -> dict[str, Any]:
    """What is installed, what works, and which devices and models there are, as plain types.

    ``models`` is null where a package that reading them needs is missing.
    """
    packages = package_states()
    return {
        "software": __version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "packages": {name: asdict(state) for name, state in packages.items()},
        "devices": _devices(packages["torch"].problem),
        "models": _models(),
    }


def _devices(torch_problem: str | None) -> list[dict[str, Any]]:
    if torch_problem is not None:
        name = platform.processor() or platform.machine() or "CPU"
        problem = f"torch: {torch_problem}"
        return [_device("cpu", name, _memory_gib("cpu"), problem)]
    from CMBDetectorLib.inference.device import list_devices

    return [
        _device(report.device, report.name, _memory_gib(report.device), report.problem)
        for report in list_devices()
    ]


def _device(
    device: str, name: str, memory_gib: float | None, problem: str | None
) -> dict[str, Any]:
    return {
        "id": device,
        "name": name,
        "memory_gib": memory_gib,
        "works": problem is None,
        "problem": problem,
    }


def _memory_gib(device: str) -> float | None:
    """Memory of a GPU or, where the system tells, of the machine."""
    if device.startswith("cuda"):
        import torch

        return round(float(torch.cuda.get_device_properties(device).total_memory) / _GIB, 1)
    if not {"SC_PAGE_SIZE", "SC_PHYS_PAGES"} <= set(getattr(os, "sysconf_names", ())):
        return None
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / _GIB, 1)


def _models() -> list[dict[str, Any]] | None:
    if package_state("numpy").problem is not None:
        return None
    from CMBDetectorLib.models.library import list_bundles

    return [
        {
            "id": entry.id,
            "kind": entry.kind,
            "source": entry.source,
            "is_default": entry.is_default,
            "version": None if entry.bundle is None else entry.bundle.version,
            "problem": entry.problem,
        }
        for entry in list_bundles()
    ]


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
