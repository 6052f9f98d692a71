"""``python -m training anatomy-train``: train the anatomy network on simulated heads."""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from monai.networks.utils import pixelunshuffle
from torch import Tensor, nn

from CMBDetectorLib.errors import InputError
from CMBDetectorLib.inference.atlas_guided import CELL, AtlasGuidedNetwork
from CMBDetectorLib.models.anatomy_bundle import load_anatomy_bundle
from CMBDetectorLib.models.checksums import SUMS_NAME
from CMBDetectorLib.models.networks import build_network, load_member
from training.anatomy.atlas import AlignedHead
from training.anatomy.atlas_store import atlas_of_heads
from training.anatomy.configuration import AnatomyConfig, read_anatomy_config
from training.anatomy.loss import anatomy_loss
from training.anatomy.patches import Patch, numbered_patch
from training.budget import Budget
from training.checkpoint import (
    TrainingState,
    check_start,
    load_average,
    load_checkpoint,
    read_facts,
    save_checkpoint,
)
from training.length_options import add_length_arguments, asked_budget
from training.optimization import learning_rate, update_average
from training.sampling import prefetched

LOG_NAME = "log.jsonl"
_LOG_INTERVAL_STEPS = 20
_VOXELS_TAUGHT = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``python -m training anatomy-train``."""
    parser.add_argument("config", type=Path, help="configuration (YAML)")
    parser.add_argument("--data", type=Path, required=True, help="folder of anatomy-heads")
    parser.add_argument("--output", type=Path, required=True, help="folder for the checkpoint")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:N or mps")
    add_length_arguments(parser)
    parser.add_argument(
        "--init-from",
        type=Path,
        help="another training's folder, or a bundle, whose weights to start from",
    )


def run(args: argparse.Namespace) -> int:
    """Train as the arguments say; returns the exit code."""
    config = read_anatomy_config(args.config)
    train_anatomy(
        config,
        args.data,
        args.output,
        budget=asked_budget(args, config.steps),
        device=args.device,
        resume=args.resume,
        init_from=args.init_from,
    )
    return 0


def train_anatomy(
    config: AnatomyConfig,
    data: Path,
    output: Path,
    *,
    budget: Budget,
    device: str = "cpu",
    resume: bool = False,
    init_from: Path | None = None,
) -> TrainingState:
    """Train until the budget is spent and leave the checkpoint in ``output``.

    Raises
    ------
    UsageError
        If ``output`` holds a checkpoint and ``resume`` is not set.
    InputError
        If there are no heads to train on, a checkpoint does not fit, or the training diverges.
    """
    atlas, heads = atlas_of_heads(data, config.heads)
    torch.manual_seed(config.seed)
    output.mkdir(parents=True, exist_ok=True)
    state = _new_state(config, atlas, torch.device(device))
    began_with = str(init_from or "")
    if check_start(output, resume=resume):
        load_checkpoint(output, state)
        began_with = str(read_facts(output).get("init_from", ""))
    elif init_from is not None:
        _start_from(init_from, state)
    print(f"{len(heads)} heads, from step {state.step}, on {device}", flush=True)
    facts = {"config": asdict(config), "n_heads": len(heads), "init_from": began_with}
    _Session(config, state, heads, budget, output, facts, torch.device(device)).run()
    return state


def _in_cells(values: Tensor) -> Tensor:
    """The voxels (x, y, z) of each cell, (1, 8, x / 2, y / 2, z / 2)."""
    return pixelunshuffle(values[None, None], 3, CELL)


def guided_network(network_def: Mapping[str, Any], atlas: Tensor) -> AtlasGuidedNetwork:
    """An untrained network that leans on the atlas."""
    network = build_network(network_def)
    return AtlasGuidedNetwork(network, atlas)


def _new_state(config: AnatomyConfig, atlas: Tensor, device: torch.device) -> TrainingState:
    network = guided_network(config.network_def, atlas).to(device)
    network.network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    average = copy.deepcopy(network).eval().requires_grad_(requires_grad=False)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    return TrainingState(network, average, optimizer)


def _start_from(source: Path, state: TrainingState) -> None:
    """Take over the averaged weights of another training, or those of a bundle.

    The atlas stays that of the present heads.
    """
    network = state.network
    assert isinstance(network, AtlasGuidedNetwork)
    if (source / SUMS_NAME).exists():
        bundle = load_anatomy_bundle(source)
        member = load_member(bundle, bundle.members[0], fold=False)
        network.network.load_state_dict(member.state_dict())
    else:
        atlas = network.atlas.clone()
        load_average(source, network)
        network.atlas.copy_(atlas)
    state.average.load_state_dict(network.state_dict())


@dataclass(frozen=True)
class _Session:
    """One run of the training loop."""

    config: AnatomyConfig
    state: TrainingState
    heads: list[AlignedHead]
    budget: Budget
    output: Path
    facts: dict[str, Any]
    device: torch.device

    def run(self) -> None:
        """Take steps until the budget is spent; the checkpoint is written at the end, too."""
        config, state = self.config, self.state
        started_s = time.monotonic() - state.elapsed_s
        recent: list[dict[str, float]] = []

        def draw(number: int) -> Patch:
            return numbered_patch(
                self.heads,
                number,
                size_voxels=config.patch_voxels,
                spacing_mm=config.spacing_mm,
                misalignment=config.misalignment,
                seed=config.seed,
            )

        with closing(prefetched(draw, state.step)) as drawn:
            while (spent := self.budget.spent(state.step, state.elapsed_s)) < 1:
                recent.append(self._step(next(drawn), spent))
                state.elapsed_s = time.monotonic() - started_s
                if state.step % _LOG_INTERVAL_STEPS == 0:
                    self._log(recent)
                    recent.clear()
                if state.step % config.checkpoint_interval == 0:
                    save_checkpoint(self.output, state, self.facts)
        save_checkpoint(self.output, state, self.facts)

    def _step(self, patch: Patch, spent: float) -> dict[str, float]:
        """One step of the optimizer and of the average; the terms of the loss."""
        config, state = self.config, self.state
        rate = learning_rate(spent, config.learning_rate, config.warm_up_share)
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        state.network.train()
        network = state.network
        assert isinstance(network, AtlasGuidedNetwork)
        images = patch.image[None, None].to(self.device)
        # Two voxels of a cell tell about as much as all eight, in a quarter of the time.
        taught = torch.randperm(CELL**3)[:_VOXELS_TAUGHT].tolist()
        logits = network.in_cells(
            images,
            patch.to_atlas_mm.to(self.device),
            patch.displacement_mm.to(self.device),
            voxels=taught,
        )
        loss = anatomy_loss(
            logits,
            _in_cells(patch.classes.to(self.device))[:, taught],
            _in_cells(patch.right.to(self.device))[:, taught],
        )
        state.optimizer.zero_grad(set_to_none=True)
        loss.total.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(state.network.parameters(), config.gradient_norm)
        if not bool(torch.isfinite(norm)):
            raise InputError(
                f"the gradient is not finite at step {state.step}; lower learning_rate"
            )
        state.optimizer.step()
        state.step += 1
        update_average(state, config.average_decay)
        return {
            "loss": float(loss.total.detach()),
            "structures": float(loss.structures),
            "side": float(loss.side),
            "rate": rate,
        }

    def _log(self, recent: list[dict[str, float]]) -> None:
        """A JSON line to the log, and a line for people with the time that is left."""
        state = self.state
        means = {key: sum(one[key] for one in recent) / len(recent) for key in recent[0]}
        spent = self.budget.spent(state.step, state.elapsed_s)
        entry = {"step": state.step, "elapsed_s": round(state.elapsed_s, 2)}
        rounded = {name: round(value, 6) for name, value in means.items()}
        with (self.output / LOG_NAME).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(entry | rounded) + "\n")
        left_min = state.elapsed_s * (1 - spent) / max(spent, 1e-6) / 60
        text = "  ".join(f"{name} {value:.4g}" for name, value in means.items())
        print(
            f"step {state.step} ({100 * spent:.0f} %, {left_min:.1f} min left)  {text}", flush=True
        )
