"""What each layer of Keras computes, in operations of a graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from CMBDetectorLib.errors import ModelError
from CMBDetectorLib.importing.graph_builder import (
    GraphBuilder,
    Value,
    same_padding,
    transposed_crop,
)
from CMBDetectorLib.importing.keras_activations import activation

Array = npt.NDArray[Any]


class LayerCall:
    """One use of a layer: its settings, weights by their last name, and what it is given.

    Every problem becomes a ModelError that names the layer.
    """

    def __init__(
        self,
        builder: GraphBuilder,
        name: str,
        config: Mapping[str, Any],
        weights: Mapping[str, Array],
        inputs: Sequence[Value],
    ) -> None:
        self.builder = builder
        self.name = name
        self.config = config
        self.weights = weights
        self.inputs = inputs

    @property
    def image(self) -> Value:
        """The only input."""
        if len(self.inputs) != 1:
            raise self.error(f"is given {len(self.inputs)} arrays, expected 1")
        return self.inputs[0]

    def error(self, problem: str) -> ModelError:
        """An error that names the layer."""
        return ModelError(f"the layer {self.name!r} {problem}; please report it with the model")

    def weight(self, name: str, *shape: int | None) -> Array:
        """One of the layer's weights, of the given shape (None: any length)."""
        array = self.weights.get(name)
        if array is None:
            raise self.error(f"has no weights called {name!r}")
        fits = len(shape) == array.ndim and all(
            n in (None, m) for n, m in zip(shape, array.shape, strict=False)
        )
        if not fits:
            raise self.error(f"has {name} of shape {array.shape}, expected {shape}")
        return array

    def constant(self, name: str, values: npt.ArrayLike) -> Value:
        """A tensor of the graph, called after the layer."""
        return self.builder.constant(f"{self.name}/{name}", values)

    def triple(self, key: str, default: Any = None) -> list[int]:
        """Three whole numbers, at least 1; one number stands for three."""
        value = self.config.get(key, default)
        value = [value] * 3 if isinstance(value, int) else value
        is_triple = isinstance(value, list | tuple) and len(value) == 3
        if not is_triple or not all(isinstance(n, int) and 1 <= n <= 1024 for n in value):
            raise self.error(f"has {key} = {str(value)[:40]}, expected three whole numbers")
        return list(value)

    def number(self, key: str, default: float) -> float:
        """A setting that is a number."""
        value = self.config.get(key, default)
        if isinstance(value, dict):  # Keras 3 may wrap an array
            value = value.get("config", {}).get("value", value)
        if not isinstance(value, int | float) or not np.isfinite(value):
            raise self.error(f"has {key} = {str(value)[:40]}, expected a number")
        return float(value)

    def require(self, key: str, *allowed: Any) -> Any:
        """A setting that has one of these values; the first if it is missing."""
        value = self.config.get(key, allowed[0])
        if value not in allowed:
            raise self.error(f"has {key} = {str(value)[:40]}, which is not supported")
        return value

    def activated(self, value: Value) -> Value:
        """The activation of the layer's settings on top of a value."""
        return activation(self.builder, self.config.get("activation", "linear"), value, self.name)


def conv3d(call: LayerCall) -> Value:
    """Kernels are stored as (i, j, k, in, out)."""
    call.require("data_format", "channels_last")
    size, strides = call.triple("kernel_size"), call.triple("strides", 1)
    dilations, groups = call.triple("dilation_rate", 1), call.config.get("groups", 1)
    kernel = call.weight("kernel", *size, None, None).transpose(4, 3, 0, 1, 2)
    spatial = call.image.shape[1:4]
    is_same = call.require("padding", "valid", "same") == "same"
    padding = same_padding(spatial, size, strides, dilations) if is_same else [[0, 0]] * 3
    inputs = [call.image, call.constant("kernel", kernel)]
    if call.config.get("use_bias", True):
        inputs.append(call.constant("bias", call.weight("bias", kernel.shape[0])))
    value = call.builder.add(
        "conv", inputs, strides=strides, dilations=dilations, padding=padding, groups=[groups]
    )
    return call.activated(value)


def conv3d_transpose(call: LayerCall) -> Value:
    """Kernels are stored as (i, j, k, out, in)."""
    call.require("data_format", "channels_last")
    call.require("output_padding", None)
    if call.triple("dilation_rate", 1) != [1, 1, 1]:
        raise call.error("has dilations, which are not supported")
    size, strides = call.triple("kernel_size"), call.triple("strides", 1)
    kernel = call.weight("kernel", *size, None, None).transpose(4, 3, 0, 1, 2)
    spatial = call.image.shape[1:4]
    is_same = call.require("padding", "valid", "same") == "same"
    result = [
        n * stride if is_same else n * stride + max(width - stride, 0)
        for n, stride, width in zip(spatial, strides, size, strict=True)
    ]
    inputs = [call.image, call.constant("kernel", kernel)]
    if call.config.get("use_bias", True):
        inputs.append(call.constant("bias", call.weight("bias", kernel.shape[1])))
    crop = transposed_crop(spatial, size, strides, result)
    return call.activated(call.builder.add("conv_transpose", inputs, strides=strides, crop=crop))


