"""The command line and the configurations that ship with it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from CMBDetectorLib.models.networks import build_network
from training.__main__ import _COMMANDS, main
from training.configuration import read_config
from training.initial_weights import load_initial_weights

_FOLDER = Path(__file__).parents[2] / "training" / "configs"
_OTHERS = {"anatomy", "second_stage"}  # of other networks, with settings of their own
CONFIGS = [path for path in sorted(_FOLDER.rglob("*.yaml")) if path.stem not in _OTHERS]


def test_help_needs_no_torch() -> None:
    code = (
        "import sys, training.__main__ as m\n"
        "try:\n    m.main(['--help'])\nexcept SystemExit as stop:\n    assert stop.code == 0\n"
        "assert not {'torch', 'monai'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for command in _COMMANDS:
        assert command in done.stdout


@pytest.mark.parametrize("command", sorted(_COMMANDS))
def test_every_command_explains_itself(command: str, capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert f"training {command}" in capsys.readouterr().out


def test_errors_are_one_line_with_their_exit_code(tmp_path: Path, capsys) -> None:
    code = main(["prepare", str(tmp_path / "x.yaml"), "--cases", "a", "--output", "b"])
    assert code == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configurations_are_whole(path: Path) -> None:
    config = read_config(path)
    network = build_network(config.network_def)
    assert sum(p.numel() for p in network.parameters()) * 2 < 16e6
    shapes = zip(config.tiling.tile_shape, config.sampling.patch_shape, strict=True)
    assert all(tile >= patch for tile, patch in shapes)
    if config.data.folds:
        folds = [head for fold in config.data.folds for head in fold]
        assert len(set(folds)) == len(folds)
        assert set(folds) <= set(config.data.training)
    if config.optimization.init_from is not None:
        load_initial_weights(_FOLDER.parents[1] / config.optimization.init_from, network)
