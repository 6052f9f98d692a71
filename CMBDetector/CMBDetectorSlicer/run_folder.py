"""Temporary folders for exchanging files with child processes, private and gone afterwards.

They hold a patient's scan for as long as a search takes. Only their owner may read them, and what
a crash left behind is removed when the next one is made.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from CMBDetectorLib.errors import OutputError

PREFIX = "CMBDetector-"
LEFT_BEHIND_AFTER_S = 24 * 3600.0


def makeRunFolder() -> Path:
    """A new empty folder that only this user may read.

    Raises
    ------
    OutputError
        If no temporary folder can be written to.
    """
    parent = temporaryFolder()
    removeLeftBehind(parent)
    try:
        return Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    except OSError as error:
        raise OutputError(
            f"no temporary folder can be made in {parent}: {error.strerror}; free some space, or "
            "set the environment variable TMPDIR to another folder and restart"
        ) from error


def removeRunFolder(folder: Path) -> None:
    """Remove it, as far as the operating system lets go of it; does nothing if it is gone."""
    shutil.rmtree(folder, ignore_errors=True)


def temporaryFolder() -> Path:
    """Where temporary files go.

    On Windows it is one whose path is ASCII, if there is one: not every library opens files below
    a user name with an accent in it.
    """
    usual = Path(tempfile.gettempdir())
    if sys.platform != "win32" or str(usual).isascii():
        return usual
    for folder in _asciiFolders():
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=PREFIX, dir=folder):
                return folder
    return usual


def removeLeftBehind(parent: Path, olderThanS: float = LEFT_BEHIND_AFTER_S) -> None:
    """Remove this user's folders in ``parent`` that no run can still be using."""
    for folder in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # gone meanwhile, or not ours to look at
            status = folder.lstat()
            isOwn = not hasattr(os, "getuid") or status.st_uid == os.getuid()
            if isOwn and time.time() - status.st_mtime > olderThanS:
                removeRunFolder(folder)


def _asciiFolders() -> Iterator[Path]:
    for variable in ("LOCALAPPDATA", "PUBLIC", "ProgramData"):
        value = os.environ.get(variable, "")
        if value and value.isascii():
            yield Path(value) / "CMBDetector" / "temporary"
