"""One child process: started, read from and ended without threads and without waiting.

A child writes to files that are read in steps. There are no threads, which starve in 3D Slicer
while its own code runs, and no pipe that could fill up. A child is the leader of a process group of
its own, so that it can be ended together with everything it has started; the ``PythonSlicer`` of an
installed Slicer is such a case, a launcher that starts the real Python.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

from CMBDetectorLib.errors import OutputError
from CMBDetectorSlicer.run_folder import makeRunFolder, removeRunFolder

if TYPE_CHECKING:
    from pathlib import Path

GRACE_S = 1.2
KILLED = -9
WATCH = b"watch\n"
_READ_BYTES = 1 << 18


class PythonProcess:
    """One child process; :meth:`step` has to be called until it returns False."""

    def __init__(
        self,
        command: Sequence[str],
        workingFolder: Path,
        variables: Mapping[str, str],
        onLine: Callable[[str], None],
        onFinished: Callable[[int], None],
    ) -> None:
        self._onLine, self._onFinished = onLine, onFinished
        self._exitCode: int | None = None
        self._killAtS: float | None = None
        self._isStepping = False
        self._rest = b""
        self._untold: list[bytes] = []
        self._log = b""
        self._folder = makeRunFolder()
        try:
            self._process = self._start(command, workingFolder, variables)
            self._stdout: BinaryIO = (self._folder / "stdout").open("rb")
            self._stderr: BinaryIO = (self._folder / "stderr").open("rb")
        except OSError as error:
            removeRunFolder(self._folder)
            raise OutputError(
                f"{command[0]} could not be started: {error.strerror or error}; "
                "reinstall 3D Slicer if it is damaged"
            ) from error
        atexit.register(self._endNow)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def isRunning(self) -> bool:
        return self._exitCode is None

    @property
    def exitCode(self) -> int | None:
        return self._exitCode

    @property
    def log(self) -> str:
        self._readLog()
        return self._log.decode("utf-8", errors="replace")

    def cancel(self) -> None:
        """Close its stdin, which is the request to stop; it is killed if it does not follow."""
        if self.isRunning and self._killAtS is None:
            self._killAtS = time.monotonic() + GRACE_S
            self._closeInput()

    def kill(self) -> None:
        """End the whole process tree; the end itself is told by the next :meth:`step`."""
        if self.isRunning:
            self._killAtS = time.monotonic()
            _killTree(self._process)

    def step(self) -> bool:
        """Tell of new lines and of the end; False once it has ended and all is told."""
        if not self.isRunning:
            return False
        if self._isStepping:  # a listener showed a dialog, which runs the timers
            return True
        self._isStepping = True
        try:
            return self._step()
        finally:
            self._isStepping = False

    def _step(self) -> bool:
        if self._killAtS is not None and time.monotonic() >= self._killAtS:
            _killTree(self._process)
        code = self._process.poll()
        if code is None:
            self._tellLines()
            return True
        # What it has started and left running goes with it.
        _killTree(self._process)
        self._closeInput()
        self._tellLines(isLast=True)
        self._readLog()
        self._finish(code)
        self._onFinished(code)
        return False

    def _start(
        self, command: Sequence[str], workingFolder: Path, variables: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        with (
            (self._folder / "stdout").open("wb") as stdout,
            (self._folder / "stderr").open("wb") as stderr,
        ):
            process = subprocess.Popen(
                command,
                # Python looks for modules there first.
                cwd=workingFolder,
                env=dict(variables),
                stdin=subprocess.PIPE,
                stdout=stdout,
                stderr=stderr,
                **_ownGroup(),
            )
        with contextlib.suppress(OSError):  # it has ended already, which step() will find
            assert process.stdin is not None
            process.stdin.write(WATCH)
            process.stdin.flush()
        return process

    def _tellLines(self, isLast: bool = False) -> None:
        while data := self._stdout.read(_READ_BYTES):
            *lines, self._rest = (self._rest + data).split(b"\n")
            self._untold += lines
        if isLast and self._rest:
            self._untold.append(self._rest)
            self._rest = b""
        # Taken off before it is told: a listener that fails is told the next line all the same.
        while self._untold:
            line = self._untold.pop(0)
            self._onLine(line.decode("utf-8", errors="replace").rstrip("\r"))

    def _readLog(self) -> None:
        if not self._stderr.closed:
            self._log += self._stderr.read()

    def _closeInput(self) -> None:
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):  # a broken pipe: it has ended
                self._process.stdin.close()

    def _finish(self, code: int) -> None:
        self._exitCode = code
        self._stdout.close()
        self._stderr.close()
        removeRunFolder(self._folder)
        atexit.unregister(self._endNow)

    def _endNow(self) -> None:
        """At the end of Slicer: nobody will call :meth:`step` any more."""
        _killTree(self._process)
        self._closeInput()
        self._process.wait()
        self._readLog()
        self._finish(KILLED)


def _ownGroup() -> dict[str, Any]:
    if sys.platform == "win32":
        flags = subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP
        return {"creationflags": flags}
    return {"start_new_session": True}


def _killTree(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it has started; does nothing where they have ended."""
    if sys.platform == "win32":
        if process.poll() is None:
            subprocess.run(
                ["taskkill", "/F", "/T", "/PID", str(process.pid)],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                creationflags=subprocess.CREATE_NO_WINDOW,
                check=False,
            )
        return
    # PermissionError is macOS's answer for a group that has ended and was not asked about yet.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
