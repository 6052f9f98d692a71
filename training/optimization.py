"""The network, its average and its optimizer: how they start and how they move."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn

from CMBDetectorLib.models.networks import build_network
from training.checkpoint import TrainingState
from training.distributed import Processes
from training.settings import TrainingConfig

_INITIAL_LOGIT = -4.0
_INITIAL_RATE_SHARE = 0.05


def new_state(config: TrainingConfig, processes: Processes) -> TrainingState:
    """An untrained network of the configuration's definition, its average and its optimizer."""
    network = build_network(config.network_def)
    _expect_background(network, int(config.network_def["out_channels"]))
    network.to(processes.device)
    network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    average = copy.deepcopy(network).eval().requires_grad_(requires_grad=False)
    network = processes.synchronized(network)
    kernels = [p for p in network.parameters() if p.ndim > 1]
    vectors = [p for p in network.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [
            {"params": kernels, "weight_decay": config.optimization.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ],
        lr=config.optimization.learning_rate,
    )
    return TrainingState(network, average, optimizer)


def learning_rate(spent: float, largest: float, warm_up_share: float) -> float:
    """Linear from a twentieth of ``largest`` during warm-up, then half a cosine down to 0.

    ``spent`` is the share of the whole training that is over, 0 to 1.
    """
    if spent < warm_up_share:
        rise = spent / warm_up_share
        return largest * (_INITIAL_RATE_SHARE + (1 - _INITIAL_RATE_SHARE) * rise)
    fall = (spent - warm_up_share) / (1 - warm_up_share)
    return largest * 0.5 * (1 + math.cos(math.pi * fall))


@torch.no_grad()
def update_average(state: TrainingState, decay: float) -> None:
    """Move the averaged weights and statistics towards the network's; the decay warms up."""
    weight = 1 - min(decay, (1 + state.step) / (10 + state.step))
    own = state.network.state_dict()
    for name, average in state.average.state_dict().items():
        if average.is_floating_point():
            average.lerp_(own[name], weight)
        else:
            average.copy_(own[name])


def _expect_background(network: nn.Module, out_channels: int) -> None:
    """Let the untrained network say "background", else the first steps go into learning that."""
    heads = [
        module
        for module in network.modules()
        if isinstance(module, nn.Conv3d) and module.out_channels == out_channels
    ]
    if heads and heads[-1].bias is not None:
        nn.init.constant_(heads[-1].bias, _INITIAL_LOGIT)
