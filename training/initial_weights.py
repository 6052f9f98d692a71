"""Weights to start from that were learned before: transfer learning."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from CMBDetectorLib.errors import InputError, UsageError
from CMBDetectorLib.models.bundle import load_bundle
from CMBDetectorLib.models.checksums import SUMS_NAME
from training.checkpoint import CHECKPOINT_NAME, load_best, read_tensors

_SHOWN = 2


def load_initial_weights(source: Path, network: nn.Module) -> None:
    """Put weights that were learned before into a network of the same definition.

    Parameters
    ----------
    source
        A training's folder, whose best averaged weights are taken; a ``.safetensors`` file, such
        as a member of a bundle; or a bundle with one member.

    Raises
    ------
    UsageError
        If it is none of these, or a bundle with several members.
    InputError
        If the weights are not exactly those of the network.
    ModelError
        If the bundle is damaged.
    """
    if (source / CHECKPOINT_NAME).is_file():
        load_best(source, network)
    elif (source / SUMS_NAME).is_file():
        members = load_bundle(source).members
        if len(members) != 1:
            raise UsageError(
                f"{source} has {len(members)} members; give one of them, such as {members[0]}"
            )
        _load_exactly(network, read_tensors(members[0]), members[0])
    elif source.is_file():
        _load_exactly(network, read_tensors(source), source)
    else:
        raise UsageError(
            f"init_from {source}: expected a training's folder with {CHECKPOINT_NAME}, a model "
            "bundle, or a .safetensors file"
        )


def _load_exactly(network: nn.Module, tensors: Mapping[str, Tensor], source: Path) -> None:
    own = network.state_dict(keep_vars=True)
    # A bundle stores a tensor that has several names once.
    given = {id(own[name]) for name in tensors if name in own}
    missing = sorted(name for name, tensor in own.items() if id(tensor) not in given)
    unknown = sorted(set(tensors) - set(own))
    other = sorted(n for n in tensors if n in own and tensors[n].shape != own[n].shape)
    for what, names in (
        ("lacks", missing),
        ("has unknown", unknown),
        ("has other sizes of", other),
    ):
        if names:
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            raise InputError(
                f"{source} is of another network: it {what} {', '.join(names[:_SHOWN])}{more}; "
                "give weights of the configuration's network_def"
            )
    network.load_state_dict(dict(tensors), strict=False)
