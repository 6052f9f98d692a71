"""The steps of a graph at the image's full resolution, on a few planes at a time.

In a U-Net the largest arrays are those before the first pooling and after the last joining of both
branches; only planes near to each other are needed at once there.
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

PLANES = 16
_FEWEST_NODES = 2
_AXIS = 1
_RANK = 5
_POINTWISE = frozenset(
    {"add", "sub", "mul", "div", "maximum", "minimum", "prelu", "relu", "relu6", "selu", "sigmoid"}
    | {"silu", "tanh", "softplus", "softsign", "exp", "log", "neg", "abs", "square", "sqrt"}
    | {"rsqrt", "erf", "leaky_relu", "elu", "gelu"}
)


@dataclass(frozen=True)
class Segment:
    """Nodes ``first`` up to ``stop``, all at full resolution; ``shapes`` are those of all values.

    ``outputs`` are the nodes that what follows reads.
    """

    graph: Graph
    first: int
    stop: int
    outputs: tuple[str, ...]
    shapes: Mapping[str, Shape]

    @property
    def nodes(self) -> tuple[Node, ...]:
        """In the order of computation."""
        return self.graph.nodes[self.first : self.stop]

    def needs(self) -> frozenset[str]:
        """Values from before that the nodes read."""
        own = {node.name for node in self.nodes}
        return frozenset(
            name
            for node in self.nodes
            for name in node.inputs
            if name not in own and not name.startswith(TENSOR_PREFIX)
        )


def find_segments(graph: Graph, shapes: Mapping[str, Shape]) -> tuple[Segment, ...]:
    """The parts of a graph that are computed in slabs, in order."""
    n_planes = shapes[graph.output][_AXIS]
    if n_planes <= PLANES:
        return ()
    segments = []
    first = 0
    is_local = [_is_local(node, shapes, n_planes) for node in graph.nodes]
    for number in range(len(graph.nodes) + 1):
        if number < len(graph.nodes) and is_local[number]:
            continue
        if number - first >= _FEWEST_NODES:
            segments.append(_segment(graph, first, number, shapes))
        first = number + 1
    return tuple(segments)


def run_segment(
    segment: Segment, values: Mapping[str, Tensor], compute: Compute
) -> dict[str, Tensor]:
    """The segment's outputs, whole.

    Parameters
    ----------
    values
        What the segment needs from before, whole.
    compute
        Computes a node from its inputs, of which those with a ``#`` come empty and are its to
        look up.
    """
    run = _Run(segment, values, compute)
    n_planes = segment.shapes[segment.outputs[0]][_AXIS]
    for start in range(0, n_planes, PLANES):
        run.go_on(min(start + PLANES, n_planes))
    return run.outputs


def _segment(graph: Graph, first: int, stop: int, shapes: Mapping[str, Shape]) -> Segment:
    read = {name for node in graph.nodes[stop:] for name in node.inputs} | {graph.output}
    outputs = tuple(node.name for node in graph.nodes[first:stop] if node.name in read)
    return Segment(graph, first, stop, outputs, shapes)


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


class _Run:
    """Planes of every node as far as they are needed; none is computed twice."""

    def __init__(self, segment: Segment, values: Mapping[str, Tensor], compute: Compute) -> None:
        self._segment = segment
        self._values = values
        self._compute = compute
        self._readers: dict[str, list[Node]] = {node.name: [] for node in segment.nodes}
        for node in segment.nodes:
            for name in self._readers.keys() & set(node.inputs):
                self._readers[name].append(node)
        self._done = dict.fromkeys(self._readers, 0)
        self._parts: dict[str, tuple[Tensor, int]] = {}
        self.outputs: dict[str, Tensor] = {}

    def go_on(self, stop: int) -> None:
        """Compute the planes of the outputs that come next, up to one."""
        new = self._new_ranges(stop)
        for node in self._segment.nodes:
            if node.name in new:
                part = _part(node, self._segment, new[node.name], self._planes, self._compute)
                self._append(node.name, part)
                del part
                self._forget(node, new)

    def _new_ranges(self, stop: int) -> dict[str, Range]:
        """What is to be computed of each node, so that the outputs can be, up to a plane."""
        stops = dict.fromkeys(self._segment.outputs, stop)
        for node in reversed(self._segment.nodes):
            if stops.get(node.name, 0) > self._done[node.name]:
                wanted = (self._done[node.name], stops[node.name])
                for name in self._done.keys() & set(node.inputs):
                    needed = _source(node, self._segment, wanted, name)[1]
                    stops[name] = max(stops.get(name, 0), needed)
        return {
            name: (self._done[name], stop)
            for name, stop in stops.items()
            if stop > self._done[name]
        }

    def _append(self, name: str, part: Tensor) -> None:
        first, stop = self._done[name], self._done[name] + part.shape[_AXIS]
        self._done[name] = stop
        if name in self._segment.outputs:
            if name not in self.outputs:
                self.outputs[name] = part.new_empty(self._segment.shapes[name])
            self.outputs[name][:, first:stop] = part
        if not self._readers[name]:
            return
        if name in self._parts:
            before, first = self._parts[name]
            part = torch.cat([before, part], dim=_AXIS)
        self._parts[name] = (part, first)

    def _forget(self, node: Node, new: Mapping[str, Range]) -> None:
        """Drop the planes of a node's inputs that no node will read again."""
        for name in self._parts.keys() & set(node.inputs):
            readers = self._readers[name]
            if any(one.name in new and self._done[one.name] < new[one.name][1] for one in readers):
                continue
            keep = min(self._first_needed(one, name) for one in readers)
            part, first = self._parts.pop(name)
            if keep < self._done[name]:
                self._parts[name] = (part[:, keep - first :].clone(), keep)

    def _first_needed(self, reader: Node, name: str) -> int:
        """The first plane of an input that the rest of a node's result needs."""
        done, n_planes = self._done[reader.name], self._segment.shapes[reader.name][_AXIS]
        if done >= n_planes:
            return self._segment.shapes[name][_AXIS]
        return _source(reader, self._segment, (done, done + 1), name)[0]

    def _planes(self, name: str, needed: Range) -> Tensor:
        if name in self._parts:
            part, first = self._parts[name]
            return part[:, needed[0] - first : needed[1] - first]
        value = self._values[name]
        return value if value.shape[_AXIS] == 1 else value[:, slice(*needed)]


