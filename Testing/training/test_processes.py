"""Training in processes of its own: killed and resumed, and two of them started by torchrun."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from CMBDetectorLib.errors import UsageError
from training.budget import Budget
from training.checkpoint import CHECKPOINT_NAME, read_facts, read_tensors
from training.configuration import plain_config
from training.run_log import read_log
from training.run_record import RUN_NAME
from training.sampling import PatchSampler
from training.train import train
from training.yaml_file import yaml_text

pytestmark = pytest.mark.usefixtures("one_thread")
ROOT = Path(__file__).parents[2]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
PATIENCE_S = 240


def command(config, data: Path, folder: Path, *options: str) -> list[str]:
    path = folder / "config.yaml"
    path.write_text(yaml_text(plain_config(config)), encoding="utf-8")
    output = ["--data", str(data), "--output", str(folder / "run"), "--member", "0"]
    return ["-m", "training", "train", str(path), *output, "--precision", "fp32", *options]


def start(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], env=ENVIRONMENT, capture_output=True, text=True, check=False
    )


def with_epochs(config, epoch_steps: int, **network):
    return replace(
        config,
        network_def=config.network_def | network,
        optimization=replace(config.optimization, epoch_steps=epoch_steps),
        validation=replace(config.validation, interval_epochs=100, scans=1, patches=1),
    )


def test_a_killed_training_loses_less_than_an_epoch(
    tmp_path: Path, prepared_root: Path, tiny_config
) -> None:
    config = with_epochs(tiny_config, 10)
    begin = command(config, prepared_root, tmp_path, "--steps", "100000")
    checkpoint = tmp_path / "run" / CHECKPOINT_NAME
    with subprocess.Popen([sys.executable, *begin], env=ENVIRONMENT) as child:
        deadline_s = time.monotonic() + PATIENCE_S
        while not checkpoint.exists() and time.monotonic() < deadline_s:
            assert child.poll() is None, "it ended before its first checkpoint"
            time.sleep(0.05)
        time.sleep(0.3)  # into the next epochs
        child.send_signal(signal.SIGKILL)
    step = read_facts(tmp_path / "run")["step"]
    assert step >= 10
    assert step % 10 == 0
    done = start([*begin[:-1], str(step + 5), "--resume"])
    assert done.returncode == 0, done.stderr
    assert read_facts(tmp_path / "run")["step"] == step + 5
    record = json.loads((tmp_path / "run" / RUN_NAME).read_text(encoding="utf-8"))
    assert [session["from_step"] for session in record["sessions"]] == [0, step]
    steps = [row["step"] for row in read_log(tmp_path / "run")]
    assert steps == sorted(steps)
    assert steps[-1] == step + 5


def test_two_processes_learn_what_one_with_the_same_batch_does(
    tmp_path: Path, prepared_root: Path, tiny_config
) -> None:
    # Normalised within each patch: CPUs have no batch normalisation over processes.
    config = with_epochs(tiny_config, 2, norm="INSTANCE")
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = start([*torchrun, *command(config, prepared_root, tmp_path, "--steps", "2")])
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("2 processes") == 1, "one of them tells and writes"
    assert [row["kind"] for row in read_log(tmp_path / "run")] == ["validation", "end"]
    alone = train(
        config,
        [prepared_root],
        tmp_path / "alone",
        member=0,
        budget=Budget(2, None),
        precision="fp32",
    )
    assert alone.step == read_facts(tmp_path / "run")["step"] == 2
    expected = read_tensors(tmp_path / "alone" / CHECKPOINT_NAME)
    found = read_tensors(tmp_path / "run" / CHECKPOINT_NAME)
    # The optimizer's mean gradients; and the weights, where Adam makes steps of rounding errors.
    for kind, tolerance in (("exp_avg", 1e-3), ("average.", 1e-2)):
        names = [name for name in expected if kind in name and "exp_avg_sq" not in name]
        one, two = (torch.cat([t[n].flatten() for n in names]) for t in (expected, found))
        assert float((one - two).norm() / one.norm()) < tolerance


def test_processes_draw_the_parts_of_one_batch(prepared_root: Path, tiny_config) -> None:
    folders = sorted(prepared_root.iterdir())
    arguments = (folders, tiny_config.sampling, tiny_config.augmentation, (0.0, 1.5), (1,))
    whole = PatchSampler(*arguments).batch(3)
    parts = [PatchSampler(*arguments, part=n, n_parts=2).batch(3) for n in range(2)]
    joined = torch.cat([torch.from_numpy(part.images) for part in parts])
    torch.testing.assert_close(joined, torch.from_numpy(whole.images), rtol=0, atol=0)
    with pytest.raises(UsageError, match="not a multiple of the 3 processes"):
        PatchSampler(*arguments, n_parts=3)
