"""The loop of a training: steps, epochs, validation, hard negatives, checkpoints, the log."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from CMBDetectorLib.errors import InputError
from CMBDetectorLib.inference.device import ComputeDevice, FixedPrecision
from training.budget import Budget
from training.checkpoint import TrainingState, save_best, save_checkpoint
from training.distributed import Processes
from training.hard_negatives import Places, mine_hard_negatives, mining_point, no_places
from training.loss import detection_loss
from training.optimization import learning_rate, update_average
from training.run_log import RunLog
from training.sampling import Batch, PatchSampler, prefetched
from training.scan_validation import Searcher, searcher_of, validate_scans
from training.selection import spread
from training.settings import TrainingConfig
from training.split import Split
from training.validation import validate

_LOG_INTERVAL_STEPS = 25
_MINING_STREAM = 3
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass
class Progress:
    """How validation has gone so far; stored with the checkpoint."""

    best_f1: float = -1.0
    best_loss: float = math.inf
    best_step: int = 0
    stale: int = 0
    validated_step: int = -1

    def add(self, f1: float, loss: float, step: int) -> bool:
        """Take note of a validation; whether it is the best so far.

        F1 decides, undefined as 0; of equal F1, as before the first lesion is found, the loss.
        """
        self.validated_step = step
        f1 = 0.0 if math.isnan(f1) else f1
        is_better = (f1, -loss) > (self.best_f1, -self.best_loss)
        if is_better:
            self.best_f1, self.best_loss, self.best_step, self.stale = f1, loss, step, 0
        else:
            self.stale += 1
        return is_better


@dataclass
class Session:
    """One run of the training loop.

    Attributes
    ----------
    sampler, judge
        Draw patches to learn from and to take the validation's loss on.
    seed
        Of what is drawn besides patches.
    facts
        Plain JSON to be stored with the weights.
    precision
        That of a step of training.
    search
        Where and how whole scans are searched.
    log
        None in all processes but the one that writes.
    hard_negatives
        Places in the split's cases to learn from.
    """

    config: TrainingConfig
    state: TrainingState
    split: Split
    sampler: PatchSampler
    judge: PatchSampler
    budget: Budget
    output: Path
    seed: Sequence[int]
    facts: dict[str, Any]
    processes: Processes
    precision: FixedPrecision
    search: ComputeDevice
    log: RunLog | None
    progress: Progress = field(default_factory=Progress)
    hard_negatives: Places = field(default_factory=no_places)
    scaler_state: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        is_scaled = self.precision == "fp16"
        self._scaler = torch.amp.GradScaler(self.processes.device.type, enabled=is_scaled)
        if self.scaler_state:
            self._scaler.load_state_dict(self.scaler_state)
        self._network = self.processes.wrapped(self.state.network)

    def run(self) -> None:
        """Take steps until the budget is spent, or validation has long not become better."""
        state, optimization = self.state, self.config.optimization
        started_s = time.monotonic() - state.elapsed_s
        recent: list[float] = []
        if state.step == 0 and self.config.optimization.init_from is not None:
            self._mine_first()
        batches = self._batches()
        try:
            while not self._is_over():
                spent = self.budget.spent(state.step, state.elapsed_s)
                rate = learning_rate(spent, optimization.learning_rate, optimization.warm_up_share)
                terms = self._step(next(batches), rate)
                recent.append(terms["loss"])
                state.elapsed_s = self.processes.agreed(time.monotonic() - started_s)
                self._show_progress()
                if state.step % _LOG_INTERVAL_STEPS == 0:
                    self._tell("train", terms | {"loss": sum(recent) / len(recent), "rate": rate})
                    recent.clear()
                if state.step % optimization.epoch_steps == 0 and self._end_epoch():
                    # The batches that were made ahead do not know the new hard negatives.
                    batches.close()
                    batches = self._batches()
                state.elapsed_s = self.processes.agreed(time.monotonic() - started_s)
        finally:
            batches.close()
        if self.progress.validated_step != state.step:
            self._validate("validation")
        self._save()
        best = {"best_f1": self.progress.best_f1, "best_step": float(self.progress.best_step)}
        self._tell("end", best)

    def _is_over(self) -> bool:
        patience = self.config.validation.patience
        if patience and self.progress.stale >= patience:
            return True
        return self.budget.spent(self.state.step, self.state.elapsed_s) >= 1

    def _batches(self) -> Generator[Batch, None, None]:
        self.sampler.set_hard_negatives(self.hard_negatives)
        return prefetched(self.sampler.batch, self.state.step)

    def _step(self, batch: Batch, rate: float) -> dict[str, float]:
        """One step of the optimizer and of the average; the terms of the loss."""
        state, optimization, processes = self.state, self.config.optimization, self.processes
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        torch.manual_seed(sum(self.seed) + state.step * processes.count + processes.rank)
        images, labels = self._tensors(batch)
        self._network.train()
        with self._autocast():
            logits = self._network(images)
        terms = detection_loss(
            processes.whole_batch(logits.float()),
            processes.whole_batch(labels),
            self.config.loss,
        )
        state.optimizer.zero_grad(set_to_none=True)
        self._scaler.scale(terms.total).backward()  # type: ignore[no-untyped-call]
        self._scaler.unscale_(state.optimizer)
        norm = nn.utils.clip_grad_norm_(state.network.parameters(), optimization.gradient_norm)
        self._scaler.step(state.optimizer)
        self._scaler.update()
        self._check_gradient(float(norm))
        state.step += 1
        update_average(state, optimization.ema_decay)
        return {
            "loss": float(terms.total.detach()),
            "dice": float(terms.dice),
            "focal": float(terms.focal),
            "gradient_norm": float(norm),
        }

    def _check_gradient(self, norm: float) -> None:
        """With fp16 a step that is not finite is left out, and the loss scaled down, by torch."""
        if math.isfinite(norm) or (self._scaler.is_enabled() and self._scaler.get_scale() >= 1):
            return
        raise InputError(
            f"the gradient is not finite at step {self.state.step}; "
            "lower optimization.learning_rate and train again"
        )

    def _end_epoch(self) -> bool:
        """Validate and mine if it is time to, and save; whether there are new hard negatives."""
        epoch = self.state.step // self.config.optimization.epoch_steps
        is_mined = False
        if epoch % self.config.validation.interval_epochs == 0:
            is_mined = self._validate("validation")
        self._save()
        return is_mined

    def _validate(self, kind: str) -> bool:
        """Judge the average, keep it if it is the best, mine; whether that was asked for."""
        config, settings = self.config, self.config.validation
        average = self.state.average
        self.processes.share(average)
        batches = (self._tensors(self.judge.batch(n)) for n in range(settings.patches))
        on_patches = validate(average, batches, config.loss, self._autocast)
        on_patches["loss"] = self.processes.agreed(on_patches["loss"])
        searcher = self._searcher()
        scans = spread(self.split.validation, settings.scans)
        figures = validate_scans(searcher, scans, config.operating_point, self.processes)
        if self.progress.add(figures["f1"], on_patches["loss"], self.state.step):
            best = self.facts | {
                "step": self.state.step,
                "elapsed_s": self.state.elapsed_s,
                "validation": on_patches | figures,
            }
            if self.processes.writes:
                save_best(self.output, average, best)
        is_mined = self._mine(searcher, settings.hard_negative_scans)
        shown = on_patches | figures | {"best_f1": self.progress.best_f1}
        self._tell(kind, shown | {"hard_negatives": float(len(self.hard_negatives))})
        return is_mined

    def _searcher(self) -> Searcher:
        return searcher_of(self.state.average, self.config, self.search)

    def _mine_first(self) -> None:
        n_scans = self.config.validation.hard_negative_first_scans
        if n_scans == 0:
            return
        if self.processes.writes:
            print(f"searching {n_scans} scans for hard negatives first", flush=True)
        if self._mine(self._searcher(), n_scans):
            self._tell("mining", {"hard_negatives": float(len(self.hard_negatives))})

    def _mine(self, searcher: Searcher, n_scans: int) -> bool:
        """Look for hard negatives in so many scans; whether that was asked for."""
        config = self.config
        if n_scans == 0 or config.sampling.hard_negative_share == 0:
            return False
        self.hard_negatives = mine_hard_negatives(
            searcher,
            self.split.learning,
            self.hard_negatives,
            number=n_scans,
            point=mining_point(config),
            seed=(*self.seed, _MINING_STREAM, self.state.step),
            processes=self.processes,
        )
        return True

    def _save(self) -> None:
        if self.processes.writes:
            facts = self.facts | {
                "progress": asdict(self.progress),
                "scaler": self._scaler.state_dict(),
            }
            places = {"hard_negatives": torch.from_numpy(self.hard_negatives)}
            save_checkpoint(self.output, self.state, facts, more=places)
        self.processes.wait()

    def _autocast(self) -> AbstractContextManager[Any]:
        dtype = _DTYPES.get(self.precision)
        if dtype is None:
            return nullcontext()
        return torch.autocast(self.processes.device.type, dtype)

    def _tensors(self, batch: Batch) -> tuple[Tensor, Tensor]:
        device = self.processes.device
        images = torch.from_numpy(batch.images).unsqueeze(1).to(device)
        images = images.contiguous(memory_format=torch.channels_last_3d)
        return images, torch.from_numpy(batch.labels).to(device)

    def _show_progress(self) -> None:
        if self.log is not None:
            self.log.progress(self.budget.spent(self.state.step, self.state.elapsed_s))

    def _tell(self, kind: str, values: dict[str, float]) -> None:
        if self.log is None:
            return
        state = self.state
        where = {
            "step": float(state.step),
            "epoch": float(state.step // self.config.optimization.epoch_steps),
            "elapsed_s": state.elapsed_s,
        }
        self.log.add(
            kind,
            where | values,
            left_s=self.budget.left_s(state.step, state.elapsed_s),
            share=self.budget.spent(state.step, state.elapsed_s),
        )
