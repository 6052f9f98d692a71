"""The state of a training on disk: safetensors, no pickle, whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from CMBDetectorLib.errors import InputError, OutputError, UsageError

CHECKPOINT_NAME = "checkpoint.safetensors"
BEST_NAME = "best.safetensors"
_STATE_KEY = "state"


@dataclass
class TrainingState:
    """All that a training needs to go on.

    ``average`` is the network with the exponential moving average of the weights; ``elapsed_s``
    the time trained so far, over all sessions.
    """

    network: nn.Module
    average: nn.Module
    optimizer: torch.optim.Optimizer
    step: int = 0
    elapsed_s: float = 0.0


def save_checkpoint(
    folder: Path,
    state: TrainingState,
    facts: dict[str, Any],
    *,
    more: Mapping[str, Tensor] | None = None,
) -> None:
    """Write ``checkpoint.safetensors``; ``facts`` (plain JSON) and the counters go to its header.

    ``more`` are tensors that :func:`load_checkpoint` gives back.

    Raises
    ------
    OutputError
        If it cannot be written; an earlier checkpoint is then still there.
    """
    tensors = {f"more.{name}": tensor for name, tensor in (more or {}).items()}
    for prefix, network in (("network", state.network), ("average", state.average)):
        for name, tensor in network.state_dict().items():
            tensors[f"{prefix}.{name}"] = tensor
    for index, values in state.optimizer.state_dict()["state"].items():
        for name, tensor in values.items():
            tensors[f"optimizer.{index}.{name}"] = tensor
    plain = facts | {"step": state.step, "elapsed_s": state.elapsed_s}
    write_tensors(folder / CHECKPOINT_NAME, tensors, {_STATE_KEY: json.dumps(plain)})


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file, whole or not at all.

    Raises
    ------
    OutputError
        If it cannot be written; an earlier file is then still there.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        # Copies, as MONAI's DynUNet has tensors under several names, which safetensors refuses.
        safetensors.torch.save_file(
            {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()},
            partial,
            metadata=metadata,
        )
        partial.replace(path)
    except (OSError, SafetensorError) as error:
        partial.unlink(missing_ok=True)
        raise OutputError(
            f"cannot write {path}: {error}; free space or make the folder writable"
        ) from error


def save_best(folder: Path, average: nn.Module, facts: dict[str, Any]) -> None:
    """Write ``best.safetensors``: the averaged weights and ``facts`` (plain JSON).

    Raises
    ------
    OutputError
        If it cannot be written; an earlier one is then still there.
    """
    write_tensors(folder / BEST_NAME, average.state_dict(), {_STATE_KEY: json.dumps(facts)})


def load_checkpoint(folder: Path, state: TrainingState) -> dict[str, Tensor]:
    """Put the state in ``folder`` into ``state``, whose networks and optimizer exist already.

    Returns
    -------
    dict
        The tensors that were stored as ``more``.

    Raises
    ------
    InputError
        If the checkpoint is missing, damaged, or of another network.
    """
    tensors = read_tensors(folder / CHECKPOINT_NAME)
    facts = read_facts(folder)
    _load_network(state.network, tensors, "network", folder)
    _load_network(state.average, tensors, "average", folder)
    plain = state.optimizer.state_dict()
    moments: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        prefix, _, rest = key.partition(".")
        if prefix == "optimizer":
            index, _, name = rest.partition(".")
            moments.setdefault(int(index), {})[name] = _channels_last(tensor)
    state.optimizer.load_state_dict({"state": moments, "param_groups": plain["param_groups"]})
    state.step = int(facts["step"])
    state.elapsed_s = float(facts["elapsed_s"])
    return {key[5:]: tensor for key, tensor in tensors.items() if key.startswith("more.")}


def load_average(folder: Path, network: nn.Module) -> None:
    """Put the last averaged weights of a training's folder into a network.

    Raises
    ------
    InputError
        If the checkpoint is missing, damaged, or of another network.
    """
    _load_network(network, read_tensors(folder / CHECKPOINT_NAME), "average", folder)


def load_best(folder: Path, network: nn.Module) -> dict[str, Any]:
    """Put the best averaged weights into a network; the facts stored with them.

    Those of the checkpoint, the last ones, where there has been no validation.

    Raises
    ------
    InputError
        If the file is missing, damaged, or of another network.
    """
    path = folder / BEST_NAME
    if not path.exists():
        load_average(folder, network)
        return read_facts(folder)
    tensors = {f"average.{name}": tensor for name, tensor in read_tensors(path).items()}
    _load_network(network, tensors, "average", folder)
    return read_facts(folder, BEST_NAME)


def read_facts(folder: Path, name: str = CHECKPOINT_NAME) -> dict[str, Any]:
    """The plain JSON that was stored with the checkpoint, with ``step`` and ``elapsed_s``."""
    path = folder / name
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {})[_STATE_KEY])
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise InputError(f"cannot read the checkpoint {path}: {error}; train again") from error
    return dict(facts)


def check_start(folder: Path, *, resume: bool) -> bool:
    """Whether to load a checkpoint; raises UsageError where a start would overwrite one."""
    exists = (folder / CHECKPOINT_NAME).exists()
    if exists and not resume:
        raise UsageError(f"{folder} holds a checkpoint; add --resume, or choose another --output")
    return exists


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises
    ------
    InputError
        If it is missing or damaged.
    """
    try:
        return dict(safetensors.torch.load_file(path))
    except (OSError, SafetensorError) as error:
        raise InputError(f"cannot read the checkpoint {path}: {error}; train again") from error


def _load_network(
    network: nn.Module, tensors: dict[str, Tensor], prefix: str, folder: Path
) -> None:
    start = f"{prefix}."
    own = {key[len(start) :]: value for key, value in tensors.items() if key.startswith(start)}
    try:
        network.load_state_dict(own)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"the checkpoint in {folder} is of another network: {reason}") from error


def _channels_last(tensor: Tensor) -> Tensor:
    if tensor.ndim != 5:
        return tensor
    return tensor.contiguous(memory_format=torch.channels_last_3d)
