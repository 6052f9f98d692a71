"""What each operation of a graph computes, with PyTorch.

Arrays are (batch, i, j, k, channels), which is how PyTorch's "channels last" lies in memory, so
that turning them for a convolution costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (the name everybody knows it by)
from torch import Tensor

SLAB_PLANES = 8

Attributes = Mapping[str, Any]
Compute = Callable[[Sequence[Tensor], Attributes], Tensor]


def _channels_first(image: Tensor) -> Tensor:
    return image.permute(0, 4, 1, 2, 3)


def _channels_last(image: Tensor) -> Tensor:
    return image.permute(0, 2, 3, 4, 1)


def _padded(
    image: Tensor, padding: Sequence[Sequence[int]], value: float = 0.0
) -> tuple[Tensor, list[int]]:
    """Channels first, and the padding that is left to do: equal at both ends."""
    lows = [low for low, _ in padding]
    if all(low == high for low, high in padding):
        return image, lows
    flat = [amount for pair in reversed(padding) for amount in pair]
    return F.pad(image, flat, value=value), [0, 0, 0]


def conv(inputs: Sequence[Tensor], attributes: Attributes) -> Tensor:
    """A convolution, in TensorFlow's sense: kernels are not turned round."""
    image, padding = _padded(_channels_first(inputs[0]), attributes["padding"])
    bias = inputs[2] if len(inputs) > 2 else None
    if image.device.type == "cpu" and not _has_onednn():
        return _channels_last(conv_in_slabs(image, inputs[1], bias, padding, attributes))
    result = F.conv3d(
        image,
        inputs[1],
        bias,
        stride=attributes["strides"],
        padding=padding,
        dilation=attributes["dilations"],
        groups=attributes["groups"][0],
    )
    return _channels_last(result)


def _has_onednn() -> bool:
    return bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]


def conv_in_slabs(
    image: Tensor,
    kernel: Tensor,
    bias: Tensor | None,
    padding: Sequence[int],
    attributes: Attributes,
) -> Tensor:
    """A convolution of a few planes at a time: the same numbers, in far less memory.

    Without oneDNN (macOS on ARM) PyTorch writes out the neighborhood of every voxel at once, many
    times the image.
    """
    stride, dilation = attributes["strides"][0], attributes["dilations"][0]
    reach = (kernel.shape[2] - 1) * dilation + 1
    image = F.pad(image, [0, 0, 0, 0, padding[0], padding[0]])
    n_planes = (image.shape[2] - reach) // stride + 1
    slabs = []
    for first in range(0, n_planes, SLAB_PLANES):
        last = min(first + SLAB_PLANES, n_planes) - 1
        slab = image[:, :, first * stride : last * stride + reach]
        slabs.append(
            F.conv3d(
                slab,
                kernel,
                bias,
                stride=attributes["strides"],
                padding=[0, padding[1], padding[2]],
                dilation=attributes["dilations"],
                groups=attributes["groups"][0],
            )
        )
    return torch.cat(slabs, dim=2)


def conv_transpose(inputs: Sequence[Tensor], attributes: Attributes) -> Tensor:
    """The transpose of a convolution."""
    full = F.conv_transpose3d(
        _channels_first(inputs[0]), inputs[1], None, stride=attributes["strides"]
    )
    flat = [-amount for pair in reversed(attributes["crop"]) for amount in pair]
    result = _channels_last(F.pad(full, flat))
    return result + inputs[2] if len(inputs) > 2 else result


def max_pool(inputs: Sequence[Tensor], attributes: Attributes) -> Tensor:
    """The largest value; what is padded never is."""
    image = _channels_first(inputs[0])
    if any(amount for pair in attributes["padding"] for amount in pair):
        flat = [amount for pair in reversed(attributes["padding"]) for amount in pair]
        image = F.pad(image, flat, value=-torch.inf)
    return _channels_last(F.max_pool3d(image, attributes["size"], attributes["strides"]))


def avg_pool(inputs: Sequence[Tensor], attributes: Attributes) -> Tensor:
    """The mean; what is padded does not count."""
    image = _channels_first(inputs[0])
    size, strides = attributes["size"], attributes["strides"]
    flat = [amount for pair in reversed(attributes["padding"]) for amount in pair]
    if not any(flat):
        return _channels_last(F.avg_pool3d(image, size, strides))
    total = F.avg_pool3d(F.pad(image, flat), size, strides)
    share = F.avg_pool3d(F.pad(torch.ones_like(image[:1, :1]), flat), size, strides)
    return _channels_last(total / share)


