"""The last steps of a graph, at the image's full resolution, on a few planes at a time.

In a U-Net the largest arrays are those around the last joining of both branches; only planes near
to each other are needed at once there. Neighbors' planes at the seams are computed twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from CMBDetectorLib.models.graph import TENSOR_PREFIX, Graph, Node

Shape = tuple[int, ...]
Range = tuple[int, int]
Compute = Callable[[Node, Sequence[Tensor]], Tensor]

PLANES = 40
_AXIS = 1
_RANK = 5
_POINTWISE = frozenset(
    {"add", "sub", "mul", "div", "maximum", "minimum", "prelu", "relu", "relu6", "selu", "sigmoid"}
    | {"silu", "tanh", "softplus", "softsign", "exp", "log", "neg", "abs", "square", "sqrt"}
    | {"rsqrt", "erf", "leaky_relu", "elu", "gelu"}
)


@dataclass(frozen=True)
class Tail:
    """The nodes from ``first`` on; ``shapes`` are those of all values."""

    graph: Graph
    first: int
    shapes: Mapping[str, Shape]

    @property
    def nodes(self) -> tuple[Node, ...]:
        """In the order of computation."""
        return self.graph.nodes[self.first :]

    def needs(self) -> frozenset[str]:
        """Values from before that the nodes read."""
        own = {node.name for node in self.nodes}
        return frozenset(
            name
            for node in self.nodes
            for name in node.inputs
            if name not in own and not name.startswith(TENSOR_PREFIX)
        )


def find_tail(graph: Graph, shapes: Mapping[str, Shape]) -> Tail | None:
    """What can be computed in slabs at the end of a graph; None where that is nothing."""
    full = shapes[graph.output]
    first = len(graph.nodes)
    while first > 0 and _is_local(graph.nodes[first - 1], shapes, full[_AXIS]):
        first -= 1
    if full[_AXIS] <= PLANES or len(graph.nodes) - first < 2:
        return None
    return Tail(graph, first, shapes)


def run_tail(tail: Tail, values: Mapping[str, Tensor], compute: Compute) -> Tensor:
    """The graph's output.

    Parameters
    ----------
    values
        What the tail needs from before, whole.
    compute
        Computes a node from its inputs, of which those with a ``#`` come empty and are its to
        look up.
    """
    n_planes = tail.shapes[tail.graph.output][_AXIS]
    slabs = [
        _slab(tail, values, compute, (start, min(start + PLANES, n_planes)))
        for start in range(0, n_planes, PLANES)
    ]
    return torch.cat(slabs, dim=_AXIS)


def _is_local(node: Node, shapes: Mapping[str, Shape], n_planes: int) -> bool:
    """Whether planes of the result come from nearby planes of what it is made of."""
    result = shapes[node.name]
    images = [shapes[name] for name in node.inputs if not name.startswith(TENSOR_PREFIX)]
    if len(result) != _RANK or result[_AXIS] != n_planes or any(len(s) != _RANK for s in images):
        return False
    if node.op in _POINTWISE:
        return all(_is_even(shapes[name], result) for name in node.inputs)
    keeps_planes: dict[str, Callable[[Mapping[str, Any]], bool]] = {
        "conv": lambda a: a["strides"][0] == 1,
        "concat": lambda a: a["axis"] != _AXIS,
        "repeat": lambda _: True,
        "pad": lambda a: a["padding"][_AXIS] == [0, 0],
        "slice": lambda _: images[0][_AXIS] == n_planes,
    }
    return node.op in keeps_planes and keeps_planes[node.op](node.attributes)


def _is_even(shape: Shape, result: Shape) -> bool:
    """Whether an input has all planes of the result, or one number for all of them."""
    planes = shape[-_RANK + _AXIS] if len(shape) >= _RANK - _AXIS else 1
    return planes == 1 or (len(shape) == _RANK and planes == result[_AXIS])


def _slab(tail: Tail, values: Mapping[str, Tensor], compute: Compute, wanted: Range) -> Tensor:
    ranges = _ranges(tail, wanted)
    parts: dict[str, tuple[Tensor, int]] = {}
    last = {name: number for number, node in enumerate(tail.nodes) for name in node.inputs}

    def planes(name: str, needed: Range) -> Tensor:
        if name in parts:
            part, first = parts[name]
            return part[:, needed[0] - first : needed[1] - first]
        value = values[name]
        return value if value.shape[_AXIS] == 1 else value[:, slice(*needed)]

    for number, node in enumerate(tail.nodes):
        if node.name in ranges:
            part = _part(node, tail, ranges[node.name], planes, compute)
            parts[node.name] = (part, ranges[node.name][0])
            for name in node.inputs:
                if last[name] == number:
                    parts.pop(name, None)
            del part
    return planes(tail.graph.output, wanted)


def _ranges(tail: Tail, wanted: Range) -> dict[str, Range]:
    """The planes of each of the tail's nodes that the wanted planes of the output need."""
    ranges: dict[str, Range] = {tail.graph.output: wanted}
    own = {node.name for node in tail.nodes}
    for node in reversed(tail.nodes):
        if node.name not in ranges:
            continue
        for name in own.intersection(node.inputs):
            start, stop = _source(node, tail, ranges[node.name], name)
            known = ranges.get(name, (start, stop))
            ranges[name] = (min(known[0], start), max(known[1], stop))
    return ranges


def _source(node: Node, tail: Tail, wanted: Range, name: str) -> Range:
    """The planes of an input that some planes of a node's result need."""
    start, stop = wanted
    n_planes = tail.shapes[name][_AXIS]
    if node.op == "conv":
        start, stop = start - node.attributes["padding"][0][0], stop - _surplus(node, tail)
    elif node.op == "repeat" and node.attributes["axis"] == _AXIS:
        times = node.attributes["times"]
        start, stop = start // times, -(-stop // times)
    return max(start, 0), min(stop, n_planes)


def _surplus(node: Node, tail: Tail) -> int:
    """By how many planes a result's last one is ahead of the last that a convolution needs."""
    low, high = node.attributes["padding"][0]
    n_planes, n_results = (tail.shapes[name][_AXIS] for name in (node.inputs[0], node.name))
    reach = n_planes + low + high - n_results
    return int(low - reach)


def _part(
    node: Node, tail: Tail, wanted: Range, planes: Callable[[str, Range], Tensor], compute: Compute
) -> Tensor:
    """Some planes of a node's result."""
    inputs = [
        torch.empty(0)
        if name.startswith(TENSOR_PREFIX)
        else planes(name, _source(node, tail, wanted, name))
        for name in node.inputs
    ]
    start, stop = wanted
    if node.op == "conv":
        before = max(node.attributes["padding"][0][0] - start, 0)
        after = max(stop - _surplus(node, tail) - tail.shapes[node.inputs[0]][_AXIS], 0)
        padding = [[before, after], *node.attributes["padding"][1:]]
        node = replace(node, attributes={**node.attributes, "padding": padding})
    elif node.op == "slice":
        begin, end = list(node.attributes["begin"]), list(node.attributes["end"])
        begin[_AXIS], end[_AXIS] = 0, stop - start
        node = replace(node, attributes={**node.attributes, "begin": begin, "end": end})
    result = compute(node, inputs)
    if node.op == "repeat" and node.attributes["axis"] == _AXIS:
        first = start % node.attributes["times"]
        result = result[:, first : first + stop - start]
    return result
