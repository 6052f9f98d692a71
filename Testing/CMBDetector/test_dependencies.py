"""What is missing, what the user is told, and what an installation asks of pip."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import types
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from CMBDetectorSlicer import dependencies, installation_checks
from CMBDetectorSlicer.dependencies import (
    REQUIREMENTS,
    TO_IMPORT_KERAS,
    SlicerInstaller,
    missingPackages,
    offlineInstructions,
    preflightProblems,
    questionText,
    requirementsNamed,
    slicerConstraints,
)
from CMBDetectorSlicer.environment import Environment, PackageState
from packaging.requirements import Requirement as PipRequirement

from CMBDetectorLib.errors import MissingDependencyError

ROOT = Path(__file__).resolve().parents[2]
BY_NAME = {requirement.name: requirement for requirement in REQUIREMENTS}


def environment(**states: PackageState) -> Environment:
    packages = {item.name: PackageState("99.0", None) for item in REQUIREMENTS}
    named = {name.replace("_", "-"): state for name, state in states.items()}
    return Environment("0", "3.12", packages | named, (), ())


def test_they_are_those_of_the_project():
    tomllib = pytest.importorskip("tomllib", reason="TOML is read by Python 3.11 and later")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = [*project["dependencies"], *project["optional-dependencies"]["inference"]]
    ours = {str(item) for item in REQUIREMENTS}
    # What 3D Slicer brings along is not for us to install.
    assert {text for text in declared if text not in ours} == {"numpy>=1.26", "scipy>=1.11"}
    assert ours <= set(declared)
    assert str(TO_IMPORT_KERAS) in project["optional-dependencies"]["import"]


def test_nothing_is_missing():
    assert missingPackages(environment()) == ()


@pytest.mark.parametrize(
    "state",
    [
        PackageState(None, "not installed"),
        PackageState("99.0", "ImportError: DLL load failed"),
        PackageState("2.3.9", None),
        PackageState("2", None),
    ],
)
def test_absent_damaged_and_too_old(state):
    assert missingPackages(environment(torch=state)) == (BY_NAME["torch"],)


@pytest.mark.parametrize("version", ["2.4", "2.4.0", "2.13.0+cpu", "3.0.0rc1", "2.4.dev0"])
def test_new_enough(version):
    assert missingPackages(environment(torch=PackageState(version, None))) == ()


def test_a_package_that_was_not_looked_at_is_missing():
    found = Environment("0", "3.12", {}, (), ())
    assert missingPackages(found) == REQUIREMENTS


def test_the_question_lists_all_and_says_how_big():
    text = questionText(REQUIREMENTS)
    for item in REQUIREMENTS:
        assert f"•  {item.name} {item.minimum} or later" in text
    assert "About 230 MB will be downloaded, 920 MB on disk." in text
    assert "With an NVIDIA GPU up to 2.8 GB, and 6.6 GB on disk." in text
    assert text.endswith("Install them now?")
    small = questionText([BY_NAME["safetensors"]])
    assert "About 10 MB will be downloaded, 10 MB on disk." in small
    assert "GPU" not in small


def test_the_question_says_what_for():
    assert questionText(REQUIREMENTS).startswith("Searching for microbleeds needs Python packages")
    assert questionText([TO_IMPORT_KERAS], "This").startswith("This needs Python packages")


def test_requirements_by_their_names():
    assert requirementsNamed(["h5py", "torch"]) == (BY_NAME["torch"], TO_IMPORT_KERAS)
    assert requirementsNamed([]) == ()


def test_offline_instructions_can_be_followed():
    text = offlineInstructions()
    assert "python -m pip download --dest packages " in text
    assert f"Python {sys.version_info.major}.{sys.version_info.minor} " in text
    start = text.index("slicer.util.pip_install(") + len("slicer.util.pip_install(")
    words = eval(text[start : text.index(")", start)])
    assert words[:3] == ["--no-index", "--find-links", "FOLDER"]
    assert [str(PipRequirement(word)) for word in words[3:]] == [str(item) for item in REQUIREMENTS]


class TestPreflight:
    def test_here_nothing_speaks_against_it(self, monkeypatch):
        plenty = types.SimpleNamespace(free=1e12)
        monkeypatch.setattr(installation_checks.shutil, "disk_usage", lambda folder: plenty)
        assert preflightProblems() == ()

    def test_a_full_disk(self, monkeypatch):
        nearlyFull = types.SimpleNamespace(free=500e6)
        monkeypatch.setattr(installation_checks.shutil, "disk_usage", lambda folder: nearlyFull)
        (problem,) = preflightProblems()
        assert problem == (
            "The disk of 3D Slicer has 500 MB left, at least 1.2 GB are needed. Free some space."
        )
        assert preflightProblems([BY_NAME["nibabel"]]) == ()

    def test_a_folder_of_somebody_else(self, monkeypatch):
        monkeypatch.setattr(installation_checks.os, "access", lambda folder, mode: False)
        (problem,) = preflightProblems([BY_NAME["nibabel"]])
        assert "cannot be written to" in problem

    def test_a_long_path_on_windows(self, monkeypatch):
        monkeypatch.setattr(installation_checks.sys, "platform", "win32")
        monkeypatch.setattr(installation_checks, "_hasLongPaths", lambda: False)
        short, long = Path("C:/Slicer/lib"), Path("C:/" + "x" * 97)
        assert installation_checks.pathProblem(short) is None
        problem = installation_checks.pathProblem(long)
        assert problem is not None
        assert "100 characters, at most 98" in problem
        monkeypatch.setattr(installation_checks, "_hasLongPaths", lambda: True)
        assert installation_checks.pathProblem(long) is None

    def test_the_extension_that_installs_torch(self, pyTorchExtension, monkeypatch):
        plenty = types.SimpleNamespace(free=1e12)
        monkeypatch.setattr(installation_checks.shutil, "disk_usage", lambda folder: plenty)
        assert preflightProblems(REQUIREMENTS) == ()
        monkeypatch.setattr(dependencies, "PYTORCH_MODULE", "there_is_no_such_extension")
        (problem,) = preflightProblems(REQUIREMENTS)
        assert "Install the PyTorch extension first" in problem


EXTENSION = """\
import os
calls = []

