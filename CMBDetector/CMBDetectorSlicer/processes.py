"""Child processes of the panel: started, listened to and ended without ever blocking 3D Slicer.

How a child is run is in ``child_process.py``; here is who may start one and what it is told.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from CMBDetectorLib.errors import MissingDependencyError
from CMBDetectorSlicer.child_process import GRACE_S, PythonProcess

POLL_MS = 50

Schedule = Callable[[Callable[[], bool], int], None]


class RunningProcess(Protocol):
    """A child process that was started."""

    @property
    def isRunning(self) -> bool: ...
    @property
    def exitCode(self) -> int | None: ...
    @property
    def log(self) -> str:
        """What it has written to stderr so far."""
        ...

    def cancel(self) -> None:
        """Ask it to stop, and end it if it has not within ``GRACE_S`` seconds."""
        ...

    def kill(self) -> None:
        """End it and all it has started, now."""
        ...


class ProcessRunner(Protocol):
    """Starts child processes; all calls come back on the main thread."""

    def start(
        self,
        arguments: Sequence[str],
        onLine: Callable[[str], None],
        onFinished: Callable[[int], None],
    ) -> RunningProcess:
        """Start the command line with these arguments.

        ``onLine`` is told each line of its stdout, ``onFinished`` its exit code, once and last,
        also after :meth:`RunningProcess.cancel` and :meth:`RunningProcess.kill`.
        """
        ...


class PythonProcessRunner:
    """Runs ``<python> -m CMBDetectorLib <arguments>``.

    Parameters
    ----------
    pythonExecutable
        A Python, or something that starts one, such as ``PythonSlicer``.
    libraryParent
        The folder that holds ``CMBDetectorLib``.
    schedule
        ``schedule(step, intervalMs)`` calls ``step`` on the main thread every so often until it
        returns False; see :func:`qtSchedule`.
    environment
        Of the child; None for that of this process.
    """

    def __init__(
        self,
        pythonExecutable: Path,
        libraryParent: Path,
        schedule: Schedule,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._pythonExecutable = pythonExecutable
        self._libraryParent = libraryParent
        self._schedule = schedule
        self._environment = environment

    def start(
        self,
        arguments: Sequence[str],
        onLine: Callable[[str], None],
        onFinished: Callable[[int], None],
    ) -> RunningProcess:
        """As :meth:`ProcessRunner.start`.

        Raises
        ------
        OutputError
            If there is no temporary folder, or the program cannot be started.
        """
        command = [str(self._pythonExecutable), "-m", "CMBDetectorLib", *arguments]
        process = PythonProcess(command, self._libraryParent, self._variables(), onLine, onFinished)
        self._schedule(process.step, POLL_MS)
        return process

    def _variables(self) -> dict[str, str]:
        variables = dict(os.environ if self._environment is None else self._environment)
        path = [str(self._libraryParent), variables.get("PYTHONPATH", "")]
        return variables | {
            "PYTHONPATH": os.pathsep.join(part for part in path if part),
            "PYTHONUTF8": "1",
            "PYTHONUNBUFFERED": "1",
            # A crash in a compiled library says on stderr where it was.
            "PYTHONFAULTHANDLER": "1",
        }


def qtSchedule(step: Callable[[], bool], intervalMs: int) -> None:
    """Call ``step`` from a timer of Qt's event loop until it returns False."""
    import qt

    timer = qt.QTimer()
    _timers.append(timer)

    def onTimeout() -> None:
        if not step():
            timer.stop()
            if timer in _timers:
                _timers.remove(timer)

    timer.setInterval(intervalMs)
    timer.connect("timeout()", onTimeout)
    timer.start()


_timers: list[Any] = []


def slicerPython() -> Path:
    """The program that runs 3D Slicer's own Python with 3D Slicer's environment.

    Raises
    ------
    MissingDependencyError
        If it is not there.
    """
    import slicer

    found = shutil.which("PythonSlicer")
    if found is not None:
        return Path(found)
    name = "PythonSlicer.exe" if sys.platform == "win32" else "PythonSlicer"
    beside = Path(slicer.app.slicerHome) / "bin" / name
    if beside.is_file():
        return beside
    raise MissingDependencyError(
        f"PythonSlicer was expected on the PATH or as {beside}, and is in neither place; "
        "3D Slicer is damaged, install it again"
    )


def libraryParent() -> Path:
    """The folder that holds the library this process uses."""
    import CMBDetectorLib

    return Path(CMBDetectorLib.__file__).resolve().parents[1]


def slicerProcessRunner() -> PythonProcessRunner:
    """The runner of the panel.

    Raises
    ------
    MissingDependencyError
        As :func:`slicerPython`.
    """
    return PythonProcessRunner(slicerPython(), libraryParent(), qtSchedule)


__all__ = [
    "GRACE_S",
    "ProcessRunner",
    "PythonProcessRunner",
    "RunningProcess",
    "libraryParent",
    "qtSchedule",
    "slicerProcessRunner",
    "slicerPython",
]
