"""The networks a bundle may name, and the arguments it may give them.

A bundle is data. Its network definition is compared with this list, argument by argument, before
anything is built from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from CMBDetectorLib.errors import ModelError
from CMBDetectorLib.models.graph import GRAPH_TARGET, parse_graph

TARGET_KEY = "_target_"
_MAX_COUNT = 4096
_MAX_LENGTH = 32
_NORMS = {"BATCH", "INSTANCE", "GROUP"}
_ACTIVATIONS = {"RELU", "LEAKYRELU", "PRELU", "ELU", "GELU", "SWISH", "MISH", "SIGMOID"}

Check = Callable[[Any], bool]


def _is_three(value: Any) -> bool:
    return _is_count(value) and value == 3


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_COUNT


def _are_counts(value: Any) -> bool:
    return isinstance(value, list) and 0 < len(value) <= _MAX_LENGTH and all(map(_is_count, value))


def _are_nested_counts(value: Any) -> bool:
    if _is_count(value):
        return True
    is_short_list = isinstance(value, list) and 0 < len(value) <= _MAX_LENGTH
    return is_short_list and all(_is_count(v) or _are_counts(v) for v in value)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_fraction(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1


def _is_fraction_or_null(value: Any) -> bool:
    return value is None or _is_fraction(value)


def _one_of(*choices: str) -> Check:
    def check(value: Any) -> bool:
        return isinstance(value, str) and value in choices

    return check


def _layer(names: set[str]) -> Check:
    """``"NAME"`` or ``["NAME", {"argument": number or bool}]``."""

    def check(value: Any) -> bool:
        if isinstance(value, str):
            return value.upper() in names
        if not isinstance(value, list) or len(value) != 2 or not isinstance(value[0], str):
            return False
        name, arguments = value
        if name.upper() not in names or not isinstance(arguments, dict):
            return False
        return all(
            isinstance(key, str) and key.isidentifier() and isinstance(item, bool | int | float)
            for key, item in arguments.items()
        )

    return check


_CHANNELS: dict[str, Check] = {
    "spatial_dims": _is_three,
    "in_channels": _is_count,
    "out_channels": _is_count,
}

ARCHITECTURES: Mapping[str, Mapping[str, Check]] = {
    "monai.networks.nets.UNet": {
        **_CHANNELS,
        "channels": _are_counts,
        "strides": _are_nested_counts,
        "kernel_size": _are_nested_counts,
        "up_kernel_size": _are_nested_counts,
        "num_res_units": _is_count,
        "act": _layer(_ACTIVATIONS),
        "norm": _layer(_NORMS),
        "dropout": _is_fraction,
        "bias": _is_flag,
        "adn_ordering": _one_of("NDA", "NA", "DNA", "AN", "ADN", "AND"),
    },
    "monai.networks.nets.BasicUNet": {
        **_CHANNELS,
        "features": _are_counts,
        "act": _layer(_ACTIVATIONS),
        "norm": _layer(_NORMS),
        "bias": _is_flag,
        "dropout": _is_fraction,
        "upsample": _one_of("deconv", "pixelshuffle", "nontrainable"),
    },
    "monai.networks.nets.SegResNet": {
        **_CHANNELS,
        "init_filters": _is_count,
        "dropout_prob": _is_fraction_or_null,
        "act": _layer(_ACTIVATIONS),
        "norm": _layer(_NORMS),
        "use_conv_final": _is_flag,
        "blocks_down": _are_counts,
        "blocks_up": _are_counts,
        "upsample_mode": _one_of("deconv", "nontrainable", "pixelshuffle"),
    },
    "monai.networks.nets.DynUNet": {
        **_CHANNELS,
        "kernel_size": _are_nested_counts,
        "strides": _are_nested_counts,
        "upsample_kernel_size": _are_nested_counts,
        "filters": _are_counts,
        "dropout": _is_fraction_or_null,
        "norm_name": _layer(_NORMS),
        "act_name": _layer(_ACTIVATIONS),
        "res_block": _is_flag,
        "trans_bias": _is_flag,
    },
}


def check_network_def(network_def: Mapping[str, Any], source: object) -> None:
    """Accept a network definition or say what is wrong with it.

    Parameters
    ----------
    network_def
        ``{"_target_": full name of the network, argument: plain JSON value, ...}`` as in a MONAI
        Bundle; or a graph, see :mod:`CMBDetectorLib.models.graph`.
    source
        Named in errors; the file the definition comes from.

    Raises
    ------
    ModelError
        If the architecture is not in :data:`ARCHITECTURES`, or an argument is not one of its own
        or not of the kind it takes.
    """
    target = network_def.get(TARGET_KEY)
    if target == GRAPH_TARGET:
        parse_graph(network_def, source)
        return
    if not isinstance(target, str) or target not in ARCHITECTURES:
        raise ModelError(
            f"{source}: unknown architecture {target!r}; "
            f"this version runs {', '.join(sorted(ARCHITECTURES))}"
        )
    arguments = ARCHITECTURES[target]
    for key, value in network_def.items():
        if key == TARGET_KEY:
            continue
        if key not in arguments:
            raise ModelError(
                f"{source}: {target} has no argument {key!r} here; "
                f"accepted are {', '.join(sorted(arguments))}"
            )
        if not arguments[key](value):
            raise ModelError(f"{source}: {target} does not accept {key} = {str(value)[:80]!r}")
    missing = sorted(set(_CHANNELS) - set(network_def))
    if missing:
        raise ModelError(f"{source}: the network definition lacks {', '.join(missing)}")
