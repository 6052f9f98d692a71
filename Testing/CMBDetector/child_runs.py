"""Child processes in tests: an event loop of a few lines, and programs instead of the library.

The runner, the processes and the files are real. Where a test needs a child that misbehaves, a
package called CMBDetectorLib in a temporary folder takes the library's place in the child.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from CMBDetectorSlicer.jobs import CheckJob, DetectionJob, DetectionSettings
from CMBDetectorSlicer.processes import PythonProcessRunner

from CMBDetectorLib.results import ResultWarning

REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE_S = 120.0


class Loop:
    """Calls the scheduled steps one after the other, as 3D Slicer's event loop does."""

    def __init__(self) -> None:
        self._steps: list[Callable[[], bool]] = []

    def schedule(self, step: Callable[[], bool], intervalMs: int) -> None:
        self._steps.append(step)

    @property
    def isBusy(self) -> bool:
        return bool(self._steps)

    def turn(self) -> None:
        self._steps = [step for step in self._steps if step()]
        time.sleep(0.01)

    def runUntil(self, isDone: Callable[[], bool], patienceS: float = PATIENCE_S) -> None:
        endS = time.monotonic() + patienceS
        while not isDone():
            assert time.monotonic() < endS, f"not done within {patienceS} s"
            self.turn()


def realRunner(loop: Loop) -> PythonProcessRunner:
    """The runner of the module, on this Python."""
    return PythonProcessRunner(Path(sys.executable), REPOSITORY, loop.schedule)


def fakeRunner(loop: Loop, folder: Path, program: str) -> PythonProcessRunner:
    """A runner whose child runs this program."""
    package = folder / "CMBDetectorLib"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(program, encoding="utf-8")
    return PythonProcessRunner(Path(sys.executable), folder, loop.schedule)


def treeOf(pid: int) -> list[psutil.Process]:
    """A process and all below it."""
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def areGone(tree: list[psutil.Process]) -> bool:
    """Whether all have ended; those that wait to be asked for their exit code have."""
    return not any(
        one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in tree if _exists(one)
    )


def _exists(process: psutil.Process) -> bool:
    try:
        process.status()
    except psutil.NoSuchProcess:
        return False
    return True


class Recorder:
    """A job's listener that remembers everything."""

    def __init__(self) -> None:
        self.progress, self.warnings, self.log = [], [], []
        self.done, self.failed, self.cancelled = [], [], []

    def hasEnded(self) -> bool:
        return bool(self.done or self.failed or self.cancelled)

    def outcome(self) -> tuple[int, int, int]:
        return len(self.done), len(self.failed), len(self.cancelled)


def detection(
    runner: Any,
    image: Any,
    heard: Recorder,
    mask: Any = None,
    anatomy: Any = "none",
    **settings: Any,
) -> DetectionJob:
    """A search, by default without an anatomy; ``heard`` listens to it."""
    return DetectionJob(
        runner,
        image,
        mask,
        DetectionSettings(**{"device": "cpu", **settings}),
        anatomy=anatomy,
        onProgress=lambda *event: heard.progress.append(event),
        onWarning=lambda code, message: heard.warnings.append(ResultWarning(code, message)),
        onLog=heard.log.append,
        onDone=heard.done.append,
        onFailed=heard.failed.append,
        onCancelled=lambda: heard.cancelled.append(True),
    )


def check(
    runner: Any,
    image: Any,
    heard: Recorder,
    mask: Any = None,
    model: str | None = None,
    anatomy: Any = "none",
) -> CheckJob:
    """A look at a scan; ``heard`` listens to it."""
    return CheckJob(
        runner,
        image,
        mask,
        anatomy=anatomy,
        model=model,
        onDone=heard.done.append,
        onFailed=heard.failed.append,
        onCancelled=lambda: heard.cancelled.append(True),
        onLog=heard.log.append,
    )
