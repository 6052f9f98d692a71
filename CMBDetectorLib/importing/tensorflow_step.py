"""One operation of a TensorFlow graph with its inputs, and ways to take them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from CMBDetectorLib.errors import ModelError
from CMBDetectorLib.importing.graph_builder import Value
from CMBDetectorLib.importing.tensorflow_graph import TensorflowNode
from CMBDetectorLib.importing.tensorflow_network import Known, Network, Operand, Variable
from CMBDetectorLib.importing.tensorflow_types import Array

_MAX_LISTED = 2**16


class UnsupportedOperation(ModelError):
    """What a TensorFlow model computes and this software does not; the message names it."""


@dataclass(frozen=True, slots=True)
class Step:
    """An operation that is to be computed, or added to the network."""

    network: Network
    node: TensorflowNode
    inputs: tuple[Operand, ...]

    def known(self, number: int) -> Known:
        """An input that is an array, known or not.

        Raises
        ------
        ModelError
            If there is none of that number, or it is a variable that was not read.
        """
        if number >= len(self.inputs):
            raise ModelError(f"{len(self.inputs)} inputs, expected more; get the model again")
        operand = self.inputs[number]
        if isinstance(operand, Variable):
            raise self.unsupported("on a variable itself")
        return operand

    def all_known(self) -> list[Known]:
        """Every input, as :meth:`known`."""
        return [self.known(number) for number in range(len(self.inputs))]

    def array(self, number: int) -> Array:
        """An input whose values are known; :class:`ModelError` if they depend on the image."""
        operand = self.known(number)
        if isinstance(operand, Value):
            raise self.unsupported("on values that depend on the image")
        return operand

    def integers(self, number: int) -> list[int]:
        """An input that is a list of whole numbers."""
        array = self.array(number)
        if array.dtype.kind not in "iu" or array.ndim > 1 or array.size > _MAX_LISTED:
            raise ModelError(
                f"an input of type {array.dtype} and shape {array.shape}, expected a list of "
                "whole numbers; get the model again"
            )
        return [int(value) for value in np.atleast_1d(array)]

    def integer(self, number: int) -> int:
        """An input that is one whole number."""
        values = self.integers(number)
        if len(values) != 1:
            raise ModelError(f"{len(values)} numbers, expected one; get the model again")
        return values[0]

    def apply(self, op: str, *operands: Known, **attributes: Any) -> Known:
        """See :meth:`Network.apply`."""
        return self.network.apply(self.node.name, op, operands, **attributes)

    def value(self, number: int, order: tuple[int, ...] = ()) -> Value:
        """An input of the network, with its axes in ``order`` if its values are known."""
        return self.network.value(self.node.name, self.known(number), order)

    def unsupported(self, what: str = "") -> ModelError:
        """The error for what cannot be computed."""
        how = f" {what}" if what else ""
        return UnsupportedOperation(
            f"the operation {self.node.described()}{how} is not supported; please report it with "
            "the model's name"
        )


Result = Operand | Sequence[Operand]
Handler = Callable[[Step], Result]


def checked_axis(axis: int, rank: int) -> int:
    """An axis counted from the front.

    Raises
    ------
    ModelError
        If there is none of that number.
    """
    if not -rank <= axis < rank:
        raise ModelError(f"the axis {axis} of an array of rank {rank}; get the model again")
    return axis % rank
