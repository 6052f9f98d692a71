"""From a bundle to networks that are ready to run."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import monai.networks.nets
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from CMBDetectorLib.errors import ModelError
from CMBDetectorLib.models.architectures import TARGET_KEY, check_network_def
from CMBDetectorLib.models.bundle import ModelBundle
from CMBDetectorLib.models.weights import read_weights_header


def build_network(network_def: Mapping[str, Any]) -> nn.Module:
    """The network a definition describes, with random weights.

    Raises
    ------
    ModelError
        If the definition is not one that
        :func:`~CMBDetectorLib.models.architectures.check_network_def` accepts, or its arguments
        do not fit together.
    """
    check_network_def(network_def, "network_def")
    arguments = {key: value for key, value in network_def.items() if key != TARGET_KEY}
    network_class = getattr(monai.networks.nets, str(network_def[TARGET_KEY]).rsplit(".", 1)[1])
    try:
        network = network_class(**arguments)
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, RuntimeError) as error:
        problem = " ".join(str(error).split())
        raise ModelError(
            f"network_def: {network_def[TARGET_KEY]} refused it ({problem})"
        ) from error
    assert isinstance(network, nn.Module)
    return network


def load_members(bundle: ModelBundle, device: str | torch.device = "cpu") -> list[nn.Module]:
    """Every member of the ensemble: float32, evaluation mode, batch normalisation folded.

    Raises
    ------
    ModelError
        If a file is no longer the one that was checked, is not a safetensors file, or its tensors
        are not those of the network.
    """
    return [load_member(bundle, path, device) for path in bundle.members]


def load_member(
    bundle: ModelBundle, path: Path, device: str | torch.device = "cpu", *, fold: bool = True
) -> nn.Module:
    """One member of the ensemble; see :func:`load_members`."""
    network = build_network(bundle.network_def)
    tensors = _read_tensors(bundle, path)
    _check_tensors(path, tensors, network)
    network.load_state_dict(tensors)
    network.eval().requires_grad_(requires_grad=False)
    if fold:
        fold_batch_norms(network)
    target = torch.device(device)
    network.to(target)
    if target.type in {"cpu", "cuda"}:
        # Convolutions over few channels run up to twice as fast with the channels innermost.
        network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return network


def fold_batch_norms(network: nn.Module) -> int:
    """Fold each batch normalisation that directly follows a convolution into it, in place.

    Only chains of :class:`torch.nn.Sequential` are looked at (MONAI's convolution blocks are
    such), because only there the order of modules is the order of computation. The network must
    be in evaluation mode, where dropout is the identity.

    Returns
    -------
    int
        How many were folded.
    """
    chains = [module for module in network.modules() if _is_chain(module)]
    nested = {id(child) for chain in chains for child in chain.children() if _is_chain(child)}
    n_folded = 0
    for chain in chains:
        if id(chain) not in nested:
            n_folded += _fold_chain(_steps(chain))
    return n_folded


def _is_chain(module: nn.Module) -> bool:
    return isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward


def _steps(chain: nn.Module) -> list[tuple[nn.Module, str]]:
    """The modules a chain runs, in order, each as its parent and its name there."""
    steps: list[tuple[nn.Module, str]] = []
    for name, child in chain.named_children():
        if _is_chain(child):
            steps.extend(_steps(child))
        elif not isinstance(child, nn.Dropout | nn.Dropout3d | nn.Identity):
            steps.append((chain, name))
    return steps


def _fold_chain(steps: list[tuple[nn.Module, str]]) -> int:
    n_folded = 0
    for (conv_parent, conv_name), (norm_parent, norm_name) in itertools.pairwise(steps):
        conv = getattr(conv_parent, conv_name)
        norm = getattr(norm_parent, norm_name)
        is_convolution = isinstance(conv, nn.Conv3d | nn.ConvTranspose3d)
        if is_convolution and isinstance(norm, nn.BatchNorm3d) and norm.track_running_stats:
            is_transposed = isinstance(conv, nn.ConvTranspose3d)
            setattr(conv_parent, conv_name, fuse_conv_bn_eval(conv, norm, is_transposed))
            setattr(norm_parent, norm_name, nn.Identity())
            n_folded += 1
    return n_folded


def _read_tensors(bundle: ModelBundle, path: Path) -> dict[str, torch.Tensor]:
    read_weights_header(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from error
    if (
        hashlib.sha256(content).hexdigest()
        != bundle.sha256[path.relative_to(bundle.root).as_posix()]
    ):
        raise ModelError(f"{path}: changed after it was checked; get the model again")
    try:
        return dict(safetensors.torch.load(content))
    except SafetensorError as error:
        raise ModelError(f"{path}: not a safetensors file ({error})") from error


def _check_tensors(path: Path, tensors: Mapping[str, torch.Tensor], network: nn.Module) -> None:
    expected = network.state_dict()
    missing = sorted(set(expected) - set(tensors))
    unknown = sorted(set(tensors) - set(expected))
    if missing or unknown:
        raise ModelError(
            f"{path}: the tensors are not those of the network; {len(missing)} missing "
            f"({', '.join(missing[:2]) or '-'}), {len(unknown)} unknown "
            f"({', '.join(unknown[:2]) or '-'})"
        )
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            raise ModelError(
                f"{path}: {name} has shape {tuple(tensor.shape)}, "
                f"the network expects {tuple(expected[name].shape)}"
            )
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ModelError(f"{path}: {name} holds values that are not finite")
