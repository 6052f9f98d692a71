"""Graphs as data: what is accepted, and what is refused in words."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from CMBDetectorLib.errors import ModelError
from CMBDetectorLib.models.graph import OPERATIONS, Graph, Node, graph_to_json, parse_graph

CONV = {
    "strides": [1, 1, 1],
    "dilations": [1, 1, 1],
    "padding": [[1, 1], [1, 1], [1, 2]],
    "groups": [1],
}
GRAPH = Graph(
    (8, 9, 10, 1),
    (
        Node("a", "conv", ("image", "#kernel", "#bias"), CONV),
        Node("b", "relu", ("a",)),
        Node("c", "add", ("b", "a")),
        Node("d", "concat", ("c", "b"), {"axis": 4}),
    ),
    "d",
)


def network_def() -> dict[str, Any]:
    return json.loads(json.dumps(graph_to_json(GRAPH)))


def test_json_and_back() -> None:
    assert parse_graph(network_def(), "test") == GRAPH


def test_tensor_names_are_those_used() -> None:
    assert GRAPH.tensor_names() == ("kernel", "bias")


def change(path: list[Any], value: Any) -> dict[str, Any]:
    changed = network_def()
    inner: Any = changed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return changed


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        (["_target_"], "os.system", "not a graph"),
        (["more"], 1, "not a graph"),
        (["image_shape"], [8, 9, 10], "image_shape"),
        (["image_shape"], [8, 9, 10, 0], "image_shape"),
        (["image_shape"], [8, 9, 10, True], "image_shape"),
        (["image_shape"], [10**9, 9, 10, 1], "image_shape"),
        (["nodes"], [], "nodes"),
        (["nodes"], "a", "nodes"),
        (["nodes", 1], "a", "expected an object"),
        (["nodes", 1, "op"], "eval", "unknown operation 'eval'"),
        (["nodes", 1, "op"], ["relu"], "unknown operation"),
        (["nodes", 1, "name"], "a", "not a new name"),
        (["nodes", 1, "name"], "#a", "not a new name"),
        (["nodes", 1, "name"], "image", "not a new name"),
        (["nodes", 1, "name"], "n" * 300, "not a new name"),
        (["nodes", 1, "inputs"], ["d"], "not before it"),
        (["nodes", 1, "inputs"], ["b"], "not before it"),
        (["nodes", 1, "inputs"], [3], "not before it"),
        (["nodes", 1, "inputs"], [], "has not the inputs"),
        (["nodes", 1, "inputs"], ["a", "a"], "has not the inputs"),
        (["nodes", 1, "slope"], 1, "takes none"),
        (["nodes", 0, "strides"], [0, 1, 1], "strides of the node 'a'"),
        (["nodes", 0, "strides"], [1, 1], "strides of the node 'a'"),
        (["nodes", 0, "padding"], [[1, 1], [1, 1], [1, -1]], "padding of the node 'a'"),
        (["nodes", 0, "padding"], [[1, 1], [1, 1], [1, 10**6]], "padding of the node 'a'"),
        (["nodes", 3, "axis"], -1, "axis of the node 'd'"),
        (["nodes", 3, "axis"], 4.0, "axis of the node 'd'"),
        (["output"], "e", "none of its nodes"),
        (["output"], None, "none of its nodes"),
    ],
)
def test_refused(path: list[Any], value: Any, told: str) -> None:
    with pytest.raises(ModelError, match=told) as caught:
        parse_graph(change(path, value), "metadata.json")

    assert str(caught.value).startswith("metadata.json: ")
    assert "\n" not in str(caught.value)


def test_a_missing_attribute_is_refused() -> None:
    lacking = copy.deepcopy(network_def())
    del lacking["nodes"][0]["groups"]

    with pytest.raises(ModelError, match="conv takes strides, dilations, padding, groups"):
        parse_graph(lacking, "test")


def test_numbers_have_to_be_finite() -> None:
    graph = Graph((8, 9, 10, 1), (Node("a", "leaky_relu", ("image",), {"slope": 0.1}),), "a")
    assert parse_graph(graph_to_json(graph), "test") == graph

    plain = graph_to_json(graph)
    plain["nodes"][0]["slope"] = float("nan")
    with pytest.raises(ModelError, match="slope"):
        parse_graph(plain, "test")


def test_every_operation_can_be_computed() -> None:
    from CMBDetectorLib.models.graph_operations import COMPUTE, IN_PLACE

    assert set(COMPUTE) == set(OPERATIONS)
    assert set(IN_PLACE) <= set(OPERATIONS)
