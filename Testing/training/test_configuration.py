"""Configurations: every key known, every value of its kind, and back to YAML unchanged."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import pytest

from CMBDetectorLib.errors import UsageError
from training.configuration import (
    differences,
    parse_config,
    plain_config,
    read_config,
    read_plain_config,
)
from training.yaml_file import read_yaml_mapping, yaml_text

FOLDER = Path(__file__).parents[2] / "training" / "configs"
FIRST = FOLDER / "first.yaml"


@pytest.fixture
def plain() -> dict:
    return copy.deepcopy(read_plain_config(FIRST))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["sampling"].pop("jitter"), "sampling lacks jitter"),
        (lambda c: c["loss"].update(temperature=2), "unknown key temperature; known are"),
        (lambda c: c["loss"].update(focal_gama=2), r"focal_gama \(did you mean focal_gamma\?\)"),
        (lambda c: c.update(optimisation={}), r"optimisation \(did you mean optimization\?\)"),
        (lambda c: c.pop("preprocessing"), "the top level lacks preprocessing"),
        (lambda c: c["preprocessing"]["grid"].pop("kind"), "preprocessing.grid lacks kind"),
        (lambda c: c["preprocessing"]["grid"].update(kind="oval"), "one of isotropic, in_plane"),
        (lambda c: c["data"].update(test=["01"]), "01 serves two purposes"),
        (lambda c: c["data"].update(folds=[["13"]]), "13 outside training"),
        (lambda c: c["data"].update(folds=1), "data.folds is 1"),
        (lambda c: c["data"].update(training=[1, 2]), "data.training is 1, expected text; put it"),
        (lambda c: c["data"].update(training="01"), "data.training is '01', expected a list"),
        (lambda c: c["sampling"].update(patch_shape=[96, 64, 16]), "square"),
        (lambda c: c["sampling"].update(patch_shape=[96, 96]), "2 values, expected 3"),
        (lambda c: c["sampling"].update(batch_size=2.5), "batch_size is 2.5, expected a whole"),
        (lambda c: c["sampling"].update(batch_size=True), "batch_size is True, expected a whole"),
        (lambda c: c["sampling"].update(batch_size=0), "batch_size is 0, expected 1 or more"),
        (lambda c: c["sampling"].update(lesion_share=0.9), "more than 1"),
        (lambda c: c["optimization"].update(learning_rate="fast"), "'fast', expected a number"),
        (lambda c: c["validation"].update(patience=-1), "patience is -1, expected 0 or more"),
        (lambda c: c["loss"].update(focal_gamma=-0.5), "focal_gamma is -0.5, expected 0 or"),
        (lambda c: c["validation"].update(hard_negative_threshold=0.0), "threshold is 0.0, expect"),
        (lambda c: c.update(network_def="UNet"), "network_def is 'UNet', expected keys and values"),
        (lambda c: c.update(loss=None), "loss holds None, expected keys and values"),
    ],
)
def test_wrong_configurations_are_refused(change, message: str, plain) -> None:
    change(plain)
    with pytest.raises(UsageError, match=message):
        parse_config(plain)


def test_a_configuration_comes_back_from_yaml_and_from_json(tmp_path: Path) -> None:
    config = read_config(FIRST)
    for text in (yaml_text(plain_config(config)), json.dumps(plain_config(config))):
        (tmp_path / "again.yaml").write_text(text, encoding="utf-8")
        assert read_config(tmp_path / "again.yaml") == config
    assert differences(config, read_yaml_mapping(tmp_path / "again.yaml")) == []


def test_differences_are_named_by_their_keys(plain) -> None:
    config = parse_config(plain)
    plain["optimization"]["learning_rate"] = 0.5
    plain["data"].pop("folds")
    assert differences(config, plain) == ["data.folds", "optimization.learning_rate"]


def test_what_is_stored_without_a_newer_key_has_its_default(plain) -> None:
    config = parse_config(plain)
    plain["validation"].pop("hard_negative_threshold", None)
    assert differences(config, plain) == []
    settings = replace(config.validation, hard_negative_threshold=0.5)
    changed = replace(config, validation=settings)
    assert differences(changed, plain) == ["validation.hard_negative_threshold"]


def test_a_configuration_may_say_only_what_differs_from_its_base(tmp_path: Path) -> None:
    text = (
        f"base: {FIRST.as_posix()}\n"
        "name: mine\n"
        "optimization: {learning_rate: 1e-4}\n"
        "network_def: {_target_: monai.networks.nets.SegResNet, in_channels: 1, out_channels: 2}\n"
    )
    (tmp_path / "own.yaml").write_text(text, encoding="utf-8")
    own, base = read_config(tmp_path / "own.yaml"), read_config(FIRST)
    assert own.name == "mine"
    assert own.optimization.learning_rate == 1e-4
    assert own.optimization.steps == base.optimization.steps
    assert set(own.network_def) == {"_target_", "in_channels", "out_channels"}
    (tmp_path / "own.yaml").write_text("base: own.yaml\n", encoding="utf-8")
    with pytest.raises(UsageError, match="its own base"):
        read_config(tmp_path / "own.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2\n", "'a' comes twice, again in line 2"),
        ("a: {b: 1, b: 2}\n", "'b' comes twice"),
        ("a: [1, 2\n", "cannot read the configuration"),
        ("- a\n", "does not hold keys and values"),
        ("", "does not hold keys and values"),
        ("1: a\n", "does not hold keys and values"),
        ("a: !!python/object/apply:os.system [true]\n", "could not determine a constructor"),
    ],
)
def test_what_is_not_plain_yaml_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=message):
        read_yaml_mapping(tmp_path / "x.yaml")


def test_numbers_and_text_are_told_apart(tmp_path: Path) -> None:
    plain = {"heads": ["08", "1e3", "sub-1"], "rate": 2e-05, "count": 8}
    (tmp_path / "x.yaml").write_text(yaml_text(plain) + "other: 2e-3\n", encoding="utf-8")
    assert read_yaml_mapping(tmp_path / "x.yaml") == plain | {"other": 0.002}
