"""Work in several processes that can be stopped at any time and never outlive this one."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import TypeVar

from CMBDetectorLib.errors import Cancelled, DeviceError
from CMBDetectorLib.progress import CancelToken

Task = TypeVar("Task")
Result = TypeVar("Result")

_POLL_S = 0.1
_QUEUED_PER_WORKER = 2


def run_in_order_of_end(
    function: Callable[[Task], Result],
    tasks: Sequence[Task],
    *,
    jobs: int,
    cancel: CancelToken | None = None,
) -> Iterator[tuple[int, Result]]:
    """Call a function with each task; give each row and result as soon as it is there.

    With one job it runs here, one after the other. Otherwise in fresh processes, which end at once
    where the iteration is left, an error is raised, or this process ends in whatever way. Only a
    few tasks are handed out ahead, so that no results pile up.

    Parameters
    ----------
    function, tasks
        With several jobs, what can be sent to another process: a function of a module.

    Raises
    ------
    Cancelled
        If ``cancel`` was set.
    DeviceError
        If a process was ended from outside, as systems do that are out of memory.
    """
    cancel = cancel or CancelToken()
    if jobs <= 1:
        for row, task in enumerate(tasks):
            cancel.raise_if_cancelled()
            yield row, function(task)
        return
    context = multiprocessing.get_context("spawn")
    watched, held = context.Pipe(duplex=False)
    executor = ProcessPoolExecutor(
        jobs, mp_context=context, initializer=_prepare_worker, initargs=(watched,)
    )
    waiting = iter(enumerate(tasks))
    running: dict[Future[Result], int] = {}
    is_finished = False
    try:
        while True:
            while len(running) < jobs * _QUEUED_PER_WORKER:
                entry = next(waiting, None)
                if entry is None:
                    break
                with _children_without_ctrl_c():
                    running[executor.submit(function, entry[1])] = entry[0]
            if not running:
                break
            done, _ = wait(running, timeout=_POLL_S, return_when=FIRST_COMPLETED)
            if cancel.is_cancelled:
                raise Cancelled("cancelled on request; nothing was written")
            for future in done:
                yield running.pop(future), future.result()
        is_finished = True
    except BrokenProcessPool as error:
        raise DeviceError(
            "a worker process was ended from outside, as happens where memory runs out; close "
            "other programs, or use fewer processes (--jobs 1)"
        ) from error
    finally:
        if not is_finished:
            held.close()  # the workers see it and end at once
        executor.shutdown(wait=True, cancel_futures=True)
        held.close()
        watched.close()


@contextmanager
def _children_without_ctrl_c() -> Iterator[None]:
    """Processes started here never see Ctrl-C, not even before they can ask for that."""
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _prepare_worker(watched: Connection) -> None:
    """Leave Ctrl-C to the parent process, and end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, args=(watched,), daemon=True).start()


def _end_with_parent(watched: Connection) -> None:
    # Nothing is ever sent: reading ends when the other side is closed, be it by the system.
    try:
        watched.recv_bytes()
    except (EOFError, OSError):
        os._exit(Cancelled.exit_code)
