"""Train one member of the ensemble on prepared cases."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from CMBDetectorLib.errors import InputError, UsageError
from training.checkpoint import (
    TrainingState,
    check_start,
    load_average,
    load_checkpoint,
    read_facts,
    save_checkpoint,
)
from training.configuration import TrainingConfig, read_config
from training.loss import detection_loss
from training.optimization import learning_rate, new_state, update_average
from training.prepare import INFO_NAME, prepared_folders
from training.sampling import Batch, PatchSampler, prefetched
from training.validation import validate

LOG_NAME = "log.jsonl"
_LOG_INTERVAL_STEPS = 25
_TRAINING_STREAM, _VALIDATION_STREAM = 1, 2


@dataclass(frozen=True)
class Budget:
    """When training ends: after ``steps`` or ``seconds`` of training, whichever comes first."""

    steps: int | None
    seconds: float | None

    @classmethod
    def of(cls, steps: int | None, max_minutes: float | None, usual_steps: int) -> Budget:
        """As asked for; the usual number of steps if neither steps nor minutes were."""
        if steps is None and max_minutes is None:
            steps = usual_steps
        return cls(steps, None if max_minutes is None else 60 * max_minutes)

    def spent(self, step: int, elapsed_s: float) -> float:
        """Share of the budget that is used up, 0 to 1; the learning rate follows it."""
        shares = [0.0]
        for used, given in ((step, self.steps), (elapsed_s, self.seconds)):
            if given is not None:
                shares.append(used / given if given > 0 else 1.0)
        return min(1.0, max(shares))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``python -m training train``."""
    parser.add_argument("config", type=Path, help="training configuration (JSON)")
    parser.add_argument("--data", type=Path, required=True, help="folder of prepared cases")
    parser.add_argument("--output", type=Path, required=True, help="this member's own folder")
    parser.add_argument(
        "--member",
        type=int,
        help="from 0: leave out this fold's heads and validate on them; without it all training "
        "heads are learned from and the selection heads validate",
    )
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:N or mps")
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    parser.add_argument("--steps", type=int, help="instead of the configuration's")
    parser.add_argument(
        "--max-minutes",
        type=float,
        help="end after this time of training, resumed sessions added up; the learning rate "
        "follows the clock. Without --steps the configuration's steps then do not count",
    )
    parser.add_argument("--threads", type=int, help="CPU threads of torch")
    parser.add_argument("--resume", action="store_true", help="go on from --output's checkpoint")
    parser.add_argument(
        "--init-from", type=Path, help="a member's folder whose averaged weights to start from"
    )
    parser.add_argument(
        "--learning-rate", type=float, help="instead of the configuration's, e.g. after a start"
    )


def run(args: argparse.Namespace) -> int:
    """Train as the arguments say; returns the exit code."""
    config = read_config(args.config)
    if args.init_from is not None:
        optimization = replace(config.optimization, init_from=str(args.init_from))
        config = replace(config, optimization=optimization)
    if args.learning_rate is not None:
        optimization = replace(config.optimization, learning_rate=args.learning_rate)
        config = replace(config, optimization=optimization)
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    train(
        config,
        args.data,
        args.output,
        member=args.member,
        budget=Budget.of(args.steps, args.max_minutes, config.optimization.steps),
        device=args.device,
        precision=args.precision,
        resume=args.resume,
    )
    return 0


def train(
    config: TrainingConfig,
    data: Path,
    output: Path,
    *,
    member: int | None,
    budget: Budget,
    device: str = "cpu",
    precision: str = "bf16",
    resume: bool = False,
) -> TrainingState:
    """Train a network until the budget is spent and write its checkpoint to ``output``.

    A run over a number of steps is repeatable on the same machine and number of threads, also
    when it is interrupted and resumed from its checkpoint. A run over a time is not: how far it
    comes depends on the machine.

    Raises
    ------
    UsageError
        If the member does not exist, or ``output`` holds a checkpoint and ``resume`` is not set.
    InputError
        If there are no cases to train or validate on, a checkpoint does not fit, or the training
        diverges.
    """
    left_out = _left_out(config, member)
    training, validation = _split(prepared_folders(data), config, left_out)
    seed = (config.optimization.seed, 0 if member is None else member + 1)
    clip = config.preprocessing.normalization.clip
    sampler = PatchSampler(
        training, config.sampling, config.augmentation, clip, (*seed, _TRAINING_STREAM)
    )
    judge = PatchSampler(validation, config.sampling, None, clip, (*seed, _VALIDATION_STREAM))

    output.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(sum(seed))
    target = torch.device(device)
    state = new_state(config, target)
    _restore(config, state, output, member, resume=resume)
    facts = {
        "member": member,
        "left_out": left_out,
        "n_cases": len(training),
        "config": asdict(config),
    }
    print(
        f"member {member}: {len(training)} cases to learn from, {len(validation)} to validate on "
        f"(heads {', '.join(left_out)}), from step {state.step}, on {device} in {precision}",
        flush=True,
    )
    session = _Session(
        config, state, judge, budget, output, facts, target, mixed=precision == "bf16"
    )
    with closing(prefetched(sampler.batch, state.step)) as batches:
        session.run(batches)
    return state


