"""What a TensorFlow graph is turned into: arrays that are known, and operations on the image.

Each value is one or the other. An operation whose inputs are all known is computed at once, with
NumPy; any other becomes one of the network's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from CMBDetectorLib.errors import ModelError
from CMBDetectorLib.importing.graph_builder import FloatArray, GraphBuilder, Value
from CMBDetectorLib.importing.tensorflow_types import Array
from CMBDetectorLib.models.graph import MAX_NODES, OPERATIONS, Graph

_MAX_VALUES_PER_VOXEL = 4096
_FEWEST_CONSTANTS = 2**22


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable itself, not its values; named by its node."""

    node: str


Known = Array | Value
Operand = Array | Value | Variable
_Attributes = Mapping[str, Any]
_Compute = Callable[[Sequence[Array], _Attributes], Array]


@dataclass(frozen=True, slots=True)
class Origin:
    """The operation that gave a value."""

    op: str
    inputs: tuple[Value, ...]
    attributes: _Attributes


def is_one_value(array: Array) -> bool:
    """Whether an array is one value throughout, as a look at how it is stored tells."""
    return array.size > 0 and not any(
        step for n, step in zip(array.shape, array.strides, strict=True) if n > 1
    )


def _slices(a: _Attributes) -> tuple[slice, ...]:
    return tuple(map(slice, a["begin"], a["end"], a["strides"]))


_KNOWN: Mapping[str, _Compute] = {
    "add": lambda x, _: x[0] + x[1],
    "sub": lambda x, _: x[0] - x[1],
    "mul": lambda x, _: x[0] * x[1],
    "div": lambda x, _: x[0] / x[1],
    "maximum": lambda x, _: np.maximum(x[0], x[1]),
    "minimum": lambda x, _: np.minimum(x[0], x[1]),
    "matmul": lambda x, _: x[0] @ x[1],
    "neg": lambda x, _: -x[0],
    "abs": lambda x, _: abs(x[0]),
    "square": lambda x, _: x[0] * x[0],
    "sqrt": lambda x, _: np.sqrt(x[0]),
    "rsqrt": lambda x, _: 1 / np.sqrt(x[0]),
    "exp": lambda x, _: np.exp(x[0]),
    "log": lambda x, _: np.log(x[0]),
    "tanh": lambda x, _: np.tanh(x[0]),
    "sigmoid": lambda x, _: 1 / (1 + np.exp(-x[0])),
    "softplus": lambda x, _: np.logaddexp(x[0], 0),
    "relu": lambda x, _: np.maximum(x[0], 0),
    "mean": lambda x, a: x[0].mean(tuple(a["axes"]), keepdims=a["keep"]),
    "max": lambda x, a: x[0].max(tuple(a["axes"]), keepdims=a["keep"]),
    "concat": lambda x, a: np.concatenate(x, a["axis"]),
    "pad": lambda x, a: np.pad(x[0], a["padding"], constant_values=a["value"]),
    "tile": lambda x, a: np.tile(x[0], a["times"]),
    "reshape": lambda x, a: x[0].reshape(a["shape"]),
    "transpose": lambda x, a: x[0].transpose(a["order"]),
    "broadcast": lambda x, a: np.broadcast_to(x[0], a["shape"]),
    "slice": lambda x, a: x[0][_slices(a)],
}


def _n_computed(op: str, arrays: Sequence[Array], attributes: _Attributes) -> int:
    """How many numbers an operation on known arrays reads or gives, none for views."""
    first = arrays[0]
    if op in ("transpose", "broadcast", "slice"):
        n_values = 0
    elif op == "reshape":
        n_values = 0 if first.flags.c_contiguous else first.size
    elif op == "tile":
        n_values = first.size * math.prod(attributes["times"])
    elif op == "pad":
        padding = attributes["padding"]
        n_values = math.prod(
            n + low + high for n, (low, high) in zip(first.shape, padding, strict=True)
        )
    elif op == "matmul":
        n_values = first.size * arrays[1].size
    elif op == "concat":
        n_values = sum(array.size for array in arrays)
    else:
        n_values = math.prod(np.broadcast_shapes(*(array.shape for array in arrays)))
    return n_values


