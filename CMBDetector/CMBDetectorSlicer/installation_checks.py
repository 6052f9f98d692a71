"""Why packages cannot be installed into a folder, found out before anything is downloaded."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

LONGEST_PATH = 259
LONGEST_PACKAGE_PATH = 160


def pathProblem(folder: Path) -> str | None:
    """Windows refuses paths that PyTorch's files have below a folder with a long path."""
    if sys.platform != "win32" or _hasLongPaths():
        return None
    length = len(str(folder))
    if length + 1 + LONGEST_PACKAGE_PATH <= LONGEST_PATH:
        return None
    return (
        f"3D Slicer is installed in a folder whose path is too long for PyTorch's files on Windows "
        f"({folder}: {length} characters, at most {LONGEST_PATH - 1 - LONGEST_PACKAGE_PATH}). "
        "Install 3D Slicer in a folder such as C:\\Slicer, or have long paths switched on."
    )


def _hasLongPaths() -> bool:
    if sys.platform != "win32":
        return True
    import winreg

    key = r"SYSTEM\CurrentControlSet\Control\FileSystem"
    try:
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, key) as opened:
            return bool(winreg.QueryValueEx(opened, "LongPathsEnabled")[0])
    except OSError:  # an older Windows has no such value
        return False


def writingProblem(folder: Path) -> str | None:
    """The folder belongs to somebody else, as in an installation for all users."""
    if os.access(folder, os.W_OK):
        return None
    return (
        f"The folder of 3D Slicer's Python packages cannot be written to ({folder}). Install 3D "
        "Slicer in a folder of your own, or ask the administrator."
    )


def spaceProblem(folder: Path, neededMb: float) -> str | None:
    """The disk has less than that left."""
    freeMb = shutil.disk_usage(folder).free / 1e6
    if freeMb >= neededMb:
        return None
    return (
        f"The disk of 3D Slicer has {sizeText(freeMb)} left, at least {sizeText(neededMb)} are "
        "needed. Free some space."
    )


def sizeText(megabytes: float) -> str:
    """A size in MB or GB, rounded."""
    if megabytes < 1000:
        return f"{max(round(megabytes, -1), 10):.0f} MB"
    return f"{megabytes / 1000:.1f} GB"
