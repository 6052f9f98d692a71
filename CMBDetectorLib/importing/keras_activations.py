"""The activation functions of Keras, in operations of a graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from CMBDetectorLib.errors import ModelError
from CMBDetectorLib.importing.graph_builder import GraphBuilder, Value

Arguments = Mapping[str, Any]


def activation(builder: GraphBuilder, setting: Any, value: Value, layer: str) -> Value:
    """Apply an activation as a layer's settings spell it: a name, or an object with one.

    Raises
    ------
    ModelError
        If it is none of those known; the message names the layer.
    """
    name, arguments = _name_and_arguments(setting)
    if name == "linear":
        return value
    if name == "mish":
        inner = builder.add("tanh", [builder.add("softplus", [value])])
        return builder.add("mul", [value, inner])
    if name not in _OPERATIONS:
        raise ModelError(
            f"the layer {layer!r} has the activation {str(setting)[:60]!r}, which is not "
            "supported; please report it with the model's name"
        )
    op, attributes_of = _OPERATIONS[name]
    return builder.add(op, [value], **attributes_of(arguments, value))


def _none(_: Arguments, __: Value) -> Arguments:
    return {}


def _alpha(arguments: Arguments, _: Value) -> Arguments:
    return {"alpha": float(arguments.get("alpha", 1.0))}


def _slope_or(default: float) -> Callable[[Arguments, Value], Arguments]:
    return lambda arguments, _: {"slope": _slope(arguments, default)}


_OPERATIONS: Mapping[str, tuple[str, Callable[[Arguments, Value], Arguments]]] = {
    **{name: (name, _none) for name in ("relu", "relu6", "selu", "sigmoid", "silu", "tanh")},
    **{name: (name, _none) for name in ("softplus", "softsign")},
    "swish": ("silu", _none),
    "exponential": ("exp", _none),
    "softmax": ("softmax", lambda _, value: {"axis": len(value.shape) - 1}),
    "gelu": ("gelu", lambda a, _: {"approximate": bool(a.get("approximate", False))}),
    "elu": ("elu", _alpha),
    "leaky_relu": ("leaky_relu", _slope_or(0.2)),
    "LeakyReLU": ("leaky_relu", _slope_or(0.3)),
}


def _slope(arguments: Arguments, default: float) -> float:
    slope = arguments.get("negative_slope", arguments.get("alpha", default))
    if isinstance(slope, dict):  # Keras 2 may wrap an array
        slope = slope.get("config", {}).get("value", default)
    return float(slope)


def _name_and_arguments(setting: Any) -> tuple[str, Arguments]:
    if isinstance(setting, str):
        return setting, {}
    if setting is None:
        return "linear", {}
    if isinstance(setting, dict):
        inner = setting.get("config")
        if isinstance(inner, str):  # {"class_name": "function", "config": "silu"}
            return inner, {}
        return str(setting.get("class_name")), inner if isinstance(inner, dict) else {}
    return str(setting), {}