class PyTorchUtilsLogic:
    def installTorch(self, askConfirmation=False, forceComputationBackend=None,
                     torchVersionRequirement=None, torchvisionVersionRequirement=None):
        calls.append((askConfirmation, torchVersionRequirement, os.environ["PIP_CONSTRAINT"]))
        if failure is not None:
            raise failure
        import torch
        return torch

failure = None
"""


@pytest.fixture
def pyTorchExtension(tmp_path, monkeypatch):
    """The extension's module as far as it is used; as the real one, it imports torch at the end."""
    (tmp_path / "PyTorchUtils.py").write_text(EXTENSION, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "PyTorchUtils", raising=False)
    for name in [name for name in sys.modules if name.split(".")[0] == "torch"]:
        monkeypatch.delitem(sys.modules, name)
    import PyTorchUtils

    yield PyTorchUtils
    sys.modules.pop("PyTorchUtils", None)


@pytest.fixture
def pip(app, monkeypatch):
    """What 3D Slicer's pip_install was asked for, and the constraints that held then."""
    import slicer

    calls = []

    def pip_install(words):
        constraints = os.environ["PIP_CONSTRAINT"]
        with urllib.request.urlopen(constraints) as file:
            calls.append((words, file.read().decode()))

    monkeypatch.delenv("PIP_CONSTRAINT", raising=False)
    monkeypatch.setattr(slicer.util, "pip_install", pip_install, raising=False)
    monkeypatch.setitem(sys.modules, "slicer.packaging", None)
    return calls


@pytest.fixture
def nothingInstalled(monkeypatch):
    def version(name):
        if name in BY_NAME:
            raise importlib.metadata.PackageNotFoundError
        return real(name)

    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", version)


