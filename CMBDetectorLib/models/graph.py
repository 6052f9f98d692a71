"""A network as a graph of operations: plain data, checked before anything is computed from it.

Networks of other software come as such graphs. Every value is an array as TensorFlow lays it out,
(batch, i, j, k, channels) for images; an operation means what it means there, apart from kernels,
which are stored as PyTorch wants them. Shapes are fixed, so padding is spelled out in numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from CMBDetectorLib.errors import ModelError

GRAPH_TARGET = "CMBDetectorLib.graph"
IMAGE = "image"
"""Name of the network's input."""
TENSOR_PREFIX = "#"
"""Inputs of a node that begin so are tensors of the weights' file."""
MAX_NODES = 20_000
_MAX_LENGTH = 4096
_MAX_INPUTS = 4096
_MAX_RANK = 8
_MAX_NAME = 200

Check = Callable[[Any], bool]


@dataclass(frozen=True)
class Node:
    """One operation; ``inputs`` name earlier nodes, :data:`IMAGE` or, with a ``#``, tensors."""

    name: str
    op: str
    inputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Graph:
    """Nodes in an order in which they can be computed.

    Attributes
    ----------
    image_shape
        Of the input: (i, j, k, channels), without the batch.
    nodes
        Each uses only what comes before it.
    output
        Name of the node whose value is the network's.
    """

    image_shape: tuple[int, int, int, int]
    nodes: tuple[Node, ...]
    output: str

    def tensor_names(self) -> tuple[str, ...]:
        """The tensors the nodes use, each once, in their order, without the ``#``."""
        used = (
            name[1:]
            for node in self.nodes
            for name in node.inputs
            if name.startswith(TENSOR_PREFIX)
        )
        return tuple(dict.fromkeys(used))


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= 2**31