def slice_(inputs: Sequence[Tensor], attributes: Attributes) -> Tensor:
    """A regular part of the array."""
    triples = zip(attributes["begin"], attributes["end"], attributes["strides"], strict=True)
    return inputs[0][tuple(slice(*triple) for triple in triples)]


def pad(inputs: Sequence[Tensor], attributes: Attributes) -> Tensor:
    """A constant value around the array."""
    flat = [amount for pair in reversed(attributes["padding"]) for amount in pair]
    return F.pad(inputs[0], flat, value=attributes["value"])


def _unary(function: Callable[[Tensor], Tensor]) -> Compute:
    return lambda inputs, _: function(inputs[0])


def _binary(function: Callable[[Tensor, Tensor], Tensor]) -> Compute:
    return lambda inputs, _: function(inputs[0], inputs[1])


COMPUTE: Mapping[str, Compute] = {
    "conv": conv,
    "conv_transpose": conv_transpose,
    "max_pool": max_pool,
    "avg_pool": avg_pool,
    "pad": pad,
    "slice": slice_,
    "add": _binary(torch.add),
    "sub": _binary(torch.sub),
    "mul": _binary(torch.mul),
    "div": _binary(torch.div),
    "maximum": _binary(torch.maximum),
    "minimum": _binary(torch.minimum),
    "matmul": _binary(torch.matmul),
    "prelu": _binary(lambda x, slope: torch.where(x > 0, x, slope * x)),
    "concat": lambda inputs, a: torch.cat(list(inputs), dim=a["axis"]),
    "repeat": lambda inputs, a: inputs[0].repeat_interleave(a["times"], dim=a["axis"]),
    "reshape": lambda inputs, a: inputs[0].reshape(a["shape"]),
    "transpose": lambda inputs, a: inputs[0].permute(a["order"]),
    "tile": lambda inputs, a: inputs[0].repeat(a["times"]),
    "broadcast": lambda inputs, a: inputs[0].broadcast_to(a["shape"]),
    "mean": lambda inputs, a: inputs[0].mean(a["axes"], keepdim=a["keep"]),
    "max": lambda inputs, a: inputs[0].amax(a["axes"], keepdim=a["keep"]),
    "softmax": lambda inputs, a: torch.softmax(inputs[0], dim=a["axis"]),
    "leaky_relu": lambda inputs, a: F.leaky_relu(inputs[0], a["slope"]),
    "elu": lambda inputs, a: F.elu(inputs[0], a["alpha"]),
    "gelu": lambda inputs, a: F.gelu(inputs[0], approximate="tanh" if a["approximate"] else "none"),
    "relu": _unary(F.relu),
    "relu6": _unary(F.relu6),
    "selu": _unary(F.selu),
    "sigmoid": _unary(torch.sigmoid),
    "silu": _unary(F.silu),
    "tanh": _unary(torch.tanh),
    # Without PyTorch's threshold, above which it takes softplus for the identity.
    "softplus": _unary(lambda x: torch.logaddexp(x, torch.zeros_like(x))),
    "softsign": _unary(F.softsign),
    "exp": _unary(torch.exp),
    "log": _unary(torch.log),
    "neg": _unary(torch.neg),
    "abs": _unary(torch.abs),
    "square": _unary(torch.square),
    "sqrt": _unary(torch.sqrt),
    "rsqrt": _unary(torch.rsqrt),
    "erf": _unary(torch.erf),
}

IN_PLACE: Mapping[str, Callable[[Sequence[Tensor], Attributes], Tensor]] = {
    "add": lambda inputs, _: inputs[0].add_(inputs[1]),
    "sub": lambda inputs, _: inputs[0].sub_(inputs[1]),
    "mul": lambda inputs, _: inputs[0].mul_(inputs[1]),
    "relu": _unary(F.relu_),
    "silu": _unary(lambda x: F.silu(x, inplace=True)),
    "sigmoid": _unary(lambda x: x.sigmoid_()),
    "tanh": _unary(lambda x: x.tanh_()),
    "leaky_relu": lambda inputs, a: F.leaky_relu(inputs[0], a["slope"], inplace=True),
    "elu": lambda inputs, a: F.elu(inputs[0], a["alpha"], inplace=True),
}
"""Of these the first input may be overwritten by the result, where nothing else needs it."""

NEW_ARRAYS = frozenset(
    {"conv", "conv_transpose", "max_pool", "avg_pool", "repeat", "softmax"}
    | {"add", "sub", "mul", "div", "maximum", "minimum", "matmul", "prelu", "leaky_relu", "elu"}
    | {"gelu", "relu", "relu6", "selu", "sigmoid", "silu", "tanh", "softplus", "softsign", "exp"}
)
"""Operations whose result shares no memory with their inputs."""
