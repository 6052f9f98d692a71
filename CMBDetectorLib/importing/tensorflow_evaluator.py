"""Following a TensorFlow graph from what is wanted back to the image, through its functions.

Nothing is run: known values are computed with NumPy, and what depends on the image becomes an
operation of the network. What is not needed for the result, such as assertions, is not looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from CMBDetectorLib.errors import ModelError
from CMBDetectorLib.importing.graph_builder import Value
from CMBDetectorLib.importing.tensorflow_constants import CONSTANTS
from CMBDetectorLib.importing.tensorflow_graph import Body, Reference, SavedGraph, TensorflowNode
from CMBDetectorLib.importing.tensorflow_layers import LAYERS
from CMBDetectorLib.importing.tensorflow_math import MATH
from CMBDetectorLib.importing.tensorflow_network import Network, Operand, Variable
from CMBDetectorLib.importing.tensorflow_shapes import SHAPES
from CMBDetectorLib.importing.tensorflow_slices import SLICES
from CMBDetectorLib.importing.tensorflow_step import Handler, Step, UnsupportedOperation
from CMBDetectorLib.importing.tensorflow_types import Array
from CMBDetectorLib.importing.tensorflow_variables import CALLS, VARIABLE

MAX_INPUTS = 2**17
MAX_DEPTH = 40
_SAME = frozenset(
    {"Identity", "StopGradient", "PreventGradient", "PlaceholderWithDefault", "Snapshot"}
)
_HANDLERS: Mapping[str, Handler] = {**CONSTANTS, **MATH, **LAYERS, **SHAPES, **SLICES}


class Evaluator:
    """Computes values of a stored graph.

    Parameters
    ----------
    graph
        With its functions.
    network
        Gets the operations that depend on the image.
    read_variable
        The values of a variable by its node's name.
    """

    def __init__(
        self, graph: SavedGraph, network: Network, read_variable: Callable[[str], Array]
    ) -> None:
        self._graph = graph
        self._network = network
        self._read_variable = read_variable
        self._n_inputs = 0

    def run(
        self, body: Body, given: Mapping[str, Operand], wanted: Sequence[str], depth: int = 0
    ) -> list[Operand]:
        """Outputs of a graph's nodes.

        Parameters
        ----------
        given
            By the names of nodes or of a function's arguments.
        wanted
            References to outputs.

        Raises
        ------
        ModelError
            If an operation is not supported, or the graph is malformed; the node is named.
        """
        values: dict[str, Sequence[Operand]] = {name: [value] for name, value in given.items()}
        for node in _in_order(body, wanted, frozenset(given)):
            inputs = tuple(_picked(body, values, text) for text in node.inputs)
            values[node.name] = self._evaluated(node, inputs, depth)
        return [_picked(body, values, text) for text in wanted]

    def _evaluated(
        self, node: TensorflowNode, inputs: tuple[Operand, ...], depth: int
    ) -> Sequence[Operand]:
        self._n_inputs += 1 + len(inputs)
        if self._n_inputs > MAX_INPUTS:
            raise ModelError(f"operations with more than {MAX_INPUTS} inputs; get the model again")
        if node.op in CALLS or self._graph.has_function(node.op):
            return self._called(node, inputs, depth)
        if node.op == "IdentityN":
            return inputs
        if node.op == VARIABLE:
            return [Variable(node.name)]
        if node.op in _SAME and inputs:
            return inputs[:1]
        if node.op == "ReadVariableOp" and inputs and isinstance(inputs[0], Variable):
            return [self._read_variable(inputs[0].node)]
        return self._handled(Step(self._network, node, inputs))

    def _called(
        self, node: TensorflowNode, inputs: tuple[Operand, ...], depth: int
    ) -> Sequence[Operand]:
        name = node.function("f") if node.op in CALLS else node.op
        function = self._graph.function(name)
        if depth >= MAX_DEPTH or len(inputs) != len(function.arguments):
            raise ModelError(
                f"the function {name[:80]!r} is called {depth} deep with {len(inputs)} values, "
                f"expected {len(function.arguments)}, and at most {MAX_DEPTH} deep"
            )
        given = dict(zip(function.arguments, inputs, strict=True))
        return self.run(function, given, function.results, depth + 1)

    def _handled(self, step: Step) -> Sequence[Operand]:
        handler = _HANDLERS.get(step.node.op)
        if handler is None:
            raise step.unsupported()
        try:
            result = handler(step)
        except UnsupportedOperation:
            raise
        except ModelError as error:
            raise ModelError(f"{step.node.described()}: {error}") from error
        except (ArithmeticError, IndexError, TypeError, ValueError) as error:
            problem = " ".join(str(error).split())[:200]
            raise ModelError(
                f"{step.node.described()} does not take its inputs ({problem}); get the model again"
            ) from error
        return [result] if isinstance(result, Value | Variable | np.ndarray) else result


def _picked(body: Body, values: Mapping[str, Sequence[Operand]], text: str) -> Operand:
    """One output of a node that has been computed."""
    reference = Reference.parse(text)
    node = body.nodes.get(reference.node)
    position = reference.position(node.op) if node is not None else reference.index
    outputs = values[reference.node]
    if position >= len(outputs):
        raise ModelError(f"{text[:80]!r} is not computed here; get the model again")
    return outputs[position]


def _in_order(body: Body, wanted: Sequence[str], given: frozenset[str]) -> list[TensorflowNode]:
    """The nodes that are needed, each after those whose outputs it takes."""
    order: list[TensorflowNode] = []
    done, begun = set(given), set[str]()
    pending = [Reference.parse(text).node for text in reversed(wanted)]
    while pending:
        name = pending[-1]
        if name in done:
            pending.pop()
            continue
        if name not in body.nodes:
            raise ModelError(f"the node {name[:80]!r} is missing; get the model again")
        node = body.nodes[name]
        missing = [
            source
            for text in reversed(node.inputs)
            if (source := Reference.parse(text).node) not in done
        ]
        if not missing:
            done.add(name)
            order.append(node)
            pending.pop()
        elif name in begun:
            raise ModelError(f"the node {name[:80]!r} depends on itself; get the model again")
        else:
            begun.add(name)
            pending += missing
    return order
