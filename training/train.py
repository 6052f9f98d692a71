"""Train one member of the ensemble on prepared cases."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from CMBDetectorLib.errors import UsageError
from CMBDetectorLib.inference.device import resolve_device
from CMBDetectorLib.settings import Precision
from training.budget import Budget
from training.checkpoint import TrainingState, check_start, load_checkpoint, read_facts
from training.configuration import plain_config, read_config
from training.distributed import Processes, training_processes
from training.hard_negatives import Places, no_places
from training.initial_weights import load_initial_weights
from training.learned import learned_from
from training.length_options import add_length_arguments, asked_budget
from training.optimization import new_state
from training.prepared_case import prepared_folders
from training.run_log import open_log
from training.run_record import CONFIG_NAME, check_run_record, write_run_record
from training.sampling import PatchSampler
from training.session import Progress, Session
from training.settings import TrainingConfig
from training.split import Split, make_split

_TRAINING_STREAM, _VALIDATION_STREAM = 1, 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``python -m training train``."""
    parser.add_argument("config", type=Path, help="training configuration (YAML)")
    parser.add_argument(
        "--data", type=Path, nargs="+", required=True, help="folders of prepared cases"
    )
    parser.add_argument("--output", type=Path, required=True, help="this member's own folder")
    parser.add_argument(
        "--member",
        type=int,
        help="from 0: leave out this fold's heads or participants and validate on them; without "
        "it, or without folds, all are learned from and the selection validates",
    )
    parser.add_argument("--device", default="cpu", help="cpu (default), auto, cuda, cuda:N or mps")
    parser.add_argument(
        "--precision",
        choices=("auto", "bf16", "fp16", "fp32"),
        default="auto",
        help="auto: bf16 where the device has it, else fp32 (fp16 on older GPUs)",
    )
    add_length_arguments(parser)
    parser.add_argument(
        "--init-from",
        type=Path,
        help="weights to start from: a member's folder, a .safetensors file, or a model bundle "
        "with one member",
    )
    parser.add_argument(
        "--learning-rate", type=float, help="instead of the configuration's, e.g. after a start"
    )


def run(args: argparse.Namespace) -> int:
    """Train as the arguments say; returns the exit code."""
    config = _with_options(read_config(args.config), args)
    train(
        config,
        args.data,
        args.output,
        member=args.member,
        budget=asked_budget(args, config.optimization.steps),
        device=args.device,
        precision=args.precision,
        resume=args.resume,
    )
    return 0


def train(
    config: TrainingConfig,
    data: Sequence[Path],
    output: Path,
    *,
    member: int | None,
    budget: Budget,
    device: str = "cpu",
    precision: Precision = "auto",
    resume: bool = False,
) -> TrainingState:
    """Train a network until the budget is spent, or F1 no longer rises.

    ``output`` then holds ``checkpoint.safetensors``, ``best.safetensors``, ``config.yaml``,
    ``run.json``, ``log.csv`` and, where it is installed, ``tensorboard/``.

    Started by ``torchrun``, the processes share each batch; all need to see ``output``.

    A run over a number of steps is repeatable on the same machine and number of threads, also
    when it is interrupted and resumed from its checkpoint. A run over a time is not: how far it
    comes depends on the machine.

    Raises
    ------
    UsageError
        If the member does not exist; ``output`` holds a checkpoint and ``resume`` is not set, or
        one of another member, configuration or split.
    InputError
        If there are no cases to train or validate on, a checkpoint does not fit, or the training
        diverges.
    DeviceError
        If the device is not there or cannot compute in this precision.
    """
    with ExitStack() as stack:
        processes = stack.enter_context(training_processes(device))
        compute = resolve_device(str(processes.device), precision)
        # Whole scans are searched as users will, where mixed precision is only a way to be quick.
        search = compute if precision == "fp32" else resolve_device(compute.device, "auto")
        chosen = compute.precision
        number = 0 if member is None else member + 1
        seed = (config.optimization.seed, number)
        split = make_split(prepared_folders(*data), config.data, member, seed[0])
        sampler, judge = _samplers(config, split, seed, processes)

        torch.manual_seed(sum(seed))
        state = new_state(config, processes)
        progress, places, scaler = _restore(config, state, output, member, split, resume=resume)
        processes.wait()
        if processes.writes:
            output.mkdir(parents=True, exist_ok=True)
            where = f"{compute.name} in {chosen}"
            print(_start_line(member, split, state, where, processes.count), flush=True)
            write_run_record(
                output,
                config,
                split,
                member=member,
                session={
                    "from_step": state.step,
                    "device": compute.name,
                    "precision": chosen,
                    "processes": processes.count,
                    "threads": torch.get_num_threads(),
                },
            )
        log = None
        if processes.writes:
            share = budget.spent(state.step, state.elapsed_s)
            log = stack.enter_context(open_log(output, from_step=state.step, share=share))
        session = Session(
            config=config,
            state=state,
            split=split,
            sampler=sampler,
            judge=judge,
            budget=budget,
            output=output,
            seed=seed,
            facts=_facts(config, split, member),
            processes=processes,
            precision=chosen,
            search=search,
            log=log,
            progress=progress,
            hard_negatives=places,
            scaler_state=scaler,
        )
        session.run()
    return state


