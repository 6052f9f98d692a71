"""SavedModels made by hand: what the stand-ins do not have, and what nobody should write."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from crafted_saved_models import (
    INT32,
    assert_refused,
    call,
    const,
    endpoint,
    function,
    integers,
    message,
    node,
    saved_model,
    shape,
    write_saved_model,
)
from torch.nn import functional

from CMBDetectorLib.importing.saved_model import read_saved_model
from CMBDetectorLib.models.graph_network import GraphNetwork

IMAGE = np.random.default_rng(5).uniform(-1, 1, (1, 4, 5, 6, 2)).astype(np.float32)


def computed(folder: Path) -> np.ndarray:
    """What the network makes of IMAGE."""
    graph, tensors = read_saved_model(folder)
    network = GraphNetwork(graph, {name: torch.from_numpy(a) for name, a in tensors.items()})
    with torch.inference_mode():
        output = network(torch.from_numpy(IMAGE.transpose(0, 4, 1, 2, 3).copy()))
    return output.numpy().transpose(0, 2, 3, 4, 1)


def crafted(folder: Path, *nodes: bytes, **given_as: object) -> Path:
    return write_saved_model(folder, saved_model(nodes, **given_as))


def text(value: str) -> bytes:
    return message((2, value))


def test_left_out_attributes_have_their_defaults(tmp_path: Path) -> None:
    folder = crafted(tmp_path, node("out", "LeakyRelu", "image"))

    expected = np.where(IMAGE > 0, IMAGE, 0.2 * IMAGE)
    np.testing.assert_allclose(computed(folder), expected, atol=1e-6)


def test_dilated_convolution_in_groups(tmp_path: Path) -> None:
    kernel = np.random.default_rng(1).normal(size=(2, 3, 1, 1, 4)).astype(np.float32)
    same = {"padding": text("SAME"), "strides": integers(1, 1, 1, 1, 1)}
    folder = crafted(
        tmp_path,
        const("kernel", kernel),
        node("out", "Conv3D", "image", "kernel", dilations=integers(1, 2, 1, 1, 1), **same),
    )

    image = functional.pad(torch.from_numpy(IMAGE).permute(0, 4, 1, 2, 3), (0, 0, 1, 1, 1, 1))
    weight = torch.from_numpy(kernel).permute(4, 3, 0, 1, 2)
    expected = functional.conv3d(image, weight, dilation=(2, 1, 1), groups=2).permute(0, 2, 3, 4, 1)
    np.testing.assert_allclose(computed(folder), expected.numpy(), atol=1e-5)


def test_part_of_an_array_by_masks(tmp_path: Path) -> None:
    """``image[..., ::-1]`` of known numbers, added, and ``image[:, 1:, -1]`` put back."""
    folder = crafted(
        tmp_path,
        const("factors", [1.0, 10.0]),
        const("zero", [0]),
        const("back", [-1]),
        node(
            "turned", "StridedSlice", "factors", "zero", "zero", "back",
            begin_mask=message((3, 1)), end_mask=message((3, 1)),
        ),
        node("scaled", "Mul", "image", "turned"),
        const("begin", [0, 1, -1, 0]),
        const("end", [0, 9, 0, 0]),
        const("strides", [1, 2, 1, 1]),
        node(
            "part", "StridedSlice", "scaled", "begin", "end", "strides",
            begin_mask=message((3, 1)), end_mask=message((3, 1)),
            shrink_axis_mask=message((3, 4)), ellipsis_mask=message((3, 8)),
        ),
        const("sizes", [1, 2, 1, 6, 2]),
        node("thin", "Reshape", "part", "sizes"),
        const("times", [1, 2, 5, 1, 1]),
        node("out", "Tile", "thin", "times"),
    )  # fmt: skip

    scaled = IMAGE * np.array([10, 1])
    expected = np.tile(scaled[:, 1::2, -1][:, :, np.newaxis], (1, 2, 5, 1, 1))
    np.testing.assert_allclose(computed(folder), expected, rtol=1e-6)


def test_functions_within_functions(tmp_path: Path) -> None:
    functions = [
        function("twice", ["x"], "sum:z:0", node("sum", "AddV2", "x", "x")),
        function("outer", ["a"], "second:output:0", call("first", "twice", "a"),
                 call("second", "twice", "first:output:0")),
    ]  # fmt: skip
    folder = crafted(tmp_path, call("out", "outer", "image"), functions=functions)

    np.testing.assert_allclose(computed(folder), 4 * IMAGE, rtol=1e-6)


def test_zeros_as_large_as_the_image_are_not_stored(tmp_path: Path) -> None:
    folder = crafted(
        tmp_path,
        node("zeros", "ZerosLike", "image"),
        const("one", 1.0),
        node("ones", "AddV2", "zeros", "one"),
        node("out", "Sub", "ones", "image"),
    )

    graph, tensors = read_saved_model(folder)
    assert [one.op for one in graph.nodes] == ["broadcast", "sub"]
    assert [array.size for array in tensors.values()] == [1]
    np.testing.assert_allclose(computed(folder), 1 - IMAGE, rtol=1e-6)


def doubling(depth: int) -> list[bytes]:
    """Functions of which each calls the next twice."""
    return [
        function(f"f{n}", ["x"], "b:output:0", call("a", f"f{n + 1}", "x"),
                 call("b", f"f{n + 1}", "a:output:0"))
        for n in range(depth)
    ] + [function(f"f{depth}", ["x"], "y:y:0", node("y", "Neg", "x"))]  # fmt: skip


def test_functions_that_multiply_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for limit in ("tensorflow_network.MAX_NODES", "tensorflow_evaluator.MAX_INPUTS"):
        with monkeypatch.context() as patch:
            patch.setattr(f"CMBDetectorLib.importing.{limit}", 500)
            folder = crafted(tmp_path, call("out", "f0", "image"), functions=doubling(30))
            assert_refused(folder, "more than 500")


LARGE = [
    const("big", [2**20, 2**20]),
    const("value", 1.0),
    node("fill", "Fill", "big", "value"),
]


@pytest.mark.parametrize(
    ("nodes", "functions", "words"),
    [
        ([node("out", "Xyz", "image")], [], ["'Xyz' (node 'out') is not supported"]),
        ([node("out", "If", "image")], [], ["'If' (node 'out') is not supported"]),
        ([node("out", "X\ny" * 99, "image")], [], [r"'X\nyX", "is not supported"]),
        ([node("out", "Neg", "nothing")], [], ["'nothing' is missing"]),
        ([node("out", "Neg", "image:1")], [], ["'image:1' is not computed"]),
        ([node("out", "Neg", "a:b:c:d")], [], ["names no output"]),
        ([node("out", "Neg", "image:9999999")], [], ["names no output"]),
        ([node("out", "Neg", "a"), node("a", "Neg", "out")], [], ["depends on itself"]),
        ([node("out", "Neg"), node("out", "Neg")], [], ["there twice"]),
        ([node("out", "Neg")], [], ["'Neg' (node 'out')", "0 inputs"]),
        ([node("out", "Placeholder")], [], ["'Placeholder' (node 'out') is not supported"]),
        ([const("out", 1.0)], [], ["does not depend on the image"]),
        ([call("out", "none", "image")], [], ["no function 'none'"]),
        ([call("out", "f", "image")], [function("f", [], "x", b"")], ["is called 0 deep"]),
        (
            [call("out", "f", "image")],
            [function("f", ["x"], "a:output:0", call("a", "f", "x"))],
            ["at most 40 deep"],
        ),
        ([*LARGE, node("out", "AddV2", "image", "fill")], [], ["'AddV2'", "too large"]),
        (
            [*LARGE, const("axes", [0]), node("e", "Exp", "fill"), node("s", "Max", "e", "axes"),
             node("t", "Mul", "s", "s"), node("c", "Cast", "t", DstT=message((6, INT32))),
             node("out", "Reshape", "image", "c")],
            [],
            ["constants larger"],
        ),
        (
            [const("n", [1, 2**12, 2**12, 2**12, 2**12]), node("out", "Tile", "image", "n")],
            [],
            ["'Tile'", "too large"],
        ),
        (
            [const("r", [0, 2**30, 1]), const("zero", 0), const("far", 2**30), const("one", 1),
             node("x", "Range", "zero", "far", "one"), node("out", "Reshape", "image", "x")],
            [],
            ["'Range'", "constants larger"],
        ),
        (
            [node("v", "VarHandleOp"), node("r", "ReadVariableOp", "v"),
             node("out", "Mul", "image", "r")],
            [],
            ["restores variables"],
        ),
        ([node("v", "VarHandleOp"), node("out", "Mul", "image", "v")], [], ["a variable itself"]),
        (
            [const("k", np.ones((1, 1, 1, 2, 2))),
             node("out", "Conv3D", "image", "k", padding=text("SAME"), data_format=text("NCDHW"))],
            [],
            ["'Conv3D'", "data_format 'NCDHW'", "not supported"],
        ),
        (
            [const("k", np.ones((1, 1, 1, 3, 2))),
             node("out", "Conv3D", "image", "k", padding=text("SAME"))],
            [],
            ["'Conv3D'", "kernel of shape"],
        ),
        (
            [const("p", [[0, 0]] * 4 + [[1, 0]]), node("out", "MirrorPad", "image", "p")],
            [],
            ["'MirrorPad' (node 'out') is not supported"],
        ),
        (
            [const("zero", 0.0), node("out", "Greater", "image", "zero")],
            [],
            ["'Greater'", "on values that depend on the image is not supported"],
        ),
        ([const("s", [7, -1]), node("out", "Reshape", "image", "s")], [], ["'Reshape'", "as [7"]),
    ],
)  # fmt: skip
def test_graphs_that_cannot_be_read(
    nodes: list[bytes], functions: list[bytes], words: list[str], tmp_path: Path
) -> None:
    assert_refused(crafted(tmp_path, *nodes, functions=functions), *words)


NEG = node("out", "Neg", "image")


@pytest.mark.parametrize(
    ("given_as", "words"),
    [
        ({"tag": "train"}, ["no graph for use", "'train'"]),
        ({"signature": "other"}, ["no signature 'serving_default'", "'other'"]),
        ({"inputs": {}}, ["takes 0 inputs"]),
        (
            {"inputs": {name: endpoint("image:0", (1, 4, 5, 6, 2)) for name in "ab"}},
            ["takes 2 inputs (a, b), expected one image"],
        ),
        ({"inputs": {"a": endpoint("image:0", (1, 4, 5, 2))}}, ["shape (1, 4, 5, 2)"]),
        ({"inputs": {"a": endpoint("image:0", (1, 4, 5, 6, 2), INT32)}}, ["type int32"]),
        ({"inputs": {"a": endpoint("image:0", (2, 4, 5, 6, 2))}}, ["(2, 4, 5, 6, 2)"]),
        ({"inputs": {"a": endpoint("image:0", (1, 4, 5, 6, -1))}}, ["(1, 4, 5, 6, -1)"]),
        ({"inputs": {"a": endpoint("image:0", (1, 9999, 5, 6, 1))}}, ["image_shape"]),
        ({"inputs": {"a": message((1, "image:0"), (2, 1), (3, message((3, 1))))}}, ["shape open"]),
        ({"outputs": {}}, ["gives nothing"]),
        (
            {"outputs": {"a": endpoint("out:0", (1, 2)), "b": endpoint("out:0", (1, 3))}},
            ["gives several arrays (a (1, 2); b (1, 3)), expected one image"],
        ),
    ],
)
def test_signatures_that_are_not_of_one_image(
    given_as: dict[str, object], words: list[str], tmp_path: Path
) -> None:
    assert_refused(crafted(tmp_path, NEG, **given_as), *words)


def test_of_equal_outputs_the_first_is_taken(tmp_path: Path) -> None:
    same = (1, 4, 5, 6, 2)
    outputs = {"b": endpoint("image:0", same), "a": endpoint("out:0", same)}
    folder = crafted(tmp_path, NEG, outputs=outputs)

    np.testing.assert_array_equal(computed(folder), -IMAGE)


def test_constant_that_lies_is_refused(tmp_path: Path) -> None:
    values = message((1, 1), (2, shape(2)), (4, struct.pack("<f", 1)))
    lying = node("c", "Const", value=message((8, values)))

    assert_refused(
        crafted(tmp_path, lying, node("out", "Mul", "image", "c")), "'Const' (node 'c')", "4 by"
    )