def batch_normalization(call: LayerCall) -> Value:
    """A product and a sum by channel, from double precision."""
    axis = call.config.get("axis", -1)
    rank = len(call.image.shape)
    if (axis[0] if isinstance(axis, list) and len(axis) == 1 else axis) not in (-1, rank - 1):
        raise call.error(f"normalizes axis {str(axis)[:20]}, expected the channels")
    n = call.image.shape[-1]
    mean = call.weight("moving_mean", n).astype(np.float64)
    variance = call.weight("moving_variance", n).astype(np.float64)
    scale = 1 / np.sqrt(variance + call.number("epsilon", 1e-3))
    if call.config.get("scale", True):
        scale = scale * call.weight("gamma", n)
    offset = -mean * scale
    if call.config.get("center", True):
        offset = offset + call.weight("beta", n)
    product = call.builder.add("mul", [call.image, call.constant("scale", scale)])
    return call.builder.add("add", [product, call.constant("offset", offset)])


def _pool(op: str) -> Callable[[LayerCall], Value]:
    def pool(call: LayerCall) -> Value:
        call.require("data_format", "channels_last")
        size = call.triple("pool_size", 2)
        has_strides = call.config.get("strides") is not None
        strides = call.triple("strides") if has_strides else size
        is_same = call.require("padding", "valid", "same") == "same"
        spatial = call.image.shape[1:4]
        padding = same_padding(spatial, size, strides, [1, 1, 1]) if is_same else [[0, 0]] * 3
        return call.builder.add(op, [call.image], size=size, strides=strides, padding=padding)

    return pool


def up_sampling(call: LayerCall) -> Value:
    """The nearest voxel: each is repeated along each axis."""
    call.require("data_format", "channels_last")
    value = call.image
    for axis, times in enumerate(call.triple("size", 2), start=1):
        if times > 1:
            value = call.builder.add("repeat", [value], axis=axis, times=times)
    return value


def zero_padding(call: LayerCall) -> Value:
    """Zeros at both ends of the three axes of the image."""
    call.require("data_format", "channels_last")
    pairs = [[0, 0], *_pairs(call, "padding"), [0, 0]]
    return call.builder.add("pad", [call.image], padding=pairs, value=0.0)


def cropping(call: LayerCall) -> Value:
    """Cuts off both ends of the three axes of the image."""
    call.require("data_format", "channels_last")
    shape = call.image.shape
    pairs = [[0, 0], *_pairs(call, "cropping"), [0, 0]]
    end = [n - high for n, (_, high) in zip(shape, pairs, strict=True)]
    begin = [low for low, _ in pairs]
    if any(b >= e for b, e in zip(begin, end, strict=True)):
        raise call.error(f"cuts everything off an array of shape {shape}")
    return call.builder.add("slice", [call.image], begin=begin, end=end, strides=[1] * len(shape))


def _pairs(call: LayerCall, key: str) -> list[list[int]]:
    value = call.config.get(key)
    rows = [value] * 3 if isinstance(value, int) else value
    if isinstance(rows, list | tuple) and len(rows) == 3:
        pairs = [[row, row] if isinstance(row, int) else row for row in rows]
        if all(_is_pair(pair) for pair in pairs):
            return [list(pair) for pair in pairs]
    raise call.error(f"has {key} = {str(value)[:40]}, expected three pairs of whole numbers")


def _is_pair(pair: Any) -> bool:
    is_pair = isinstance(pair, list | tuple) and len(pair) == 2
    return is_pair and all(isinstance(n, int) and 0 <= n <= 1024 for n in pair)


def concatenate(call: LayerCall) -> Value:
    """Along the axis of the settings, as a rule the channels."""
    rank = len(call.inputs[0].shape) if call.inputs else 0
    axis = call.config.get("axis", -1)
    if not isinstance(axis, int) or not -rank <= axis < rank:
        raise call.error(f"has axis = {str(axis)[:20]} for arrays of {rank} axes")
    return call.builder.add("concat", list(call.inputs), axis=axis % rank)


def _merge(op: str, *, mean: bool = False) -> Callable[[LayerCall], Value]:
    def merge(call: LayerCall) -> Value:
        if len(call.inputs) < 2 or (op == "sub" and len(call.inputs) != 2):
            raise call.error(f"is given {len(call.inputs)} arrays")
        value = call.inputs[0]
        for other in call.inputs[1:]:
            value = call.builder.add(op, [value, other])
        if mean:
            share = call.constant("share", 1 / len(call.inputs))
            value = call.builder.add("mul", [value, share])
        return value

    return merge


def identity(call: LayerCall) -> Value:
    """What does something in training only."""
    return call.image


CORE_LAYERS: Mapping[str, Callable[[LayerCall], Value]] = {
    "Conv3D": conv3d,
    "Convolution3D": conv3d,
    "Conv3DTranspose": conv3d_transpose,
    "BatchNormalization": batch_normalization,
    "MaxPooling3D": _pool("max_pool"),
    "AveragePooling3D": _pool("avg_pool"),
    "UpSampling3D": up_sampling,
    "ZeroPadding3D": zero_padding,
    "Cropping3D": cropping,
    "Concatenate": concatenate,
    "Add": _merge("add"),
    "Subtract": _merge("sub"),
    "Multiply": _merge("mul"),
    "Maximum": _merge("maximum"),
    "Minimum": _merge("minimum"),
    "Average": _merge("add", mean=True),
    "Dropout": identity,
    "SpatialDropout3D": identity,
    "GaussianNoise": identity,
    "GaussianDropout": identity,
    "AlphaDropout": identity,
    "ActivityRegularization": identity,
    "Identity": identity,
}