def _with_options(config: TrainingConfig, args: argparse.Namespace) -> TrainingConfig:
    """The configuration with the options; a resumed run keeps those it was begun with."""
    stored = args.output / CONFIG_NAME
    given: dict[str, Any] = {}
    if args.resume and stored.exists():
        begun = read_config(stored).optimization
        given = {"init_from": begun.init_from, "learning_rate": begun.learning_rate}
    if args.init_from is not None:
        given["init_from"] = str(args.init_from)
    if args.learning_rate is not None:
        given["learning_rate"] = args.learning_rate
    return replace(config, optimization=replace(config.optimization, **given))


def _samplers(
    config: TrainingConfig, split: Split, seed: tuple[int, int], processes: Processes
) -> tuple[PatchSampler, PatchSampler]:
    clip = config.preprocessing.normalization.clip
    sampler = PatchSampler(
        split.learning,
        config.sampling,
        config.augmentation,
        clip,
        (*seed, _TRAINING_STREAM),
        part=processes.rank,
        n_parts=processes.count,
    )
    judge = PatchSampler(split.validation, config.sampling, None, clip, (*seed, _VALIDATION_STREAM))
    return sampler, judge


def _restore(
    config: TrainingConfig,
    state: TrainingState,
    output: Path,
    member: int | None,
    split: Split,
    *,
    resume: bool,
) -> tuple[Progress, Places, dict[str, Any] | None]:
    """Go on from a checkpoint in ``output``, or start from ``init_from`` where that is given."""
    init_from = config.optimization.init_from
    if check_start(output, resume=resume):
        facts = read_facts(output)
        if facts["member"] != member:
            raise UsageError(
                f"{output} holds member {facts['member']}, asked for was {member}; "
                "use another --output"
            )
        check_run_record(output, config, split)
        more = load_checkpoint(output, state)
        places = more["hard_negatives"].numpy() if "hard_negatives" in more else no_places()
        return Progress(**facts.get("progress", {})), places, facts.get("scaler")
    if init_from is not None:
        load_initial_weights(Path(init_from), state.network)
        state.average.load_state_dict(state.network.state_dict())
    return Progress(), no_places(), None


def _facts(config: TrainingConfig, split: Split, member: int | None) -> dict[str, Any]:
    """What is stored with the weights; ``export`` reads it."""
    return {
        "member": member,
        "left_out": list(split.left_out),
        "n_cases": len(split.learning),
        "sources": split.sources,
        "learned_from": learned_from(split.learning),
        "split_sha256": split.sha256,
        "config": plain_config(config),
    }


def _start_line(
    member: int | None, split: Split, state: TrainingState, device: str, n_processes: int
) -> str:
    several = f", {n_processes} processes" if n_processes > 1 else ""
    return (
        f"member {member}: {len(split.learning)} cases to learn from, {len(split.validation)} to "
        f"validate on ({', '.join(split.left_out)}), from step {state.step}, on {device}{several}"
    )
