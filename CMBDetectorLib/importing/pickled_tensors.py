"""Weights that others have saved, as NumPy arrays; nothing from the file is executed."""

from __future__ import annotations

import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from CMBDetectorLib.errors import MissingDependencyError, ModelError
from CMBDetectorLib.importing.pickle_machine import read_pickle
from CMBDetectorLib.importing.pickled_values import Opaque, PickledTensor
from CMBDetectorLib.importing.torch_archive import TorchArchive, open_torch_archive
from CMBDetectorLib.models.weights import read_weights_header

Array = npt.NDArray[Any]

_WRAPPERS = ("state_dict", "model", "network", "model_state_dict")
_PREFIX = "module."
_TAR_MAGIC = (257, b"ustar")
# What a model may repeat: tensors that have several names are one, other overlaps are rare.
_MAX_REPEATS = 2
_CODES = {
    "float64": "f8",
    "float32": "f4",
    "float16": "f2",
    "bfloat16": "u2",
    "int64": "i8",
    "int32": "i4",
    "int16": "i2",
    "int8": "i1",
    "uint64": "u8",
    "uint32": "u4",
    "uint16": "u2",
    "uint8": "u1",
    "bool": "u1",
}
_SAFETENSORS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"} | {
    "I64": "int64",
    "I32": "int32",
    "U8": "uint8",
}


def read_tensors(path: Path) -> dict[str, Array]:
    """The tensors in a file of ``torch.save`` or a safetensors file, told apart by content.

    Arrays are as :func:`read_state_dict` gives them.

    Raises
    ------
    ModelError
        If the file cannot be read, is of neither kind, or is not accepted by
        :func:`read_state_dict` or
        :func:`~CMBDetectorLib.models.weights.read_weights_header`.
    MissingDependencyError
        If it is a safetensors file and the package safetensors is not installed.
    """
    start = _start(path)
    if start.startswith(b"PK\3\4") or _is_legacy(start):
        return read_state_dict(path)
    if start.startswith(b"version https://git-lfs"):
        raise ModelError(f"{path}: a pointer of Git LFS, expected weights; run git lfs pull")
    if _is_safetensors(start):
        return _checked_names(path, _read_safetensors(path))
    raise ModelError(
        f"{path}: neither a file of torch.save nor a safetensors file; give the file of the weights"
    )


def read_state_dict(path: Path) -> dict[str, Array]:
    """The state dictionary in a file of ``torch.save`` (``.pt``, ``.pth``, ``.ckpt``).

    The dictionary may lie in another one under ``state_dict``, ``model``, ``network`` or
    ``model_state_dict``; plain data beside it is left out. The prefix ``module.``, which
    DataParallel puts before all names, is taken off.

    Returns
    -------
    dict
        Arrays in C order with memory of their own, but tensors with several names are one array.
        bfloat16 becomes float32, other types of numbers stay what they are.

    Raises
    ------
    ModelError
        If the file cannot be read or is damaged, is not in torch's zip format, holds anything but
        tensors and plain data, or holds no state dictionary or several.
    """
    start = _start(path)
    if _is_legacy(start):
        raise ModelError(
            f"{path}: in the format of torch before 1.6, expected its zip format; load it with a "
            "current torch and save its state dictionary again, or as safetensors"
        )
    if not start.startswith(b"PK\3\4"):
        raise ModelError(f"{path}: not a file of torch.save; give the file of the weights")
    with open_torch_archive(path) as archive:
        state = _state_dict(path, read_pickle(archive.pickle(), path))
        return _checked_names(path, _arrays(archive, state))


def _start(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(512)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from error


def _is_legacy(start: bytes) -> bool:
    place, magic = _TAR_MAGIC
    is_pickle = start[:1] == b"\x80" and not _is_safetensors(start)
    return is_pickle or start[place:].startswith(magic)


def _is_safetensors(start: bytes) -> bool:
    """A length, of which the upper half is zero and the rest may be anything, then the header."""
    return start[4:9] == b"\0\0\0\0{"


def _state_dict(path: Path, content: Any) -> dict[str, PickledTensor]:
    """The one dictionary of tensors, told from its neighbors by what it holds."""
    if not isinstance(content, dict):
        raise ModelError(
            f"{path}: its content is {_kind(content)}, expected a dictionary of tensors; save the "
            "state dictionary"
        )
    inner = {key: content[key] for key in _WRAPPERS if isinstance(content.get(key), dict)}
    found = {key: state for key, state in inner.items() if _is_state(state)}
    if len(found) > 1:
        raise ModelError(
            f"{path}: holds tensors under {' and '.join(found)}, expected one state dictionary; "
            "save the one to be used alone"
        )
    state: dict[Any, Any] = next(iter((found or inner or {"": content}).values()))
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, PickledTensor):
            raise ModelError(
                f"{path}: {ascii(name)[:80]} is {_kind(value)}, expected tensors in a "
                f"dictionary, or one under {', '.join(_WRAPPERS)}; save the state dictionary"
            )
    return state


