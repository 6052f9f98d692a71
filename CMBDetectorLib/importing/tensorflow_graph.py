"""TensorFlow's graphs as they are stored: nodes, functions, and what a model says it takes.

References
----------
TensorFlow, ``saved_model.proto`` and ``meta_graph.proto`` in ``tensorflow/core/protobuf``;
``graph.proto``, ``node_def.proto``, ``attr_value.proto``, ``function.proto`` and ``op_def.proto``
in ``tensorflow/core/framework``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from CMBDetectorLib.errors import ModelError
from CMBDetectorLib.importing.protobuf_wire import Message
from CMBDetectorLib.importing.tensorflow_types import shape_of

MAX_NODES = 50_000
_SERVE_TAG = "serve"
_NORM_OUTPUTS = ("y", "batch_mean", "batch_variance")
_NAMED_OUTPUTS = dict.fromkeys(("FusedBatchNormV2", "FusedBatchNormV3"), _NORM_OUTPUTS)
"""Operations with several outputs that have names; others number theirs."""


@dataclass(frozen=True, slots=True)
class TensorflowNode:
    """One operation of a stored graph.

    The accessors give an attribute, or ``default`` where it is absent: a stored graph leaves out
    those that have the value TensorFlow would take anyway.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    message: Message

    def attribute(self, name: str) -> Message | None:
        """The ``AttrValue`` of that name."""
        return next((value for key, value in self.message.entries(5) if key == name), None)

    def integer(self, name: str, default: int) -> int:
        """An attribute that is a whole number."""
        value = self.attribute(name)
        return default if value is None else value.integer(3)

    def integers(self, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
        """An attribute that is a list of whole numbers."""
        value = self.attribute(name)
        return default if value is None else tuple(value.message(1).integers(3).tolist())

    def number(self, name: str, default: float) -> float:
        """An attribute that is a real number."""
        value = self.attribute(name)
        return default if value is None else value.float32(4)

    def flag(self, name: str, default: bool) -> bool:
        """An attribute that is true or false."""
        value = self.attribute(name)
        return default if value is None else bool(value.integer(5))

    def text(self, name: str, default: str) -> str:
        """An attribute that is a text."""
        value = self.attribute(name)
        return default if value is None else value.text(2)

    def data_type(self, name: str, default: int) -> int:
        """An attribute that is a type of values."""
        value = self.attribute(name)
        return default if value is None else value.integer(6)

    def function(self, name: str) -> str:
        """An attribute that names a function."""
        value = self.attribute(name)
        return "" if value is None else value.message(10).text(1)

    def described(self) -> str:
        """For messages."""
        return f"{self.op[:60]!r} (node {self.name[:120]!r})"


@dataclass(frozen=True, slots=True)
class Reference:
    """An output of a node: ``node``, ``node:1`` in a graph, ``node:name:1`` in a function."""

    node: str
    output: str
    index: int

    @classmethod
    @lru_cache(maxsize=4096)
    def parse(cls, text: str) -> Reference:
        """Read one; raises :class:`ModelError` if it is none."""
        node, *rest = text.split(":")
        index = rest.pop() if rest else "0"
        if not node or len(rest) > 1 or not (index.isdecimal() and len(index) < 6):
            raise ModelError(f"{text[:80]!r} names no output of a node; get the model again")
        return cls(node, rest[0] if rest else "", int(index))

    def position(self, op: str) -> int:
        """Its number among all outputs of the node, which has that operation."""
        names = _NAMED_OUTPUTS.get(op, ())
        return names.index(self.output) if self.output in names else self.index


@dataclass(frozen=True, slots=True)
class Body:
    """The nodes of a graph or of a function by name.

    Attributes
    ----------
    arguments
        Names of what a function takes.
    results
        For each value a function gives, the output of a node, or the argument.
    """

    nodes: Mapping[str, TensorflowNode]
    arguments: tuple[str, ...] = ()
    results: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What goes into or comes out of a model: type and shape, and its place in the graph."""

    reference: str
    data_type: int
    shape: tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class Signature:
    """What a model takes and gives, by name."""

    inputs: Mapping[str, Endpoint]
    outputs: Mapping[str, Endpoint]


class SavedGraph:
    """The graph of a SavedModel that is meant for use, its functions and its signatures.

    Parameters
    ----------
    data
        Content of ``saved_model.pb``.

    Attributes
    ----------
    main
        The graph that the signatures refer to.
    restore_node
        Name of the node in it that restores the variables.
    objects
        The ``SavedObjectGraph``.

    Raises
    ------
    ModelError
        If it is malformed, or holds no graph for use.
    """

    def __init__(self, data: bytes) -> None:
        self._meta = _meta_graph(Message(memoryview(data)))
        graph = self._meta.message(2)
        self.main = Body(_nodes(graph.messages(1)))
        self._functions = {
            function.message(1).text(1): function for function in graph.message(2).messages(1)
        }
        self._bodies: dict[str, Body] = {}
        self.restore_node = self._meta.message(3).text(3)
        self.objects = self._meta.message(7)

    def has_function(self, name: str) -> bool:
        """Whether there is a function of that name."""
        return name in self._functions

    def function(self, name: str) -> Body:
        """A function; raises :class:`ModelError` if there is none of that name."""
        if name not in self._functions:
            raise ModelError(f"holds no function {name[:80]!r}; get the model again")
        if name not in self._bodies:
            self._bodies[name] = _function_body(self._functions[name])
        return self._bodies[name]

    def signature(self, name: str) -> Signature:
        """What the model takes and gives under that name.

        Raises
        ------
        ModelError
            If there is no such signature; the message lists those there are.
        """
        signatures = dict(self._meta.entries(5))
        if name not in signatures:
            found = ", ".join(repr(key[:40]) for key in sorted(signatures)[:8]) or "none"
            raise ModelError(f"has no signature {name!r} (but {found}); export it with one")
        message = signatures[name]
        return Signature(_endpoints(message.entries(1)), _endpoints(message.entries(2)))


def _meta_graph(model: Message) -> Message:
    found = []
    for meta in model.messages(2):
        tags = meta.message(1).texts(4)
        if tags == (_SERVE_TAG,):
            return meta
        found.append(repr("+".join(tags)[:40]))
    raise ModelError(
        f"holds no graph for use (tag {_SERVE_TAG!r}, but {', '.join(found[:8]) or 'none'}); "
        "expected a TensorFlow SavedModel"
    )


def _nodes(messages: Iterable[Message]) -> dict[str, TensorflowNode]:
    nodes: dict[str, TensorflowNode] = {}
    for message in messages:
        name = message.text(1)
        if name in nodes or len(nodes) >= MAX_NODES:
            raise ModelError(
                f"the node {name[:80]!r} is there twice, or is one of over {MAX_NODES}; "
                "get the model again"
            )
        inputs = tuple(text for text in message.texts(3) if not text.startswith("^"))
        nodes[name] = TensorflowNode(name, message.text(2), inputs, message)
    return nodes


def _function_body(function: Message) -> Body:
    signature = function.message(1)
    results = {}
    for entry in function.messages(4):
        results[entry.text(1)] = entry.text(2)
    names = [output.text(1) for output in signature.messages(3)]
    missing = [name for name in names if name not in results]
    if missing:
        raise ModelError(f"a function gives no {missing[0][:80]!r}; get the model again")
    return Body(
        _nodes(function.messages(3)),
        tuple(argument.text(1) for argument in signature.messages(2)),
        tuple(results[name] for name in names),
    )


def _endpoints(entries: Iterable[tuple[str, Message]]) -> dict[str, Endpoint]:
    return {
        name: Endpoint(message.text(1), message.integer(2), shape_of(message.message(3)))
        for name, message in entries
    }
