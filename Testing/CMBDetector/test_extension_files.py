"""What the extension installs, its description, and its entry in the index of extensions.

The CMake files are run by CMake itself, with stand-ins for the few commands that need 3D Slicer's
build; that part is skipped without CMake.
"""

from __future__ import annotations

import json
import re
import shutil
import struct
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULE, LIBRARY = ROOT / "CMBDetector", ROOT / "CMBDetectorLib"
SCHEMA = (
    "https://raw.githubusercontent.com/Slicer/Slicer/main/Schemas/"
    "slicer-extension-catalog-entry-schema-v1.0.1.json#"
)
SCHEMA_KEYS = {"$schema", "category", "scm_url", "scm_revision", "scm_type"}
SCHEMA_KEYS |= {"build_dependencies", "build_subdirectory", "enabled", "tier"}

# Written after Slicer's SlicerMacroBuildScriptedModule and ctkMacroCompilePythonScript: what they
# check and where they install to, without building anything.
STAND_INS = """
cmake_minimum_required(VERSION 3.16)
file(WRITE "${OUT}" "")
file(WRITE "${OUT}.empty" "")
foreach(name Slicer_USE_FILE Slicer_EXTENSION_GENERATE_CONFIG Slicer_EXTENSION_CPACK)
  set(${name} "${OUT}.empty")
endforeach()
set(BUILD_TESTING ON)

macro(project name)
  set(PROJECT_NAME ${name})
  file(APPEND "${OUT}" "project=${name}\\n")
endmacro()

macro(find_package)
  file(APPEND "${OUT}" "package=${ARGV0}\\n")
endmacro()

function(add_subdirectory folder)
  set(CMAKE_CURRENT_SOURCE_DIR "${CMAKE_CURRENT_SOURCE_DIR}/${folder}")
  include("${CMAKE_CURRENT_SOURCE_DIR}/CMakeLists.txt")
endfunction()

function(slicer_add_python_unittest)
  cmake_parse_arguments(MY "" "TESTNAME_PREFIX;SCRIPT" "SLICER_ARGS" ${ARGN})
  if(NOT EXISTS "${CMAKE_CURRENT_SOURCE_DIR}/${MY_SCRIPT}")
    message(FATAL_ERROR "no such test: ${MY_SCRIPT}")
  endif()
  file(APPEND "${OUT}" "test=${MY_SCRIPT}\\n")
endfunction()

function(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(MY "WITH_GENERIC_TESTS;WITH_SUBDIR;VERBOSE" "NAME" "SCRIPTS;RESOURCES"
    ${ARGN})
  if(MY_UNPARSED_ARGUMENTS OR NOT MY_NAME)
    message(FATAL_ERROR "wrong arguments: ${ARGN}")
  endif()
  set(place "")
  if(MY_WITH_SUBDIR)
    get_filename_component(place "${CMAKE_CURRENT_SOURCE_DIR}" NAME)
    set(place "${place}/")
  endif()
  if(MY_WITH_GENERIC_TESTS)
    file(APPEND "${OUT}" "test=generic ${MY_NAME}\\n")
  endif()
  foreach(script IN LISTS MY_SCRIPTS)
    if(NOT script MATCHES "[.]py$")
      message(FATAL_ERROR "not a Python file: ${script}")
    endif()
  endforeach()
  foreach(file IN LISTS MY_SCRIPTS MY_RESOURCES)
    if(NOT EXISTS "${CMAKE_CURRENT_SOURCE_DIR}/${file}")
      message(FATAL_ERROR "no such file: ${file}")
    endif()
    file(APPEND "${OUT}" "install=${place}${file}\\n")
  endforeach()
endfunction()

set(CMAKE_CURRENT_SOURCE_DIR "${ROOT}")
include("${ROOT}/CMakeLists.txt")
foreach(name HOMEPAGE CONTRIBUTORS DESCRIPTION ICONURL SCREENSHOTURLS DEPENDS LICENSE_FILE
    README_FILE)
  file(APPEND "${OUT}" "extension ${name}=${EXTENSION_${name}}\\n")
endforeach()
"""


@dataclass
class Configured:
    """What CMake was told, by kind and in order."""

    told: list[tuple[str, str]] = field(default_factory=list)

    def all(self, kind: str) -> list[str]:
        return [value for each, value in self.told if each == kind]

    def one(self, kind: str) -> str:
        (value,) = self.all(kind)
        return value


