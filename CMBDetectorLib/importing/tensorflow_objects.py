"""Under which key of the checkpoint each variable lies, by the objects they are part of.

A SavedModel and its checkpoint each hold a graph of the objects that were saved, in which a
variable is reached by the same names. TensorFlow 2 itself goes this way; models that Keras 3 saves
without ``export`` say it nowhere else.

References
----------
TensorFlow, ``saved_object_graph.proto`` and ``trackable_object_graph.proto`` in
``tensorflow/core/protobuf``.
"""

from __future__ import annotations

from CMBDetectorLib.errors import ModelError
from CMBDetectorLib.importing.protobuf_wire import Message
from CMBDetectorLib.importing.tensor_bundle import TensorBundle
from CMBDetectorLib.importing.tensorflow_graph import SavedGraph
from CMBDetectorLib.importing.tensorflow_variables import CALLS, VARIABLE, source_of

OBJECTS_KEY = "_CHECKPOINTABLE_OBJECT_GRAPH"
MAX_OBJECTS = 50_000
_VALUE = "VARIABLE_VALUE"


def object_keys(graph: SavedGraph, bundle: TensorBundle) -> dict[str, str]:
    """By the name of a variable's node in the main graph, its key in the checkpoint.

    Raises
    ------
    ModelError
        If the objects are not stored or malformed.
    """
    stored = _objects(Message(memoryview(bundle.read_text(OBJECTS_KEY))))
    key_of_object = {
        number: attribute.text(3)
        for number, same in _matched(_objects(graph.objects), stored).items()
        for attribute in stored[same].messages(2)
        if attribute.text(1) == _VALUE
    }
    functions = dict(graph.objects.entries(2))
    keys = {}
    for call in graph.main.nodes.values():
        function = functions.get(call.function("f")) if call.op in CALLS else None
        if function is None:
            continue
        # A function's own variables come after what it is called with.
        numbers = function.integers(2).tolist()
        for given, number in zip(reversed(call.inputs), reversed(numbers), strict=False):
            variable, _ = source_of(graph.main, given)
            if variable is not None and variable.op == VARIABLE and number in key_of_object:
                keys[variable.name] = key_of_object[number]
    return keys


def _objects(message: Message) -> list[Message]:
    objects = []
    for one in message.messages(1):
        objects.append(one)
        if len(objects) > MAX_OBJECTS:
            raise ModelError(f"more than {MAX_OBJECTS} objects; get the model again")
    return objects


def _children(one: Message) -> dict[str, int]:
    return {child.text(2): child.integer(1) for child in one.messages(1)}


def _matched(objects: list[Message], stored: list[Message]) -> dict[int, int]:
    """By the number of an object, that of the same in the checkpoint; the first is the root."""
    matched = {0: 0} if objects and stored else {}
    pending = list(matched)
    while pending:
        number = pending.pop()
        others = _children(stored[matched[number]])
        for name, child in _children(objects[number]).items():
            other = others.get(name, -1)
            if child not in matched and 0 <= child < len(objects) and 0 <= other < len(stored):
                matched[child] = other
                pending.append(child)
    return matched
