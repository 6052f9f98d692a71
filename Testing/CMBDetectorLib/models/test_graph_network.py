"""Graphs as networks: against PyTorch's own layers, without changing what others read."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from CMBDetectorLib.errors import ModelError
from CMBDetectorLib.models.graph import Graph, Node
from CMBDetectorLib.models.graph_network import GraphNetwork, result_shape
from CMBDetectorLib.models.graph_operations import COMPUTE, conv_in_slabs

SHAPE = (8, 9, 10, 2)


def image(seed: int = 0) -> torch.Tensor:
    return torch.randn(1, 2, 8, 9, 10, generator=torch.Generator().manual_seed(seed))


def conv(name: str, source: str, kernel: str, **changed: object) -> Node:
    attributes = {
        "strides": [1, 1, 1],
        "dilations": [1, 1, 1],
        "padding": [[1, 1]] * 3,
        "groups": [1],
    }
    return Node(name, "conv", (source, f"#{kernel}", f"#{kernel}/bias"), attributes | changed)


def run(graph: Graph, **tensors: torch.Tensor) -> torch.Tensor:
    named = {name.replace("__", "/"): tensor for name, tensor in tensors.items()}
    with torch.inference_mode():
        return GraphNetwork(graph, named)(image())


KERNEL = torch.randn(3, 2, 3, 3, 3, generator=torch.Generator().manual_seed(1))
BIAS = torch.tensor([0.1, -0.2, 0.3])


def test_a_convolution_is_pytorch_s() -> None:
    graph = Graph(SHAPE, (conv("a", "image", "k"),), "a")

    output = run(graph, k=KERNEL, k__bias=BIAS)

    torch.testing.assert_close(output, F.conv3d(image(), KERNEL, BIAS, padding=1))


def test_uneven_padding_is_at_its_end() -> None:
    padding = [[0, 1], [2, 0], [1, 1]]
    graph = Graph(SHAPE, (conv("a", "image", "k", padding=padding),), "a")
    # Two of three voxels are added along each axis, so that the shape stays.
    shape = result_shape(graph.nodes[0], [(1, *SHAPE), tuple(KERNEL.shape), (3,)])

    expected = F.conv3d(F.pad(image(), [1, 1, 2, 0, 0, 1]), KERNEL, BIAS)

    assert shape == (1, *expected.shape[2:], 3)
    compute = COMPUTE["conv"]
    found = compute([image().permute(0, 2, 3, 4, 1), KERNEL, BIAS], graph.nodes[0].attributes)
    torch.testing.assert_close(found.permute(0, 4, 1, 2, 3), expected)


@pytest.mark.parametrize(
    ("stride", "dilation", "groups"), [(1, 1, 1), (2, 1, 1), (1, 2, 1), (3, 2, 2)]
)
def test_slabs_give_the_same(stride: int, dilation: int, groups: int) -> None:
    generator = torch.Generator().manual_seed(2)
    source = torch.randn(1, 4, 37, 9, 10, generator=generator)
    kernel = torch.randn(6, 4 // groups, 3, 3, 3, generator=generator)
    bias = torch.randn(6, generator=generator)
    attributes = {"strides": [stride] * 3, "dilations": [dilation] * 3, "groups": [groups]}

    found = conv_in_slabs(source, kernel, bias, [2, 1, 2], attributes)

    expected = F.conv3d(source, kernel, bias, stride, (2, 1, 2), dilation, groups)
    torch.testing.assert_close(found, expected)


def test_what_is_read_twice_is_not_overwritten() -> None:
    """``relu`` could take place within ``a``, which ``add`` reads as well."""
    graph = Graph(
        SHAPE,
        (
            conv("a", "image", "k"),
            Node("b", "relu", ("a",)),
            Node("c", "sigmoid", ("a",)),
            Node("d", "add", ("b", "a")),
            Node("e", "mul", ("d", "c")),
        ),
        "e",
    )
    a = F.conv3d(image(), KERNEL, BIAS, padding=1)

    output = run(graph, k=KERNEL, k__bias=BIAS)

    torch.testing.assert_close(output, (a.relu() + a) * a.sigmoid())


def test_the_image_is_not_overwritten() -> None:
    graph = Graph(SHAPE, (Node("a", "relu", ("image",)), Node("b", "add", ("a", "image"))), "b")
    given = image()

    with torch.inference_mode():
        GraphNetwork(graph, {})(given)

    torch.testing.assert_close(given, image())


def test_in_place_only_where_the_shape_stays() -> None:
    """The mean over the image is smaller than what it is added to."""
    graph = Graph(
        SHAPE,
        (
            conv("a", "image", "k"),
            Node("b", "mean", ("a",), {"axes": [1, 2, 3], "keep": True}),
            Node("c", "neg", ("b",)),
            Node("d", "sigmoid", ("c",)),
            conv("e", "image", "k"),
            Node("f", "mul", ("d", "e")),
        ),
        "f",
    )
    a = F.conv3d(image(), KERNEL, BIAS, padding=1)

    output = run(graph, k=KERNEL, k__bias=BIAS)

    torch.testing.assert_close(output, (-a.mean((2, 3, 4), keepdim=True)).sigmoid() * a)


def test_average_pooling_leaves_out_what_is_padded() -> None:
    attributes = {"size": [3] * 3, "strides": [2] * 3, "padding": [[1, 1], [0, 1], [1, 0]]}

    found = COMPUTE["avg_pool"]([torch.ones(1, 8, 9, 10, 2)], attributes)

    torch.testing.assert_close(found, torch.ones_like(found))


def test_maximum_pooling_never_takes_what_is_padded() -> None:
    attributes = {"size": [3] * 3, "strides": [2] * 3, "padding": [[1, 1]] * 3}

    found = COMPUTE["max_pool"]([-torch.ones(1, 8, 9, 10, 2)], attributes)

    torch.testing.assert_close(found, -torch.ones_like(found))


def test_softplus_is_exact_for_large_values() -> None:
    values = torch.tensor([-30.0, 0.0, 25.0], dtype=torch.float64)

    found = COMPUTE["softplus"]([values], {})

    torch.testing.assert_close(found, torch.log1p(torch.exp(values)), rtol=0, atol=1e-12)


def test_tensors_are_those_of_the_graph() -> None:
    graph = Graph(SHAPE, (conv("a", "image", "k"),), "a")

    with pytest.raises(ModelError, match=r"1 missing \(k/bias\), 1 unknown \(other\)"):
        GraphNetwork(graph, {"k": KERNEL, "other": BIAS})


def test_shapes_that_do_not_fit_are_named() -> None:
    graph = Graph(SHAPE, (conv("first", "image", "k"), conv("second", "first", "k")), "second")

    with pytest.raises(ModelError, match=r"conv \(second\) does not take") as caught:
        GraphNetwork(graph, {"k": KERNEL, "k/bias": BIAS})

    assert "\n" not in str(caught.value)


def test_the_output_is_an_image() -> None:
    node = Node("a", "mean", ("image",), {"axes": [1, 2, 3], "keep": True})

    with pytest.raises(ModelError, match="expected the image's"):
        GraphNetwork(Graph(SHAPE, (node,), "a"), {})


def test_an_absurd_array_is_refused_before_anything_is_computed() -> None:
    repeat = Node("a", "repeat", ("image",), {"axis": 1, "times": 2**25})
    cut = {"begin": [0] * 5, "end": [1, 8, 9, 10, 2], "strides": [1] * 5}

    with pytest.raises(ModelError, match=r"repeat \(a\) makes an array"):
        GraphNetwork(Graph(SHAPE, (repeat, Node("b", "slice", ("a",), cut)), "b"), {})
