"""From a training's checkpoint to a bundle, and the measures in its card."""

from __future__ import annotations

import copy
import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from CMBDetectorLib.anatomy.alignment import ATLAS_SHAPE
from CMBDetectorLib.anatomy.parcellation import CLASSES
from CMBDetectorLib.errors import ModelError, UsageError
from CMBDetectorLib.inference.atlas_guided import AtlasGuidedNetwork
from CMBDetectorLib.models.anatomy_bundle import INPUT_CHANNELS, load_anatomy_bundle
from CMBDetectorLib.models.networks import build_network, load_atlas, load_member
from training.__main__ import main
from training.anatomy.configuration import AnatomyConfig, read_anatomy_config
from training.anatomy.export import read_figures
from training.checkpoint import TrainingState, save_checkpoint

CONFIG = Path(__file__).parents[3] / "training" / "configs" / "anatomy.yaml"
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def config() -> AnatomyConfig:
    shipped = read_anatomy_config(CONFIG)
    return replace(shipped, network_def={**shipped.network_def, "filters": [4, 6, 8, 8]})


def random_guided(config: AnatomyConfig) -> AtlasGuidedNetwork:
    """A network with an atlas, the same each time; unlike an untrained one it answers."""
    torch.manual_seed(1)
    network = build_network(config.network_def)
    half = torch.randint(
        0, 256, (len(CLASSES), ATLAS_SHAPE[0] // 2, *ATLAS_SHAPE[1:]), dtype=torch.uint8
    )
    return AtlasGuidedNetwork(network, torch.cat([half.flip(1), half], dim=1))


@pytest.fixture(scope="module")
def trained(config: AnatomyConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as after a training; the average differs from the last weights."""
    average = random_guided(config)
    network = copy.deepcopy(average)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1.0)
    folder = tmp_path_factory.mktemp("run")
    state = TrainingState(network, average, torch.optim.AdamW(network.parameters()), 7, 120.0)
    save_checkpoint(folder, state, {"config": asdict(config), "n_heads": 36, "init_from": ""})
    return folder


def test_the_bundle_holds_the_averaged_network(
    trained: Path, tmp_path: Path, config: AnatomyConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "head_test"
    assert main(["anatomy-export", str(trained), "--output", str(output)]) == 0
    assert "MB of weights" in capsys.readouterr().out
    bundle = load_anatomy_bundle(output)
    assert bundle.id == "head_test"
    assert bundle.spacing_mm == config.spacing_mm
    assert bundle.license == "Apache-2.0"
    assert bundle.training_data["steps"] == 7
    assert bundle.training_data["minutes"] == 2.0
    assert bundle.training_data["test_heads"] == list(config.test_heads)
    expected = random_guided(config).eval()
    assert torch.equal(load_atlas(bundle), expected.atlas)
    features = torch.rand(1, len(INPUT_CHANNELS), 32, 32, 32)
    with torch.inference_mode():
        found, wanted = load_member(bundle, bundle.members[0])(features), expected.network(features)
    # Kernels are stored in half precision.
    torch.testing.assert_close(found, wanted, rtol=0, atol=0.02 * float(wanted.std()))
    card = (output / "docs" / "README.md").read_text(encoding="utf-8")
    for words in ("SynthSeg", "not for clinical use", "None have been measured", "Where it fails"):
        assert words in card
    assert "Apache License" in (output / "LICENSE").read_text(encoding="utf-8")
    assert main(["anatomy-export", str(trained), "--output", str(output)]) == ModelError.exit_code


def test_figures_come_from_the_measuring_command_only(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(UsageError, match="anatomy-measure"):
        read_figures(path)
    report = dict.fromkeys(("version", "device", "precision", "summary", "aims"), 1)
    report |= {"scans": ["left out"], "detector": {"groups": {}, "scans": ["left out"]}}
    path.write_text(json.dumps(report), encoding="utf-8")
    figures = read_figures(path)
    assert "scans" not in figures
    assert figures["detector"] == {"groups": {}}


def test_another_trainings_folder_is_refused(
    trained: Path, tmp_path: Path, config: AnatomyConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    network = build_network(config.network_def)
    state = TrainingState(network, copy.deepcopy(network), torch.optim.AdamW(network.parameters()))
    save_checkpoint(tmp_path, state, {"config": {"name": "detector"}})
    code = main(["anatomy-export", str(tmp_path), "--output", str(tmp_path / "b")])
    assert code == UsageError.exit_code
    assert "not the output of anatomy-train" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()
