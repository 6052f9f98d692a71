"""From prepared scans and a model to a model with a second stage, at toy size."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from CMBDetectorLib.errors import InputError, UsageError
from CMBDetectorLib.inference.candidate_classifier import (
    CandidateClassifier,
    classify,
    load_classifiers,
)
from CMBDetectorLib.inference.candidates import cut_patches
from CMBDetectorLib.models.bundle import ModelBundle, load_bundle
from CMBDetectorLib.settings import SecondStageSettings
from CMBDetectorLib.volume import Volume
from training.__main__ import main
from training.budget import Budget
from training.checkpoint import load_average, read_facts
from training.prepared_case import read_prepared
from training.second_stage.batches import Batches, changed_candidate
from training.second_stage.collect import candidates_of
from training.second_stage.configuration import (
    SecondStageConfig,
    parse_second_stage_config,
    read_second_stage_config,
)
from training.second_stage.stored import (
    StoredCandidates,
    read_candidates,
    read_candidates_info,
    write_candidates,
)
from training.second_stage.train import _Session, train_second_stage
from training.targets import IGNORE, LESION

SHIPPED = Path(__file__).parents[3] / "training" / "configs" / "second_stage.yaml"


@pytest.fixture(scope="module")
def config() -> SecondStageConfig:
    """The shipped one, in small steps."""
    shipped = read_second_stage_config(SHIPPED)
    return replace(shipped, lesions_per_step=4, others_per_step=4, average_decay=0.9)


@pytest.fixture(scope="module")
def first_stage(trained: Path, tmp_path_factory) -> ModelBundle:
    output = tmp_path_factory.mktemp("bundles") / "first"
    assert main(["export", "--members", str(trained), "--output", str(output)]) == 0
    return load_bundle(output)


@pytest.fixture(scope="module")
def collected(first_stage: ModelBundle, prepared_root: Path, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("candidates") / "all"
    command = ["second-stage-collect", str(SHIPPED), "--data", str(prepared_root)]
    command += ["--bundle", str(first_stage.root), "--output", str(output), "--device", "cpu"]
    # Two processes share the scans; the second finds its own half to do.
    for part in ("0", "1"):
        assert main([*command, "--part", part, "2", "--threads", "1"]) == 0
    return output


def separable(n: int = 60, margin: int = 4, seed: int = 0) -> StoredCandidates:
    """Lesions are dark in the middle of the detail, the others are not."""
    rng = np.random.default_rng(seed)
    side = 40 + 2 * margin
    detail = rng.normal(0.7, 0.05, (n, side, side, 7))
    is_lesion = np.arange(n) % 2 == 0
    middle = slice(side // 2 - 4, side // 2 + 4)
    detail[is_lesion, middle, middle, 2:5] = 0.2
    return StoredCandidates(
        detail.astype(np.float16),
        np.full(detail.shape, 0.5, np.float16),
        rng.random((n, 10, 48, 48)).astype(np.float16),
        np.full(n, 0.5, np.float32),
        np.full(n, 2.0, np.float32),
        is_lesion,
    )


def test_what_is_collected(collected: Path, prepared_root: Path, first_stage) -> None:
    cases = sorted(path.name for path in prepared_root.iterdir())
    assert sorted(path.stem for path in collected.glob("*.npz")) == cases
    candidates = read_candidates(collected)
    n_taught = sum(len(read_prepared(prepared_root / name).lesion_points) for name in cases)
    assert candidates.is_lesion.sum() >= n_taught > 0
    assert (~candidates.is_lesion).any()
    assert candidates.detail.shape[1:] == (48, 48, 7)
    assert candidates.surroundings.shape[1:] == (10, 48, 48)
    info = read_candidates_info(collected)
    assert info["members_sha256"] == [first_stage.sha256["models/member_1.safetensors"]]


def test_other_models_are_not_mixed_in(collected, prepared_root, first_stage, tmp_path) -> None:
    text = SHIPPED.read_text(encoding="utf-8").replace("most_per_scan: 150", "most_per_scan: 7")
    other = tmp_path / "other.yaml"
    other.write_text(text, encoding="utf-8")
    command = ["second-stage-collect", str(other), "--data", str(prepared_root)]
    command += ["--bundle", str(first_stage.root), "--output", str(collected)]
    assert main(command) == InputError.exit_code


def test_candidates_know_lesions_and_leave_out_faint_ones(prepared_root, config) -> None:
    case = read_prepared(prepared_root / "01-0")
    labels = np.array(case.labels)
    lesion = np.argwhere(labels & LESION)[0]
    labels[5:8, 5:8, 5:8] |= IGNORE
    chance = np.zeros(case.image.shape, np.float32)
    chance[tuple(lesion)], chance[6, 6, 6], chance[30, 6, 20] = 0.9, 0.8, 0.7
    found = candidates_of(
        replace(case, labels=labels, lesion_points=np.zeros((0, 3), np.int16)),
        Volume(chance, case.geometry),
        config,
    )
    assert found.is_lesion.tolist() == [True, False]
    np.testing.assert_allclose(found.peak, [0.9, 0.7])
    image = Volume(np.asarray(case.image, np.float32), case.geometry)
    shown = cut_patches(image, Volume(chance, case.geometry), np.array([[30, 6, 20]]), 4)
    np.testing.assert_array_equal(found.detail[1], shown.detail[0].astype(np.float16))


def test_batches_are_the_same_for_a_number_and_change_with_it(config) -> None:
    batches = Batches(separable(), config)
    first, again, other = batches.batch(3), batches.batch(3), batches.batch(4)
    np.testing.assert_array_equal(first.shown.detail, again.shown.detail)
    assert not np.array_equal(first.shown.detail, other.shown.detail)
    np.testing.assert_allclose(first.target, [0.975] * 4 + [0.025] * 4)
    assert first.shown.detail.shape == (8, 40, 40, 7)
    assert first.shown.detail.dtype == np.float32


def test_surer_candidates_are_drawn_more_often(config) -> None:
    candidates = separable(400)
    peak = np.where(np.arange(400) < 200, 0.9, 0.1).astype(np.float32)
    batches = Batches(replace(candidates, peak=peak), config)
    drawn = np.concatenate([batches.batch(n).shown.peak[4:] for n in range(60)])
    assert 0.85 < (drawn > 0.5).mean() < 0.95


def test_changes_move_all_three_together(config) -> None:
    plain = replace(
        config, gain=(1, 1), gamma=(1, 1), noise=0.0, probability_gain=(1, 1), blur_share=0.0
    )
    ramp = np.arange(48, dtype=np.float16)[:, None, None] * np.ones((48, 48, 7), np.float16)
    slabs = np.repeat(np.arange(5), 2)[:, None, None] * np.ones((10, 48, 48))
    slabs = slabs + np.arange(48)[None, :, None] / 100
    one = StoredCandidates(
        ramp[None] / 100,
        ramp[None] / 50,
        slabs[None].astype(np.float16),
        np.ones(1, np.float32),
        np.ones(1, np.float32),
        np.array([True]),
    )
    seen = set()
    for seed in range(40):
        detail, chance, around = changed_candidate(one, 0, plain, np.random.default_rng(seed))
        np.testing.assert_allclose(chance, 2 * detail, atol=1e-2)
        axis = int(np.ptp(detail[0, :, 0]) > np.ptp(detail[:, 0, 0]))
        ends = np.moveaxis(detail, axis, 0)[[0, -1], 0, 0]
        falls = ends[0] > ends[1]
        if not around.any():
            seen.add("blank")
            continue
        far = np.moveaxis(around[0], axis, 0)[[0, -1], 0]
        assert (far[0] > far[1]) == falls
        order = around[:, 24, 24].round().tolist()
        assert order in ([0, 0, 1, 1, 2, 2, 3, 3, 4, 4], [4, 4, 3, 3, 2, 2, 1, 1, 0, 0])
        shift = round(100 * float(detail.min()))
        assert 2 <= shift <= 6
        seen.add((axis, falls, order[0], shift))
    assert "blank" in seen
    assert len(seen) > 15


def test_blurring_is_in_plane_and_now_and_then(config) -> None:
    plain = replace(config, gain=(1, 1), gamma=(1, 1), noise=0.0, blur_share=0.5)
    detail = np.zeros((1, 48, 48, 7), np.float16)
    detail[0, 24, 24, 3] = 1
    spike = replace(separable(1), detail=detail, is_lesion=np.array([True]))
    peaks = []
    for seed in range(40):
        changed, _, _ = changed_candidate(spike, 0, plain, np.random.default_rng(seed))
        assert changed.sum() == pytest.approx(1, abs=1e-3)
        assert changed[:, :, 3].sum() == pytest.approx(1, abs=1e-3)
        peaks.append(changed.max())
    assert 8 < (np.array(peaks) < 0.99).sum() < 32


def test_both_kinds_are_needed(config) -> None:
    candidates = separable()
    with pytest.raises(InputError, match="0 candidates are lesions"):
        Batches(replace(candidates, is_lesion=np.zeros(60, bool)), config)


@pytest.mark.usefixtures("one_thread")
def test_a_classifier_learns_what_can_be_told(config, collected, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("training.second_stage.train.read_candidates", lambda *_: separable())
    output = tmp_path / "run"
    state = train_second_stage(config, [collected], output, budget=Budget(40, None))
    assert state.step == 40
    unseen = separable(40, margin=0, seed=9)
    shown = Batches(unseen, replace(config, margin_voxels=0)).batch(0)
    says = classify([state.average], shown.shown, "cpu")  # type: ignore[list-item]
    assert says[:4].min() > says[4:].max()
    facts = read_facts(output)
    assert facts["n_lesions"] == 30
    assert facts["config"] == json.loads(json.dumps(asdict(config)))


@pytest.mark.usefixtures("one_thread")
def test_training_goes_on_where_it_was(config, collected, tmp_path, monkeypatch) -> None:
    often, output = replace(config, checkpoint_interval=2), tmp_path / "run"
    take = _Session._step

    def killed(session, batch, spent):
        if session.state.step == 3:
            raise KeyboardInterrupt
        return take(session, batch, spent)

    with monkeypatch.context() as patch:
        patch.setattr(_Session, "_step", killed)
        with pytest.raises(KeyboardInterrupt):
            train_second_stage(often, [collected], output, budget=Budget(5, None))
    kept = read_facts(output)
    assert kept["step"] == 2
    with pytest.raises(UsageError, match="--resume"):
        train_second_stage(often, [collected], output, budget=Budget(5, None))
    state = train_second_stage(often, [collected], output, budget=Budget(5, None), resume=True)
    assert state.step == read_facts(output)["step"] == 5
    assert state.elapsed_s > kept["elapsed_s"]


@pytest.mark.usefixtures("one_thread")
def test_training_starts_from_given_weights_and_several_folders(
    config, collected, tmp_path
) -> None:
    begun, output = tmp_path / "begun", tmp_path / "run"
    before = train_second_stage(config, [collected], begun, budget=Budget(1, None))
    slow = replace(config, learning_rate=1e-12)
    both = [collected, collected]
    after = train_second_stage(slow, both, output, budget=Budget(1, None), init_from=begun)
    state = before.average.state_dict()
    for name, tensor in after.average.state_dict().items():
        if name.endswith("weight"):
            torch.testing.assert_close(tensor, state[name], rtol=1e-4, atol=1e-6)
    facts = read_facts(output)
    assert facts["n_candidates"] == 2 * read_facts(begun)["n_candidates"]
    assert facts["candidates"] == [read_candidates_info(collected)] * 2
    train_second_stage(slow, both, output, budget=Budget(2, None), resume=True)
    assert read_facts(output)["init_from"] == str(begun)


def test_candidates_of_other_sizes_are_not_put_together(collected, tmp_path) -> None:
    smaller = separable(4, margin=2)
    write_candidates(tmp_path / "a.npz", smaller)
    assert len(read_candidates(tmp_path, tmp_path)) == 8
    with pytest.raises(InputError, match="the settings of the others"):
        read_candidates(collected, tmp_path)


@pytest.mark.usefixtures("one_thread")
def test_a_bundle_with_a_second_stage(first_stage, collected, tmp_path) -> None:
    runs = [tmp_path / "run_0", tmp_path / "run_1"]
    for seed, run in enumerate(runs):
        command = ["second-stage-train", str(SHIPPED), "--data", str(collected)]
        command += ["--output", str(run), "--steps", "1", "--seed", str(seed), "--threads", "1"]
        assert main(command) == 0
    output = tmp_path / "both"
    command = ["second-stage-export", "--bundle", str(first_stage.root), "--output", str(output)]
    command += ["--classifiers", *map(str, runs), "--threshold", "0.7", "--model-version", "9.0"]
    assert main([*command, "--candidate-threshold", "0.3"]) == 0
    bundle = load_bundle(output)
    assert (bundle.id, bundle.version) == ("both", "9.0")
    assert bundle.second_stage == SecondStageSettings(0.3)
    assert bundle.operating_point.threshold == 0.7
    name = "models/member_1.safetensors"
    assert bundle.sha256[name] == first_stage.sha256[name]
    assert [one["seed"] for one in bundle.training_data["second_stage"]] == [0, 1]
    for classifier, run in zip(load_classifiers(bundle, "cpu"), runs, strict=True):
        trained = CandidateClassifier()
        load_average(run, trained)
        for name, tensor in classifier.state_dict().items():
            torch.testing.assert_close(tensor, trained.state_dict()[name], rtol=1e-3, atol=1e-6)
    card = bundle.card.read_text(encoding="utf-8")
    assert "Second stage" in card
    assert "| classifier | candidates |" in card


@pytest.mark.usefixtures("one_thread")
def test_classifiers_of_other_candidates_are_refused(
    first_stage, collected, tmp_path, config
) -> None:
    run = tmp_path / "run"
    train_second_stage(config, [collected], run, budget=Budget(1, None))
    other = tmp_path / "other"
    shipped = Path(__file__).parents[3] / "CMBDetectorLib/resources/models/cmb_gre_swi_unet"
    command = ["second-stage-export", "--bundle", str(shipped), "--classifiers", str(run)]
    assert main([*command, "--output", str(other)]) == UsageError.exit_code
    assert not other.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": None}, "steps is None; expected a whole number"),
        ({"steps": 1.5}, "steps is 1.5; expected a whole number"),
        ({"gain": [1]}, "gain is .*; expected two numbers"),
        ({"noise": "much"}, "noise is 'much'; expected a number"),
        ({"lowest_probability": 1.5}, "lowest_probability is 1.5"),
        ({"others_per_step": 0}, "others_per_step is 0"),
        ({"margin_voxels": -1}, "margin_voxels is -1"),
        ({"speed": 3}, "unknown keys: speed"),
    ],
)
def test_configurations_are_checked(config, change, message) -> None:
    plain = asdict(config) | change
    with pytest.raises(UsageError, match=message):
        parse_second_stage_config(plain)


def test_missing_and_damaged_candidates(tmp_path, collected) -> None:
    with pytest.raises(InputError, match="second-stage-collect"):
        read_candidates_info(tmp_path)
    with pytest.raises(InputError, match="second-stage-collect"):
        read_candidates(tmp_path)
    source = next(collected.glob("*.npz"))
    (tmp_path / "x.npz").write_bytes(source.read_bytes()[:-100])
    with pytest.raises(InputError, match="collect again"):
        read_candidates(tmp_path)
