"""Temporary folders: private, ASCII on Windows, and gone sooner or later."""

from __future__ import annotations

import os
import stat
import sys
import time
from pathlib import Path

import pytest
from CMBDetectorSlicer import run_folder
from CMBDetectorSlicer.run_folder import (
    LEFT_BEHIND_AFTER_S,
    makeRunFolder,
    removeLeftBehind,
    removeRunFolder,
    temporaryFolder,
)


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_made_and_removed(temporary):
    folder = makeRunFolder()
    assert folder.parent == temporary
    if sys.platform != "win32":
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    (folder / "scan.nii").touch()
    removeRunFolder(folder)
    removeRunFolder(folder)
    assert list(temporary.iterdir()) == []


def test_what_a_crash_left_behind_is_removed_and_nothing_else(temporary):
    old, new, other = (temporary / name for name in ("CMBDetector-old", "CMBDetector-new", "other"))
    longAgo = time.time() - LEFT_BEHIND_AFTER_S - 1
    for folder in (old, new, other):
        folder.mkdir()
        (folder / "scan.nii").touch()
    for folder in (old, other):
        os.utime(folder, (longAgo, longAgo))
    made = makeRunFolder()
    assert set(temporary.iterdir()) == {made, new, other}


@pytest.mark.skipif(sys.platform == "win32", reason="symbolic links")
def test_a_link_is_not_followed(temporary):
    target = temporary / "target"
    target.mkdir()
    (target / "precious").touch()
    (temporary / "CMBDetector-link").symlink_to(target)
    removeLeftBehind(temporary, olderThanS=-1.0)
    assert (target / "precious").exists()


def test_an_ascii_folder_on_windows(temporary, monkeypatch):
    monkeypatch.setattr(run_folder.sys, "platform", "win32")
    accented = temporary / "Jürgen"
    accented.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(accented))
    for name, value in (("LOCALAPPDATA", str(accented)), ("PUBLIC", ""), ("ProgramData", "")):
        monkeypatch.setenv(name, value)
    assert temporaryFolder() == accented
    public = temporary / "Public"
    monkeypatch.setenv("PUBLIC", str(public))
    assert temporaryFolder() == public / "CMBDetector" / "temporary"
    assert list(temporaryFolder().iterdir()) == []
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    assert temporaryFolder() == Path(temporary)
