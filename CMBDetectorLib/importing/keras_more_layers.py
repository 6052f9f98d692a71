"""Layers of Keras that fewer segmentation networks have: attention, other norms, activations."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from CMBDetectorLib.importing.graph_builder import Value
from CMBDetectorLib.importing.keras_activations import activation
from CMBDetectorLib.importing.keras_layers import CORE_LAYERS, LayerCall

_SPATIAL = [1, 2, 3]


def activation_layer(call: LayerCall) -> Value:
    """``Activation``: any of the functions by name."""
    return call.activated(call.image)


def relu(call: LayerCall) -> Value:
    """``ReLU``, without threshold; cut off at 6 or not at all."""
    if call.number("threshold", 0.0) != 0:
        raise call.error("has a threshold, which is not supported")
    slope = call.config.get("negative_slope") or 0.0
    largest = call.config.get("max_value")
    if largest is None and slope:
        return call.builder.add("leaky_relu", [call.image], slope=float(slope))
    if largest is None:
        return call.builder.add("relu", [call.image])
    if slope:
        raise call.error("has both a slope and a largest value, which is not supported")
    cut = call.constant("max_value", call.number("max_value", 0.0))
    return call.builder.add("minimum", [call.builder.add("relu", [call.image]), cut])


def _named(name: str) -> Callable[[LayerCall], Value]:
    def layer(call: LayerCall) -> Value:
        setting = {"class_name": name, "config": dict(call.config)}
        return activation(call.builder, setting, call.image, call.name)

    return layer


def prelu(call: LayerCall) -> Value:
    """``PReLU`` with one slope for each channel, or for each voxel."""
    slope = call.weights.get("alpha")
    if slope is None or slope.ndim > len(call.image.shape):
        raise call.error("has no slopes for its channels")
    return call.builder.add("prelu", [call.image, call.constant("alpha", slope)])


def softmax(call: LayerCall) -> Value:
    """``Softmax`` over the channels."""
    call.require("axis", -1, len(call.image.shape) - 1)
    return call.builder.add("softmax", [call.image], axis=len(call.image.shape) - 1)


def _global_pool(op: str) -> Callable[[LayerCall], Value]:
    def pool(call: LayerCall) -> Value:
        call.require("data_format", "channels_last")
        keep = bool(call.config.get("keepdims", False))
        return call.builder.add(op, [call.image], axes=_SPATIAL, keep=keep)

    return pool


def dense(call: LayerCall) -> Value:
    """``Dense``: the last axis times a matrix."""
    kernel = call.weight("kernel", call.image.shape[-1], None)
    value = call.builder.add("matmul", [call.image, call.constant("kernel", kernel)])
    if call.config.get("use_bias", True):
        bias = call.constant("bias", call.weight("bias", kernel.shape[1]))
        value = call.builder.add("add", [value, bias])
    return call.activated(value)


def reshape(call: LayerCall) -> Value:
    """``Reshape``, the batch left alone; one length may be -1."""
    wanted = call.config.get("target_shape")
    if not isinstance(wanted, list | tuple) or not all(isinstance(n, int) for n in wanted):
        raise call.error(f"has target_shape = {str(wanted)[:40]}, expected whole numbers")
    lengths, total = list(wanted), math.prod(call.image.shape[1:])
    if lengths.count(-1) == 1:
        known = -math.prod(lengths)
        lengths[lengths.index(-1)] = total // known if known > 0 else 0
    if math.prod(lengths) != total or any(n < 1 for n in lengths):
        raise call.error(f"cannot make {lengths} of an array of shape {call.image.shape}")
    return call.builder.add("reshape", [call.image], shape=[call.image.shape[0], *lengths])


def layer_normalization(call: LayerCall) -> Value:
    """``LayerNormalization`` over the channels of each voxel."""
    rank = len(call.image.shape)
    axis = call.config.get("axis", -1)
    if (axis[0] if isinstance(axis, list) and len(axis) == 1 else axis) not in (-1, rank - 1):
        raise call.error(f"normalizes axis {str(axis)[:20]}, expected the channels")
    value = _normalized(call, call.image, [rank - 1])
    return _scaled(call, value)


def group_normalization(call: LayerCall) -> Value:
    """``GroupNormalization``: over the voxels and a group's channels; -1 groups: each channel."""
    call.require("axis", -1, len(call.image.shape) - 1)
    shape = call.image.shape
    groups = call.config.get("groups", 32)
    groups = shape[-1] if groups == -1 else groups
    if not isinstance(groups, int) or groups < 1 or shape[-1] % groups:
        raise call.error(f"has {str(groups)[:20]} groups for {shape[-1]} channels")
    parted = [*shape[:-1], groups, shape[-1] // groups]
    value = call.builder.add("reshape", [call.image], shape=parted)
    value = _normalized(call, value, [*range(1, len(shape) - 1), len(shape)])
    value = call.builder.add("reshape", [value], shape=list(shape))
    return _scaled(call, value)


def _normalized(call: LayerCall, value: Value, axes: list[int]) -> Value:
    add = call.builder.add
    mean = add("mean", [value], axes=axes, keep=True)
    centered = add("sub", [value, mean])
    variance = add("mean", [add("square", [centered])], axes=axes, keep=True)
    epsilon = call.constant("epsilon", call.number("epsilon", 1e-3))
    return add("mul", [centered, add("rsqrt", [add("add", [variance, epsilon])])])


def _scaled(call: LayerCall, value: Value) -> Value:
    n = value.shape[-1]
    if call.config.get("scale", True):
        gamma = call.constant("gamma", call.weight("gamma", n))
        value = call.builder.add("mul", [value, gamma])
    if call.config.get("center", True):
        beta = call.constant("beta", call.weight("beta", n))
        value = call.builder.add("add", [value, beta])
    return value


def rescaling(call: LayerCall) -> Value:
    """``Rescaling``: times a number plus a number."""
    scale = call.constant("scale", call.number("scale", 1.0))
    offset = call.constant("offset", call.number("offset", 0.0))
    return call.builder.add("add", [call.builder.add("mul", [call.image, scale]), offset])


LAYERS: Mapping[str, Callable[[LayerCall], Value]] = {
    **CORE_LAYERS,
    "Activation": activation_layer,
    "ReLU": relu,
    "LeakyReLU": _named("LeakyReLU"),
    "ELU": _named("elu"),
    "PReLU": prelu,
    "Softmax": softmax,
    "GlobalAveragePooling3D": _global_pool("mean"),
    "GlobalMaxPooling3D": _global_pool("max"),
    "Dense": dense,
    "Reshape": reshape,
    "LayerNormalization": layer_normalization,
    "GroupNormalization": group_normalization,
    "Rescaling": rescaling,
}
"""By the name of the class; what is not here is refused by name."""


def unsupported_reason(class_name: str) -> str:
    """Why a layer cannot be run, and what to do."""
    if "Lambda" in class_name:
        return (
            "is a Lambda, whose code is never executed; ask the model's authors for one with "
            "plain layers"
        )
    return f"is a {class_name[:60]}, which is not supported; please report it with the model's name"