def _is_number(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _wholes(length: int | None, low: int, high: int = _MAX_LENGTH) -> Check:
    def check(value: Any) -> bool:
        if not isinstance(value, list) or (length is not None and len(value) != length):
            return False
        return len(value) <= _MAX_RANK and all(_is_whole(v) and low <= v <= high for v in value)

    return check


def _pairs(length: int | None, low: int) -> Check:
    one = _wholes(2, low)

    def check(value: Any) -> bool:
        if not isinstance(value, list) or (length is not None and len(value) != length):
            return False
        return len(value) <= _MAX_RANK and all(map(one, value))

    return check


def _is_axis(value: Any) -> bool:
    return _is_whole(value) and 0 <= value < _MAX_RANK


_STRIDES = _wholes(3, 1)
_PADDING = _pairs(3, 0)
_POOL = {"size": _STRIDES, "strides": _STRIDES, "padding": _PADDING}


@dataclass(frozen=True)
class Operation:
    """How many inputs an operation takes, and its attributes; all of them must be given."""

    fewest: int
    most: int
    attributes: Mapping[str, Check] = field(default_factory=dict)


OPERATIONS: Mapping[str, Operation] = {
    # Kernels are (out, in / groups, i, j, k), of the transposed one (in, out, i, j, k).
    "conv": Operation(
        2,
        3,
        {"strides": _STRIDES, "dilations": _STRIDES, "padding": _PADDING, "groups": _wholes(1, 1)},
    ),
    # The full result, of which ``crop`` voxels are cut off at each end; below 0 zeros are added.
    "conv_transpose": Operation(2, 3, {"strides": _STRIDES, "crop": _pairs(3, -_MAX_LENGTH)}),
    "max_pool": Operation(1, 1, _POOL),
    # The mean over the voxels within the image.
    "avg_pool": Operation(1, 1, _POOL),
    "add": Operation(2, 2),
    "sub": Operation(2, 2),
    "mul": Operation(2, 2),
    "div": Operation(2, 2),
    "maximum": Operation(2, 2),
    "minimum": Operation(2, 2),
    "matmul": Operation(2, 2),
    "concat": Operation(1, _MAX_INPUTS, {"axis": _is_axis}),
    "pad": Operation(1, 1, {"padding": _pairs(None, 0), "value": _is_number}),
    "slice": Operation(
        1, 1, {"begin": _wholes(None, 0), "end": _wholes(None, 0), "strides": _wholes(None, 1)}
    ),
    "repeat": Operation(1, 1, {"axis": _is_axis, "times": lambda v: _is_whole(v) and v > 0}),
    "reshape": Operation(1, 1, {"shape": _wholes(None, 1, 2**31)}),
    "transpose": Operation(1, 1, {"order": _wholes(None, 0, _MAX_RANK - 1)}),
    "tile": Operation(1, 1, {"times": _wholes(None, 1)}),
    "broadcast": Operation(1, 1, {"shape": _wholes(None, 1, 2**31)}),
    "mean": Operation(1, 1, {"axes": _wholes(None, 0, _MAX_RANK - 1), "keep": _is_flag}),
    "max": Operation(1, 1, {"axes": _wholes(None, 0, _MAX_RANK - 1), "keep": _is_flag}),
    "softmax": Operation(1, 1, {"axis": _is_axis}),
    "leaky_relu": Operation(1, 1, {"slope": _is_number}),
    "elu": Operation(1, 1, {"alpha": _is_number}),
    "gelu": Operation(1, 1, {"approximate": _is_flag}),
    "prelu": Operation(2, 2),
    **{
        name: Operation(1, 1)
        for name in (
            "relu",
            "relu6",
            "selu",
            "sigmoid",
            "silu",
            "tanh",
            "softplus",
            "softsign",
            "exp",
            "log",
            "neg",
            "abs",
            "square",
            "sqrt",
            "rsqrt",
            "erf",
        )
    },
}


def graph_to_json(graph: Graph) -> dict[str, Any]:
    """The graph as the ``network_def`` of a bundle; :func:`parse_graph` reads it."""
    return {
        "_target_": GRAPH_TARGET,
        "image_shape": list(graph.image_shape),
        "nodes": [
            {"name": node.name, "op": node.op, "inputs": list(node.inputs), **node.attributes}
            for node in graph.nodes
        ],
        "output": graph.output,
    }


def parse_graph(network_def: Mapping[str, Any], source: object) -> Graph:
    """Check a ``network_def`` and read the graph in it.

    Raises
    ------
    ModelError
        If a key is missing or wrong, a node uses what does not come before it, or an operation or
        one of its attributes is not known.
    """
    unknown = set(network_def) - {"_target_", "image_shape", "nodes", "output"}
    if network_def.get("_target_") != GRAPH_TARGET or unknown:
        raise ModelError(f"{source}: not a graph of this software; import the model again")
    shape, nodes = network_def.get("image_shape"), network_def.get("nodes")
    if not isinstance(shape, list) or not _wholes(4, 1)(shape):
        raise ModelError(
            f"{source}: image_shape is {str(shape)[:80]}, expected [i, j, k, channels]"
        )
    if not isinstance(nodes, list) or not 0 < len(nodes) <= MAX_NODES:
        raise ModelError(f"{source}: expected a list of 1 to {MAX_NODES} nodes; import it again")
    known = {IMAGE}
    parsed = []
    for raw in nodes:
        node = _parse_node(raw, known, source)
        known.add(node.name)
        parsed.append(node)
    output = network_def.get("output")
    if not isinstance(output, str) or output not in known:
        raise ModelError(f"{source}: the output {str(output)[:80]!r} is none of its nodes")
    return Graph((shape[0], shape[1], shape[2], shape[3]), tuple(parsed), output)


def _parse_node(raw: Any, known: set[str], source: object) -> Node:
    if not isinstance(raw, dict) or not isinstance(raw.get("name"), str):
        raise ModelError(f"{source}: a node is {str(raw)[:80]}, expected an object with a name")
    name, op, inputs = raw["name"], raw.get("op"), raw.get("inputs")
    operation = OPERATIONS.get(op) if isinstance(op, str) else None
    if operation is None:
        raise ModelError(f"{source}: the node {name[:80]!r} has the unknown operation {op!r}")
    is_new = name not in known and 0 < len(name) <= _MAX_NAME and name[0] != TENSOR_PREFIX
    if not is_new:
        raise ModelError(f"{source}: {name[:80]!r} is not a new name for a node")
    if not isinstance(inputs, list) or not operation.fewest <= len(inputs) <= operation.most:
        raise ModelError(f"{source}: the node {name!r} has not the inputs that {op} takes")
    for value in inputs:
        if not isinstance(value, str) or not (value in known or value[:1] == TENSOR_PREFIX):
            raise ModelError(f"{source}: the node {name!r} uses {value!r}, which is not before it")
    attributes = {key: value for key, value in raw.items() if key not in ("name", "op", "inputs")}
    if set(attributes) != set(operation.attributes):
        raise ModelError(
            f"{source}: the node {name!r} has {', '.join(attributes) or 'no attributes'}; {op} "
            f"takes {', '.join(operation.attributes) or 'none'}"
        )
    for key, value in attributes.items():
        if not operation.attributes[key](value):
            raise ModelError(f"{source}: {key} of the node {name!r} is {str(value)[:80]}")
    return Node(name, str(op), tuple(inputs), attributes)
