"""The subcommand models."""

from __future__ import annotations

import json
import shutil

import pytest

from CMBDetectorLib.cli import main


@pytest.fixture
def user_models(tiny_bundle, tmp_path, monkeypatch):
    """A user's folder with one good and one damaged model."""
    folder = tmp_path / "models"
    shutil.copytree(tiny_bundle.root, folder / "darkness")
    shutil.copytree(tiny_bundle.root, folder / "broken")
    (folder / "broken" / "models" / "member_1.safetensors").unlink()
    monkeypatch.setenv("CMBDETECTOR_MODELS", str(folder))
    return folder


def test_list_shows_good_and_damaged_models(user_models, capsys):
    assert main(["models", "list"]) == 0
    shown = capsys.readouterr().out
    assert "Darkness 1.2.3, 2 members, Apache-2.0" in shown
    assert str(user_models / "darkness") in shown
    [problem] = [line for line in shown.splitlines() if "broken" in line and "cannot be" in line]
    assert "member_1.safetensors" in problem


def test_show(user_models, capsys):
    assert main(["models", "show", "darkness"]) == 0
    shown = capsys.readouterr().out
    for text in ("monai.networks.nets.UNet", "in_plane, 0.5 mm", "0.4 to 1.2 mm", "# Darkness"):
        assert text in shown


def test_show_json_is_the_metadata(user_models, capsys):
    assert main(["models", "show", "darkness", "--json"]) == 0
    metadata = json.loads(capsys.readouterr().out)
    stored = user_models / "darkness" / "configs" / "metadata.json"
    assert metadata == json.loads(stored.read_text(encoding="utf-8"))


def test_verify(user_models, capsys):
    assert main(["models", "verify", "darkness", str(user_models / "darkness")]) == 0
    assert capsys.readouterr().out.count("files ok") == 2
    assert main(["models", "verify", "broken", "darkness"]) == 4
    shown = capsys.readouterr()
    assert len(shown.err.splitlines()) == 1
    assert "member_1.safetensors" in shown.err
    assert "darkness 1.2.3" in shown.out


def test_verify_all_finds_the_damaged_one(user_models, capsys):
    assert main(["models", "verify"]) == 4
    assert "broken" in capsys.readouterr().err


def test_unknown_model(user_models, capsys):
    assert main(["models", "show", "nonsense"]) == 4
    assert "no such model: nonsense; there is broken" in capsys.readouterr().err


def test_add_makes_a_model_usable_by_its_id(coarse_bundle, user_models, tmp_path, capsys):
    downloaded = tmp_path / "some where" / "download"
    shutil.copytree(coarse_bundle.root, downloaded)
    assert main(["models", "add", str(downloaded)]) == 0
    shown = capsys.readouterr().out
    assert shown == f"added coarse_darkness 1.2.3: {user_models / 'coarse_darkness'}\n"
    assert main(["models", "verify", "coarse_darkness"]) == 0


def test_add_refuses_a_model_that_is_there(tiny_bundle, user_models, capsys):
    assert main(["models", "add", str(tiny_bundle.root)]) == 4
    shown = capsys.readouterr()
    assert shown.out == ""
    assert len(shown.err.splitlines()) == 1
    assert "'darkness' is installed already" in shown.err


def test_anatomy_networks_are_listed_shown_verified_and_added(
    brightness_bundle, user_models, capsys
):
    assert main(["models", "add", str(brightness_bundle.root)]) == 0
    assert "added brightness 1.2.3" in capsys.readouterr().out
    assert main(["models", "list"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert any(line.startswith("brightness  anatomy  user") for line in shown)
    assert any(line.startswith("darkness  detector  user") for line in shown)
    assert main(["models", "show", "brightness"]) == 0
    shown = capsys.readouterr().out
    for text in ("isotropic, 1.5 mm", "thalamus, caudate", "# Brightness", "2, "):
        assert text in shown
    assert main(["models", "verify", "brightness"]) == 0
    assert "brightness 1.2.3: 6 files ok" in capsys.readouterr().out