def _kind(value: Any) -> str:
    if isinstance(value, PickledTensor):
        return "a tensor"
    return value.name if isinstance(value, Opaque) else f"of type {type(value).__name__}"


def _is_state(values: dict[Any, Any]) -> bool:
    return bool(values) and all(isinstance(value, PickledTensor) for value in values.values())


def _arrays(archive: TorchArchive, state: dict[str, PickledTensor]) -> dict[str, Array]:
    by_storage: defaultdict[str, dict[PickledTensor, str]] = defaultdict(dict)
    for name, tensor in state.items():
        by_storage[tensor.storage.key].setdefault(tensor, name)
    needed = 0
    for tensors in by_storage.values():
        for tensor, name in tensors.items():
            needed += _checked_bytes(archive, name, tensor)
    if needed > _MAX_REPEATS * archive.size:
        raise ModelError(
            f"{archive.path}: its tensors take {needed} bytes, the file has {archive.size}; save "
            "tensors that are not views of each other"
        )
    arrays = {}
    for key, tensors in by_storage.items():
        content = archive.storage(key)
        for tensor in tensors:
            arrays[tensor] = _array(content, tensor, archive.byte_order)
    return {name: arrays[tensor] for name, tensor in state.items()}


def _checked_bytes(archive: TorchArchive, name: str, tensor: PickledTensor) -> int:
    """Bytes of a tensor, which lies within its storage."""
    where = f"{archive.path}: the tensor {ascii(name)[:80]}"
    for dtype in (tensor.dtype, tensor.storage.dtype):
        if dtype not in _CODES:
            raise ModelError(
                f"{where} is of type {dtype}, expected real numbers of usual size; convert it"
            )
    stored = archive.storage_size(tensor.storage.key)
    claimed = tensor.storage.numel * np.dtype(_CODES[tensor.storage.dtype]).itemsize
    if stored != claimed:
        raise ModelError(
            f"{where} is in a storage of {stored} bytes, expected {claimed}; get the file again"
        )
    n_bytes = np.dtype(_CODES[tensor.dtype]).itemsize
    last = tensor.offset
    for extent, stride in zip(tensor.shape, tensor.strides, strict=True):
        last += (extent - 1) * stride
    if math.prod(tensor.shape) > 0 and (last + 1) * n_bytes > stored:
        raise ModelError(
            f"{where} ends at value {last} of a storage of {stored // n_bytes}; get the file again"
        )
    # An extent of 0 does not hide others that no array can have.
    return n_bytes * math.prod(max(extent, 1) for extent in tensor.shape)


def _array(content: bytes, tensor: PickledTensor, byte_order: str) -> Array:
    dtype = np.dtype(byte_order + _CODES[tensor.dtype])
    if math.prod(tensor.shape) == 0:
        view = np.empty(tensor.shape, dtype)
    else:
        # The stride along an axis of one value says nothing, and may be anything.
        strides = [
            stride * dtype.itemsize if extent > 1 else 0
            for extent, stride in zip(tensor.shape, tensor.strides, strict=True)
        ]
        view = np.ndarray(
            tensor.shape, dtype, content, tensor.offset * dtype.itemsize, tuple(strides)
        )
    return _converted(view, tensor.dtype)


def _converted(raw: Array, dtype: str) -> Array:
    """A copy in C order of numbers whose type NumPy may lack."""
    if dtype == "bfloat16":
        bits = np.array(raw, np.uint32, order="C")
        bits <<= 16
        return bits.view(np.float32)
    if dtype == "bool":
        return np.array(raw != 0, order="C")
    return np.array(raw, raw.dtype.newbyteorder("="), order="C")


def _read_safetensors(path: Path) -> dict[str, Array]:
    try:
        import safetensors
    except ImportError as error:
        raise MissingDependencyError(
            "reading safetensors files needs the package safetensors; install the extra 'inference'"
        ) from error
    types = read_weights_header(path)
    deserialize: Any = safetensors.deserialize
    arrays = {}
    try:
        for name, stored in deserialize(path.read_bytes()):
            dtype = _SAFETENSORS[types[name].dtype]
            raw = np.frombuffer(stored["data"], "<" + _CODES[dtype]).reshape(stored["shape"])
            arrays[name] = _converted(raw, dtype)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from error
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        raise ModelError(f"{path}: not a safetensors file ({error})") from error
    return arrays


def _checked_names(path: Path, arrays: dict[str, Array]) -> dict[str, Array]:
    if not arrays:
        raise ModelError(f"{path}: holds no tensors; save the state dictionary")
    if all(name.startswith(_PREFIX) for name in arrays):
        arrays = {name.removeprefix(_PREFIX): array for name, array in arrays.items()}
    for name in arrays:
        if not name or not name.isprintable():
            raise ModelError(
                f"{path}: a tensor is called {ascii(name)[:80]}, expected a name; get it again"
            )
    return arrays
