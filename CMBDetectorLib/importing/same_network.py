"""Networks as the members of one ensemble: one graph, and the tensors of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from CMBDetectorLib.errors import ModelError
from CMBDetectorLib.models.graph import IMAGE, TENSOR_PREFIX, Graph, Node

Tensors = Mapping[str, npt.NDArray[np.float32]]


def with_plain_names(
    graph: Graph, tensors: Tensors
) -> tuple[Graph, dict[str, npt.NDArray[np.float32]]]:
    """The network with names by the order of its nodes.

    Layers are numbered through a training session, so that the same layer has another name in each
    fold.
    """
    values: dict[str, str] = {IMAGE: IMAGE}
    renamed: dict[str, npt.NDArray[np.float32]] = {}
    nodes = []
    for number, node in enumerate(graph.nodes, start=1):
        inputs: list[str] = []
        for name in node.inputs:
            if name.startswith(TENSOR_PREFIX) and name not in values:
                plain = f"{number}.{node.op}.{len(inputs)}"
                values[name] = TENSOR_PREFIX + plain
                renamed[plain] = tensors[name[1:]]
            inputs.append(values[name])
        values[node.name] = f"{number}.{node.op}"
        nodes.append(Node(values[node.name], node.op, tuple(inputs), node.attributes))
    return Graph(graph.image_shape, tuple(nodes), values[graph.output]), renamed


def as_ensemble(
    networks: Sequence[tuple[Graph, Tensors]], names: Sequence[str]
) -> tuple[Graph, list[dict[str, npt.NDArray[np.float32]]]]:
    """One graph for all, and the tensors of each.

    Parameters
    ----------
    names
        Of the networks, for errors.

    Raises
    ------
    ModelError
        If two networks differ in more than their numbers.
    """
    plain = [with_plain_names(*network) for network in networks]
    first, first_tensors = plain[0]
    shapes = {name: array.shape for name, array in first_tensors.items()}
    for (graph, tensors), name in zip(plain[1:], names[1:], strict=True):
        if graph != first or {one: array.shape for one, array in tensors.items()} != shapes:
            raise ModelError(
                f"{name}: another network than {names[0]}; the members of an ensemble are alike, "
                "import the two one by one"
            )
    return first, [tensors for _, tensors in plain]
