"""Slabs give what the whole gives, wherever their seams are."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from CMBDetectorLib.models import graph_slabs
from CMBDetectorLib.models.graph import Graph, Node
from CMBDetectorLib.models.graph_network import GraphNetwork

SHAPE = (23, 9, 10, 2)


def conv(name: str, source: str, kernel: str, padding: int = 1, dilation: int = 1) -> Node:
    attributes = {
        "strides": [1] * 3,
        "dilations": [dilation] * 3,
        "padding": [[padding] * 2] * 3,
        "groups": [1],
    }
    return Node(name, "conv", (source, f"#{kernel}"), attributes)


def kernels(**shapes: tuple[int, int, int]) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {
        name: torch.randn(n_out, n_in, size, size, size, generator=generator) / (n_in * size)
        for name, (n_out, n_in, size) in shapes.items()
    }


def pool(name: str, source: str) -> Node:
    return Node(
        name, "max_pool", (source,), {"size": [2] * 3, "strides": [2] * 3, "padding": [[0, 0]] * 3}
    )


def unet() -> tuple[Graph, dict[str, torch.Tensor]]:
    """One level: its tail begins with the repetition of the lower one."""
    nodes = (
        conv("skip", "image", "a"),
        Node("skip_act", "silu", ("skip",)),
        pool("down", "skip_act"),
        conv("low", "down", "b"),
        # 23 planes are 11 below, and 22 after the repetition: one of zeros is added.
        Node(
            "padded",
            "pad",
            ("low",),
            {"padding": [[0, 0], [0, 1], [0, 1], [0, 0], [0, 0]], "value": 0.0},
        ),
        Node("up_i", "repeat", ("padded",), {"axis": 1, "times": 2}),
        Node(
            "cut",
            "slice",
            ("up_i",),
            {"begin": [0] * 5, "end": [1, 23, 5, 5, 4], "strides": [1] * 5},
        ),
        Node("up_j", "repeat", ("cut",), {"axis": 2, "times": 2}),
        Node("up", "repeat", ("up_j",), {"axis": 3, "times": 2}),
        Node(
            "cut_j",
            "slice",
            ("up",),
            {"begin": [0] * 5, "end": [1, 23, 9, 10, 4], "strides": [1] * 5},
        ),
        Node("both", "concat", ("cut_j", "skip_act"), {"axis": 4}),
        conv("c", "both", "c"),
        Node("c_act", "silu", ("c",)),
        conv("d", "c_act", "d", padding=2, dilation=2),
        Node("sum", "add", ("d", "skip_act")),
        Node("sum_act", "relu", ("sum",)),
        conv("e", "sum_act", "e", padding=2),
        Node("out", "sigmoid", ("e",)),
    )
    shapes = {"a": (3, 2, 3), "b": (4, 3, 3), "c": (5, 7, 3), "d": (3, 5, 3), "e": (1, 3, 5)}
    return Graph(SHAPE, nodes, "out"), kernels(**shapes)


def plain() -> tuple[Graph, dict[str, torch.Tensor]]:
    """All of it is local, and it ends in a number for each channel and image."""
    nodes = (
        conv("a", "image", "a"),
        Node("b", "relu", ("a",)),
        Node("scaled", "mul", ("b", "#gate")),
        conv("c", "scaled", "c", padding=0),
        Node(
            "wide",
            "pad",
            ("c",),
            {"padding": [[0, 0], [0, 0], [1, 1], [1, 1], [0, 0]], "value": 1.0},
        ),
        Node(
            "high",
            "pad",
            ("wide",),
            {"padding": [[0, 0], [1, 1], [0, 0], [0, 0], [0, 0]], "value": 0.5},
        ),
        conv("d", "high", "d"),
        Node("back", "add", ("d", "image")),
    )
    tensors = kernels(a=(3, 2, 3), c=(2, 3, 3), d=(2, 2, 3))
    return Graph(SHAPE, nodes, "back"), {**tensors, "gate": torch.tensor([0.5, 1.5, 2.0])}


def repeated() -> tuple[Graph, dict[str, torch.Tensor]]:
    """Thrice the planes of the lower level, which slabs cut across."""
    nodes = (
        Node(
            "low",
            "slice",
            ("image",),
            {"begin": [0] * 5, "end": [1, 8, 9, 10, 2], "strides": [1] * 5},
        ),
        conv("a", "low", "a"),
        Node("up", "repeat", ("a",), {"axis": 1, "times": 3}),
        conv("b", "up", "b"),
        Node("out", "tanh", ("b",)),
    )
    return Graph((24, 9, 10, 2), nodes, "out"), kernels(a=(3, 2, 3), b=(1, 3, 3))


def output(graph: Graph, tensors: dict[str, torch.Tensor]) -> tuple[GraphNetwork, torch.Tensor]:
    network = GraphNetwork(graph, tensors)
    channels = graph.image_shape[3]
    generator = torch.Generator().manual_seed(4)
    image = torch.randn(1, channels, *graph.image_shape[:3], generator=generator)
    given = image.clone()
    with torch.inference_mode():
        result = network(image)
        again = network(image)
    torch.testing.assert_close(image, given, rtol=0, atol=0)
    torch.testing.assert_close(again, result, rtol=0, atol=0)
    return network, result


@pytest.mark.parametrize("planes", [1, 2, 5, 7, 22])
@pytest.mark.parametrize("make", [unet, plain, repeated])
def test_slabs_give_the_whole(
    make: Callable[[], tuple[Graph, dict[str, torch.Tensor]]],
    planes: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    graph, tensors = make()
    monkeypatch.setattr(graph_slabs, "PLANES", 1000)
    whole, expected = output(graph, tensors)
    assert whole.segments == ()

    monkeypatch.setattr(graph_slabs, "PLANES", planes)
    network, found = output(graph, tensors)

    assert network.segments
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_both_ends_of_a_u_net_are_in_slabs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_slabs, "PLANES", 5)
    head, tail = GraphNetwork(*unet()).segments

    assert [node.name for node in head.nodes] == ["skip", "skip_act"]
    assert head.outputs == ("skip_act",)
    assert [node.name for node in tail.nodes][:2] == ["up_j", "up"]
    assert tail.needs() == {"cut", "skip_act"}
    assert tail.outputs == ("out",)


def test_what_needs_all_planes_is_computed_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = (
        conv("a", "image", "a"),
        Node("b", "relu", ("a",)),
        Node("mean", "mean", ("b",), {"axes": [1, 2, 3], "keep": True}),
        Node("c", "mul", ("b", "mean")),
        Node("d", "add", ("c", "a")),
    )
    graph, tensors = Graph(SHAPE, nodes, "d"), kernels(a=(3, 2, 3))
    _, expected = output(graph, tensors)
    monkeypatch.setattr(graph_slabs, "PLANES", 5)

    network, found = output(graph, tensors)

    assert [segment.outputs for segment in network.segments] == [("a", "b"), ("d",)]
    torch.testing.assert_close(found, expected)


def test_an_output_that_runs_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """``a`` is read within its segment, farther than the segment's planes, and after it."""
    nodes = (
        conv("a", "image", "a"),
        conv("b", "a", "b", padding=2),
        pool("c", "a"),
        Node("mean", "mean", ("c",), {"axes": [1, 2, 3], "keep": True}),
        Node("d", "sigmoid", ("b",)),
        Node("e", "mul", ("d", "mean")),
    )
    graph, tensors = Graph(SHAPE, nodes, "e"), kernels(a=(3, 2, 3), b=(3, 3, 5))
    _, expected = output(graph, tensors)
    monkeypatch.setattr(graph_slabs, "PLANES", 4)

    network, found = output(graph, tensors)

    assert network.segments[0].outputs == ("a", "b")
    torch.testing.assert_close(found, expected)
