"""Processes that work, that are stopped, and that end with their parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from CMBDetectorLib.errors import Cancelled, DeviceError, UsageError
from CMBDetectorLib.evaluation.workers import run_in_order_of_end
from CMBDetectorLib.progress import CancelToken

PARENT = """\
import os, signal, sys, time
from CMBDetectorLib.evaluation.workers import run_in_order_of_end

def sleep(folder):
    open(os.path.join(folder, str(os.getpid())), "w").close()
    time.sleep(300)

if __name__ == "__main__":
    # A run in the background of a shell ignores it, and its children do.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    list(run_in_order_of_end(sleep, [sys.argv[1]] * 4, jobs=2))
"""

posix = pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals")


def double(number: int) -> int:
    return 2 * number


def refuse(number: int) -> int:
    raise UsageError(f"number {number}")


def die(number: int) -> int:
    os._exit(9)


def announce_and_sleep(path: Path) -> None:
    path.touch()
    time.sleep(300)


@pytest.mark.parametrize("jobs", [1, 2])
def test_each_result_with_its_row(jobs):
    tasks = list(range(9))
    assert sorted(run_in_order_of_end(double, tasks, jobs=jobs)) == [(n, 2 * n) for n in tasks]


@pytest.mark.parametrize("jobs", [1, 2])
def test_nothing_to_do(jobs):
    assert list(run_in_order_of_end(double, [], jobs=jobs)) == []


@pytest.mark.parametrize("jobs", [1, 2])
def test_errors_are_raised_here(jobs):
    with pytest.raises(UsageError, match="number 3"):
        list(run_in_order_of_end(refuse, [3], jobs=jobs))


def test_a_process_that_is_ended_from_outside():
    with pytest.raises(DeviceError, match=r"ended from outside.*--jobs 1"):
        list(run_in_order_of_end(die, [1, 2], jobs=2))


def test_cancel_does_not_wait_for_the_work(tmp_path):
    cancel = CancelToken()

    class CancelOnceWorking(CancelToken):
        @property
        def is_cancelled(self) -> bool:
            if (tmp_path / "working").exists():
                cancel.cancel()
            return cancel.is_cancelled

    before = set(psutil.Process().children(recursive=True))
    with pytest.raises(Cancelled):
        list(
            run_in_order_of_end(
                announce_and_sleep, [tmp_path / "working"], jobs=2, cancel=CancelOnceWorking()
            )
        )
    workers = [p for p in psutil.Process().children() if p not in before]
    assert not [p for p in workers if "spawn_main" in " ".join(p.cmdline())]


@posix
@pytest.mark.parametrize("name", ["SIGINT", "SIGKILL"])
def test_workers_do_not_outlive_their_parent(name, tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(PARENT, encoding="utf-8")
    working = tmp_path / "working"
    working.mkdir()
    parent = subprocess.Popen(
        [sys.executable, str(script), str(working)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    while len(list(working.iterdir())) < 2:
        assert parent.poll() is None
        time.sleep(0.05)
    workers = [psutil.Process(int(path.name)) for path in working.iterdir()]
    parent.send_signal(getattr(signal, name))
    parent.communicate(timeout=60)
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert alive == []
