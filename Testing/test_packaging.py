"""What is written about the project beside its code: requirements, package data, sizes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from CMBDetectorLib import __version__

ROOT = Path(__file__).resolve().parents[1]
SUPPORTED_PYTHONS = ("3.10", "3.11", "3.12", "3.13")
EXTRAS = {"evaluation", "inference", "import", "openvino", "training", "slicer", "test"}
MIB = 2**20
TEXT_SUFFIXES = {
    ".cff",
    ".json",
    ".md",
    ".py",
    ".pyi",
    ".toml",
    ".txt",
    ".typed",
    ".yaml",
    ".yml",
    ".ui",
}
TEXT_NAMES = {".gitattributes", ".gitignore", "LICENSE", "Makefile", "SHA256SUMS", "run"}


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def project() -> dict[str, Any]:
    return dict(tomllib.loads(read("pyproject.toml")))


def requirements() -> dict[str, list[Requirement]]:
    """Of each extra, and of the library's core under the empty name; without our own extras."""
    described = project()["project"]
    texts = {"": described["dependencies"], **described["optional-dependencies"]}
    return {
        extra: [wanted for wanted in map(Requirement, lines) if wanted.name != described["name"]]
        for extra, lines in texts.items()
    }


def constraints() -> list[Requirement]:
    lines = (line.partition("#")[0].strip() for line in read("constraints.txt").splitlines())
    return [Requirement(line) for line in lines if line]


def applies(requirement: Requirement, python: str) -> bool:
    """Whether a requirement counts on Linux with this Python."""
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "os_name": "posix",
    }
    return requirement.marker is None or requirement.marker.evaluate(environment)


# Requirements


@pytest.mark.parametrize("python", SUPPORTED_PYTHONS)
def test_every_requirement_has_one_tested_version_within_its_range(python: str) -> None:
    pins = [pin for pin in constraints() if applies(pin, python)]
    for extra, wanted_ones in requirements().items():
        for wanted in wanted_ones:
            if not applies(wanted, python):
                continue
            name = canonicalize_name(wanted.name)
            found = [pin for pin in pins if canonicalize_name(pin.name) == name]
            assert len(found) == 1, f"{wanted} of extra {extra!r} has {len(found)} constraints"
            (exact,) = found[0].specifier
            assert exact.operator == "=="
            assert wanted.specifier.contains(exact.version), f"{found[0]} is outside {wanted}"


def test_constraints_are_exact_and_not_repeated() -> None:
    for python in SUPPORTED_PYTHONS:
        names = [canonicalize_name(pin.name) for pin in constraints() if applies(pin, python)]
        assert sorted(names) == sorted(set(names))
    for pin in constraints():
        assert [clause.operator for clause in pin.specifier] == ["=="]
        assert pin.url is None


def test_the_tested_torch() -> None:
    assert {str(pin) for pin in constraints() if pin.name == "torch"} == {"torch==2.13.0"}


def test_extras() -> None:
    assert set(project()["project"]["optional-dependencies"]) == EXTRAS


def test_the_core_needs_no_deep_learning() -> None:
    core = {canonicalize_name(wanted.name) for wanted in requirements()[""]}
    inference = {canonicalize_name(wanted.name) for wanted in requirements()["inference"]}
    assert inference == {"monai", "safetensors", "torch"}
    assert not core & inference


def test_supported_pythons_begin_where_the_package_does() -> None:
    lowest = project()["project"]["requires-python"]
    assert lowest == f">={SUPPORTED_PYTHONS[0]}"
    assert f"Python {SUPPORTED_PYTHONS[0]} or later" in read("README.md")
    assert f"Python {SUPPORTED_PYTHONS[0]} or later" in read("Makefile")


# What is in the package


def test_resources_are_package_data() -> None:
    data = project()["tool"]["setuptools"]["package-data"]
    for package, patterns in data.items():
        for pattern in patterns:
            assert list((ROOT / package).glob(pattern)), f"{pattern} matches nothing in {package}"
    covered = {
        path
        for pattern in data["CMBDetectorLib"]
        for path in (ROOT / "CMBDetectorLib").glob(pattern)
    }
    resources = (ROOT / "CMBDetectorLib" / "resources").rglob("*")
    assert {path for path in resources if path.is_file()} <= covered


def test_the_command_is_the_library_main() -> None:
    assert project()["project"]["scripts"] == {"cmbdetector": "CMBDetectorLib.cli:main"}


def test_license() -> None:
    first_lines = read("LICENSE").split()
    assert " ".join(first_lines[:4]) == "Apache License Version 2.0,"
    assert project()["project"]["license"] == "Apache-2.0"
    assert "\nlicense: Apache-2.0\n" in read("CITATION.cff")


def test_versions_agree() -> None:
    match = re.search(r"^version: (\S+)$", read("CITATION.cff"), re.MULTILINE)
    assert match is not None
    assert Version(match[1]) == Version(__version__)
    assert __version__ in read("CHANGELOG.md")


# What is tracked


def tracked_files() -> list[Path]:
    try:
        answer = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, encoding="utf-8"
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    files = [ROOT / name for name in answer.stdout.split("\0") if name]
    return [path for path in files if path.is_file()]


def test_tracked_files_are_small_and_of_known_kinds() -> None:
    resources = ROOT / "CMBDetectorLib" / "resources"
    limits = {
        resources / "models": ({".safetensors"}, 16 * MIB),
        resources / "samples": ({".gz"}, 4 * MIB),
        ROOT / "docs" / "images": ({".png", ".svg"}, 2 * MIB),
        ROOT / "CMBDetector" / "Resources" / "Icons": ({".png"}, MIB // 4),
        # Models of other software, with what that computes with them.
        ROOT / "Testing/CMBDetectorLib/importing/standins": ({".zip", ".npz"}, MIB // 8),
    }
    files = tracked_files()
    assert ROOT / "pyproject.toml" in files
    for path in files:
        if path.suffix in TEXT_SUFFIXES or path.name in TEXT_NAMES:
            limit = MIB
        else:
            folder = next((folder for folder in limits if folder in path.parents), None)
            assert folder is not None, f"{path}: a kind of file that is not kept here"
            kinds, limit = limits[folder]
            assert path.suffix in kinds, f"{path}: a kind of file that is not kept there"
        size = path.stat().st_size
        assert size <= limit, f"{path}: {size / MIB:.1f} MiB, at most {limit / MIB:.0f}"


def test_git_never_converts_line_ends_of_hashed_files() -> None:
    assert tracked_files()
    name = "CMBDetectorLib/resources/models/any/configs/metadata.json"
    answer = subprocess.run(
        ["git", "check-attr", "text", "--", name],
        cwd=ROOT,
        capture_output=True,
        check=True,
        encoding="utf-8",
    )
    assert answer.stdout.strip().endswith("text: unset")


def test_tracked_text_is_text() -> None:
    for path in tracked_files():
        if path.suffix in TEXT_SUFFIXES or path.name in TEXT_NAMES:
            assert b"\0" not in path.read_bytes(), f"{path} holds binary data"
