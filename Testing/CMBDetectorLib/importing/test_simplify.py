"""Smaller graphs compute the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from CMBDetectorLib.importing.graph_builder import GraphBuilder, Value
from CMBDetectorLib.importing.simplify import simplify
from CMBDetectorLib.models.graph import Graph
from CMBDetectorLib.models.graph_network import GraphNetwork

SHAPE = (6, 7, 5, 2)
CONV = {"strides": [1] * 3, "dilations": [1] * 3, "padding": [[1, 1]] * 3, "groups": [1]}


class Sketch:
    """A graph under construction, with random tensors."""

    def __init__(self) -> None:
        self.builder = GraphBuilder(SHAPE)
        self.random = np.random.default_rng(5)

    def numbers(self, *shape: int) -> Value:
        return self.builder.constant("numbers", self.random.normal(size=shape))

    def conv(self, value: Value, channels: int = 3, *, bias: bool = True) -> Value:
        inputs = [value, self.numbers(channels, value.shape[-1], 3, 3, 3)]
        return self.builder.add("conv", inputs + [self.numbers(channels)] * bias, **CONV)

    def add(self, op: str, *inputs: Value, **attributes: object) -> Value:
        return self.builder.add(op, inputs, **attributes)

    def simplified(self, output: Value) -> Graph:
        """The smaller graph, after comparing what both compute."""
        graph = self.builder.graph(output)
        smaller, tensors = simplify(graph, self.builder.tensors)
        image = torch.randn(1, 2, *SHAPE[:3], generator=torch.Generator().manual_seed(6))
        results = []
        for one, its in ((graph, self.builder.tensors), (smaller, tensors)):
            network = GraphNetwork(one, {name: torch.from_numpy(a) for name, a in its.items()})
            with torch.inference_mode():
                results.append(network(image))
        torch.testing.assert_close(results[1], results[0], rtol=1e-5, atol=1e-5)
        assert set(tensors) == set(smaller.tensor_names())
        return smaller


def ops(graph: Graph) -> list[str]:
    return [node.op for node in graph.nodes]


@pytest.mark.parametrize("bias", [True, False])
def test_batch_normalization_goes_into_the_convolution(bias: bool) -> None:
    sketch = Sketch()
    value = sketch.conv(sketch.builder.image, bias=bias)
    value = sketch.add("mul", value, sketch.numbers(3))
    value = sketch.add("add", sketch.numbers(3), value)
    value = sketch.add("sub", value, sketch.numbers(1, 1, 1, 1, 3))

    assert ops(sketch.simplified(sketch.add("relu", value))) == ["conv", "relu"]


def test_and_into_a_transposed_one() -> None:
    sketch = Sketch()
    kernel = sketch.numbers(2, 3, 3, 3, 3)
    value = sketch.add(
        "conv_transpose", sketch.builder.image, kernel, strides=[1] * 3, crop=[[1, 1]] * 3
    )
    value = sketch.add("add", sketch.add("mul", value, sketch.numbers(3)), sketch.numbers(3))

    assert ops(sketch.simplified(value)) == ["conv_transpose"]


def test_a_result_that_is_read_twice_is_left_alone() -> None:
    sketch = Sketch()
    value = sketch.conv(sketch.builder.image)
    scaled = sketch.add("mul", value, sketch.numbers(3))

    assert ops(sketch.simplified(sketch.add("add", scaled, value))) == ["conv", "mul", "add"]


def test_a_kernel_that_is_used_twice_is_left_alone() -> None:
    sketch = Sketch()
    kernel, bias = sketch.numbers(2, 2, 3, 3, 3), sketch.numbers(2)
    first = sketch.builder.add("conv", [sketch.builder.image, kernel, bias], **CONV)
    scaled = sketch.add("mul", first, sketch.numbers(2))
    second = sketch.builder.add("conv", [scaled, kernel, bias], **CONV)

    assert ops(sketch.simplified(second)) == ["conv", "mul", "conv"]


def test_what_is_subtracted_from_is_left_alone() -> None:
    sketch = Sketch()
    value = sketch.add("sub", sketch.numbers(3), sketch.conv(sketch.builder.image))

    assert ops(sketch.simplified(value)) == ["conv", "sub"]


def test_numbers_that_are_not_by_channel_are_left_alone() -> None:
    sketch = Sketch()
    value = sketch.add("mul", sketch.conv(sketch.builder.image), sketch.numbers(1, 1, 7, 1, 1))

    assert ops(sketch.simplified(value)) == ["conv", "mul"]


def test_one_number_for_all_channels_goes_in() -> None:
    sketch = Sketch()
    value = sketch.add("mul", sketch.conv(sketch.builder.image), sketch.numbers(1))

    assert ops(sketch.simplified(value)) == ["conv"]


@pytest.mark.parametrize("turned", [False, True])
def test_silu_is_recognized(turned: bool) -> None:
    sketch = Sketch()
    value = sketch.conv(sketch.builder.image)
    gate = sketch.add("sigmoid", value)
    value = sketch.add("mul", *((gate, value) if turned else (value, gate)))

    assert ops(sketch.simplified(value)) == ["conv", "silu"]


def test_a_gate_of_another_value_is_no_silu() -> None:
    sketch = Sketch()
    gate = sketch.add("sigmoid", sketch.conv(sketch.builder.image))
    value = sketch.add("mul", sketch.conv(sketch.builder.image), gate)

    assert ops(sketch.simplified(value)) == ["conv", "sigmoid", "conv", "mul"]


def test_the_output_may_be_what_is_folded() -> None:
    sketch = Sketch()
    value = sketch.add("add", sketch.conv(sketch.builder.image), sketch.numbers(3))

    graph = sketch.simplified(value)

    assert ops(graph) == ["conv"]
    assert graph.output == graph.nodes[0].name


def test_padding_by_nothing_is_left_out() -> None:
    sketch = Sketch()
    value = sketch.add("pad", sketch.conv(sketch.builder.image), padding=[[0, 0]] * 5, value=0.0)
    value = sketch.add("repeat", sketch.add("relu", value), axis=1, times=1)

    assert ops(sketch.simplified(value)) == ["conv", "relu"]