@dataclass(frozen=True)
class _Session:
    """One run of the training loop."""

    config: TrainingConfig
    state: TrainingState
    judge: PatchSampler
    budget: Budget
    output: Path
    facts: dict[str, Any]
    device: torch.device
    mixed: bool

    def run(self, batches: Iterator[Batch]) -> None:
        """Take steps until the budget is spent; the checkpoint is written at the end, too."""
        state, optimization = self.state, self.config.optimization
        started_s = time.monotonic() - state.elapsed_s
        recent: list[float] = []
        while (spent := self.budget.spent(state.step, state.elapsed_s)) < 1:
            rate = learning_rate(spent, optimization.learning_rate, optimization.warm_up_share)
            terms = self._step(next(batches), rate)
            state.elapsed_s = time.monotonic() - started_s
            recent.append(terms["loss"])
            if state.step % _LOG_INTERVAL_STEPS == 0:
                self._log("train", terms | {"loss": sum(recent) / len(recent), "rate": rate})
                recent.clear()
            if state.step % optimization.validation_interval == 0:
                self._log("validation", self._validate())
            if state.step % optimization.checkpoint_interval == 0:
                save_checkpoint(self.output, state, self.facts)
        save_checkpoint(self.output, state, self.facts)
        self._log("end", self._validate())

    def _step(self, batch: Batch, rate: float) -> dict[str, float]:
        """One step of the optimizer and of the average; the terms of the loss."""
        state, optimization = self.state, self.config.optimization
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        images, labels = self._tensors(batch)
        state.network.train()
        with self._autocast():
            logits = state.network(images)
        terms = detection_loss(logits, labels, self.config.loss)
        state.optimizer.zero_grad(set_to_none=True)
        terms.total.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(state.network.parameters(), optimization.gradient_norm)
        if not bool(torch.isfinite(norm)):
            raise InputError(
                f"the gradient is not finite at step {state.step}; "
                "lower optimization.learning_rate and train again"
            )
        state.optimizer.step()
        state.step += 1
        update_average(state, optimization.ema_decay)
        return {
            "loss": float(terms.total.detach()),
            "dice": float(terms.dice),
            "focal": float(terms.focal),
            "gradient_norm": float(norm),
        }

    def _validate(self) -> dict[str, float]:
        numbers = range(self.config.optimization.validation_batches)
        batches = (self._tensors(self.judge.batch(number)) for number in numbers)
        return validate(self.state.average, batches, self.config.loss, self._autocast)

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.mixed:
            return torch.autocast(self.device.type, torch.bfloat16)
        return nullcontext()

    def _tensors(self, batch: Batch) -> tuple[Tensor, Tensor]:
        images = torch.from_numpy(batch.images).unsqueeze(1).to(self.device)
        images = images.contiguous(memory_format=torch.channels_last_3d)
        return images, torch.from_numpy(batch.labels).to(self.device)

    def _log(self, kind: str, values: dict[str, float]) -> None:
        """A JSON line to the log, and a line for people with the time that is left."""
        state = self.state
        spent = self.budget.spent(state.step, state.elapsed_s)
        entry = {"kind": kind, "step": state.step, "elapsed_s": round(state.elapsed_s, 2)}
        rounded = {name: round(value, 6) for name, value in values.items()}
        with (self.output / LOG_NAME).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(entry | rounded) + "\n")
        left_min = state.elapsed_s * (1 - spent) / max(spent, 1e-6) / 60
        text = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
        progress = f"{100 * spent:.0f} %, {left_min:.1f} min left"
        print(f"{kind} step {state.step} ({progress})  {text}", flush=True)


def _restore(
    config: TrainingConfig, state: TrainingState, output: Path, member: int | None, *, resume: bool
) -> None:
    """Go on from a checkpoint in ``output``, or start from ``init_from`` where that is given."""
    init_from = config.optimization.init_from
    if check_start(output, resume=resume):
        stored = read_facts(output)["member"]
        if stored != member:
            raise UsageError(
                f"{output} holds member {stored}, asked for was {member}; use another --output"
            )
        load_checkpoint(output, state)
    elif init_from is not None:
        load_average(Path(init_from), state.network)
        load_average(Path(init_from), state.average)


def _left_out(config: TrainingConfig, member: int | None) -> tuple[str, ...]:
    if member is None:
        return config.data.selection_heads
    if not 0 <= member < len(config.data.folds):
        raise UsageError(
            f"--member {member}: the configuration has members 0 to {len(config.data.folds) - 1}"
        )
    return config.data.folds[member]


def _split(
    folders: list[Path], config: TrainingConfig, left_out: tuple[str, ...]
) -> tuple[list[Path], list[Path]]:
    """Prepared cases to learn from and to validate on; no head serves both."""
    training, validation = [], []
    for folder in folders:
        head = json.loads((folder / INFO_NAME).read_text(encoding="utf-8"))["head"]
        if head in left_out:
            validation.append(folder)
        elif head in config.data.training_heads:
            training.append(folder)
    if not training or not validation:
        raise InputError(
            f"{len(training)} cases to learn from and {len(validation)} to validate on (heads "
            f"{', '.join(left_out)}); both are needed, prepare cases of more heads"
        )
    return training, validation
