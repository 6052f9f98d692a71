"""Under which key of the checkpoint each variable of a SavedModel lies.

It follows from the function that restores the variables, which TensorFlow stores with the model: it
reads tensors by their keys and assigns them to the variables it is given.
"""

from __future__ import annotations

from CMBDetectorLib.errors import ModelError
from CMBDetectorLib.importing.tensorflow_graph import (
    Body,
    Reference,
    SavedGraph,
    TensorflowNode,
)
from CMBDetectorLib.importing.tensorflow_types import texts_from_message

CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})
VARIABLE = "VarHandleOp"
_MAX_IDENTITIES = 100


def checkpoint_keys(graph: SavedGraph) -> dict[str, str]:
    """By the name of a variable's node in the main graph, its key in the checkpoint.

    Raises
    ------
    ModelError
        If the model does not restore its variables as TensorFlow 2 does.
    """
    call = graph.main.nodes.get(graph.restore_node)
    if call is None or call.op not in CALLS:
        found = "is not there" if call is None else f"is a {call.op[:40]}"
        raise ModelError(
            f"the operation that restores variables, {graph.restore_node[:80]!r}, {found}, "
            "expected a function as TensorFlow 2 writes it; export the model again"
        )
    body = graph.function(call.function("f"))
    if len(body.arguments) != len(call.inputs):
        raise ModelError("the function that restores variables is called wrongly; get it again")
    variables = {
        argument: node.name
        for argument, given in zip(body.arguments, call.inputs, strict=True)
        if (node := source_of(graph.main, given)[0]) is not None and node.op == VARIABLE
    }
    names: dict[str, tuple[str, ...]] = {}
    keys = {}
    for node in body.nodes.values():
        if node.op != "AssignVariableOp" or len(node.inputs) != 2:
            continue
        _, target = source_of(body, node.inputs[0])
        reader, value = source_of(body, node.inputs[1])
        if reader is None or reader.op != "RestoreV2" or target.node not in variables:
            continue
        if reader.name not in names:
            names[reader.name] = _restored_keys(body, reader)
        if value.index >= len(names[reader.name]):
            raise ModelError(f"{reader.described()} reads no tensor {value.index}; get it again")
        keys[variables[target.node]] = names[reader.name][value.index]
    return keys


def source_of(body: Body, text: str) -> tuple[TensorflowNode | None, Reference]:
    """The node an input comes from; None for an argument. What only passes it on is skipped.

    Raises
    ------
    ModelError
        If it is passed on without end.
    """
    for _ in range(_MAX_IDENTITIES):
        reference = Reference.parse(text)
        node = body.nodes.get(reference.node)
        if node is None or node.op != "Identity" or len(node.inputs) != 1:
            return node, reference
        text = node.inputs[0]
    raise ModelError(f"{text[:80]!r} comes from nowhere; get the model again")


def _restored_keys(body: Body, reader: TensorflowNode) -> tuple[str, ...]:
    """What a ``RestoreV2`` reads, by its arguments: file, keys, slices."""
    if len(reader.inputs) != 3:
        raise ModelError(f"{reader.described()} has {len(reader.inputs)} inputs, expected 3")
    keys, slices = (_texts(body, given) for given in reader.inputs[1:])
    if any(slices) or len(slices) != len(keys):
        raise ModelError("variables are stored in slices, expected whole; save the model again")
    return keys


def _texts(body: Body, given: str) -> tuple[str, ...]:
    node, _ = source_of(body, given)
    value = None if node is None or node.op != "Const" else node.attribute("value")
    if value is None:
        raise ModelError(f"{given[:80]!r} is not a list of texts; get the model again")
    return texts_from_message(value.message(8))
