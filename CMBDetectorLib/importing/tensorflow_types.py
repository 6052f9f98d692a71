"""TensorFlow's types of numbers, and arrays as its messages hold them.

References
----------
TensorFlow, ``types.proto``, ``tensor.proto`` and ``tensor_shape.proto`` in
``tensorflow/core/framework``.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from CMBDetectorLib.errors import ModelError
from CMBDetectorLib.importing.protobuf_wire import Message

Array = npt.NDArray[Any]

STRING = 7
BFLOAT16 = 14
_HALF = 19
_NAMES = {STRING: "string", BFLOAT16: "bfloat16", 8: "complex64", 18: "complex128"}
_DTYPES: dict[int, type[np.generic]] = {
    1: np.float32,
    2: np.float64,
    3: np.int32,
    4: np.uint8,
    5: np.int16,
    6: np.int8,
    9: np.int64,
    10: np.bool_,
    17: np.uint16,
    _HALF: np.float16,
    22: np.uint32,
    23: np.uint64,
}
_MAX_FILLED = 2**22
_MAX_RANK = 32


def type_name(data_type: int) -> str:
    """For messages."""
    if data_type in _DTYPES:
        return _DTYPES[data_type].__name__.rstrip("_")
    return _NAMES.get(data_type, f"type {data_type}")


def is_float(data_type: int) -> bool:
    """Whether it is a type of real numbers."""
    return data_type == BFLOAT16 or issubclass(_DTYPES.get(data_type, np.bool_), np.floating)


def numpy_type(data_type: int) -> type[np.generic]:
    """What values of a type are computed in here: real numbers in single precision at least.

    Raises
    ------
    ModelError
        If it is not a type of numbers.
    """
    if data_type in (BFLOAT16, _HALF):
        return np.float32
    if data_type not in _DTYPES:
        raise ModelError(f"values of the type {type_name(data_type)}, expected numbers")
    return _DTYPES[data_type]


def bytes_per_value(data_type: int) -> int:
    """In a file; raises :class:`ModelError` as :func:`numpy_type`."""
    if data_type == BFLOAT16:
        return 2
    numpy_type(data_type)
    return np.dtype(_DTYPES[data_type]).itemsize


def array_from_bytes(data: Any, data_type: int, shape: tuple[int, ...]) -> Array:
    """Values as they lie in memory and in files, low bytes first; half precision becomes single.

    Raises
    ------
    ModelError
        If the bytes are not those of such an array.
    """
    wanted = bytes_per_value(data_type) * math.prod(shape)
    if len(data) != wanted or len(shape) > _MAX_RANK:
        raise ModelError(
            f"{len(data)} bytes for values of type {type_name(data_type)} and shape "
            f"{str(shape)[:80]}, expected {wanted}; get the model again"
        )
    if data_type == BFLOAT16:
        return _from_bfloat16(np.frombuffer(data, "<u2")).reshape(shape)
    if data_type == 10:
        return np.frombuffer(data, np.uint8).astype(np.bool_).reshape(shape)
    values = np.frombuffer(data, np.dtype(_DTYPES[data_type]).newbyteorder("<"))
    return values.astype(numpy_type(data_type), copy=False).reshape(shape)


def _from_bfloat16(words: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
    """The upper half of a number of single precision each."""
    return (words.astype(np.uint32) << np.uint32(16)).view(np.float32)


def shape_of(message: Message) -> tuple[int, ...] | None:
    """Of a ``TensorShapeProto``; -1 is a length left open, None a rank left open."""
    if message.integer(3):
        return None
    return tuple(dimension.integer(1) for dimension in message.messages(2))


def array_from_message(message: Message) -> Array:
    """The array in a ``TensorProto``; where it gives one value for all, a view of that value.

    Raises
    ------
    ModelError
        If it holds no numbers, or not as many as its shape says.
    """
    data_type = message.integer(1)
    dtype = numpy_type(data_type)
    shape = shape_of(message.message(2))
    if shape is None or min(shape, default=0) < 0 or len(shape) > _MAX_RANK:
        raise ModelError(f"a constant of shape {str(shape)[:80]}; get the model again")
    if len(content := message.content(4)) > 0:
        return array_from_bytes(content, data_type, shape)
    values = _listed_values(message, data_type).astype(dtype)
    n_values = math.prod(shape)
    if len(values) <= 1:
        value = values[0] if len(values) else dtype()
        return _broadcast(np.array(value, dtype), shape)
    if len(values) > n_values or n_values > max(_MAX_FILLED, len(values)):
        raise ModelError(
            f"{len(values)} values for a constant of shape {str(shape)[:80]}; get the model again"
        )
    return np.pad(values, (0, n_values - len(values)), mode="edge").reshape(shape)


def _broadcast(value: Array, shape: tuple[int, ...]) -> Array:
    try:
        return np.broadcast_to(value, shape)
    except ValueError as error:
        raise ModelError(f"a constant of shape {str(shape)[:80]} is too large") from error


def _listed_values(message: Message, data_type: int) -> Array:
    """Values that lie in the field of their type."""
    if data_type == 1:
        return message.floats(5)
    if data_type == 2:
        return message.doubles(6)
    if data_type in (BFLOAT16, _HALF):
        words = message.integers(13).astype(np.uint16)
        if data_type == _HALF:
            return words.view(np.float16)
        return _from_bfloat16(words)
    fields = {9: 10, 10: 11, 22: 16, 23: 17}
    return message.integers(fields.get(data_type, 7))


def texts_from_message(message: Message) -> tuple[str, ...]:
    """The texts in a ``TensorProto`` of strings.

    Raises
    ------
    ModelError
        If it is one of numbers.
    """
    if message.integer(1) != STRING:
        raise ModelError(f"values of the type {type_name(message.integer(1))}, expected texts")
    return message.texts(8)
