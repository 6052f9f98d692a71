"""Training of the anatomy network at toy size."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from CMBDetectorLib.anatomy.parcellation import CLASSES, N_CHANNELS
from CMBDetectorLib.errors import InputError, UsageError
from CMBDetectorLib.models.anatomy_bundle import CELL_VOXELS, INPUT_CHANNELS
from training.__main__ import main
from training.anatomy import train
from training.anatomy.atlas import AlignedHead
from training.anatomy.configuration import (
    AnatomyConfig,
    parse_anatomy_config,
    read_anatomy_config,
)
from training.anatomy.export import export_anatomy
from training.anatomy.loss import anatomy_loss
from training.anatomy.patches import Patch, numbered_patch
from training.anatomy.train import LOG_NAME, train_anatomy
from training.budget import Budget
from training.checkpoint import read_facts
from training.yaml_file import read_yaml_mapping

pytestmark = pytest.mark.usefixtures("one_thread")
CONFIG = Path(__file__).parents[3] / "training" / "configs" / "anatomy.yaml"


@pytest.fixture(scope="module")
def config() -> AnatomyConfig:
    shipped = read_anatomy_config(CONFIG)
    return replace(
        shipped,
        network_def={**shipped.network_def, "filters": [4, 6, 8, 8]},
        spacing_mm=3.0,
        patch_voxels=32,
        heads=("07",),
        test_heads=(),
        checkpoint_interval=2,
        learning_rate=0.01,
    )


def test_the_shipped_configuration(config: AnatomyConfig) -> None:
    shipped = read_anatomy_config(CONFIG)
    assert shipped.network_def["out_channels"] == CELL_VOXELS * N_CHANNELS
    assert shipped.network_def["in_channels"] == len(INPUT_CHANNELS)
    assert shipped.patch_voxels % 16 == 0
    assert not set(shipped.heads) & set(shipped.test_heads)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"colour": 1}, "unknown keys: colour"),
        ({"seed": None}, "missing keys: seed"),
        ({"test_heads": ["01"]}, "heads 01 serve two purposes"),
        ({"misalignment": {"until": 1}}, "misalignment"),
        ({"misalignment": 3}, "misalignment"),
        ({"network_def": "DynUNet"}, "network_def"),
    ],
)
def test_what_is_wrong_with_a_configuration_is_said(
    tmp_path: Path, change: dict[str, object], words: str
) -> None:
    plain = read_yaml_mapping(CONFIG) | change
    if change == {"seed": None}:
        del plain["seed"]
    path = tmp_path / "config.json"
    path.write_text(json.dumps(plain), encoding="utf-8")
    with pytest.raises(UsageError, match=words):
        read_anatomy_config(path)
    with pytest.raises(UsageError, match="not keys and values"):
        parse_anatomy_config([])


def test_the_loss_is_small_only_for_the_right_answer() -> None:
    generator = torch.Generator().manual_seed(0)
    classes = torch.randint(0, len(CLASSES), (1, 8, 8, 8), generator=generator)
    right = torch.randint(-1, 2, (1, 8, 8, 8), generator=generator)
    logits = torch.zeros(1, N_CHANNELS, 8, 8, 8)
    logits[:, : len(CLASSES)].scatter_(1, classes[:, None], 20.0)
    logits[:, len(CLASSES)] = 20.0 * (2 * (right == 1).float() - 1)
    assert float(anatomy_loss(logits, classes, right).total) < 1e-3
    swapped = logits.clone()
    swapped[:, len(CLASSES)] *= -1
    assert float(anatomy_loss(swapped, classes, right).side) > 5
    assert float(anatomy_loss(logits.roll(1, 1), classes, right).structures) > 5
    nobody = torch.full_like(right, -1)
    assert float(anatomy_loss(swapped, classes, nobody).side) == 0


def test_a_training_learns(
    config: AnatomyConfig, heads_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same patch over and over: what it shows is known soon, however far off the atlas is."""
    drawn: dict[str, Patch] = {}

    def same(heads: list[AlignedHead], number: int, **others: Any) -> Patch:
        if not drawn:
            drawn["patch"] = numbered_patch(heads, 0, **others)
        return drawn["patch"]

    monkeypatch.setattr(train, "numbered_patch", same)
    train_anatomy(config, heads_folder, tmp_path, budget=Budget(60, None))
    lines = (tmp_path / LOG_NAME).read_text(encoding="utf-8").splitlines()
    losses = [json.loads(line)["loss"] for line in lines]
    assert len(losses) == 3
    assert losses[-1] < 0.97 * losses[0]


def still(config: AnatomyConfig) -> AnatomyConfig:
    """A training that changes nothing."""
    return replace(config, learning_rate=0.0)


def test_a_training_stops_and_goes_on(
    config: AnatomyConfig, heads_folder: Path, tmp_path: Path
) -> None:
    part_folder = tmp_path / "part"
    assert train_anatomy(config, heads_folder, tmp_path / "no", budget=Budget(0, None)).step == 0
    part = train_anatomy(config, heads_folder, part_folder, budget=Budget(2, None))
    assert part.step == 2
    longer = Budget(4, None)
    with pytest.raises(UsageError, match="resume"):
        train_anatomy(config, heads_folder, part_folder, budget=longer)
    resumed = train_anatomy(config, heads_folder, part_folder, budget=longer, resume=True)
    assert resumed.step == 4
    started = train_anatomy(
        still(config), heads_folder, tmp_path / "new", budget=Budget(1, None), init_from=part_folder
    )
    for name, value in resumed.average.state_dict().items():
        assert torch.equal(value, started.network.state_dict()[name])
    train_anatomy(
        still(config), heads_folder, tmp_path / "new", budget=Budget(2, None), resume=True
    )
    assert read_facts(tmp_path / "new")["init_from"] == str(part_folder)


def test_a_training_starts_from_a_bundle(
    config: AnatomyConfig, heads_folder: Path, tmp_path: Path
) -> None:
    """Its network is taken over; the atlas is that of the heads at hand."""
    run = tmp_path / "run"
    source = train_anatomy(config, heads_folder, run, budget=Budget(1, None))
    bundle = export_anatomy(run, tmp_path / "toy", metrics={}).root
    started = train_anatomy(
        still(config), heads_folder, tmp_path / "new", budget=Budget(1, None), init_from=bundle
    )
    for network in (started.network, started.average):
        for name, value in source.average.state_dict().items():
            torch.testing.assert_close(network.state_dict()[name], value, rtol=1e-3, atol=1e-4)


def test_the_command(config: AnatomyConfig, heads_folder: Path, tmp_path: Path) -> None:
    plain = read_yaml_mapping(CONFIG)
    plain |= {
        "heads": ["07"],
        "patch_voxels": 32,
        "spacing_mm": 3.0,
    }
    plain["network_def"]["filters"] = [4, 6, 8, 8]
    path = tmp_path / "config.json"
    path.write_text(json.dumps(plain), encoding="utf-8")
    command = ["anatomy-train", str(path), "--data", str(heads_folder), "--steps", "1"]
    assert main([*command, "--output", str(tmp_path / "run"), "--threads", "1"]) == 0
    assert main([*command, "--output", str(tmp_path / "run")]) == 2
    with pytest.raises(InputError, match="anatomy-heads"):
        train_anatomy(
            replace(config, heads=("01",)), heads_folder, tmp_path / "none", budget=Budget(1, None)
        )
