"""Why a child process did not do its work: one line for the panel, and a report to send to others.

The report holds what is needed to find a defect and nothing of the patient: the scan has a neutral
file name, and folders below the user's home are shortened.
"""

from __future__ import annotations

import json
import platform
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from CMBDetectorLib.version import __version__

if TYPE_CHECKING:
    from CMBDetectorLib.geometry import Geometry

CRASH = "crash"
_LOG_CHARACTERS = 20_000
_WINDOWS_CODES = {
    0xC0000005: "access violation",
    0xC0000017: "out of memory",
    0xC00000FD: "stack overflow",
    0xC0000135: "a library is missing",
    0xC0000409: "stack buffer overrun",
}


@dataclass(frozen=True)
class JobError:
    """Why a job failed.

    ``code`` is one of the command line's codes of errors, or ``crash``. ``message`` is one line for
    the user, ``report`` all that helps to find the cause; neither has a patient's name or path.
    """

    code: str
    message: str
    report: str


@dataclass(frozen=True)
class RunRecord:
    """What is known of a child process that has ended; ``exitCode`` None: it was never started."""

    arguments: Sequence[str]
    geometry: Geometry | None
    events: Sequence[Mapping[str, Any]]
    log: str
    exitCode: int | None


def crashMessage(exitCode: int, log: str) -> str:
    """One line for a process that ended without saying why."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    said = f" Its last words: {lines[-1][:300]}" if lines else ""
    return (
        f"the child process ended without a result ({exitCodeText(exitCode)}); "
        f"try again, and copy the report if it happens again.{said}"
    )


def exitCodeText(exitCode: int) -> str:
    """The exit code in words; the signal's name where it was one."""
    if exitCode < 0:
        try:
            name = signal.Signals(-exitCode).name
        except ValueError:
            name = f"signal {-exitCode}"
        if name == "SIGKILL":
            return "killed from outside, as systems do when memory runs out"
        return f"stopped by {name}"
    known = _WINDOWS_CODES.get(exitCode & 0xFFFFFFFF)
    return f"{known}, exit code {exitCode:#x}" if known else f"exit code {exitCode}"


def makeReport(code: str, message: str, record: RunRecord, folders: Mapping[Path, str]) -> str:
    """Versions, command, events and log as text; ``folders`` are replaced by the names given."""
    parts = [
        f"CMBDetector {__version__}",
        _slicerLine(),
        f"Python {platform.python_version()}, {platform.system()} {platform.release()}, "
        f"{platform.machine()}",
        f"command: {' '.join(record.arguments)}",
        f"image: {_imageText(record.geometry)}",
        "exit code: none" if record.exitCode is None else exitCodeText(record.exitCode),
        f"{code}: {message}",
        "",
        "events:",
        *(json.dumps(event, ensure_ascii=False) for event in record.events),
        "",
        "log:",
        record.log[-_LOG_CHARACTERS:],
    ]
    return withoutFolders("\n".join(parts).rstrip() + "\n", folders)


def withoutFolders(text: str, folders: Mapping[Path, str]) -> str:
    """The text with these folders, and then the user's home, replaced by names."""
    for folder, name in {**folders, Path.home(): "~"}.items():
        if folder == Path(folder.anchor):
            continue
        plain = str(folder)
        for written in (json.dumps(plain)[1:-1], plain, folder.as_posix()):
            text = text.replace(written, name)
    return text


def _slicerLine() -> str:
    """The version of 3D Slicer, if this runs in one."""
    app = getattr(sys.modules.get("slicer"), "app", None)
    version = getattr(app, "applicationVersion", None)
    revision = getattr(app, "revision", None)
    return f"3D Slicer {version or 'of unknown version'}" + (f" ({revision})" if revision else "")


def _imageText(geometry: Geometry | None) -> str:
    if geometry is None:
        return "none"
    shape = "×".join(str(number) for number in geometry.shape)
    spacing = "×".join(f"{value:.4g}" for value in geometry.spacing_mm)
    return f"{shape} voxels of {spacing} mm, {geometry.axis_codes}"
