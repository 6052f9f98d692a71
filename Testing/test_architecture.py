"""Who may import whom, and what must work without torch."""

from __future__ import annotations

import ast
import os
import pkgutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import CMBDetectorLib

REPOSITORY = Path(__file__).resolve().parents[1]
LIBRARY = Path(CMBDetectorLib.__file__).resolve().parent
STAGES = {
    "io",
    "preprocessing",
    "models",
    "inference",
    "postprocessing",
    "anatomy",
    "review",
    "evaluation",
    "reporting",
    "importing",
}
BASE_STAGES = {"io"}
# The arrows between stages. Inference is given a bundle and builds its networks. It labels the head
# in the anatomy's classes, and tidies what it found. The image for that is prepared as in training.
# A bundle with the anatomy network is for exactly these classes, on the grid of their atlas. The
# brain mask reads an anatomical label map. A review measures what the reader has drawn; a reviewed
# result is written with its review, and counted by zones; an evaluation measures and locates the
# lesions it compares, and its report is written. An import makes a bundle.
ARROWS = {
    ("inference", "models"),
    ("inference", "anatomy"),
    ("inference", "preprocessing"),
    ("models", "anatomy"),
    ("preprocessing", "anatomy"),
    ("review", "postprocessing"),
    ("reporting", "review"),
    ("reporting", "anatomy"),
    ("reporting", "evaluation"),
    ("evaluation", "postprocessing"),
    ("evaluation", "anatomy"),
    ("importing", "models"),
}
# The anatomical map joins stages for the pipeline, as the pipeline does; no stage may import it.
JOINS = {"pipeline", "searching", "anatomical_map", "cli", "provenance", "__main__", "__init__"}
SLICER_SIDE = {"CMBDetector", "CMBDetectorSlicer", "slicer", "qt", "ctk", "vtk"}
HEAVY = ("torch", "monai", "h5py", "openvino", "training", *sorted(SLICER_SIDE))
TORCH = ("torch", "monai", "safetensors")
TORCH_MODULES = {
    "CMBDetectorLib.models.networks",
    "CMBDetectorLib.models.graph_members",
    "CMBDetectorLib.models.graph_network",
    "CMBDetectorLib.models.graph_operations",
    "CMBDetectorLib.models.graph_slabs",
    "CMBDetectorLib.models.tensors",
}
NETWORK_MODULES = TORCH_MODULES | {"CMBDetectorLib.pipeline"}
# What 3D Slicer does not come with, and SciPy, which it does but which is slow to import.
NOT_AT_FILE_SCOPE_IN_SLICER = (*TORCH, "nibabel", "nrrd", "PIL", "skimage", "scipy", "SimpleITK")
# What the module for 3D Slicer may build on before anything is installed there.
LIGHT_MODULES = (
    "CMBDetectorLib.errors",
    "CMBDetectorLib.geometry",
    "CMBDetectorLib.volume",
    "CMBDetectorLib.results",
    "CMBDetectorLib.progress",
    "CMBDetectorLib.settings",
    "CMBDetectorLib.anatomy.schemes",
    "CMBDetectorLib.reporting.terminology",
    "CMBDetectorLib.review.changes",
    "CMBDetectorLib.review.lesions",
    "CMBDetectorLib.review.session",
    "CMBDetectorLib.review.stored",
)


def library_modules() -> list[str]:
    return ["CMBDetectorLib"] + [
        module.name for module in pkgutil.walk_packages([str(LIBRARY)], "CMBDetectorLib.")
    ]


def blocking(names: Sequence[str]) -> str:
    """Code after which these packages cannot be imported."""
    return (
        "import sys\n"
        "class Blocker:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.split('.')[0] in {tuple(names)!r}:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Blocker())\n"
    )


def may_need_torch(module: str) -> bool:
    is_inference = module.startswith("CMBDetectorLib.inference.")
    return is_inference or module in TORCH_MODULES


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=REPOSITORY,
        env=os.environ | {"CMBDETECTOR_MODELS": str(REPOSITORY / "there-is-no-such-folder")},
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )


