"""The options of every training that say how long it goes on, and from where."""

from __future__ import annotations

import argparse

import torch

from training.budget import Budget


def add_length_arguments(parser: argparse.ArgumentParser) -> None:
    """``--steps``, ``--max-minutes``, ``--threads`` and ``--resume``."""
    parser.add_argument("--steps", type=int, help="instead of the configuration's")
    parser.add_argument(
        "--max-minutes",
        type=float,
        help="end after this time of training, resumed sessions added up; the learning rate "
        "follows the clock. Without --steps the configuration's steps then do not count",
    )
    parser.add_argument("--threads", type=int, help="CPU threads of torch")
    parser.add_argument("--resume", action="store_true", help="go on from --output's checkpoint")


def asked_budget(args: argparse.Namespace, usual_steps: int) -> Budget:
    """When the training ends, and the threads set that were asked for."""
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    return Budget.of(args.steps, args.max_minutes, usual_steps)