class Network:
    """The network as it grows, with limits on what an untrusted file can make it be.

    Parameters
    ----------
    image_shape
        Of the input: (i, j, k, channels).
    n_bytes
        Of the model's files.
    """

    def __init__(self, image_shape: tuple[int, int, int, int], n_bytes: int) -> None:
        self._builder = GraphBuilder(image_shape)
        self.image = self._builder.image
        n_voxels = math.prod(image_shape[:3])
        self._n_left = _FEWEST_CONSTANTS + 8 * n_voxels + 4 * n_bytes
        self._largest = max(_MAX_VALUES_PER_VOXEL * n_voxels, _FEWEST_CONSTANTS)
        self._n_added = 0
        self._origins: dict[str, Origin] = {}
        self._stored: dict[tuple[int, tuple[int, ...]], tuple[Array, Value]] = {}
        self._n_of_name: dict[str, int] = {}

    def finish(self, output: Value) -> tuple[Graph, dict[str, FloatArray]]:
        """The graph up to a value, and the tensors it needs."""
        graph = self._builder.graph(output)
        return graph, self._builder.tensors

    def spend(self, n_values: int) -> None:
        """Count numbers that are computed while reading the model.

        Raises
        ------
        ModelError
            If they are more than any real model needs.
        """
        self._n_left -= n_values
        if self._n_left < 0:
            raise ModelError("constants larger than the model's files account for; get it again")

    def apply(self, name: str, op: str, operands: Sequence[Known], **attributes: Any) -> Known:
        """An operation of :data:`~CMBDetectorLib.models.graph.OPERATIONS`, computed or added.

        Parameters
        ----------
        name
            For the tensors it needs.

        Raises
        ------
        ModelError
            If it does not take such arrays, or too much would be computed.
        """
        arrays = [operand for operand in operands if not isinstance(operand, Value)]
        if len(arrays) == len(operands) and op in _KNOWN:
            return self._computed(op, arrays, attributes)
        return self.add(op, [self.value(name, operand) for operand in operands], **attributes)

    def _computed(self, op: str, arrays: Sequence[Array], attributes: _Attributes) -> Array:
        """The result; of arrays that are one value throughout only that value is computed."""
        is_by_number = op in OPERATIONS and not OPERATIONS[op].attributes and op != "matmul"
        shape = np.broadcast_shapes(*(array.shape for array in arrays)) if is_by_number else ()
        if is_by_number and all(map(is_one_value, arrays)):
            arrays = [array[(0,) * array.ndim] for array in arrays]
        self.spend(1 + _n_computed(op, arrays, attributes))
        with np.errstate(all="ignore"):
            result = np.asarray(_KNOWN[op](arrays, attributes))
        return np.broadcast_to(result, shape) if is_by_number else result

    def add(self, op: str, inputs: Sequence[Value], **attributes: Any) -> Value:
        """An operation of the network.

        Raises
        ------
        ModelError
            If it does not take such arrays, gives too large a one, or there are too many.
        """
        self._n_added += 1
        if self._n_added > MAX_NODES:
            raise ModelError(f"more than {MAX_NODES} operations; get the model again")
        value = self._builder.add(op, inputs, **attributes)
        if math.prod(value.shape) > self._largest:
            raise ModelError(f"an array of shape {value.shape}, too large for the image")
        self._origins[value.name] = Origin(op, tuple(inputs), attributes)
        return value

    def origin(self, value: Known) -> Origin | None:
        """What gave a value; None for the image and tensors."""
        return self._origins.get(value.name) if isinstance(value, Value) else None

    def value(self, name: str, operand: Known, order: tuple[int, ...] = ()) -> Value:
        """An operand of the network; what is known becomes a tensor, its axes in ``order``."""
        if isinstance(operand, Value):
            return operand
        stored = self._stored.get((id(operand), order))
        if stored is not None:
            return stored[1]
        is_splat = operand.size > 1 and is_one_value(operand) and not order
        array = operand[(0,) * operand.ndim] if is_splat else operand
        array = array.transpose(order) if order else array
        self.spend(array.size)
        copy = np.array(array, np.float32, order="C")
        value = self._builder.constant(self._new_name(name), copy)
        if is_splat:
            value = self.add("broadcast", [value], shape=list(operand.shape))
        self._stored[id(operand), order] = operand, value
        return value

    def _new_name(self, name: str) -> str:
        """A name for a tensor that no other has."""
        name = name.removesuffix("/ReadVariableOp")[:150]
        number = self._n_of_name.get(name, 0) + 1
        self._n_of_name[name] = number
        return name if number == 1 else f"{name}_{number}"
