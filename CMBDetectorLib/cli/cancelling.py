"""Stopping on request within a second, whatever the work is in the middle of.

The work runs in a second thread and looks at its token between steps. The main thread only
waits, so that it can answer at any time: to Ctrl-C, SIGTERM, and a parent process that is gone or
wants the end. Work that has not stopped after a grace period (a long step inside a library, an
import) is abandoned by ending the process.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from CMBDetectorLib.errors import Cancelled
from CMBDetectorLib.progress import CancelToken

GRACE_S = 0.7
POLL_S = 0.1
_SIGNAL_NAMES = ("SIGINT", "SIGTERM", "SIGBREAK")


def run_cancellable(
    work: Callable[[CancelToken], None],
    on_abandon: Callable[[], None],
    wants_end: Callable[[], bool] = lambda: False,
) -> None:
    """Run ``work`` in a thread until it ends; its exceptions are raised here.

    The first signal sets the token, and so does ``wants_end``, which is asked several times a
    second. ``on_abandon`` (remove temporary files, tell the user) is called before the process is
    ended with exit code 6: after the grace period, or on a second signal at once.
    """
    cancel = CancelToken()
    cancelled_at_s: list[float] = []

    def on_signal(number: int, frame: FrameType | None) -> None:
        if cancel.is_cancelled:
            _abandon(on_abandon)
        cancelled_at_s.append(time.monotonic())
        cancel.cancel()

    executor = concurrent.futures.ThreadPoolExecutor(max_workers=1, thread_name_prefix="detect")
    with _handled_by(on_signal):
        future = executor.submit(work, cancel)
        while concurrent.futures.wait([future], timeout=POLL_S).not_done:
            if not cancel.is_cancelled and wants_end():
                cancelled_at_s.append(time.monotonic())
                cancel.cancel()
            if cancelled_at_s and time.monotonic() - cancelled_at_s[0] > GRACE_S:
                _abandon(on_abandon)
    executor.shutdown()
    future.result()


class Leftovers:
    """What an abandoned run may leave in its output folders, and the folders if they are new.

    Temporary files and folders are called ``.cmb-<process id>-...`` by all that write them.
    """

    def __init__(self, *output_dirs: Path) -> None:
        self._output_dirs = output_dirs
        new = {p for folder in output_dirs for p in (folder, *folder.parents) if not p.exists()}
        self._new_folders = sorted(new, key=lambda folder: -len(folder.parts))

    def remove(self) -> None:
        """Remove it, as far as the operating system lets go of it."""
        for output_dir in self._output_dirs:
            with contextlib.suppress(OSError):
                for path in output_dir.glob(f".cmb-{os.getpid()}-*"):
                    if path.is_dir():
                        shutil.rmtree(path, ignore_errors=True)
                    else:
                        path.unlink(missing_ok=True)
        for folder in self._new_folders:
            with contextlib.suppress(OSError):
                folder.rmdir()


def _abandon(on_abandon: Callable[[], None]) -> None:
    try:
        on_abandon()
    finally:
        os._exit(Cancelled.exit_code)


@contextmanager
def _handled_by(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Install the handler for the signals this system has; only the main thread may."""
    previous: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for name in _SIGNAL_NAMES:
            number = getattr(signal, name, None)
            if number is not None:
                previous[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, old in previous.items():
            signal.signal(number, old)
