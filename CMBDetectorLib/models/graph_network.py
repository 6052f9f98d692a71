"""A graph as a PyTorch module, which keeps no array longer than it is needed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from CMBDetectorLib.errors import ModelError
from CMBDetectorLib.models.graph import IMAGE, TENSOR_PREFIX, Graph, Node
from CMBDetectorLib.models.graph_operations import COMPUTE, IN_PLACE, NEW_ARRAYS
from CMBDetectorLib.models.graph_slabs import find_segments, run_segment

MAX_VALUES = 2**31
"""Numbers in one array, which are 8 GiB."""
_NOTHING = torch.empty(0)


class GraphNetwork(nn.Module):
    """Computes a graph: (batch, channels, i, j, k) to (batch, channels, i, j, k), as in PyTorch.

    Parameters
    ----------
    graph
        From :func:`~CMBDetectorLib.models.graph.parse_graph`.
    tensors
        What the graph names as its tensors; kernels as PyTorch lays them out.

    Raises
    ------
    ModelError
        If a tensor is missing or left over, or operations and shapes do not fit together; this is
        found out without computing anything.
    """

    def __init__(self, graph: Graph, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        names = graph.tensor_names()
        missing, unknown = sorted(set(names) - set(tensors)), sorted(set(tensors) - set(names))
        if missing or unknown:
            raise ModelError(
                f"the tensors are not those of the network; {len(missing)} missing "
                f"({', '.join(missing[:2]) or '-'}), {len(unknown)} unknown "
                f"({', '.join(unknown[:2]) or '-'})"
            )
        self.graph = graph
        self._buffer_of = {name: f"tensor_{number}" for number, name in enumerate(names)}
        for name, buffer in self._buffer_of.items():
            self.register_buffer(buffer, tensors[name])
        shapes = _check_shapes(graph, tensors)
        self.output_shape = shapes[graph.output]
        self._last_use = _last_uses(graph)
        self._in_place = _in_place_nodes(graph, shapes)
        self.segments = find_segments(graph, shapes)
        for segment in self.segments:
            # Slabs overlap in what they read from before; nothing of it may be overwritten.
            outside = segment.needs()
            self._in_place -= {one.name for one in segment.nodes if one.inputs[0] in outside}

    def forward(self, image: Tensor) -> Tensor:
        """Run the network on (batch, channels, i, j, k)."""
        values = {IMAGE: image.permute(0, 2, 3, 4, 1)}
        segments = {segment.first: segment for segment in self.segments}
        number = 0
        while number < len(self.graph.nodes):
            node, stop = self.graph.nodes[number], number + 1
            if number in segments:
                segment = segments[number]
                results, stop = run_segment(segment, values, self._compute), segment.stop
            else:
                inputs = [values.get(name, _NOTHING) for name in node.inputs]
                results = {node.name: self._compute(node, inputs)}
                del inputs
            for done in range(number, stop):
                for name in self._last_use.get(done, ()):
                    values.pop(name, None)
            values |= results
            del results
            number = stop
        return values[self.graph.output].permute(0, 4, 1, 2, 3)

    def _compute(self, node: Node, inputs: Sequence[Tensor]) -> Tensor:
        """A node's result from its inputs, with the network's own tensors put in."""
        inputs = [
            self.get_buffer(self._buffer_of[name[1:]]) if name.startswith(TENSOR_PREFIX) else value
            for name, value in zip(node.inputs, inputs, strict=True)
        ]
        compute = IN_PLACE[node.op] if node.name in self._in_place else COMPUTE[node.op]
        return compute(inputs, node.attributes)


def result_shape(node: Node, shapes: list[tuple[int, ...]]) -> tuple[int, ...]:
    """Shape of a node's result from those of its inputs; nothing is computed.

    Raises
    ------
    ModelError
        If the operation does not take such arrays.
    """
    inputs = [torch.empty(shape, device="meta") for shape in shapes]
    try:
        return tuple(COMPUTE[node.op](inputs, node.attributes).shape)
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        problem = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(
            f"the operation {node.op} ({node.name}) does not take arrays of shape "
            f"{', '.join(map(str, shapes))} ({problem})"
        ) from error


def _check_shapes(graph: Graph, tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """The shape of every value."""
    values: dict[str, tuple[int, ...]] = {IMAGE: (1, *graph.image_shape)}
    values |= {TENSOR_PREFIX + name: tuple(tensor.shape) for name, tensor in tensors.items()}
    for node in graph.nodes:
        values[node.name] = result_shape(node, [values[name] for name in node.inputs])
        if math.prod(values[node.name]) > MAX_VALUES:
            raise ModelError(
                f"the operation {node.op} ({node.name}) makes an array of shape "
                f"{values[node.name]}, over {MAX_VALUES} numbers; the model cannot be run"
            )
    shape = values[graph.output]
    if len(shape) != 5 or shape[1:4] != graph.image_shape[:3]:
        raise ModelError(
            f"the network gives an array of shape {shape}, expected the image's, "
            f"{(1, *graph.image_shape[:3])}, and channels"
        )
    return values


def _last_uses(graph: Graph) -> dict[int, tuple[str, ...]]:
    """By the number of a node, the values that none needs after it."""
    last = {name: number for number, node in enumerate(graph.nodes) for name in node.inputs}
    for number, node in enumerate(graph.nodes):
        last.setdefault(node.name, number)
    uses: dict[int, list[str]] = {}
    for name, number in last.items():
        is_own = name == graph.nodes[number].name
        if name != graph.output and not name.startswith(TENSOR_PREFIX) and not is_own:
            uses.setdefault(number, []).append(name)
    return {number: tuple(names) for number, names in uses.items()}


def _in_place_nodes(graph: Graph, shapes: Mapping[str, tuple[int, ...]]) -> frozenset[str]:
    """The nodes that may overwrite their first input: a new array none else reads."""
    readers: dict[str, int] = {}
    for node in graph.nodes:
        for name in node.inputs:
            readers[name] = readers.get(name, 0) + 1
    is_new = {node.name for node in graph.nodes if node.op in NEW_ARRAYS}
    return frozenset(
        node.name
        for node in graph.nodes
        if node.op in IN_PLACE
        and node.inputs[0] in is_new
        and readers[node.inputs[0]] == 1
        and node.inputs[0] != graph.output
        and shapes[node.inputs[0]] == shapes[node.name]
    )
