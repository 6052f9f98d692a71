"""Making an imported graph smaller: the same function of the image in fewer steps.

Batch normalisation comes as a product and a sum by channel; after a convolution both go into its
kernel and bias, computed in double precision.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from CMBDetectorLib.models.graph import IMAGE, TENSOR_PREFIX, Graph, Node

FloatArray = npt.NDArray[np.float32]
_KERNEL_RANK = 5


def simplify(
    graph: Graph, tensors: Mapping[str, FloatArray]
) -> tuple[Graph, dict[str, FloatArray]]:
    """Fold what follows a convolution into it, and join ``x * sigmoid(x)`` to ``silu``.

    Returns
    -------
    graph, tensors
        New ones; those given stay as they are.
    """
    nodes, output = _without_idle(graph)
    folding = _Folding(_with_silu(nodes, output), dict(tensors), output)
    smaller = Graph(graph.image_shape, folding.run(), output)
    return smaller, {name: folding.tensors[name] for name in smaller.tensor_names()}


def _readers(nodes: list[Node], output: str) -> dict[str, list[int]]:
    """By the name of a value, the numbers of the nodes that read it; -1 is the caller."""
    readers: dict[str, list[int]] = {output: [-1]}
    for number, node in enumerate(nodes):
        for name in node.inputs:
            readers.setdefault(name, []).append(number)
    return readers


def _without_idle(graph: Graph) -> tuple[list[Node], str]:
    """Without padding by nothing and repetition once, and the name the output has then."""
    meant: dict[str, str] = {}
    nodes = []
    for node in graph.nodes:
        inputs = tuple(meant.get(name, name) for name in node.inputs)
        is_idle = (node.op == "pad" and not any(map(any, node.attributes["padding"]))) or (
            node.op == "repeat" and node.attributes["times"] == 1
        )
        if is_idle and inputs[0] != IMAGE:
            meant[node.name] = inputs[0]
        else:
            nodes.append(Node(node.name, node.op, inputs, node.attributes))
    return nodes, meant.get(graph.output, graph.output)


def _with_silu(nodes: list[Node], output: str) -> list[Node]:
    readers = _readers(nodes, output)
    sigmoid_of = {
        node.name: node.inputs[0]
        for node in nodes
        if node.op == "sigmoid" and len(readers.get(node.name, [])) == 1
    }
    joined: list[Node] = []
    gone: set[str] = set()
    for node in nodes:
        first, *rest = node.inputs
        if node.op == "mul" and sigmoid_of.get(rest[0]) == first:
            gone.add(rest[0])
            joined.append(Node(node.name, "silu", (first,)))
        elif node.op == "mul" and sigmoid_of.get(first) == rest[0]:
            gone.add(first)
            joined.append(Node(node.name, "silu", (rest[0],)))
        else:
            joined.append(node)
    return [node for node in joined if node.name not in gone]


class _Folding:
    """Products and sums by channel that directly follow a convolution go into it."""

    def __init__(self, nodes: list[Node], tensors: dict[str, FloatArray], output: str) -> None:
        self.tensors = tensors
        self._nodes: list[Node | None] = list(nodes)
        self._readers = _readers(nodes, output)

    def run(self) -> tuple[Node, ...]:
        """The nodes that are left. A folded convolution has the name of its last step."""
        for number, node in enumerate(self._nodes):
            if node is not None and node.op in ("conv", "conv_transpose"):
                self._fold(number, node)
        return tuple(node for node in self._nodes if node is not None)

    def _fold(self, number: int, conv: Node) -> None:
        if any(len(self._readers[name]) > 1 for name in conv.inputs[1:]):
            return
        while len(self._readers.get(conv.name, [])) == 1:
            following = self._readers[conv.name][0]
            step = self._nodes[following] if following >= 0 else None
            folded = None if step is None else self._folded(conv, step)
            if step is None or folded is None:
                return
            conv = Node(step.name, folded.op, folded.inputs, folded.attributes)
            self._nodes[number], self._nodes[following] = conv, None

    def _folded(self, conv: Node, step: Node) -> Node | None:
        """The convolution with the step in it; None where the step is no such one."""
        kernel = self._tensor(conv.inputs[1])
        if kernel is None or kernel.ndim != _KERNEL_RANK or step.op not in ("mul", "add", "sub"):
            return None
        first, second = step.inputs
        if step.op == "sub" and second == conv.name:
            return None
        values = self._by_channel(second if first == conv.name else first, self._channels(conv))
        if values is None:
            return None
        bias = self._tensor(conv.inputs[2]) if len(conv.inputs) > 2 else None
        offset = np.zeros(len(values)) if bias is None else bias.astype(np.float64)
        name = conv.inputs[1][1:]
        if step.op == "mul":
            self.tensors[name] = self._scaled(conv, kernel, values)
            offset = offset * values
            if bias is None:
                return conv
        else:
            offset = offset + values if step.op == "add" else offset - values
        bias_name = conv.inputs[2][1:] if bias is not None else f"{name}/bias"
        self.tensors[bias_name] = offset.astype(np.float32)
        inputs = (*conv.inputs[:2], TENSOR_PREFIX + bias_name)
        return Node(conv.name, conv.op, inputs, conv.attributes)

    def _scaled(
        self, conv: Node, kernel: FloatArray, values: npt.NDArray[np.float64]
    ) -> FloatArray:
        axis = 0 if conv.op == "conv" else 1
        shape = [1] * _KERNEL_RANK
        shape[axis] = -1
        return np.ascontiguousarray(kernel * values.reshape(shape), dtype=np.float32)

    def _channels(self, conv: Node) -> int:
        kernel = self.tensors[conv.inputs[1][1:]]
        return int(kernel.shape[0 if conv.op == "conv" else 1])

    def _tensor(self, name: str) -> FloatArray | None:
        return self.tensors.get(name[1:]) if name.startswith(TENSOR_PREFIX) else None

    def _by_channel(self, name: str, n_channels: int) -> npt.NDArray[np.float64] | None:
        """A tensor that is one value for each channel, or one for all."""
        values = self._tensor(name)
        if values is None or values.ndim > _KERNEL_RANK or values.size not in (1, n_channels):
            return None
        if values.size > 1 and values.shape[-1] != n_channels:
            return None
        return np.broadcast_to(values.ravel().astype(np.float64), (n_channels,))