def python_files() -> list[Path]:
    folders = ["CMBDetectorLib", "CMBDetector", "training", "Testing", "benchmarks"]
    return [path for folder in folders for path in sorted((REPOSITORY / folder).rglob("*.py"))]


def imported_modules(path: Path) -> Iterator[tuple[str, bool]]:
    """Every module a file imports anywhere, and whether for the type checker only."""
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    for_types = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, id(node) in for_types
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            yield node.module, id(node) in for_types
            for alias in node.names:
                yield f"{node.module}.{alias.name}", id(node) in for_types


def test_modules_import_without_the_heavy_packages() -> None:
    modules = [name for name in library_modules() if not may_need_torch(name)]
    modules.remove("CMBDetectorLib.__main__")
    assert len(modules) > 20
    code = (
        "import importlib, sys\n"
        "for name in sys.argv[1].split(','):\n"
        "    importlib.import_module(name)\n"
        f"loaded = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "print(','.join(loaded))\n"
    )
    run = run_python(code, ",".join(modules))
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == ""


@pytest.mark.parametrize("module", [name for name in library_modules() if not may_need_torch(name)])
def test_no_module_imports_torch_at_its_top(module: str) -> None:
    """Names the culprit, which the test above does not."""
    path = LIBRARY.joinpath(*module.split(".")[1:])
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            continue
        assert not {name.split(".")[0] for name in names} & set(HEAVY), file


def test_stages_do_not_import_each_other() -> None:
    offences = []
    for path in sorted(LIBRARY.rglob("*.py")):
        place = path.relative_to(LIBRARY).parts
        own = place[0].removesuffix(".py")
        if own in JOINS:
            continue
        for name, _ in imported_modules(path):
            parts = name.split(".")
            if parts[0] != "CMBDetectorLib" or len(parts) < 2:
                continue
            other = parts[1]
            is_stage = other in STAGES and other not in BASE_STAGES
            foreign = other != own and (own, other) not in ARROWS
            if (is_stage and foreign) or other in {"pipeline", "anatomical_map", "cli"}:
                offences.append(f"{path.relative_to(LIBRARY)} imports {name}")
    assert offences == []


def test_base_layer_knows_no_stage() -> None:
    base = [LIBRARY / f"{name}.py" for name in ("errors", "geometry", "volume", "results")]
    base += [LIBRARY / f"{name}.py" for name in ("settings", "progress", "preflight", "version")]
    base += [LIBRARY / "zones.py", *sorted((LIBRARY / "io").rglob("*.py"))]
    above = STAGES | {"pipeline", "anatomical_map", "cli"}
    for path in base:
        for name, _ in imported_modules(path):
            parts = name.split(".")
            if parts[0] == "CMBDetectorLib" and len(parts) > 1:
                inside_io = path.parent.name == "io" and parts[1] == "io"
                assert inside_io or parts[1] not in above, f"{path}: {name}"


def test_library_imports_neither_training_nor_the_slicer_module() -> None:
    for path in sorted(LIBRARY.rglob("*.py")):
        for name, _ in imported_modules(path):
            assert name.split(".")[0] not in {"training", *SLICER_SIDE}, f"{path} imports {name}"


def test_training_does_not_import_the_slicer_module() -> None:
    for path in sorted((REPOSITORY / "training").rglob("*.py")):
        for name, _ in imported_modules(path):
            assert name.split(".")[0] not in SLICER_SIDE, path


def slicer_files() -> list[Path]:
    files = sorted((REPOSITORY / "CMBDetector").rglob("*.py"))
    assert len(files) > 10, "the module for 3D Slicer has gone"
    return files


def at_file_scope(path: Path) -> Iterator[str]:
    """Modules that are imported when this one is, be it within an if or a try."""
    pending: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"), str(path))]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            pending += node.orelse
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            pending += ast.iter_child_nodes(node)


