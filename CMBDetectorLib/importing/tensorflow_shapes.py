"""TensorFlow's operations that move numbers and leave them as they are.

References
----------
TensorFlow, ``tensorflow/core/ops/array_ops.cc``; the masks of ``StridedSlice`` are explained at
``tf.strided_slice``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from CMBDetectorLib.errors import ModelError
from CMBDetectorLib.importing.graph_builder import Value
from CMBDetectorLib.importing.tensorflow_network import Known
from CMBDetectorLib.importing.tensorflow_step import Handler, Result, Step, checked_axis

_MAX_PARTS = 2**14


def reshape(step: Step, operand: Known, shape: Sequence[int]) -> Known:
    """The same numbers in another shape, in which one length may be -1: whatever fits."""
    n_values = math.prod(operand.shape)
    known = math.prod(n for n in shape if n != -1)
    lengths = [n_values // max(known, 1) if n == -1 else n for n in shape]
    if list(shape).count(-1) > 1 or min(lengths, default=0) < 0 or math.prod(lengths) != n_values:
        raise ModelError(f"an array of shape {operand.shape} as {str(list(shape))[:80]}")
    repeated = _repeat_of_tile(step, operand, lengths)
    if repeated is not None:
        return repeated
    origin = step.network.origin(operand)
    if origin is not None and origin.op == "reshape":
        operand = origin.inputs[0]
    if list(operand.shape) == lengths:
        return operand
    return step.apply("reshape", operand, shape=lengths)


def _repeat_of_tile(step: Step, operand: Known, lengths: list[int]) -> Value | None:
    """What Keras 3 makes of repeating along an axis: a new axis behind it, tiled, joined to it."""
    origin = step.network.origin(operand)
    if origin is None or origin.op not in ("tile", "broadcast"):
        return None
    before, after = origin.inputs[0], operand.shape
    if len(before.shape) != len(after):
        return None
    grown = [axis for axis, n in enumerate(after) if n != before.shape[axis]]
    if len(grown) != 1 or grown[0] == 0 or before.shape[grown[0]] != 1:
        return None
    axis = grown[0]
    joined = [*after[: axis - 1], after[axis - 1] * after[axis], *after[axis + 1 :]]
    if joined != lengths:
        return None
    image = reshape(step, before, [*before.shape[:axis], *before.shape[axis + 1 :]])
    return step.network.add("repeat", [_as_value(image)], axis=axis - 1, times=after[axis])


def _as_value(operand: Known) -> Value:
    assert isinstance(operand, Value)
    return operand


def slice_(
    step: Step, operand: Known, begin: Sequence[int], end: Sequence[int], strides: Sequence[int]
) -> Known:
    """A regular part, of positive strides."""
    for low, high, stride, n in zip(begin, end, strides, operand.shape, strict=True):
        if not (0 <= low <= high <= n and stride > 0):
            raise ModelError(f"the part {low}:{high}:{stride} of {n}; get the model again")
    is_all = not any(begin) and tuple(end) == operand.shape and set(strides) <= {1}
    if is_all:
        return operand
    return step.apply("slice", operand, begin=list(begin), end=list(end), strides=list(strides))


def transpose(step: Step, operand: Known, order: Sequence[int]) -> Known:
    """The axes in another order."""
    rank = len(operand.shape)
    axes = [checked_axis(axis, rank) for axis in order]
    if sorted(axes) != list(range(rank)):
        raise ModelError(f"the axes {str(axes)[:60]} of an array of rank {rank}")
    return operand if axes == sorted(axes) else step.apply("transpose", operand, order=axes)


def pad(step: Step, operand: Known, padding: Sequence[Sequence[int]], value: float) -> Known:
    """A constant value around the array."""
    pairs = [[int(low), int(high)] for low, high in padding]
    if len(pairs) != len(operand.shape) or any(amount < 0 for pair in pairs for amount in pair):
        raise ModelError(f"padding by {str(pairs)[:80]} of an array of shape {operand.shape}")
    if not any(amount for pair in pairs for amount in pair):
        return operand
    return step.apply("pad", operand, padding=pairs, value=value)


def _reshape(step: Step) -> Result:
    return reshape(step, step.known(0), step.integers(1))


def _expand_dims(step: Step) -> Result:
    operand = step.known(0)
    shape = list(operand.shape)
    shape.insert(checked_axis(step.integer(1), len(shape) + 1), 1)
    return reshape(step, operand, shape)


def _squeeze(step: Step) -> Result:
    operand = step.known(0)
    rank = len(operand.shape)
    axes = {checked_axis(axis, rank) for axis in step.node.integers("squeeze_dims", ())}
    axes = axes or {axis for axis, n in enumerate(operand.shape) if n == 1}
    return reshape(step, operand, [n for axis, n in enumerate(operand.shape) if axis not in axes])


def _transpose(step: Step) -> Result:
    return transpose(step, step.known(0), step.integers(1))


def _pad(step: Step) -> Result:
    padding = step.array(1)
    if padding.ndim != 2 or padding.shape[1] != 2:
        raise ModelError(f"padding of shape {padding.shape}, expected two for each axis")
    value = float(step.array(2)) if len(step.inputs) > 2 else 0.0
    return pad(step, step.known(0), padding.tolist(), value)


def _tile(step: Step) -> Result:
    operand, times = step.known(0), step.integers(1)
    if len(times) != len(operand.shape) or min(times, default=1) < 1:
        raise ModelError(f"an array of shape {operand.shape} {str(times)[:60]} times")
    return operand if set(times) <= {1} else step.apply("tile", operand, times=times)


def _broadcast(step: Step) -> Result:
    operand, shape = step.known(0), step.integers(1)
    return (
        operand if list(operand.shape) == shape else step.apply("broadcast", operand, shape=shape)
    )


SHAPES: Mapping[str, Handler] = {
    "Reshape": _reshape,
    "ExpandDims": _expand_dims,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Pad": _pad,
    "PadV2": _pad,
    "Tile": _tile,
    "BroadcastTo": _broadcast,
}
