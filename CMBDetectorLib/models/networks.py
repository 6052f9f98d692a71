"""From a bundle to networks that are ready to run."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

import monai.networks.nets
import numpy.typing as npt
import torch
from monai.networks.blocks.dynunet_block import UnetBasicBlock, UnetResBlock
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from CMBDetectorLib.anatomy.alignment import ATLAS_SHAPE
from CMBDetectorLib.errors import ModelError
from CMBDetectorLib.models.anatomy_bundle import ATLAS_TENSOR, AnatomyBundle
from CMBDetectorLib.models.architectures import TARGET_KEY, check_network_def
from CMBDetectorLib.models.bundle import ModelBundle
from CMBDetectorLib.models.bundle_files import Weights
from CMBDetectorLib.models.tensors import read_tensors


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


def without_repeated_names(
    network_def: Mapping[str, Any], weights: Weights
) -> dict[str, npt.NDArray[Any]]:
    """The weights of a network, those that its state has under several names once.

    Raises
    ------
    ModelError
        If the network is not accepted, or the weights lack one of its tensors.
    """
    names = _own_names(build_network(network_def))
    missing = [name for name in names if name not in weights]
    if missing:
        raise ModelError(
            f"the weights lack {len(missing)} tensors of the network ({missing[0]}); give the "
            "state dictionary of the same network"
        )
    return {name: weights[name] for name in names}


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
    bundle: ModelBundle | AnatomyBundle,
    path: Path,
    device: str | torch.device = "cpu",
    *,
    fold: bool = True,
) -> nn.Module:
    """One member of the ensemble; see :func:`load_members`."""
    network = build_network(bundle.network_def)
    tensors = read_tensors(bundle, path)
    _check_tensors(path, tensors, network)
    # Not strict: a tensor that has several names is stored once. All were checked above.
    network.load_state_dict(tensors, strict=False)
    network.eval().requires_grad_(requires_grad=False)
    if fold:
        fold_batch_norms(network)
    target = torch.device(device)
    network.to(target)
    if target.type in {"cpu", "cuda"}:
        # Convolutions over few channels run up to twice as fast with the channels innermost.
        network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return network


def load_atlas(bundle: AnatomyBundle) -> torch.Tensor:
    """The atlas of an anatomy bundle: uint8, (classes, x, y, z), the same on both sides.

    Raises
    ------
    ModelError
        If the file is no longer the one that was checked, or does not hold such an atlas.
    """
    path = bundle.members[1]
    tensors = read_tensors(bundle, path)
    expected = (len(bundle.classes), ATLAS_SHAPE[0] // 2, *ATLAS_SHAPE[1:])
    atlas = tensors.get(ATLAS_TENSOR)
    if atlas is None or len(tensors) > 1 or atlas.dtype != torch.uint8 or atlas.shape != expected:
        found = {name: (str(tensor.dtype), tuple(tensor.shape)) for name, tensor in tensors.items()}
        raise ModelError(
            f"{path}: holds {str(found)[:200]}, expected {ATLAS_TENSOR!r} of unsigned bytes, shape "
            f"{expected}"
        )
    return torch.cat([atlas.flip(1), atlas], dim=1)


def fold_batch_norms(network: nn.Module) -> int:
    """Fold each batch normalisation that directly follows a convolution into it, in place.

    Only chains of :class:`torch.nn.Sequential` are looked at (MONAI's convolution blocks are
    such), because only there the order of modules is the order of computation, and the blocks of
    DynUNet, whose order is known. The network must be in evaluation mode, where dropout is the
    identity.

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
    for block in network.modules():
        if isinstance(block, UnetBasicBlock | UnetResBlock):
            for number in ("1", "2", "3"):
                conv, name = getattr(block, f"conv{number}", None), f"norm{number}"
                if _is_chain(conv) and hasattr(block, name):
                    n_folded += _fold_chain([*_steps(conv), (block, name)])
    return n_folded


def _is_chain(module: object) -> TypeGuard[nn.Sequential]:
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


def _check_tensors(path: Path, tensors: Mapping[str, torch.Tensor], network: nn.Module) -> None:
    expected = network.state_dict()
    missing = sorted(set(_own_names(network)) - set(tensors))
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
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor.float()).all()):
            raise ModelError(f"{path}: {name} holds values that are not finite")


def _own_names(network: nn.Module) -> list[str]:
    """Names in the state of a network; of several names for one tensor the first."""
    seen: set[int] = set()
    names = []
    for name, tensor in network.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            names.append(name)
    return names
