"""TensorFlow's arithmetic: number by number, over axes, and products of matrices.

References
----------
TensorFlow, ``tensorflow/core/ops/math_ops.cc`` and ``nn_ops.cc``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from CMBDetectorLib.errors import ModelError
from CMBDetectorLib.importing.graph_builder import Value
from CMBDetectorLib.importing.tensorflow_network import Known, is_one_value
from CMBDetectorLib.importing.tensorflow_shapes import transpose
from CMBDetectorLib.importing.tensorflow_step import Handler, Result, Step, checked_axis
from CMBDetectorLib.importing.tensorflow_types import is_float, numpy_type

_POWERS = {2.0: "square", 0.5: "sqrt", -0.5: "rsqrt"}


def _unary(op: str) -> Handler:
    return lambda step: step.apply(op, step.known(0))


def _binary(op: str) -> Handler:
    return lambda step: step.apply(op, step.known(0), step.known(1))


def _scalar(value: float) -> Known:
    return np.asarray(value, np.float32)


def _mul(step: Step) -> Result:
    """A product; with 1 it is the other factor, as in Keras's swish."""
    operands = step.known(0), step.known(1)
    for one, other in (operands, operands[::-1]):
        is_one = not isinstance(one, Value) and one.size == 1 and one.flat[0] == 1
        if is_one and isinstance(other, Value) and len(one.shape) <= len(other.shape):
            return other
    return step.apply("mul", *operands)


def _add_all(step: Step) -> Result:
    total = step.known(0)
    for number in range(1, len(step.inputs)):
        total = step.apply("add", total, step.known(number))
    return total


def _squared_difference(step: Step) -> Result:
    return step.apply("square", step.apply("sub", step.known(0), step.known(1)))


def _erfc(step: Step) -> Result:
    return step.apply("sub", _scalar(1), step.apply("erf", step.known(0)))


def _div_no_nan(step: Step) -> Result:
    """A quotient; 0 where the divisor is 0, which no known one may be here."""
    if not np.all(step.array(1)):
        raise step.unsupported("by 0")
    return step.apply("div", step.known(0), step.known(1))


def _reciprocal(step: Step) -> Result:
    return step.apply("div", _scalar(1), step.known(0))


def _power(step: Step) -> Result:
    """Of the image only squares and roots."""
    base, exponent = step.known(0), step.known(1)
    if not isinstance(base, Value) and not isinstance(exponent, Value):
        step.network.spend(math.prod(np.broadcast_shapes(base.shape, exponent.shape)))
        return np.asarray(base**exponent)
    values = step.array(1)
    power = float(values.flat[0]) if values.size == 1 else math.nan
    if power == 1:
        return base
    if power not in _POWERS:
        raise step.unsupported(f"of {str(values)[:40]}")
    return step.apply(_POWERS[power], base)


def _cast(step: Step) -> Result:
    """Half precision is not imitated: real numbers stay in single precision."""
    operand, data_type = step.known(0), step.node.data_type("DstT", 0)
    if isinstance(operand, Value):
        if not is_float(data_type):
            raise step.unsupported("to other than real numbers")
        return operand
    dtype = numpy_type(data_type)
    if operand.dtype == dtype:
        return operand
    step.network.spend(operand.size)
    return operand.astype(dtype)


def _axes(step: Step) -> tuple[Known, list[int], bool]:
    """What is reduced, along which axes, and whether they stay with length 1."""
    operand = step.known(0)
    rank = len(operand.shape)
    axes = sorted({checked_axis(axis, rank) for axis in step.integers(1)})
    return operand, axes, step.node.flag("keep_dims", False)


def _reduction(op: str) -> Handler:
    def reduction(step: Step) -> Result:
        operand, axes, keep = _axes(step)
        return step.apply(op, operand, axes=axes, keep=keep) if axes else operand

    return reduction


def _min(step: Step) -> Result:
    operand, axes, keep = _axes(step)
    if not axes:
        return operand
    largest = step.apply("max", step.apply("neg", operand), axes=axes, keep=keep)
    return step.apply("neg", largest)


def _sum(step: Step) -> Result:
    operand, axes, keep = _axes(step)
    if not axes:
        return operand
    n_values = math.prod(operand.shape[axis] for axis in axes)
    if isinstance(operand, Value):
        mean = step.apply("mean", operand, axes=axes, keep=keep)
        return step.apply("mul", mean, _scalar(n_values))
    if is_one_value(operand):
        thin = (slice(0, 1) if axis in axes else slice(None) for axis in range(operand.ndim))
        operand = step.apply("mul", operand[tuple(thin)], np.array(n_values, operand.dtype))
        assert not isinstance(operand, Value)
    step.network.spend(operand.size)
    return np.asarray(operand.sum(tuple(axes), operand.dtype, keepdims=keep))


def _matmul(first: str, second: str) -> Handler:
    """A product of matrices; the attributes say which are turned."""

    def matmul(step: Step) -> Result:
        operands = [step.known(0), step.known(1)]
        for number, name in enumerate((first, second)):
            rank = len(operands[number].shape)
            if rank < 2:
                raise ModelError(f"an array of shape {operands[number].shape} for a matrix")
            if step.node.flag(name, False):
                order = [*range(rank - 2), rank - 1, rank - 2]
                operands[number] = transpose(step, operands[number], order)
        return step.apply("matmul", *operands)

    return matmul


def _softmax(step: Step) -> Result:
    operand = step.known(0)
    return step.apply("softmax", operand, axis=checked_axis(-1, len(operand.shape)))


MATH: Mapping[str, Handler] = {
    "Add": _binary("add"),
    "AddV2": _binary("add"),
    "AddN": _add_all,
    "Sub": _binary("sub"),
    "Mul": _mul,
    "RealDiv": _binary("div"),
    "DivNoNan": _div_no_nan,
    "Maximum": _binary("maximum"),
    "Minimum": _binary("minimum"),
    "SquaredDifference": _squared_difference,
    "Pow": _power,
    "Neg": _unary("neg"),
    "Abs": _unary("abs"),
    "Square": _unary("square"),
    "Sqrt": _unary("sqrt"),
    "Rsqrt": _unary("rsqrt"),
    "Reciprocal": _reciprocal,
    "Exp": _unary("exp"),
    "Log": _unary("log"),
    "Log1p": lambda step: step.apply("log", step.apply("add", _scalar(1), step.known(0))),
    "Tanh": _unary("tanh"),
    "Sigmoid": _unary("sigmoid"),
    "Erf": _unary("erf"),
    "Erfc": _erfc,
    "Relu": _unary("relu"),
    "Relu6": _unary("relu6"),
    "LeakyRelu": lambda step: step.apply(
        "leaky_relu", step.known(0), slope=step.node.number("alpha", 0.2)
    ),
    "Elu": lambda step: step.apply("elu", step.known(0), alpha=1.0),
    "Selu": _unary("selu"),
    "Softplus": _unary("softplus"),
    "Softsign": _unary("softsign"),
    "Softmax": _softmax,
    "Cast": _cast,
    "Mean": _reduction("mean"),
    "Max": _reduction("max"),
    "Min": _min,
    "Sum": _sum,
    "MatMul": _matmul("transpose_a", "transpose_b"),
    "BatchMatMul": _matmul("adj_x", "adj_y"),
    "BatchMatMulV2": _matmul("adj_x", "adj_y"),
    "BatchMatMulV3": _matmul("adj_x", "adj_y"),
}
