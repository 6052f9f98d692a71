"""Training on tiny cases: it learns, it can be repeated, and it goes on where it stopped."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from CMBDetectorLib.errors import InputError, UsageError
from CMBDetectorLib.models.networks import build_network
from training.checkpoint import CHECKPOINT_NAME, load_average, read_facts
from training.optimization import learning_rate
from training.prepare import read_prepared
from training.targets import LESION
from training.train import LOG_NAME, Budget, train

pytestmark = pytest.mark.usefixtures("one_thread")


def run(config, data: Path, output: Path, steps: int, **kwargs):
    budget = kwargs.pop("budget", Budget(steps, None))
    options = {"member": 0, "precision": "fp32"} | kwargs
    return train(config, data, output, budget=budget, **options)


def log_of(output: Path) -> list[dict]:
    lines = (output / LOG_NAME).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_loss_falls_and_the_balls_of_an_unseen_head_are_found(
    trained: Path, prepared_root: Path, tiny_config
) -> None:
    losses = [entry["loss"] for entry in log_of(trained) if entry["kind"] == "train"]
    assert losses[-1] < 0.6 * losses[0]
    network = build_network(tiny_config.network_def).eval()
    load_average(trained, network)
    found = []
    for name in ("02-0", "02-1"):
        case = read_prepared(prepared_root / name)
        image = torch.from_numpy(np.array(case.image, dtype=np.float32))[None, None]
        with torch.inference_mode():
            probability = torch.sigmoid(network(image))[0, 0].numpy()
        found += [probability[tuple(point)] > 0.5 for point in case.lesion_points]
        background = probability[(case.labels & LESION) == 0]
        assert (background > 0.5).mean() < 1e-3
    assert sum(found) >= 0.8 * len(found)


def test_no_head_is_learned_from_and_validated_on(trained: Path, tiny_config) -> None:
    facts = read_facts(trained)
    assert facts["member"] == 0
    assert facts["left_out"] == ["02"]
    assert facts["n_cases"] == 2
    assert facts["step"] == 120
    assert facts["config"]["network_def"] == tiny_config.network_def


def test_resumed_is_the_same_as_uninterrupted(
    tmp_path: Path, prepared_root: Path, tiny_config
) -> None:
    whole = run(tiny_config, prepared_root, tmp_path / "whole", 12)

    class Interrupted(Exception):
        pass

    class Stop(Budget):
        def spent(self, step: int, elapsed_s: float) -> float:
            if step == 9:
                raise Interrupted
            return super().spent(step, elapsed_s)

    often = replace(
        tiny_config, optimization=replace(tiny_config.optimization, checkpoint_interval=4)
    )
    with pytest.raises(Interrupted):
        run(often, prepared_root, tmp_path / "parts", 12, budget=Stop(12, None))
    assert read_facts(tmp_path / "parts")["step"] == 8
    parts = run(often, prepared_root, tmp_path / "parts", 12, resume=True)
    assert parts.step == whole.step == 12
    for name, tensor in whole.average.state_dict().items():
        torch.testing.assert_close(parts.average.state_dict()[name], tensor, rtol=1e-4, atol=1e-5)
    for name, tensor in whole.network.state_dict().items():
        torch.testing.assert_close(parts.network.state_dict()[name], tensor, rtol=1e-4, atol=1e-5)
    again = run(tiny_config, prepared_root, tmp_path / "parts", 12, resume=True)
    assert again.step == 12


def test_a_checkpoint_is_never_overwritten_by_a_new_start(
    trained: Path, prepared_root: Path, tiny_config
) -> None:
    with pytest.raises(UsageError, match="--resume"):
        run(tiny_config, prepared_root, trained, 5)
    with pytest.raises(UsageError, match="holds member 0"):
        run(tiny_config, prepared_root, trained, 5, member=1, resume=True)
    assert read_facts(trained)["step"] == 120


def test_start_from_another_training(
    tmp_path: Path, trained: Path, prepared_root: Path, tiny_config
) -> None:
    optimization = replace(
        tiny_config.optimization, init_from=str(trained), learning_rate=0.0, weight_decay=0.0
    )
    config = replace(tiny_config, optimization=optimization)
    started = run(config, prepared_root, tmp_path / "next", 1, member=None)
    network = build_network(tiny_config.network_def)
    load_average(trained, network)
    for name, tensor in network.named_parameters():
        torch.testing.assert_close(dict(started.average.named_parameters())[name], tensor)
    assert read_facts(tmp_path / "next")["left_out"] == ["13"]


def test_time_bounded_training_ends_annealed(
    tmp_path: Path, prepared_root: Path, tiny_config
) -> None:
    state = run(tiny_config, prepared_root, tmp_path / "m", 0, budget=Budget(None, 1.5))
    assert state.elapsed_s >= 1.5
    spent = Budget(None, 1.5).spent(state.step, state.elapsed_s)
    assert learning_rate(spent, 1.0, 0.05) == pytest.approx(0)
    assert state.optimizer.param_groups[0]["lr"] < 0.01
    assert log_of(tmp_path / "m")[-1]["kind"] == "end"


def test_mixed_precision_learns_too(tmp_path: Path, prepared_root: Path, tiny_config) -> None:
    run(tiny_config, prepared_root, tmp_path / "m", 50, precision="bf16")
    losses = [entry["loss"] for entry in log_of(tmp_path / "m") if entry["kind"] == "train"]
    assert losses[-1] < losses[0]


def test_learning_rate_rises_then_falls() -> None:
    rates = [learning_rate(spent, 2.0, 0.1) for spent in np.linspace(0, 1, 101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(2.0)
    assert int(np.argmax(rates)) == 10
    assert rates[-1] == pytest.approx(0)
    assert (np.diff(rates[:11]) > 0).all()
    assert (np.diff(rates[10:]) < 0).all()


def test_a_checkpoint_is_plain_safetensors(trained: Path) -> None:
    with safe_open(trained / CHECKPOINT_NAME, framework="np") as file:
        prefixes = {key.split(".")[0] for key in file.keys()}  # noqa: SIM118
        assert prefixes == {"network", "average", "optimizer"}
    assert not list(trained.glob("*.partial"))


def test_what_cannot_be_trained_is_refused(
    tmp_path: Path, prepared_root: Path, tiny_config
) -> None:
    with pytest.raises(UsageError, match="members 0 to 1"):
        run(tiny_config, prepared_root, tmp_path / "m", 1, member=2)
    data = replace(tiny_config.data, folds=(("02",), ("09",)))
    with pytest.raises(InputError, match="0 to validate on"):
        run(replace(tiny_config, data=data), prepared_root, tmp_path / "m", 1, member=1)
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="no prepared cases"):
        run(tiny_config, tmp_path / "none", tmp_path / "m", 1)
    assert not (tmp_path / "m").exists()


def test_a_damaged_checkpoint_is_one_clear_error(
    tmp_path: Path, prepared_root: Path, tiny_config
) -> None:
    run(tiny_config, prepared_root, tmp_path / "m", 1)
    path = tmp_path / "m" / CHECKPOINT_NAME
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"checkpoint\.safetensors"):
        run(tiny_config, prepared_root, tmp_path / "m", 2, resume=True)