def _source(node: Node, segment: Segment, wanted: Range, name: str) -> Range:
    """The planes of an input that some planes of a node's result need."""
    start, stop = wanted
    n_planes = segment.shapes[name][_AXIS]
    if node.op == "conv":
        start, stop = start - node.attributes["padding"][0][0], stop - _surplus(node, segment)
    elif node.op == "repeat" and node.attributes["axis"] == _AXIS:
        times = node.attributes["times"]
        start, stop = start // times, -(-stop // times)
    return max(start, 0), min(stop, n_planes)


def _surplus(node: Node, segment: Segment) -> int:
    """By how many planes a result's last one is ahead of the last that a convolution needs."""
    low, high = node.attributes["padding"][0]
    n_planes, n_results = (segment.shapes[name][_AXIS] for name in (node.inputs[0], node.name))
    reach = n_planes + low + high - n_results
    return int(low - reach)


def _part(
    node: Node,
    segment: Segment,
    wanted: Range,
    planes: Callable[[str, Range], Tensor],
    compute: Compute,
) -> Tensor:
    """Some planes of a node's result."""
    inputs = [
        torch.empty(0)
        if name.startswith(TENSOR_PREFIX)
        else planes(name, _source(node, segment, wanted, name))
        for name in node.inputs
    ]
    start, stop = wanted
    if node.op == "conv":
        before = max(node.attributes["padding"][0][0] - start, 0)
        after = max(stop - _surplus(node, segment) - segment.shapes[node.inputs[0]][_AXIS], 0)
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
