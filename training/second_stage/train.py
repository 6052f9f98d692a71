"""``python -m training second-stage-train``: train a classifier on collected candidates."""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from CMBDetectorLib.errors import InputError
from CMBDetectorLib.inference.candidate_classifier import (
    CandidateClassifier,
    as_tensors,
    channels_last,
)
from training.budget import Budget
from training.checkpoint import (
    TrainingState,
    check_start,
    load_checkpoint,
    read_facts,
    save_checkpoint,
)
from training.initial_weights import load_initial_weights
from training.length_options import add_length_arguments, asked_budget
from training.optimization import learning_rate, update_average
from training.sampling import prefetched
from training.second_stage.batches import Batch, Batches
from training.second_stage.configuration import SecondStageConfig, read_second_stage_config
from training.second_stage.stored import read_candidates, read_candidates_info

LOG_NAME = "log.jsonl"
_LOG_INTERVAL_STEPS = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``python -m training second-stage-train``."""
    parser.add_argument("config", type=Path, help="configuration of the second stage (YAML)")
    parser.add_argument(
        "--data", type=Path, nargs="+", required=True, help="folders of second-stage-collect"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder for the checkpoint")
    parser.add_argument("--seed", type=int, help="instead of the configuration's")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:N or mps")
    parser.add_argument(
        "--precision",
        choices=("bf16", "fp32"),
        default="fp32",
        help="bf16 is faster where the processor has it",
    )
    add_length_arguments(parser)
    parser.add_argument(
        "--init-from",
        type=Path,
        help="weights to start from: a classifier of a bundle (.safetensors), or an output folder",
    )


def run(args: argparse.Namespace) -> int:
    """Train as the arguments say; returns the exit code."""
    config = read_second_stage_config(args.config)
    if args.seed is not None:
        config = replace(config, seed=args.seed)
    train_second_stage(
        config,
        args.data,
        args.output,
        budget=asked_budget(args, config.steps),
        device=args.device,
        precision=args.precision,
        resume=args.resume,
        init_from=args.init_from,
    )
    return 0


def train_second_stage(
    config: SecondStageConfig,
    data: Sequence[Path],
    output: Path,
    *,
    budget: Budget,
    device: str = "cpu",
    precision: str = "fp32",
    resume: bool = False,
    init_from: Path | None = None,
) -> TrainingState:
    """Train until the budget is spent and leave the checkpoint in ``output``.

    ``init_from`` is as in :func:`training.initial_weights.load_initial_weights`; resuming goes
    before it.

    Raises
    ------
    UsageError
        If ``output`` holds a checkpoint and ``resume`` is not set.
    InputError
        If there are no candidates of both kinds, a checkpoint does not fit, or the training
        diverges.
    """
    infos = [read_candidates_info(folder) for folder in data]
    candidates = read_candidates(*data)
    batches = Batches(candidates, config)
    torch.manual_seed(config.seed)
    output.mkdir(parents=True, exist_ok=True)
    state = _new_state(config, torch.device(device))
    began_with = str(init_from or "")
    if check_start(output, resume=resume):
        load_checkpoint(output, state)
        began_with = str(read_facts(output).get("init_from", ""))
    elif init_from is not None:
        load_initial_weights(init_from, state.network)
        state.average.load_state_dict(state.network.state_dict())
    n_lesions = int(candidates.is_lesion.sum())
    facts = {
        "config": asdict(config),
        "candidates": infos,
        "n_candidates": len(candidates),
        "n_lesions": n_lesions,
        "init_from": began_with,
    }
    print(
        f"{len(candidates)} candidates, {n_lesions} of lesions, from step {state.step}, on "
        f"{device} in {precision}",
        flush=True,
    )
    _Session(config, state, batches, budget, output, facts, torch.device(device), precision).run()
    return state


def _new_state(config: SecondStageConfig, device: torch.device) -> TrainingState:
    network = channels_last(CandidateClassifier().to(device))
    average = copy.deepcopy(network).eval().requires_grad_(requires_grad=False)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    return TrainingState(network, average, optimizer)


@dataclass(frozen=True)
class _Session:
    """One run of the training loop."""

    config: SecondStageConfig
    state: TrainingState
    batches: Batches
    budget: Budget
    output: Path
    facts: dict[str, Any]
    device: torch.device
    precision: str

    def run(self) -> None:
        """Take steps until the budget is spent; the checkpoint is written at the end, too."""
        state = self.state
        started_s = time.monotonic() - state.elapsed_s
        losses: list[float] = []
        with closing(prefetched(self.batches.batch, state.step)) as drawn:
            while (spent := self.budget.spent(state.step, state.elapsed_s)) < 1:
                losses.append(self._step(next(drawn), spent))
                state.elapsed_s = time.monotonic() - started_s
                if state.step % _LOG_INTERVAL_STEPS == 0:
                    self._log(sum(losses) / len(losses))
                    losses.clear()
                if state.step % self.config.checkpoint_interval == 0:
                    save_checkpoint(self.output, state, self.facts)
        save_checkpoint(self.output, state, self.facts)

    def _step(self, batch: Batch, spent: float) -> float:
        """One step of the optimizer and of the average; the loss."""
        config, state = self.config, self.state
        for group in state.optimizer.param_groups:
            group["lr"] = learning_rate(spent, config.learning_rate, config.warm_up_share)
        state.network.train()
        target = torch.from_numpy(batch.target).to(self.device)
        use_bf16 = self.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=use_bf16):
            logits = state.network(*as_tensors(batch.shown, self.device))
        loss = nn.functional.binary_cross_entropy_with_logits(logits.float(), target)
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(state.network.parameters(), config.gradient_norm)
        if not bool(torch.isfinite(norm)):
            raise InputError(
                f"the gradient is not finite at step {state.step}; lower learning_rate"
            )
        state.optimizer.step()
        state.step += 1
        update_average(state, config.average_decay)
        return float(loss.detach())

    def _log(self, loss: float) -> None:
        """A JSON line to the log, and a line for people with the time that is left."""
        state = self.state
        spent = self.budget.spent(state.step, state.elapsed_s)
        entry = {"step": state.step, "elapsed_s": round(state.elapsed_s, 2), "loss": round(loss, 6)}
        with (self.output / LOG_NAME).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(entry) + "\n")
        left_min = self.budget.left_s(state.step, state.elapsed_s) / 60
        print(
            f"step {state.step} ({100 * spent:.0f} %, {left_min:.1f} min left)  loss {loss:.4f}",
            flush=True,
        )