def test_slicer_module_imports_only_what_slicer_has() -> None:
    """At file scope: nothing is installed when 3D Slicer looks for its modules."""
    allowed = {*sys.stdlib_module_names, *SLICER_SIDE, "numpy", "CMBDetectorLib"}
    offences = [
        f"{path.relative_to(REPOSITORY)} imports {name}"
        for path in slicer_files()
        for name in at_file_scope(path)
        if name.split(".")[0] not in allowed
    ]
    assert offences == []


def test_library_parts_that_slicer_imports_need_only_numpy() -> None:
    used = {
        name
        for path in slicer_files()
        for name in at_file_scope(path)
        if name.split(".")[0] == "CMBDetectorLib"
    }
    assert "CMBDetectorLib.errors" in used
    code = (
        f"{blocking(NOT_AT_FILE_SCOPE_IN_SLICER)}"
        "import importlib\n"
        "for name in sys.argv[1].split(','):\n"
        "    importlib.import_module(name)\n"
    )
    run = run_python(code, ",".join(sorted({*used, *LIGHT_MODULES})))
    assert run.returncode == 0, run.stderr


def test_slicer_process_runs_no_network_and_imports_no_other_house() -> None:
    """Not in a function either: torch crashing there would take the scene with it."""
    banned = {*TORCH, "training", "Testing", "benchmarks"}
    for path in slicer_files():
        for name, _ in imported_modules(path):
            assert name.split(".")[0] not in banned, f"{path} imports {name}"
            assert not may_need_torch(f"{name}."), f"{path} imports {name}"
            assert name not in NETWORK_MODULES, f"{path} imports {name}"


def test_nothing_is_pickled() -> None:
    for folder in (LIBRARY, REPOSITORY / "training", REPOSITORY / "CMBDetector"):
        for path in sorted(folder.rglob("*.py")):
            names = {name.split(".")[0] for name, _ in imported_modules(path)}
            assert not names & {"pickle", "dill", "joblib", "cloudpickle", "shelve"}, path


def test_no_module_is_called_utils_or_helpers() -> None:
    for path in python_files():
        words = set(path.stem.lower().split("_"))
        assert not words & {"utils", "util", "helpers", "helper", "misc", "common"}, path


def test_no_file_is_long() -> None:
    for path in python_files():
        n_lines = len(path.read_text(encoding="utf-8").splitlines())
        assert n_lines <= 400, f"{path}: {n_lines} lines"


@pytest.mark.parametrize(
    "arguments", [["--help"], ["detect", "--help"], ["models", "list"], ["info"], ["--version"]]
)
def test_command_works_where_torch_cannot_be_imported(arguments: list[str]) -> None:
    code = blocking(TORCH) + "from CMBDetectorLib.cli import main\nsys.exit(main(sys.argv[1:]))\n"
    run = run_python(code, *arguments)
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    assert run.stdout.strip()


def test_help_loads_no_numerical_package() -> None:
    code = (
        "import sys\nfrom CMBDetectorLib.cli import main\nmain(['--help'])\n"
        "sys.stderr.write(','.join(n for n in ('numpy', 'nibabel', 'scipy') if n in sys.modules))"
    )
    run = run_python(code)
    assert run.returncode == 0
    assert run.stderr == ""


def test_public_names_exist_and_importing_the_package_is_light() -> None:
    code = (
        "import sys, CMBDetectorLib\n"
        "assert 'numpy' not in sys.modules\n"
        "for name in CMBDetectorLib.__all__: getattr(CMBDetectorLib, name)\n"
        "assert 'torch' not in sys.modules\n"
        "from CMBDetectorLib import DetectionRequest, detect, read_image\n"
    )
    run = run_python(code)
    assert run.returncode == 0, run.stderr


def test_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = CMBDetectorLib.nonsense
