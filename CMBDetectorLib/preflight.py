"""What can be refused before any work: contradictions, existing results, a folder one cannot write.

A run takes a minute; none of these should be found out at its end.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from CMBDetectorLib.errors import MissingDependencyError, OutputError, UsageError
from CMBDetectorLib.settings import ANATOMY_CHOICES, DetectionRequest, OperatingPoint

INFERENCE_PACKAGES = ("torch", "monai", "safetensors")


def resolve_operating_point(request: DetectionRequest, default: OperatingPoint) -> OperatingPoint:
    """The request's thresholds and minimum volume where given, else the model's own.

    Raises
    ------
    UsageError
        If a threshold is not in (0, 1] or the minimum volume is negative or not a number.
    """
    threshold = default.threshold if request.threshold is None else request.threshold
    if not 0.0 < threshold <= 1.0:
        raise UsageError(f"the threshold is a probability above 0 and up to 1, got {threshold}")
    volume_mm3 = (
        default.min_volume_mm3 if request.min_volume_mm3 is None else request.min_volume_mm3
    )
    if not 0.0 <= volume_mm3 < float("inf"):
        raise UsageError(f"the minimum volume is 0 mm³ or more, got {volume_mm3}")
    extent = (
        default.extent_threshold if request.extent_threshold is None else request.extent_threshold
    )
    if extent is not None and not 0.0 < extent <= 1.0:
        raise UsageError(
            f"the extent's threshold is a probability above 0 and up to 1, got {extent}"
        )
    return OperatingPoint(
        threshold=float(threshold),
        min_volume_mm3=float(volume_mm3),
        extent_threshold=None if extent is None else float(extent),
    )


def check_anatomy_choice(request: DetectionRequest) -> None:
    """Raise UsageError if the anatomy is no choice, or is to be saved where there is none."""
    if not isinstance(request.anatomy, Path) and request.anatomy not in ANATOMY_CHOICES:
        raise UsageError(
            f"the anatomy is {', '.join(ANATOMY_CHOICES)} or the path of a label map, "
            f"got {request.anatomy!r}"
        )
    if request.save_anatomy and request.anatomy == "none":
        raise UsageError(
            "the anatomy is to be saved and there is to be none; leave out one of --anatomy none "
            "and --save-anatomy"
        )


def check_outputs(paths: Sequence[Path], *, overwrite: bool) -> None:
    """Whether the files can be written; leaves nothing behind, not even a new folder.

    Raises
    ------
    UsageError
        If one exists and ``overwrite`` is not set.
    OutputError
        If the folder is a file, cannot be written to, or a name is too long for it.
    """
    for path in paths:
        if _exists(path) and not overwrite:
            raise UsageError(
                f"{path} exists already; pass --overwrite to replace it, or choose another folder"
            )
        if path.is_dir():
            raise OutputError(f"{path} is a folder, a file is to be written there; move it away")
    longest = max(paths, key=lambda path: len(os.fsencode(path.name)))
    _try_writing(longest)


def require_inference_packages() -> None:
    """Raise MissingDependencyError, naming the missing ones, unless the network can be run."""
    missing = [name for name in INFERENCE_PACKAGES if not is_installed(name)]
    if missing:
        raise MissingDependencyError(
            f"finding microbleeds needs {', '.join(missing)}, not installed here; "
            'install with: python -m pip install "cmbdetector[inference]"'
        )


def is_installed(package: str) -> bool:
    """Whether a top-level package could be imported; does not import it."""
    try:
        return importlib.util.find_spec(package) is not None
    except ImportError:
        return False


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror}; choose another output folder"
        ) from error


def _try_writing(path: Path) -> None:
    """Write an empty file with a name of the same length there, and remove it again."""
    folder = path.parent
    while not _exists(folder) and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise OutputError(f"{folder} is a file, an output folder was expected; choose another")
    try:
        with tempfile.TemporaryDirectory(prefix=".cmb-", dir=folder) as probe:
            (Path(probe) / path.name).touch()
    except OSError as error:
        raise OutputError(
            f"cannot write {path.name} in {folder}: {error.strerror}; "
            "choose another output folder, or give the image a shorter name"
        ) from error
