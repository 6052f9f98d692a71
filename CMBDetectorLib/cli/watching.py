"""Ending when the parent process ends, or asks for it, whatever the operating system.

A parent that is killed cannot end its children, and signals do not reach them on all systems. Two
things tell: the end of the standard input, which the operating system closes together with the
parent, and the parent's process number. The second is for parents that start this program through
another one which does not pass its standard input on.
"""

from __future__ import annotations

import _thread
import argparse
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_POLL_S = 0.1
_READ_BYTES = 4096
_HANDSHAKE = b"watch"
_STDIN = 0


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare ``--watch-stdin`` and ``--watch-process``."""
    parser.add_argument(
        "--watch-stdin",
        action="store_true",
        help='for programs: once the line "watch" was read, the end of stdin cancels',
    )
    parser.add_argument(
        "--watch-process",
        metavar="PID",
        type=_process_id,
        help="for programs: cancel when that process has ended",
    )


class Watch:
    """Whether the parent is gone or has asked to stop."""

    def __init__(self, *, stdin: bool, process_id: int | None) -> None:
        self._asked = threading.Event()
        self._process = None if process_id is None else _Process(process_id)
        if stdin:
            # A daemon: it waits in a read that nothing but the parent can end.
            threading.Thread(target=self._read, name="watch-stdin", daemon=True).start()

    def wants_end(self) -> bool:
        """Whether to stop now; quick, to be asked several times a second."""
        return self._asked.is_set() or (self._process is not None and self._process.has_ended())

    def _read(self) -> None:
        """Set the flag at the end of stdin, if the handshake came before it.

        Without it, a terminal's Ctrl-D or ``< /dev/null`` would be a request to stop.
        """
        received = b""
        try:
            while chunk := os.read(_STDIN, _READ_BYTES):
                if _HANDSHAKE not in received.splitlines():
                    received += chunk
        except OSError:  # there is no stdin
            return
        if _HANDSHAKE in received.splitlines():
            self._asked.set()


@contextmanager
def interrupted_by(watch: Watch) -> Iterator[None]:
    """While this is open, KeyboardInterrupt ends the main thread's work once the watch wants it.

    For work that looks at no token: what it has open is closed and removed on the way out.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    is_over = threading.Event()

    def look() -> None:
        while not is_over.wait(_POLL_S):
            if watch.wants_end():
                _thread.interrupt_main()
                return

    # A parent that ignores Ctrl-C hands that down, and then nothing would be raised.
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=look, name="watch", daemon=True).start()
    try:
        yield
    finally:
        is_over.set()
        signal.signal(signal.SIGINT, previous)


if sys.platform == "win32":

    class _Process:
        """Another process; the handle keeps its number from being given to a new one."""

        def __init__(self, process_id: int) -> None:
            import ctypes

            self._kernel = ctypes.windll.kernel32
            self._kernel.OpenProcess.restype = ctypes.c_void_p
            self._kernel.WaitForSingleObject.argtypes = (ctypes.c_void_p, ctypes.c_uint32)
            synchronize = 0x00100000
            self._handle = self._kernel.OpenProcess(synchronize, False, process_id)

        def has_ended(self) -> bool:
            signaled = 0
            return not self._handle or self._kernel.WaitForSingleObject(self._handle, 0) == signaled

else:

    class _Process:
        """Another process, by its number."""

        def __init__(self, process_id: int) -> None:
            self._process_id = process_id

        def has_ended(self) -> bool:
            try:
                os.kill(self._process_id, 0)  # 0 sends nothing
            except ProcessLookupError:
                return True
            except PermissionError:  # it is there and somebody else's
                return False
            return False


def _process_id(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a process number, got {text!r}")
    return int(text)
