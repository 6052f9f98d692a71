"""TensorFlow's operations that take arrays apart and put them together.

References
----------
TensorFlow, ``tensorflow/core/ops/array_ops.cc``; the masks of ``StridedSlice`` are explained at
``tf.strided_slice``.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from CMBDetectorLib.errors import ModelError
from CMBDetectorLib.importing.graph_builder import Value
from CMBDetectorLib.importing.tensorflow_network import Known, Origin
from CMBDetectorLib.importing.tensorflow_shapes import reshape, slice_
from CMBDetectorLib.importing.tensorflow_step import Handler, Result, Step, checked_axis

_MAX_PARTS = 2**14


def _between(operand: Known, axis: int, low: int, high: int) -> tuple[list[int], list[int]]:
    """Begin and end of what lies between two places of an axis."""
    begin, end = [0] * len(operand.shape), list(operand.shape)
    begin[axis], end[axis] = low, high
    return begin, end


def _parts(step: Step, operand: Known, axis: int, sizes: Sequence[int]) -> list[Known]:
    if sum(sizes) != operand.shape[axis] or len(sizes) > _MAX_PARTS:
        raise ModelError(f"an axis of {operand.shape[axis]} in parts of {str(sizes)[:60]}")
    ends = list(itertools.accumulate(sizes))
    ones = [1] * len(operand.shape)
    places = [_between(operand, axis, end - n, end) for end, n in zip(ends, sizes, strict=True)]
    return [slice_(step, operand, begin, end, ones) for begin, end in places]


def _split(step: Step) -> Result:
    operand = step.known(1)
    axis = checked_axis(step.integer(0), len(operand.shape))
    n_parts = step.node.integer("num_split", 1)
    if not 0 < n_parts <= _MAX_PARTS or operand.shape[axis] % n_parts:
        raise ModelError(f"an axis of {operand.shape[axis]} in {n_parts} parts")
    return _parts(step, operand, axis, [operand.shape[axis] // n_parts] * n_parts)


def _split_by_sizes(step: Step) -> Result:
    operand, sizes = step.known(0), step.integers(1)
    axis = checked_axis(step.integer(2), len(operand.shape))
    if sizes.count(-1) == 1:
        sizes[sizes.index(-1)] = operand.shape[axis] - sum(sizes) - 1
    return _parts(step, operand, axis, sizes)


def _unpack(step: Step) -> Result:
    operand = step.known(0)
    axis = checked_axis(step.node.integer("axis", 0), len(operand.shape))
    shape = [n for number, n in enumerate(operand.shape) if number != axis]
    parts = _parts(step, operand, axis, [1] * operand.shape[axis])
    return [reshape(step, one, shape) for one in parts]


def _slice(step: Step) -> Result:
    operand, begin, size = step.known(0), step.integers(1), step.integers(2)
    if not len(begin) == len(size) == len(operand.shape):
        raise ModelError(f"a part of {len(begin)} axes of an array of shape {operand.shape}")
    end = [
        n if length == -1 else low + length
        for low, length, n in zip(begin, size, operand.shape, strict=True)
    ]
    return slice_(step, operand, begin, end, [1] * len(end))


def _strided_slice(step: Step) -> Result:
    """``array[begin:end:strides]``, where masks say what stands for ``:``, ``...``, a new axis or
    a single place.
    """
    operand = step.known(0)
    begin, end, strides = (step.integers(number) for number in (1, 2, 3))
    if not len(begin) == len(end) == len(strides):
        raise ModelError("a part whose begin, end and strides are not as many")
    is_in = {
        name: [bool(step.node.integer(f"{name}_mask", 0) >> bit & 1) for bit in range(len(begin))]
        for name in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")
    }
    n_taken = sum(
        not (is_rest or is_new)
        for is_rest, is_new in zip(is_in["ellipsis"], is_in["new_axis"], strict=True)
    )
    n_rest = len(operand.shape) - n_taken
    if n_rest < 0 or sum(is_in["ellipsis"]) > 1:
        raise ModelError(f"a part of {n_taken} axes of an array of shape {operand.shape}")
    places: list[range] = []
    shape: list[int] = []
    for number in range(len(begin)):
        if is_in["ellipsis"][number]:
            rest = operand.shape[len(places) : len(places) + n_rest]
            places += map(range, rest)
            shape += rest
        elif is_in["new_axis"][number]:
            shape.append(1)
        elif is_in["shrink_axis"][number]:
            n = operand.shape[len(places)]
            place = checked_axis(begin[number], n)
            places.append(range(place, place + 1))
        else:
            low = None if is_in["begin"][number] else begin[number]
            high = None if is_in["end"][number] else end[number]
            along = slice(low, high, strides[number]).indices(operand.shape[len(places)])
            places.append(range(*along))
            shape.append(len(places[-1]))
    rest = operand.shape[len(places) :]
    return reshape(step, _taken(step, operand, [*places, *map(range, rest)]), [*shape, *rest])


def _taken(step: Step, operand: Known, places: Sequence[range]) -> Known:
    """The places of each axis; backwards only where the values are known."""
    backwards = [axis for axis, along in enumerate(places) if along.step < 0]
    if backwards and isinstance(operand, Value):
        raise step.unsupported("backwards")
    rising = [along[::-1] if along.step < 0 else along for along in places]
    begin = [along.start if along else 0 for along in rising]
    end = [along[-1] + 1 if along else 0 for along in rising]
    strides = [along.step if len(along) > 1 else 1 for along in rising]
    result = slice_(step, operand, begin, end, strides)
    return result if isinstance(result, Value) else np.flip(result, tuple(backwards))


def _concat(step: Step, operands: Sequence[Known], axis: int) -> Known:
    if len(operands) == 1:
        return operands[0]
    axis = checked_axis(axis, len(operands[0].shape))
    repeated = _repeat_of_slices(step, operands, axis)
    return step.apply("concat", *operands, axis=axis) if repeated is None else repeated


def _repeat_of_slices(step: Step, operands: Sequence[Known], axis: int) -> Known | None:
    """What Keras 2 makes of repeating along an axis: slices one thick, each given several times."""
    values = [operand for operand in operands if isinstance(operand, Value)]
    groups = [(value, len(list(same))) for value, same in itertools.groupby(values)]
    if len(values) < len(operands) or len({n for _, n in groups}) > 1:
        return None
    source, times = groups[0]
    origin = step.network.origin(source)
    if len(groups) > 1 and origin is not None:
        source = origin.inputs[0]
    if source.shape[axis : axis + 1] != (len(groups),):
        return None
    for number, (value, _) in enumerate(groups):
        begin, end = _between(source, axis, number, number + 1)
        place = {"begin": begin, "end": end, "strides": [1] * len(end)}
        if value != source and step.network.origin(value) != Origin("slice", (source,), place):
            return None
    return step.apply("repeat", source, axis=axis, times=times)


def _concat_axis_last(step: Step) -> Result:
    return _concat(step, step.all_known()[:-1], step.integer(len(step.inputs) - 1))


def _concat_axis_first(step: Step) -> Result:
    return _concat(step, step.all_known()[1:], step.integer(0))


def _pack(step: Step) -> Result:
    """Arrays side by side along a new axis."""
    operands = step.all_known()
    rank = len(operands[0].shape)
    axis = checked_axis(step.node.integer("axis", 0), rank + 1)
    thin = [[*operand.shape[:axis], 1, *operand.shape[axis:]] for operand in operands]
    if any(len(shape) != rank + 1 for shape in thin):
        raise ModelError("arrays of several ranks side by side; get the model again")
    parts = [reshape(step, one, shape) for one, shape in zip(operands, thin, strict=True)]
    return _concat(step, parts, axis)


SLICES: Mapping[str, Handler] = {
    "Split": _split,
    "SplitV": _split_by_sizes,
    "Unpack": _unpack,
    "Slice": _slice,
    "StridedSlice": _strided_slice,
    "ConcatV2": _concat_axis_last,
    "Concat": _concat_axis_first,
    "Pack": _pack,
}
