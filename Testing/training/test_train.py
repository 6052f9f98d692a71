"""Training on tiny cases: it learns, it can be repeated, and it goes on where it stopped."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from CMBDetectorLib.errors import DeviceError, InputError, UsageError
from CMBDetectorLib.models.networks import build_network
from training import session
from training.__main__ import main
from training.budget import Budget
from training.checkpoint import (
    BEST_NAME,
    CHECKPOINT_NAME,
    load_average,
    load_best,
    read_facts,
    read_tensors,
)
from training.configuration import plain_config, read_config
from training.optimization import learning_rate
from training.prepared_case import read_prepared
from training.run_log import read_log
from training.run_record import CONFIG_NAME, RUN_NAME
from training.targets import LESION
from training.train import train
from training.yaml_file import yaml_text

pytestmark = pytest.mark.usefixtures("one_thread")


def run(config, data: Path, output: Path, steps: int, **kwargs):
    budget = kwargs.pop("budget", Budget(steps, None))
    options = {"member": 0, "precision": "fp32"} | kwargs
    return train(config, [data], output, budget=budget, **options)


def changed(config, **sections):
    """The configuration with some keys of some sections replaced."""
    return replace(
        config, **{name: replace(getattr(config, name), **keys) for name, keys in sections.items()}
    )


def assert_same_weights(one, other) -> None:
    for name, tensor in one.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], tensor, rtol=1e-4, atol=1e-5)


def test_loss_falls_and_the_balls_of_an_unseen_head_are_found(
    trained: Path, prepared_root: Path, tiny_config
) -> None:
    losses = [entry["loss"] for entry in read_log(trained) if entry["kind"] == "train"]
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
    assert facts["sources"] == {"simulated": 2}
    assert facts["step"] == 120
    assert facts["config"]["network_def"] == tiny_config.network_def


def test_the_run_says_how_it_came_to_be(trained: Path, tiny_config) -> None:
    assert read_config(trained / CONFIG_NAME) == tiny_config
    record = json.loads((trained / RUN_NAME).read_text(encoding="utf-8"))
    assert record["seed"] == tiny_config.optimization.seed
    assert record["split_sha256"] == read_facts(trained)["split_sha256"]
    assert len(record["split_sha256"]) == 64
    assert [Path(case).name for case in record["learning"]] == ["01-0", "01-1"]
    assert [Path(case).name for case in record["validation"]] == ["02-0", "02-1"]
    (session,) = record["sessions"]
    assert session["versions"]["torch"] == torch.__version__
    assert {"commit", "uncommitted_changes", "command", "device", "precision"} <= set(session)


def test_whole_scans_are_validated_and_the_best_weights_kept(trained: Path, tiny_config) -> None:
    rows = [row for row in read_log(trained) if row["kind"] == "validation"]
    assert [row["step"] for row in rows] == [60, 120]
    assert all(row["scans"] == 2 for row in rows)
    network = build_network(tiny_config.network_def)
    facts = load_best(trained, network)
    best = max(rows, key=lambda row: (row["f1"], -row["loss"]))
    assert facts["step"] == best["step"]
    assert facts["validation"]["f1"] == pytest.approx(best["f1"], rel=1e-4)
    assert facts["validation"]["f1"] > 0.6


def test_training_stops_where_f1_no_longer_rises(
    tmp_path: Path, prepared_root: Path, tiny_config, monkeypatch
) -> None:
    f1 = iter([0.2, 0.5, 0.4, 0.5, 0.3, 0.9])
    figures = {"precision": 0.0, "recall": 0.0, "false_positives_per_scan": 0.0, "scans": 1.0}
    monkeypatch.setattr(session, "validate_scans", lambda *_: figures | {"f1": next(f1)})
    losses = iter([0.9, 0.5, 0.1, 0.6, 0.1])
    monkeypatch.setattr(session, "validate", lambda *_: {"loss": next(losses)})
    config = changed(
        tiny_config,
        optimization={"epoch_steps": 2},
        validation={"interval_epochs": 1, "patience": 3, "hard_negative_scans": 0},
    )
    state = run(config, prepared_root, tmp_path / "m", 100)
    assert state.step == 10, "the second validation was best, and three more were not better"
    assert read_facts(tmp_path / "m", BEST_NAME)["step"] == 4
    assert read_facts(tmp_path / "m")["progress"]["best_step"] == 4
    again = run(config, prepared_root, tmp_path / "m", 100, resume=True)
    assert again.step == 10


def test_before_the_first_lesion_is_found_the_loss_decides() -> None:
    progress = session.Progress()
    assert progress.add(float("nan"), 2.0, 1)
    assert progress.add(0.0, 1.5, 2)
    assert not progress.add(0.0, 1.6, 3)
    assert progress.add(0.1, 9.0, 4)
    assert progress.stale == 0


def test_resumed_is_the_same_as_uninterrupted(
    tmp_path: Path, prepared_root: Path, tiny_config
) -> None:
    config = changed(
        tiny_config,
        sampling={"hard_negative_share": 0.25, "lesion_share": 0.25},
        optimization={"epoch_steps": 4},
        operating_point={
            "threshold": 0.05,
            "min_volume_mm3": 0.0,
        },  # so that there are false detections to mine
        validation={"interval_epochs": 1, "scans": 1, "patches": 1},
    )
    whole = run(config, prepared_root, tmp_path / "whole", 12)

    class Interrupted(Exception):
        pass

    class Stop(Budget):
        def spent(self, step: int, elapsed_s: float) -> float:
            if step == 10:
                raise Interrupted
            return super().spent(step, elapsed_s)

    with pytest.raises(Interrupted):
        run(config, prepared_root, tmp_path / "parts", 12, budget=Stop(12, None))
    assert read_facts(tmp_path / "parts")["step"] == 8
    mined = read_tensors(tmp_path / "parts" / CHECKPOINT_NAME)["more.hard_negatives"]
    assert len(mined) > 0
    parts = run(config, prepared_root, tmp_path / "parts", 12, resume=True)
    assert parts.step == whole.step == 12
    assert_same_weights(whole.average, parts.average)
    assert_same_weights(whole.network, parts.network)
    keys = ("kind", "step", "loss", "f1", "hard_negatives")
    logs = [
        [{key: row.get(key) for key in keys} for row in read_log(tmp_path / name)]
        for name in ("whole", "parts")
    ]
    assert logs[0] == [
        row | {"loss": pytest.approx(row["loss"], rel=1e-3)} if row["loss"] else row
        for row in logs[1]
    ]
    again = run(config, prepared_root, tmp_path / "parts", 12, resume=True)
    assert again.step == 12


def test_a_run_is_resumed_with_its_own_configuration_and_cases_only(
    tmp_path: Path, prepared_root: Path, tiny_config
) -> None:
    run(tiny_config, prepared_root, tmp_path / "m", 1)
    other = changed(tiny_config, loss={"dice_weight": 0.5})
    with pytest.raises(UsageError, match=r"another configuration \(loss\.dice_weight\)"):
        run(other, prepared_root, tmp_path / "m", 2, resume=True)
    info = prepared_root / "13-0" / "prepared.json"
    fewer = tmp_path / "fewer"
    for name in ("01-0", "02-0", "02-1"):
        (fewer / name).parent.mkdir(exist_ok=True)
        (fewer / name).symlink_to(info.parents[1] / name, target_is_directory=True)
    with pytest.raises(UsageError, match="begun with other cases"):
        run(tiny_config, fewer, tmp_path / "m", 2, resume=True)
    assert run(tiny_config, prepared_root, tmp_path / "m", 2, resume=True).step == 2


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
    config = changed(
        tiny_config,
        optimization={"init_from": str(trained), "learning_rate": 0.0, "weight_decay": 0.0},
    )
    started = run(config, prepared_root, tmp_path / "next", 1, member=None)
    network = build_network(tiny_config.network_def)
    load_best(trained, network)
    for name, tensor in network.named_parameters():
        torch.testing.assert_close(dict(started.average.named_parameters())[name], tensor)
    assert read_facts(tmp_path / "next")["left_out"] == ["13"]


def test_hard_negatives_are_mined_first_where_weights_are_given(
    tmp_path: Path, trained: Path, prepared_root: Path, tiny_config, capsys
) -> None:
    config = changed(
        tiny_config,
        sampling={"hard_negative_share": 0.25, "lesion_share": 0.25},
        operating_point={"threshold": 0.9, "min_volume_mm3": 0.0},
        validation={
            "scans": 1,
            "patches": 1,
            "hard_negative_scans": 0,
            "hard_negative_first_scans": 2,
            "hard_negative_threshold": 0.2,
        },
    )
    run(config, prepared_root, tmp_path / "anew", 1)
    assert len(read_tensors(tmp_path / "anew" / CHECKPOINT_NAME)["more.hard_negatives"]) == 0
    given = changed(config, optimization={"init_from": str(trained)})
    capsys.readouterr()
    run(given, prepared_root, tmp_path / "next", 1)
    assert "searching 2 scans for hard negatives first" in capsys.readouterr().out
    places = read_tensors(tmp_path / "next" / CHECKPOINT_NAME)["more.hard_negatives"]
    assert len(places) > 0
    assert len(set(places[:, 0].tolist())) <= 2
    assert next(row["kind"] for row in read_log(tmp_path / "next")) == "mining"


def test_fine_tuning_on_own_scans_and_negatives_from_the_command_line(
    tmp_path: Path, trained: Path, prepared_root: Path, make_case, standardized, tiny_config
) -> None:
    """Standardized scans, one of them without lesions, beside simulated ones; then a bundle."""
    grid = {"affine": np.diag([-0.6, 0.6, 1.0, 1.0]), "shape": (52, 52, 28)}
    with_lesion = make_case("x", "x", balls=[((3, 2, 1), 3.0, 15.0)], **grid)
    without = make_case("y", "y", balls=[], **grid)
    standardized(
        tmp_path / "own",
        ("sub-1", "train", with_lesion, True),
        ("sub-2", "train", without, True),
        ("sub-3", "val", with_lesion, True),
    )
    base = tmp_path / "base.yaml"
    base.write_text(yaml_text(plain_config(tiny_config)), encoding="utf-8")
    config = tmp_path / "fine_tune.yaml"
    config.write_text(
        "base: base.yaml\n"
        'data: {training: ["split:train", "01"], selection: ["split:val"], folds: []}\n',
        encoding="utf-8",
    )
    cases, output = tmp_path / "prepared", tmp_path / "run"
    prepare = ["prepare", str(config), "--cases", str(tmp_path / "own"), "--output", str(cases)]
    assert main(prepare) == 0
    begin = ["train", str(config), "--data", str(cases), str(prepared_root), "--precision", "fp32"]
    begin += ["--output", str(output), "--init-from", str(trained), "--learning-rate", "1e-4"]
    assert main([*begin, "--steps", "3"]) == 0
    facts = read_facts(output)
    assert facts["sources"] == {"real": 2, "simulated": 2}
    assert facts["left_out"] == ["sub-3"]
    assert read_config(output / CONFIG_NAME).optimization.init_from == str(trained)
    assert main([*begin[:-4], "--steps", "4", "--resume"]) == 0, "as it was begun"
    assert read_facts(output)["step"] == 4
    assert main(["export", "--members", str(output), "--output", str(tmp_path / "bundle")]) == 0


def test_members_without_folds_differ_by_their_seed(
    tmp_path: Path, prepared_root: Path, tiny_config
) -> None:
    config = changed(tiny_config, data={"folds": ()})
    one, other = (
        run(config, prepared_root, tmp_path / str(member), 1, member=member) for member in (4, 5)
    )
    assert read_facts(tmp_path / "4")["left_out"] == ["13"]
    weights = [next(iter(state.network.parameters())) for state in (one, other)]
    assert not torch.equal(*weights)


def test_time_bounded_training_ends_annealed(
    tmp_path: Path, prepared_root: Path, tiny_config
) -> None:
    state = run(tiny_config, prepared_root, tmp_path / "m", 0, budget=Budget(None, 1.5))
    assert state.elapsed_s >= 1.5
    spent = Budget(None, 1.5).spent(state.step, state.elapsed_s)
    assert learning_rate(spent, 1.0, 0.05) == pytest.approx(0)
    assert state.optimizer.param_groups[0]["lr"] < 0.01
    assert read_log(tmp_path / "m")[-1]["kind"] == "end"


def test_mixed_precision_learns_the_same(tmp_path: Path, prepared_root: Path, tiny_config) -> None:
    config = changed(tiny_config, sampling={"batch_size": 2}, validation={"scans": 1, "patches": 1})
    losses = []
    for precision in ("fp32", "bf16"):
        run(config, prepared_root, tmp_path / precision, 25, precision=precision)
        rows = read_log(tmp_path / precision)
        losses.append([row["loss"] for row in rows if row["kind"] == "train"])
    assert losses[1] == pytest.approx(losses[0], rel=0.05)
    assert losses[1] != losses[0]


def test_fp16_is_for_gpus(tmp_path: Path, prepared_root: Path, tiny_config) -> None:
    with pytest.raises(DeviceError, match="fp16 is for GPUs"):
        run(tiny_config, prepared_root, tmp_path / "m", 1, precision="fp16")
    assert not (tmp_path / "m").exists()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_fp16_learns_on_a_gpu_and_keeps_its_scale(
    tmp_path: Path, prepared_root: Path, tiny_config
) -> None:
    run(tiny_config, prepared_root, tmp_path / "m", 50, precision="fp16", device="cuda")
    losses = [entry["loss"] for entry in read_log(tmp_path / "m") if entry["kind"] == "train"]
    assert losses[-1] < losses[0]
    assert read_facts(tmp_path / "m")["scaler"]["scale"] > 1
    again = run(
        tiny_config, prepared_root, tmp_path / "m", 52, precision="fp16", device="cuda", resume=True
    )
    assert again.step == 52


def test_learning_rate_rises_then_falls() -> None:
    rates = [learning_rate(spent, 2.0, 0.1) for spent in np.linspace(0, 1, 101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(2.0)
    assert int(np.argmax(rates)) == 10
    assert rates[-1] == pytest.approx(0)
    assert (np.diff(rates[:11]) > 0).all()
    assert (np.diff(rates[10:]) < 0).all()


def test_weights_are_plain_safetensors(trained: Path) -> None:
    with safe_open(trained / CHECKPOINT_NAME, framework="np") as file:
        prefixes = {key.split(".")[0] for key in file.keys()}  # noqa: SIM118
        assert prefixes == {"network", "average", "optimizer", "more"}
    assert set(read_tensors(trained / BEST_NAME)) == set(
        build_network(read_config(trained / CONFIG_NAME).network_def).state_dict()
    )
    assert not list(trained.glob(".*"))


def test_what_cannot_be_trained_is_refused(
    tmp_path: Path, prepared_root: Path, tiny_config
) -> None:
    with pytest.raises(UsageError, match="members 0 to 1"):
        run(tiny_config, prepared_root, tmp_path / "m", 1, member=2)
    config = changed(tiny_config, data={"folds": (("02",), ("09",))})
    with pytest.raises(InputError, match="0 to validate on"):
        run(config, prepared_root, tmp_path / "m", 1, member=1)
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="no prepared cases"):
        run(tiny_config, tmp_path / "none", tmp_path / "m", 1)
    with pytest.raises(DeviceError, match="unknown device"):
        run(tiny_config, prepared_root, tmp_path / "m", 1, device="abacus")
    assert not (tmp_path / "m").exists()


def test_a_damaged_checkpoint_is_one_clear_error(
    tmp_path: Path, prepared_root: Path, tiny_config
) -> None:
    run(tiny_config, prepared_root, tmp_path / "m", 1)
    path = tmp_path / "m" / CHECKPOINT_NAME
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"checkpoint\.safetensors"):
        run(tiny_config, prepared_root, tmp_path / "m", 2, resume=True)
