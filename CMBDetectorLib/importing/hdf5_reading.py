"""Reading HDF5 files that may be damaged, in a process of its own.

The HDF5 library itself may crash or never return on a damaged file; changing single bytes of a
small model at random shows both. A crash then ends the child, a clock ends what does not return,
and the memory it may take is limited where the system can do that.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from CMBDetectorLib.errors import MissingDependencyError, ModelError
from CMBDetectorLib.importing.hdf5_content import Weights, read_content

SECONDS = 60.0
_SECONDS_PER_BYTE = 1 / 5e6
_INDEX_NAME = "content.json"
_ARRAYS_NAME = "weights.npz"
_SPARE_BYTES = 2 * 2**30
_ERRORS = {"ModelError": ModelError, "MissingDependencyError": MissingDependencyError}


def read_safely(path: Path, *, seconds: float = SECONDS) -> tuple[Any, Weights]:
    """As :func:`~CMBDetectorLib.importing.hdf5_content.read_content`, whatever the file holds.

    Parameters
    ----------
    seconds
        How long a small file may take; large ones get more.

    Raises
    ------
    ModelError, MissingDependencyError
        As there, and where the HDF5 library crashes or does not return.
    """
    try:
        limit = seconds + path.stat().st_size * _SECONDS_PER_BYTE
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from error
    with tempfile.TemporaryDirectory(prefix="cmb-import-") as folder:
        command = [sys.executable, "-m", __name__, str(path.resolve()), folder]
        try:
            done = subprocess.run(command, capture_output=True, timeout=limit, check=False)
        except subprocess.TimeoutExpired as error:
            raise ModelError(
                f"{path}: a damaged HDF5 file (reading it did not end); download it again"
            ) from error
        index = Path(folder) / _INDEX_NAME
        if done.returncode != 0 or not index.is_file():
            raise ModelError(
                f"{path}: a damaged HDF5 file (the HDF5 library crashed); download it again"
            )
        content = json.loads(index.read_text(encoding="utf-8"))
        if "error" in content:
            message = str(content["message"]).replace(str(path.resolve()), str(path))
            raise _ERRORS[content["error"]](message)
        weights: Weights = {}
        with np.load(Path(folder) / _ARRAYS_NAME, allow_pickle=False) as arrays:
            for number, (layer, name) in enumerate(content["names"]):
                weights.setdefault(layer, {})[name] = arrays[f"arr_{number}"]
    return content["config"], weights


def _limit_memory(path: Path) -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    allowed = _SPARE_BYTES + 4 * path.stat().st_size
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard == resource.RLIM_INFINITY or hard > allowed:
        resource.setrlimit(resource.RLIMIT_AS, (allowed, hard))


def _run_child(path: Path, folder: Path) -> None:
    """Write what the file holds, or why it cannot be read, into a folder."""
    _limit_memory(path)
    content: dict[str, Any]
    try:
        config, weights = read_content(path)
    except tuple(_ERRORS.values()) as error:
        content = {"error": type(error).__name__, "message": str(error)}
    else:
        names = [(layer, name) for layer, own in weights.items() for name in own]
        np.savez(folder / _ARRAYS_NAME, *(weights[layer][name] for layer, name in names))
        content = {"config": config, "names": names}
    draft = folder / f"{_INDEX_NAME}.draft"
    draft.write_text(json.dumps(content), encoding="utf-8")
    draft.replace(folder / _INDEX_NAME)


if __name__ == "__main__":
    _run_child(Path(sys.argv[1]), Path(sys.argv[2]))
