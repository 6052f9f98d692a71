"""The command line and the configurations that ship with it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from CMBDetectorLib.errors import UsageError
from CMBDetectorLib.models.networks import build_network
from training.__main__ import _COMMANDS, main
from training.configuration import parse_config, read_config

_FOLDER = Path(__file__).parents[2] / "training" / "configs"
CONFIGS = [path for path in sorted(_FOLDER.glob("*.json")) if path.stem != "anatomy"]


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
    code = main(["prepare", str(tmp_path / "x.json"), "--cases", "a", "--output", "b"])
    assert code == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configurations_are_whole(path: Path) -> None:
    config = read_config(path)
    network = build_network(config.network_def)
    assert sum(p.numel() for p in network.parameters()) * 2 < 16e6
    assert config.tiling.tile_shape == config.sampling.patch_shape
    folds = [head for fold in config.data.folds for head in fold]
    assert sorted(folds) == sorted(config.data.training_heads)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["sampling"].pop("jitter"), "jitter"),
        (lambda c: c["loss"].update(temperature=2), "unknown keys temperature"),
        (lambda c: c.pop("preprocessing"), "preprocessing"),
        (lambda c: c["preprocessing"]["grid"].pop("kind"), "kind"),
        (lambda c: c["data"].update(test_heads=["01"]), "heads 01 serve two purposes"),
        (lambda c: c["data"].update(folds=[["13"]]), "outside training_heads"),
        (lambda c: c["sampling"].update(patch_shape=[96, 64, 16]), "square"),
        (lambda c: c["sampling"].update(lesion_share=0.9), "more than 1"),
        (lambda c: c.update(network_def="UNet"), "network_def"),
    ],
)
def test_wrong_configurations_are_refused(change, message: str) -> None:
    plain = json.loads(CONFIGS[0].read_text(encoding="utf-8"))
    change(plain)
    with pytest.raises(UsageError, match=message):
        parse_config(plain)
