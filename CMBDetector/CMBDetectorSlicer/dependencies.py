"""The Python packages that are needed: which are missing, what they cost, and installing them.

PyTorch is installed by the extension of that name, which picks the build for this computer's GPU.
A plain ``pip install torch`` is not offered instead: on Windows it never uses the GPU, on Linux it
downloads gigabytes for one that may not be there. What 3D Slicer brings along (numpy, scipy,
SimpleITK) is never replaced: the scene's own code runs on it.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import importlib.util
import os
import platform
import re
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from CMBDetectorLib.errors import MissingDependencyError
from CMBDetectorSlicer.installation_checks import (
    pathProblem,
    sizeText,
    spaceProblem,
    writingProblem,
)
from CMBDetectorSlicer.run_folder import makeRunFolder, removeRunFolder

if TYPE_CHECKING:
    from CMBDetectorSlicer.environment import Environment

TORCH = "torch"
PYTORCH_MODULE = "PyTorchUtils"
SEARCHING = "Searching for microbleeds"
FROM_SLICER = ("numpy", "scipy", "SimpleITK")
GET_PYTORCH = (
    "Install the PyTorch extension first: View > Extensions Manager, search for PyTorch, "
    "Install, restart 3D Slicer. Then try again."
)


@dataclass(frozen=True)
class Requirement:
    """A package with its oldest version, and roughly what it costs with all that it needs.

    Megabytes to download and on disk. For PyTorch they are those of the smallest build, for the
    processor, and with an NVIDIA GPU ``gpuDownloadMb`` and ``gpuInstalledMb``.
    """

    name: str
    minimum: str
    downloadMb: float
    installedMb: float
    gpuDownloadMb: float = 0.0
    gpuInstalledMb: float = 0.0

    def __str__(self) -> str:
        """As pip takes it."""
        return f"{self.name}>={self.minimum}"


REQUIREMENTS = (
    Requirement(TORCH, "2.4", 200, 800, gpuDownloadMb=2800, gpuInstalledMb=6500),
    Requirement("monai", "1.4", 2, 12),
    Requirement("safetensors", "0.4", 1, 2),
    Requirement("nibabel", "5.2", 4, 13),
    Requirement("pillow", "10.1", 7, 20),
    Requirement("pynrrd", "1.0", 1, 1),
    Requirement("scikit-image", "0.22", 18, 75),
)
TO_IMPORT_KERAS = Requirement("h5py", "3.10", 5, 18)


def missingPackages(environment: Environment) -> tuple[Requirement, ...]:
    """Those that are not there, too old, or cannot be imported."""
    missing = []
    for requirement in REQUIREMENTS:
        state = environment.packages.get(requirement.name)
        isUsable = state is not None and state.version is not None and state.problem is None
        if not isUsable or _isOlder(state.version or "", requirement.minimum):
            missing.append(requirement)
    return tuple(missing)


def requirementsNamed(names: Sequence[str]) -> tuple[Requirement, ...]:
    """Those of these names, also of what only an import needs."""
    return tuple(item for item in (*REQUIREMENTS, TO_IMPORT_KERAS) if item.name in names)


def askToInstall(
    missing: Sequence[Requirement], ask: Callable[[str], bool], purpose: str = SEARCHING
) -> None:
    """Ask the user whether these may be installed.

    Raises
    ------
    MissingDependencyError
        If that would fail, or the user does not want it.
    """
    problems = preflightProblems(missing)
    if problems:
        raise MissingDependencyError(" ".join(problems))
    if not ask(questionText(missing, purpose)):
        names = ", ".join(requirement.name for requirement in missing)
        raise MissingDependencyError(
            f"these Python packages are needed and were not installed: {names}. "
            f"{offlineInstructions(missing)}"
        )


def questionText(missing: Sequence[Requirement], purpose: str = SEARCHING) -> str:
    """What will be installed, for what, and what it costs, ending in a question."""
    lines = "\n".join(f"  •  {item.name} {item.minimum} or later" for item in missing)
    download = sizeText(sum(item.downloadMb for item in missing))
    installed = sizeText(sum(item.installedMb for item in missing))
    gpu = ""
    if any(item.gpuDownloadMb for item in missing):
        most = sum(item.gpuDownloadMb or item.downloadMb for item in missing)
        disk = sum(item.gpuInstalledMb or item.installedMb for item in missing)
        gpu = f" With an NVIDIA GPU up to {sizeText(most)}, and {sizeText(disk)} on disk."
    return (
        f"{purpose} needs Python packages that are missing here:\n\n"
        f"{lines}\n\n"
        f"About {download} will be downloaded, {installed} on disk.{gpu}\n\n"
        "They are installed into 3D Slicer's own Python. This takes minutes, in which 3D Slicer "
        "does not respond. Save your work first.\n\n"
        "Install them now?"
    )


def offlineInstructions(missing: Sequence[Requirement] = REQUIREMENTS) -> str:
    """How to install on a computer without a connection."""
    names = " ".join(f'"{item}"' for item in missing)
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return (
        f"Without an internet connection: on another computer with {platform.system()} and Python "
        f"{python} run: python -m pip download --dest packages {names}. Copy the folder here, and "
        "in 3D Slicer's Python console run: slicer.util.pip_install(['--no-index', "
        f"'--find-links', 'FOLDER', {', '.join(repr(str(item)) for item in missing)}]), with the "
        "folder's path for FOLDER."
    )


def preflightProblems(missing: Sequence[Requirement] = ()) -> tuple[str, ...]:
    """Why an installation would fail, each with what to do; empty if nothing speaks against it."""
    folder = Path(sysconfig.get_paths()["purelib"])
    # pip unpacks what it has downloaded beside it.
    neededMb = sum(item.downloadMb + item.installedMb for item in missing or REQUIREMENTS)
    found = (pathProblem(folder), writingProblem(folder), spaceProblem(folder, neededMb))
    problems = [problem for problem in found if problem]
    if any(item.name == TORCH for item in missing) and not hasPyTorchExtension():
        problems.append(GET_PYTORCH)
    return tuple(problems)


def hasPyTorchExtension() -> bool:
    """Whether the extension that installs PyTorch is there."""
    return importlib.util.find_spec(PYTORCH_MODULE) is not None


class Installer(Protocol):
    """Installs packages; shows nothing and asks nothing."""

    def install(self, missing: Sequence[Requirement]) -> None:
        """Install them all; MissingDependencyError, with the reason, if that fails."""
        ...


class SlicerInstaller:
    """Installs into the Python of the 3D Slicer that runs this; on the main thread, which waits."""

    def install(self, missing: Sequence[Requirement]) -> None:
        """As :meth:`Installer.install`."""
        others = [item for item in missing if item.name != TORCH]
        torch = [item for item in missing if item.name == TORCH]
        if torch and not hasPyTorchExtension():
            raise MissingDependencyError(f"PyTorch is not installed. {GET_PYTORCH}")
        with _constraints(), _failuresAsOurs():
            for item in torch:
                _installTorch(item)
            _installOthers(others)
        importlib.invalidate_caches()


def _installTorch(requirement: Requirement) -> None:
    import PyTorchUtils

    logic = PyTorchUtils.PyTorchUtilsLogic()
    with _withoutImporting(TORCH):
        logic.installTorch(
            askConfirmation=False, torchVersionRequirement=f">={requirement.minimum}"
        )


def _installOthers(requirements: Sequence[Requirement]) -> None:
    import slicer

    # pip believes that a package is there whose files are damaged.
    damaged = [str(item) for item in requirements if _isSatisfiedOnPaper(item)]
    absent = [str(item) for item in requirements if not _isSatisfiedOnPaper(item)]
    if damaged:
        slicer.util.pip_install(["--force-reinstall", "--no-deps", *damaged])
    if not absent:
        return
    try:
        from slicer.packaging import pip_ensure
    except ImportError:  # before 3D Slicer 5.12
        slicer.util.pip_install(absent)
        return
    from packaging.requirements import Requirement as PipRequirement

    pip_ensure(
        [PipRequirement(text) for text in absent],
        prompt_install=False,
        prompt_restart=False,
        requester="CMBDetector",
    )


@contextlib.contextmanager
def _constraints() -> Iterator[None]:
    """While this is open, every pip keeps what 3D Slicer brings along as it is.

    The environment variable also reaches the pip that the PyTorch extension starts. Its value is a
    URL, because pip splits it at spaces.
    """
    folder = makeRunFolder()
    variable = "PIP_CONSTRAINT"
    before = os.environ.get(variable)
    file = folder / "constraints.txt"
    file.write_text("".join(f"{line}\n" for line in slicerConstraints()), encoding="utf-8")
    os.environ[variable] = " ".join(part for part in (before, file.as_uri()) if part)
    try:
        yield
    finally:
        if before is None:
            del os.environ[variable]
        else:
            os.environ[variable] = before
        removeRunFolder(folder)


def slicerConstraints() -> tuple[str, ...]:
    """Lines for pip that hold on to the packages of 3D Slicer itself."""
    lines = []
    for name in FROM_SLICER:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            lines.append(f"{name}=={importlib.metadata.version(name)}")
    return tuple(lines)


@contextlib.contextmanager
def _withoutImporting(name: str) -> Iterator[None]:
    """Let an import of this module fail, and take that for success.

    The PyTorch extension imports torch into 3D Slicer's process once it has installed it. Whether
    it works is found out in a child process, which may crash.
    """
    if name in sys.modules:  # another extension did it; a second import changes nothing
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
    finally:
        del sys.modules[name]


@contextlib.contextmanager
def _failuresAsOurs() -> Iterator[None]:
    try:
        yield
    except (subprocess.CalledProcessError, ImportError, OSError, RuntimeError, ValueError) as error:
        raise MissingDependencyError(
            f"the installation failed ({type(error).__name__}: {_firstLine(error)}); the Python "
            "console of 3D Slicer shows why. Check the internet connection and try again"
        ) from error


def _isSatisfiedOnPaper(requirement: Requirement) -> bool:
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return not _isOlder(version, requirement.minimum)


def _isOlder(version: str, minimum: str) -> bool:
    return _release(version) < _release(minimum)


def _release(version: str) -> tuple[int, ...]:
    """The numbers at the start of a version: ``2.13.0+cpu`` gives (2, 13, 0)."""
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in match[0].split(".")) if match else ()


def _firstLine(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else "no message"