@pytest.fixture(scope="module")
def configured(tmp_path_factory: pytest.TempPathFactory) -> Configured:
    cmake = shutil.which("cmake")
    if cmake is None:
        pytest.skip("CMake is not installed")
    folder = tmp_path_factory.mktemp("cmake")
    script, out = folder / "run.cmake", folder / "told.txt"
    script.write_text(STAND_INS, encoding="utf-8")
    done = subprocess.run(
        [cmake, f"-DROOT={ROOT.as_posix()}", f"-DOUT={out.as_posix()}", "-P", str(script)],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = out.read_text(encoding="utf-8").splitlines()
    return Configured([tuple(line.split("=", 1)) for line in lines])


def onDisk(folder: Path) -> set[str]:
    """Files below a folder that belong to the project."""
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file()
        and path.name != "CMakeLists.txt"
        and not any(
            part.startswith((".", "__pycache__")) for part in path.relative_to(folder).parts
        )
    }


def listed(folder: Path, variable: str) -> list[str]:
    """One list of a CMake file, read without CMake."""
    text = (folder / "CMakeLists.txt").read_text(encoding="utf-8")
    (body,) = re.findall(rf"set\({variable}\s+([^)]*)\)", text)
    return [word.replace("${MODULE_NAME}", folder.name) for word in body.split()]


@pytest.mark.parametrize("folder", [MODULE, LIBRARY], ids=lambda folder: folder.name)
def testTheListsAreWhatIsOnDisk(folder: Path) -> None:
    scripts = listed(folder, "MODULE_PYTHON_SCRIPTS")
    resources = listed(folder, "MODULE_PYTHON_RESOURCES")
    for files in (scripts, resources):
        assert len(files) == len(set(files))
    disk = onDisk(folder)
    assert set(scripts) == {name for name in disk if name.endswith(".py")}
    assert set(resources) == {name for name in disk if not name.endswith(".py")}


def testAllIsInstalledWhereTheModuleLooksForIt(configured: Configured) -> None:
    installed = configured.all("install")
    library = {f"CMBDetectorLib/{name}" for name in onDisk(LIBRARY)}
    assert set(installed) == onDisk(MODULE) | library
    assert len(installed) == len(set(installed))
    for name in ("CMBDetector.py", "CMBDetectorLib/__init__.py", "CMBDetectorLib/py.typed"):
        assert name in installed
    assert "Resources/UI/CMBDetector.ui" in installed
    assert "CMBDetectorLib/resources/samples/sample_t2star.nii.gz" in installed
    assert any(name.endswith(".safetensors") for name in installed)


def testNothingOfAGeneralNameIsInstalled(configured: Configured) -> None:
    """The folder is on the path of everything that runs in 3D Slicer."""
    tops = {name.split("/")[0] for name in configured.all("install")}
    assert tops == {"CMBDetector.py", "CMBDetectorSlicer", "CMBDetectorLib", "Resources", "Scripts"}


def testTheModuleIsTested(configured: Configured) -> None:
    assert configured.all("test") == ["generic CMBDetector", "CMBDetector.py"]


def testTheExtensionIsDescribed(configured: Configured) -> None:
    # An extension is packaged only if the project has its name.
    assert configured.one("project") == "CMBDetector"
    assert configured.one("package") == "Slicer"
    assert configured.one("extension DEPENDS") == "PyTorch"
    assert "not for clinical use" in configured.one("extension DESCRIPTION")
    assert configured.one("extension CONTRIBUTORS")
    assert Path(configured.one("extension LICENSE_FILE")) == ROOT / "LICENSE"
    assert Path(configured.one("extension README_FILE")) == ROOT / "README.md"
    home = configured.one("extension HOMEPAGE")
    raw = home.replace("github.com", "raw.githubusercontent.com") + "/main/"
    for kind in ("ICONURL", "SCREENSHOTURLS"):
        for url in configured.one(f"extension {kind}").split():
            assert url.startswith(raw)
            assert (ROOT / url.removeprefix(raw)).is_file(), url


def testTheEntryInTheIndex() -> None:
    """Its file is named after the extension."""
    entry = json.loads((ROOT / "docs/slicer/CMBDetector.json").read_text(encoding="utf-8"))
    assert entry["$schema"] == SCHEMA
    assert set(entry) <= SCHEMA_KEYS
    assert entry["category"] == "Neuroimaging"
    assert entry["build_dependencies"] == ["PyTorch"]
    assert entry["tier"] in {1, 3, 5}
    top = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    assert f'"{entry["scm_url"].removesuffix(".git")}"' in top


@pytest.mark.parametrize(("name", "size"), [("CMBDetector", 128), ("CMBDetector32", 32)])
def testTheIcon(name: str, size: int) -> None:
    header = (MODULE / f"Resources/Icons/{name}.png").read_bytes()[:26]
    assert header.startswith(b"\x89PNG\r\n\x1a\n")
    width, height, bits, color = struct.unpack(">IIBB", header[16:26])
    assert (width, height, bits, color) == (size, size, 8, 6), "not RGBA of that size"
