"""What the names in a pickle of tensors stand for; none of them is ever imported.

``torch.save`` writes a tensor as a call of a function of torch on a storage, a shape and strides,
and a storage as a reference to a member of the file
(https://docs.pytorch.org/docs/stable/notes/serialization.html). Here both become descriptions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_MAX_DIMENSIONS = 32
_STORAGE_DTYPES = {
    "torch.storage.UntypedStorage": "uint8",
    "torch.DoubleStorage": "float64",
    "torch.FloatStorage": "float32",
    "torch.HalfStorage": "float16",
    "torch.BFloat16Storage": "bfloat16",
    "torch.LongStorage": "int64",
    "torch.IntStorage": "int32",
    "torch.ShortStorage": "int16",
    "torch.CharStorage": "int8",
    "torch.ByteStorage": "uint8",
    "torch.BoolStorage": "bool",
    "torch.ComplexDoubleStorage": "complex128",
    "torch.ComplexFloatStorage": "complex64",
}
_DTYPES = {
    *_STORAGE_DTYPES.values(),
    *("uint16", "uint32", "uint64", "complex32"),
    *("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"),
}
_REBUILD_TENSOR = "torch._utils._rebuild_tensor_v2"
_REBUILD_TENSOR_OF_DTYPE = "torch._utils._rebuild_tensor_v3"
_REBUILD_PARAMETER = "torch._utils._rebuild_parameter"
_ORDERED_DICT = "collections.OrderedDict"
# What training programs leave beside the weights. What these would give is never needed.
_PLAIN_CALLS = {
    "__builtin__.set",
    "_codecs.encode",
    "builtins.set",
    "numpy._core.multiarray.scalar",
    "numpy.core.multiarray.scalar",
    "numpy.dtype",
    "torch.Size",
    "torch.device",
    "torch.serialization._get_layout",
}
_NAMES = {
    _REBUILD_TENSOR,
    _REBUILD_TENSOR_OF_DTYPE,
    _REBUILD_PARAMETER,
    _ORDERED_DICT,
    *_PLAIN_CALLS,
    *_STORAGE_DTYPES,
    *(f"torch.{dtype}" for dtype in _DTYPES),
}


class HoldsCodeError(Exception):
    """A pickle needs something that plain data and tensors do not; says what."""


@dataclass(frozen=True)
class PickledStorage:
    """A run of ``numel`` numbers outside the pickle; ``dtype`` as torch spells it."""

    key: str
    dtype: str
    numel: int


@dataclass(frozen=True)
class PickledTensor:
    """A view of a storage, which nobody has compared with it; offset and strides count values."""

    storage: PickledStorage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True)
class Opaque:
    """A name, or what calling it would give."""

    name: str


def named(module: object, name: object) -> Opaque:
    """A name that a pickle asks for.

    Raises
    ------
    HoldsCodeError
        If it is not one that plain data and tensors need.
    ValueError
        If it is not a name.
    """
    if not isinstance(module, str) or not isinstance(name, str):
        raise ValueError("not a name")
    full = f"{module}.{name}"
    if full not in _NAMES:
        raise HoldsCodeError(full)
    return Opaque(full)


def called(function: object, arguments: object) -> dict[Any, Any] | PickledTensor | Opaque:
    """What stands for the result of a call in a pickle.

    Raises
    ------
    HoldsCodeError
        If a tensor is more than a view of a storage.
    ValueError
        If the name cannot be called, or not with these arguments.
    """
    if not isinstance(function, Opaque) or not isinstance(arguments, tuple):
        raise ValueError("not a call")
    if function.name == _ORDERED_DICT and not arguments:
        return {}
    if function.name == _REBUILD_TENSOR:
        return _tensor(arguments)
    if function.name == _REBUILD_TENSOR_OF_DTYPE:
        return _tensor(arguments[:6] + arguments[7:], arguments[6])
    if function.name == _REBUILD_PARAMETER and isinstance(arguments[0], PickledTensor):
        return arguments[0]
    if function.name not in _PLAIN_CALLS:
        raise ValueError("not a call that is known")
    return Opaque(function.name)


def stored(reference: object) -> PickledStorage:
    """The storage that a persistent reference is for.

    Raises
    ------
    HoldsCodeError
        If the reference is for something else.
    ValueError
        If the storage is not described correctly.
    """
    if not isinstance(reference, tuple) or reference[:1] != ("storage",):
        raise HoldsCodeError("a reference to something other than a storage")
    _, kind, key, _, numel = reference
    if not isinstance(kind, Opaque) or not isinstance(key, str) or not _are_extents((numel,)):
        raise ValueError("not a storage")
    return PickledStorage(key, _STORAGE_DTYPES[kind.name], numel)


def _tensor(arguments: tuple[Any, ...], dtype: object = None) -> PickledTensor:
    storage, offset, shape, strides, _, hooks, *bits = arguments
    if not isinstance(storage, PickledStorage):
        raise ValueError("a tensor without a storage")
    if not (_are_extents((offset,)) and _are_extents(shape) and _are_extents(strides)):
        raise ValueError("not the place of a tensor")
    if hooks or any(bits):
        raise HoldsCodeError("a tensor with hooks, or one to be conjugated or negated")
    name = f"torch.{storage.dtype}" if dtype is None else getattr(dtype, "name", "")
    prefix, _, name = name.rpartition(".")
    if len(shape) != len(strides) or prefix != "torch" or name not in _DTYPES:
        raise ValueError("not a tensor")
    return PickledTensor(storage, name, offset, shape, strides)


def _are_extents(values: object) -> bool:
    if not isinstance(values, tuple) or len(values) > _MAX_DIMENSIONS:
        return False
    return all(type(value) is int and 0 <= value < 2**63 for value in values)