def test_torch_through_the_extension_and_never_into_this_process(
    pyTorchExtension, pip, nothingInstalled
):
    SlicerInstaller().install(REQUIREMENTS)
    ((asked, version, constraints),) = pyTorchExtension.calls
    assert (asked, version) == (False, ">=2.4")
    assert constraints.startswith("file://")
    assert "torch" not in sys.modules
    ((words, held),) = pip
    assert words == [str(item) for item in REQUIREMENTS if item.name != "torch"]
    assert held.splitlines() == list(slicerConstraints())
    assert f"numpy=={np.__version__}" in held
    assert "PIP_CONSTRAINT" not in os.environ


def test_constraints_of_the_user_stay(pip, nothingInstalled, monkeypatch, tmp_path):
    seen = []
    import slicer

    monkeypatch.setattr(
        slicer.util, "pip_install", lambda words: seen.append(os.environ["PIP_CONSTRAINT"])
    )
    monkeypatch.setenv("PIP_CONSTRAINT", "mine.txt")
    SlicerInstaller().install([BY_NAME["nibabel"]])
    assert len(seen[0].split()) == 2
    assert seen[0].startswith("mine.txt file://")
    assert os.environ["PIP_CONSTRAINT"] == "mine.txt"


def test_the_constraints_are_what_pip_understands(pip, nothingInstalled, monkeypatch, tmp_path):
    """The real pip, in a folder with a space in its name; nothing is installed."""
    import slicer

    words = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-index", "numpy<1"]
    runs = []

    def pip_install(requirements):
        runs.append(subprocess.run(words, capture_output=True, text=True, check=False))

    folder = tmp_path / "Jane ü Doe"
    folder.mkdir()
    monkeypatch.setattr(slicer.util, "pip_install", pip_install)
    monkeypatch.setattr(dependencies, "makeRunFolder", lambda: folder)
    SlicerInstaller().install([BY_NAME["nibabel"]])
    (run,) = runs
    assert run.returncode != 0
    assert f"(constraint) numpy=={np.__version__}" in run.stdout + run.stderr


def test_a_damaged_package_is_replaced(pip):
    """pip believes that it is there."""
    SlicerInstaller().install([BY_NAME["nibabel"]])
    ((words, _),) = pip
    assert words == ["--force-reinstall", "--no-deps", "nibabel>=5.2"]


def test_with_the_packaging_of_slicer_5_12(pip, nothingInstalled, monkeypatch):
    calls = []
    module = types.ModuleType("slicer.packaging")
    module.pip_ensure = lambda requirements, **options: calls.append((requirements, options))
    monkeypatch.setitem(sys.modules, "slicer.packaging", module)
    SlicerInstaller().install([BY_NAME["nibabel"]])
    assert pip == []
    ((requirements, options),) = calls
    assert requirements == [PipRequirement("nibabel>=5.2")]
    expected = {"prompt_install": False, "prompt_restart": False, "requester": "CMBDetector"}
    assert options == expected


def test_without_the_extension_nothing_is_installed(pip, nothingInstalled, monkeypatch):
    monkeypatch.setattr(dependencies, "PYTORCH_MODULE", "there_is_no_such_extension")
    with pytest.raises(MissingDependencyError, match="Install the PyTorch extension first"):
        SlicerInstaller().install(REQUIREMENTS)
    assert pip == []


@pytest.mark.parametrize(
    "failure",
    [
        subprocess.CalledProcessError(1, ["pip"]),
        RuntimeError("PythonSlicer executable not found"),
        ModuleNotFoundError("No module named 'light_the_torch'", name="light_the_torch"),
        OSError("disk full"),
    ],
)
def test_a_failure_is_told_in_our_words(failure, pyTorchExtension, pip, nothingInstalled):
    pyTorchExtension.failure = failure
    with pytest.raises(MissingDependencyError, match="the installation failed") as caught:
        SlicerInstaller().install(REQUIREMENTS)
    assert type(failure).__name__ in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "torch" not in sys.modules
    assert "PIP_CONSTRAINT" not in os.environ
