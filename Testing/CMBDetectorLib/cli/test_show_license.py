"""What programs ask of ``models import``: the terms beforehand, and an end when they want it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from CMBDetectorLib import preflight
from CMBDetectorLib.cli import main

REPOSITORY = Path(__file__).resolve().parents[3]
STANDINS = REPOSITORY / "Testing/CMBDetectorLib/importing/standins"
KERAS = STANDINS / "dark_spots_keras2.zip"
SAVED_MODEL = STANDINS / "saved_direct.zip"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder of models."""
    models = tmp_path / "models"
    monkeypatch.setenv("CMBDETECTOR_MODELS", str(models))
    return models


def test_terms_are_one_json_line_and_nothing_is_converted(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--name", "spots", "--license", "CC0-1.0", "--show-license", "--accept-license"]
    assert main(["models", "import", str(KERAS), *options]) == 0
    shown = capsys.readouterr()
    assert (len(shown.out.splitlines()), shown.err) == (1, "")
    terms = json.loads(shown.out)
    assert (terms["id"], terms["name"]) == ("spots", "dark_spots_keras2")
    assert (terms["authors"], terms["license"]) == ("unknown", "CC0-1.0")
    assert "CC0-1.0" in terms["notice"]
    assert (terms["citation"], terms["missing_packages"]) == ("", [])
    assert not folder.exists()


@pytest.mark.parametrize(("path", "missing"), [(KERAS, ["h5py"]), (SAVED_MODEL, [])])
def test_packages_that_are_missing_for_this_format(
    path: Path,
    missing: list[str],
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(preflight, "is_installed", lambda name: name != "h5py")
    assert main(["models", "import", str(path), "--show-license"]) == 0
    assert json.loads(capsys.readouterr().out)["missing_packages"] == missing


def test_what_cannot_be_imported_is_said_before_its_terms(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = tmp_path / "model.zip"
    damaged.write_bytes(KERAS.read_bytes()[:-100])
    (folder / "spots").mkdir(parents=True)
    for words in ([str(damaged)], [str(KERAS), "--name", "spots"]):
        assert main(["models", "import", *words, "--show-license"]) == 4
        shown = capsys.readouterr()
        assert shown.out == ""
        assert len(shown.err.splitlines()) == 1


def test_an_import_ends_with_its_parent_and_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    variables = {name: str(scratch) for name in ("TMPDIR", "TEMP", "TMP")}
    words = ("models", "import", str(KERAS), "--accept-license", "--watch-stdin")
    ended = subprocess.run(
        [sys.executable, "-m", "CMBDetectorLib", *words],
        input="watch\n",
        cwd=REPOSITORY,
        env=os.environ | variables,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    assert (ended.returncode, len(ended.stderr.splitlines())) == (6, 1)
    assert "cancelled" in ended.stderr
    assert not folder.exists() or list(folder.iterdir()) == []
    assert list(scratch.iterdir()) == []
