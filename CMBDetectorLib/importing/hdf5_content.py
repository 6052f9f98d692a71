"""The model description and the weights in a Keras ``.h5`` file, as plain JSON and arrays.

HDF5 files can point to other files, to raw bytes elsewhere on the disk, and to compressed data far
larger than they are. None of that belongs into a model, and none of it is followed.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from CMBDetectorLib.errors import MissingDependencyError, ModelError

if TYPE_CHECKING:
    import h5py

MAX_CONFIG_BYTES = 16 * 2**20
_MAX_WEIGHTS = 100
_MAX_DEPTH = 8
_MAGIC = b"\x89HDF\r\n\x1a\n"

Weights = dict[str, dict[str, npt.NDArray[Any]]]
"""By layer, then by the last part of the weight's name, such as ``kernel``."""


def read_content(path: Path) -> tuple[Any, Weights]:
    """The model's configuration and its weights.

    Raises
    ------
    ModelError
        If the file is not HDF5, is damaged, has no model in it, or points outside of itself.
    MissingDependencyError
        If h5py is not installed.
    """
    try:
        import h5py
    except ImportError as error:
        raise MissingDependencyError(
            "reading a Keras .h5 file needs the package h5py; install the extra 'import'"
        ) from error
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            magic = stream.read(len(_MAGIC))
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from error
    if magic != _MAGIC:
        raise ModelError(f"{path}: not an HDF5 file; expected a Keras model, download it again")
    try:
        with h5py.File(path, "r") as file:
            return _config(file, path), _weights(file, path, size)
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, MemoryError) as error:
        problem = (" ".join(str(error).split()) or type(error).__name__)[:120]
        raise ModelError(f"{path}: a damaged HDF5 file ({problem}); download it again") from error


def _config(file: h5py.File, path: Path) -> Any:
    attribute = "model_config"
    if attribute not in file.attrs:
        raise ModelError(
            f"{path}: holds no model_config; expected a whole Keras model, not its weights alone"
        )
    if file.attrs.get_id(attribute).shape != ():
        raise ModelError(f"{path}: model_config is not one text; download it again")
    text = file.attrs[attribute]
    text = text.decode("utf-8") if isinstance(text, bytes) else text
    if not isinstance(text, str) or len(text) > MAX_CONFIG_BYTES:
        raise ModelError(f"{path}: model_config is not a text of at most {MAX_CONFIG_BYTES} bytes")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: model_config is not valid JSON; download it again") from error


def _weights(file: h5py.File, path: Path, size: int) -> Weights:
    import h5py

    groups = _member(file, "model_weights", path)
    if not isinstance(groups, h5py.Group):
        raise ModelError(f"{path}: model_weights is not a group; download it again")
    weights: Weights = {}
    left = size
    for layer in groups:
        group = _member(groups, layer, path)
        if not isinstance(group, h5py.Group) or "weight_names" not in group.attrs:
            continue
        names = _names(group, path)
        for name in names:
            array = _array(_member(group, name, path), name, path, left)
            left -= array.nbytes
            short = name.rsplit("/", 1)[-1].partition(":")[0]
            if short in weights.setdefault(layer, {}):
                raise ModelError(f"{path}: the layer {layer!r} holds two weights called {short!r}")
            weights[layer][short] = array
    return weights


def _names(group: h5py.Group, path: Path) -> list[str]:
    if math.prod(group.attrs.get_id("weight_names").shape) > _MAX_WEIGHTS:
        raise ModelError(f"{path}: a layer lists over {_MAX_WEIGHTS} weights; download it again")
    names = np.asarray(group.attrs["weight_names"]).ravel().tolist()
    return [name.decode("utf-8") if isinstance(name, bytes) else str(name) for name in names]


def _member(group: h5py.Group, name: str, path: Path) -> object:
    """What lies below a group under a name, links to elsewhere refused."""
    import h5py

    found: object = group
    parts = [part for part in name.split("/") if part]
    if not 0 < len(parts) <= _MAX_DEPTH:
        raise ModelError(f"{path}: {name[:60]!r} is not a name within the file; download it again")
    for part in parts:
        if not isinstance(found, h5py.Group) or part not in found:
            raise ModelError(f"{path}: {name[:60]!r} is missing; download it again")
        if not isinstance(found.get(part, getlink=True), h5py.HardLink):
            raise ModelError(f"{path}: {name[:60]!r} points elsewhere, which is not followed")
        found = found[part]
    return found


def _array(data: object, name: str, path: Path, left: int) -> npt.NDArray[Any]:
    import h5py

    if not isinstance(data, h5py.Dataset):
        raise ModelError(f"{path}: the weights {name[:60]!r} are not an array; download it again")
    if data.external is not None or data.is_virtual:
        raise ModelError(f"{path}: the weights {name[:60]!r} lie outside of the file")
    if data.dtype.kind != "f" or data.dtype.itemsize > 8:
        raise ModelError(f"{path}: the weights {name[:60]!r} are {data.dtype}, expected numbers")
    if data.nbytes > left:
        raise ModelError(
            f"{path}: the weights {name[:60]!r} of shape {data.shape} are larger than the file; "
            "download it again"
        )
    return np.asarray(data[()])
