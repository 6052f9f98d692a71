"""Putting a graph together, one operation after the other, with the shape of every value known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from CMBDetectorLib.models.graph import IMAGE, TENSOR_PREFIX, Graph, Node
from CMBDetectorLib.settings import ConformSettings

FloatArray = npt.NDArray[np.float32]

DEFAULT_SHAPE = ConformSettings().shape
"""Of the image, where a model leaves it open: that of SHIVA's models."""


@dataclass(frozen=True)
class Value:
    """What an operation gives: its name in the graph and its shape, the batch included."""

    name: str
    shape: tuple[int, ...]


class GraphBuilder:
    """Nodes and tensors of a graph that grows.

    Parameters
    ----------
    image_shape
        Of the network's input: (i, j, k, channels).
    """

    def __init__(self, image_shape: tuple[int, int, int, int]) -> None:
        self.image = Value(IMAGE, (1, *image_shape))
        self.tensors: dict[str, FloatArray] = {}
        self._nodes: list[Node] = []
        self._image_shape = image_shape

    def constant(self, name: str, values: npt.ArrayLike) -> Value:
        """A tensor of the network, in single precision; a name that is taken gets a number."""
        array = np.ascontiguousarray(values, dtype=np.float32)
        taken, number = name, 1
        while taken in self.tensors:
            number += 1
            taken = f"{name}_{number}"
        self.tensors[taken] = array
        return Value(TENSOR_PREFIX + taken, array.shape)

    def add(self, op: str, inputs: Sequence[Value], **attributes: Any) -> Value:
        """Append an operation of :data:`~CMBDetectorLib.models.graph.OPERATIONS`.

        Raises
        ------
        ModelError
            If it does not take such arrays.
        """
        from CMBDetectorLib.models.graph_network import result_shape

        name = f"{op}_{len(self._nodes) + 1}"
        node = Node(name, op, tuple(value.name for value in inputs), attributes)
        shape = result_shape(node, [value.shape for value in inputs])
        self._nodes.append(node)
        return Value(name, shape)

    def graph(self, output: Value) -> Graph:
        """The graph up to an output, without what that does not need."""
        needed, kept = {output.name}, []
        for node in reversed(self._nodes):
            if node.name in needed:
                needed.update(node.inputs)
                kept.append(node)
        graph = Graph(self._image_shape, tuple(reversed(kept)), output.name)
        used = set(graph.tensor_names())
        self.tensors = {name: array for name, array in self.tensors.items() if name in used}
        return graph


def same_padding(
    size: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> list[list[int]]:
    """TensorFlow's padding "same" in voxels at both ends; where it is odd, more at the far end.

    References
    ----------
    TensorFlow API, "tf.nn.convolution", notes on padding.
    """
    padding = []
    for n, width, stride, dilation in zip(size, kernel, strides, dilations, strict=True):
        reach = (width - 1) * dilation + 1
        total = max((-(-n // stride) - 1) * stride + reach - n, 0)
        padding.append([total // 2, total - total // 2])
    return padding


def transposed_crop(
    size: Sequence[int], kernel: Sequence[int], strides: Sequence[int], result: Sequence[int]
) -> list[list[int]]:
    """What to cut off the full transposed convolution to get TensorFlow's, of size ``result``.

    The transpose of the convolution that takes ``result`` to ``size``: its padding is what is cut
    off. Below 0 zeros are added instead.
    """
    crop = []
    for n, width, stride, wanted in zip(size, kernel, strides, result, strict=True):
        full = (n - 1) * stride + width
        low = max(full - wanted, 0) // 2
        crop.append([low, full - wanted - low])
    return crop
