"""TensorFlow's convolutions, pooling and normalisation.

References
----------
TensorFlow, ``tensorflow/core/ops/nn_ops.cc``, and ``array_ops.cc`` for ``SpaceToBatchND``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from CMBDetectorLib.errors import ModelError
from CMBDetectorLib.importing.graph_builder import Value, same_padding, transposed_crop
from CMBDetectorLib.importing.tensorflow_network import Known
from CMBDetectorLib.importing.tensorflow_shapes import pad, reshape, slice_, transpose
from CMBDetectorLib.importing.tensorflow_step import Handler, Result, Step

_ONES = (1, 1, 1, 1, 1)
_KERNEL_ORDER = (4, 3, 0, 1, 2)
_CHANNELS_LAST = frozenset({"NDHWC", "NHWC"})


def _image(step: Step, number: int) -> Value:
    """An input of rank 5, channels last."""
    data_format = step.node.text("data_format", "NDHWC")
    if data_format != "NDHWC":
        raise step.unsupported(f"with data_format {data_format[:20]!r}")
    image = step.value(number)
    if len(image.shape) != 5:
        raise ModelError(f"an image of shape {image.shape}, expected five axes")
    return image


def _spatial(step: Step, name: str, default: tuple[int, ...] = _ONES) -> list[int]:
    """An attribute for each axis, of which batch and channels must be 1."""
    values = step.node.integers(name, default)
    if len(values) != 5 or values[0] != 1 or values[4] != 1 or min(values) < 1:
        raise step.unsupported(f"with {name} {str(values)[:60]}")
    return list(values[1:4])


def _is_same(step: Step) -> bool:
    padding = step.node.text("padding", "")
    if padding not in ("SAME", "VALID"):
        raise step.unsupported(f"with padding {padding[:20]!r}")
    return padding == "SAME"


def _kernel(step: Step, number: int, n_channels: int) -> tuple[Value, list[int], int]:
    """A kernel as PyTorch wants it, its size, and in how many groups it works."""
    array = step.array(number)
    if array.ndim != 5 or array.shape[3] == 0 or n_channels % array.shape[3]:
        raise ModelError(f"a kernel of shape {array.shape} on {n_channels} channels")
    kernel = step.value(number, _KERNEL_ORDER)
    return kernel, list(array.shape[:3]), n_channels // array.shape[3]


def _conv(step: Step) -> Result:
    image = _image(step, 0)
    strides, dilations = _spatial(step, "strides"), _spatial(step, "dilations")
    kernel, size, groups = _kernel(step, 1, image.shape[4])
    padding = [[0, 0]] * 3
    if _is_same(step):
        padding = same_padding(image.shape[1:4], size, strides, dilations)
    return step.network.add(
        "conv",
        [image, kernel],
        strides=strides,
        dilations=dilations,
        padding=padding,
        groups=[groups],
    )


def _conv_transpose(step: Step) -> Result:
    """By shape of the result, kernel (i, j, k, out, in) and image."""
    image, wanted = _image(step, 2), step.integers(0)
    strides = _spatial(step, "strides")
    if _spatial(step, "dilations") != [1, 1, 1]:
        raise step.unsupported("with dilations")
    array = step.array(1)
    is_fitting = array.ndim == 5 and array.shape[4] == image.shape[4]
    if not is_fitting or len(wanted) != 5 or wanted[4] != array.shape[3]:
        raise step.unsupported(f"of a kernel {array.shape} to {str(wanted)[:60]}")
    size, is_same = array.shape[:3], _is_same(step)
    for n, given, stride, width in zip(wanted[1:4], image.shape[1:4], strides, size, strict=True):
        if given != -(-(n if is_same else n - width + 1) // stride):
            raise ModelError(f"{given} voxels to {n}, which a stride of {stride} does not give")
    crop = transposed_crop(image.shape[1:4], size, strides, wanted[1:4])
    kernel = step.value(1, _KERNEL_ORDER)
    return step.network.add("conv_transpose", [image, kernel], strides=strides, crop=crop)


def _bias_add(step: Step) -> Result:
    if step.node.text("data_format", "NHWC") not in _CHANNELS_LAST:
        raise step.unsupported("with channels first")
    return step.apply("add", step.known(0), step.known(1))


def _pool(op: str) -> Handler:
    def pool(step: Step) -> Result:
        image, size, strides = _image(step, 0), _spatial(step, "ksize"), _spatial(step, "strides")
        padding = [[0, 0]] * 3
        if _is_same(step):
            padding = same_padding(image.shape[1:4], size, strides, (1, 1, 1))
        return step.network.add(op, [image], size=size, strides=strides, padding=padding)

    return pool


def _batch_norm(step: Step) -> Result:
    """With the statistics that are given or, as in training, with those of the batch."""
    values, (scale, offset, mean, variance) = step.known(0), map(step.known, range(1, 5))
    epsilon = np.float32(step.node.number("epsilon", 1e-4))
    rank = len(values.shape)
    is_last = step.node.text("data_format", "NHWC") in _CHANNELS_LAST
    channel_axis = rank - 1 if is_last else 1

    def by_channel(operand: Known) -> Known:
        shape = [1] * rank
        shape[channel_axis] = -1
        return reshape(step, operand, shape)

    if step.node.flag("is_training", True):
        axes = [axis for axis in range(rank) if axis != channel_axis]
        mean = step.apply("mean", values, axes=axes, keep=True)
        values = step.apply("sub", values, mean)
        variance = step.apply("mean", step.apply("square", values), axes=axes, keep=True)
    else:
        values = step.apply("sub", values, by_channel(mean))
        variance = by_channel(variance)
    deviation = step.apply("rsqrt", step.apply("add", variance, np.asarray(epsilon)))
    factor = step.apply("mul", deviation, by_channel(scale))
    return step.apply("add", step.apply("mul", values, factor), by_channel(offset))


def _blocks(step: Step, rank: int) -> tuple[list[int], list[list[int]]]:
    """Size of the blocks, and what to pad or crop, for each axis after the first."""
    block, amounts = step.integers(1), step.array(2)
    n_axes = len(block)
    if n_axes >= rank or amounts.shape != (n_axes, 2) or min(block) < 1 or amounts.min() < 0:
        raise ModelError(f"blocks of {str(block)[:60]} on an array of rank {rank}")
    rest = rank - 1 - n_axes
    return block + [1] * rest, amounts.astype(int).tolist() + [[0, 0]] * rest


def _space_to_batch(step: Step) -> Result:
    """Every n-th voxel of each axis to an image of its own, with which convolutions dilate."""
    image = step.known(0)
    block, padding = _blocks(step, len(image.shape))
    image = pad(step, image, [[0, 0], *padding], 0.0)
    n, *size = image.shape
    parted, offsets, places = [n], [], []
    for length, width in zip(size, block, strict=True):
        places.append(len(parted))
        parted.append(length // width)
        if width > 1:
            offsets.append(len(parted))
            parted.append(width)
    image = transpose(step, reshape(step, image, parted), [*offsets, 0, *places])
    shape = [length // width for length, width in zip(size, block, strict=True)]
    return reshape(step, image, [n * math.prod(block), *shape])


def _batch_to_space(step: Step) -> Result:
    """The reverse of ``SpaceToBatchND``."""
    image = step.known(0)
    block, crops = _blocks(step, len(image.shape))
    widths = [width for width in block if width > 1]
    n, *size = image.shape
    order, n_seen = [len(widths)], 0
    for number, width in enumerate(block):
        order.append(len(widths) + 1 + number)
        if width > 1:
            order.append(n_seen)
            n_seen += 1
    n_images = n // math.prod(widths)
    image = transpose(step, reshape(step, image, [*widths, n_images, *size]), order)
    shape = [length * width for length, width in zip(size, block, strict=True)]
    image = reshape(step, image, [n_images, *shape])
    begin = [0, *(low for low, _ in crops)]
    end = [n_images, *(m - high for m, (_, high) in zip(shape, crops, strict=True))]
    return slice_(step, image, begin, end, [1] * len(end))


LAYERS: Mapping[str, Handler] = {
    "Conv3D": _conv,
    "Conv3DBackpropInputV2": _conv_transpose,
    "BiasAdd": _bias_add,
    "MaxPool3D": _pool("max_pool"),
    "AvgPool3D": _pool("avg_pool"),
    "FusedBatchNormV2": _batch_norm,
    "FusedBatchNormV3": _batch_norm,
    "SpaceToBatchND": _space_to_batch,
    "BatchToSpaceND": _batch_to_space,
}
