"""TensorFlow's operations on shapes and other values that do not depend on the image.

References
----------
TensorFlow, ``tensorflow/core/ops/array_ops.cc`` and ``math_ops.cc``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from CMBDetectorLib.errors import ModelError
from CMBDetectorLib.importing.graph_builder import Value
from CMBDetectorLib.importing.tensorflow_step import Handler, Result, Step, checked_axis
from CMBDetectorLib.importing.tensorflow_types import Array, array_from_message, numpy_type

_INT32 = 3


def _const(step: Step) -> Result:
    value = step.node.attribute("value")
    if value is None:
        raise ModelError("holds no value; get the model again")
    return array_from_message(value.message(8))


def _shape(step: Step) -> Result:
    dtype = numpy_type(step.node.data_type("out_type", _INT32))
    return np.array(step.known(0).shape, dtype)


def _size(step: Step) -> Result:
    dtype = numpy_type(step.node.data_type("out_type", _INT32))
    return np.array(math.prod(step.known(0).shape), dtype)


def _rank(step: Step) -> Result:
    return np.array(len(step.known(0).shape), np.int32)


def _filled_like(value: int) -> Handler:
    def filled(step: Step) -> Result:
        operand = step.known(0)
        dtype = np.float32 if isinstance(operand, Value) else operand.dtype
        return np.broadcast_to(np.array(value, dtype), operand.shape)

    return filled


def _fill(step: Step) -> Result:
    value = step.array(1)
    if value.ndim:
        raise ModelError(f"an array of shape {value.shape}, expected one number to fill with")
    return np.broadcast_to(value, step.integers(0))


def _range(step: Step) -> Result:
    given = [step.array(number) for number in range(3)]
    if any(array.ndim for array in given) or given[2] == 0:
        raise ModelError("a range that is not from a number to a number in steps")
    start, limit, delta = (array.item() for array in given)
    step.network.spend(max(math.ceil((limit - start) / delta), 0))
    return np.arange(start, limit, delta).astype(given[0].dtype)


def _gather(step: Step) -> Result:
    array, places, axis = step.array(0), step.array(1), step.integer(2)
    if step.node.integer("batch_dims", 0):
        raise step.unsupported("in batches")
    axis = checked_axis(axis, array.ndim)
    step.network.spend(array.size // max(array.shape[axis], 1) * places.size)
    if places.size and not 0 <= places.min() <= places.max() < array.shape[axis]:
        raise ModelError(f"places up to {places.max()} of {array.shape[axis]}")
    return np.take(array, places.astype(np.int64), axis)


def _select(step: Step) -> Result:
    arrays = [step.array(number) for number in range(3)]
    step.network.spend(math.prod(np.broadcast_shapes(*(array.shape for array in arrays))))
    return np.where(*arrays)


def _where(step: Step) -> Result:
    array = step.array(0)
    step.network.spend(array.size * max(array.ndim, 1))
    return np.argwhere(array)


def _by_number(function: Callable[..., Any], n_inputs: int) -> Handler:
    """A function number by number."""

    def compute(step: Step) -> Result:
        arrays = [step.array(number) for number in range(n_inputs)]
        step.network.spend(math.prod(np.broadcast_shapes(*(array.shape for array in arrays))))
        with np.errstate(all="ignore"):
            return np.asarray(function(*arrays))

    return compute


def _reduced(function: Callable[..., Any]) -> Handler:
    """A function over axes."""

    def compute(step: Step) -> Result:
        array = step.array(0)
        axes = tuple({checked_axis(axis, array.ndim) for axis in step.integers(1)})
        step.network.spend(array.size)
        keep = step.node.flag("keep_dims", False)
        return np.asarray(function(array, axis=axes, keepdims=keep), array.dtype)

    return compute


def _floor_div(one: Array, other: Array) -> Array:
    if not np.all(other):
        raise ModelError("a division by 0; get the model again")
    return np.asarray(one // other)


def _floor_mod(one: Array, other: Array) -> Array:
    if not np.all(other):
        raise ModelError("a division by 0; get the model again")
    return np.asarray(one % other)


CONSTANTS: Mapping[str, Handler] = {
    "Const": _const,
    "Shape": _shape,
    "Size": _size,
    "Rank": _rank,
    "ZerosLike": _filled_like(0),
    "OnesLike": _filled_like(1),
    "Fill": _fill,
    "Range": _range,
    "GatherV2": _gather,
    "SelectV2": _select,
    "Where": _where,
    "Prod": _reduced(np.prod),
    "All": _reduced(np.all),
    "Any": _reduced(np.any),
    "FloorDiv": _by_number(_floor_div, 2),
    "FloorMod": _by_number(_floor_mod, 2),
    "Floor": _by_number(np.floor, 1),
    "Ceil": _by_number(np.ceil, 1),
    "Sign": _by_number(np.sign, 1),
    "Equal": _by_number(np.equal, 2),
    "NotEqual": _by_number(np.not_equal, 2),
    "Less": _by_number(np.less, 2),
    "LessEqual": _by_number(np.less_equal, 2),
    "Greater": _by_number(np.greater, 2),
    "GreaterEqual": _by_number(np.greater_equal, 2),
    "LogicalAnd": _by_number(np.logical_and, 2),
    "LogicalOr": _by_number(np.logical_or, 2),
    "LogicalNot": _by_number(np.logical_not, 1),
}
