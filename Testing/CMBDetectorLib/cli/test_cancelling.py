"""Stopping work that listens, and work that does not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from CMBDetectorLib.cli.cancelling import Leftovers, run_cancellable

STUBBORN = """\
import os, pathlib, sys, time
from CMBDetectorLib.cli.cancelling import Leftovers, run_cancellable

out = pathlib.Path(sys.argv[1])
leftovers = Leftovers(out)

def work(cancel):
    staging = out / f".cmb-{os.getpid()}-abc"
    staging.mkdir(parents=True)
    (staging / "half.nii.gz").write_bytes(b"half")
    (out / f".cmb-{os.getpid()}-def.csv").write_bytes(b"half")
    print("working", flush=True)
    time.sleep(300)

def on_abandon():
    leftovers.remove()
    print("abandoned", flush=True)

run_cancellable(work, on_abandon)
"""

posix = pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals")


@posix
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("times", [1, 2])
def test_work_that_does_not_listen_is_abandoned(name, times, tmp_path):
    out = tmp_path / "new" / "out"
    process = subprocess.Popen(
        [sys.executable, "-c", STUBBORN, str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "working\n"
    assert len(list(out.iterdir())) == 2
    for _ in range(times):
        process.send_signal(getattr(signal, name))
    rest, stderr = process.communicate(timeout=60)
    assert process.returncode == 6
    assert rest == "abandoned\n"
    assert stderr == ""
    assert not (tmp_path / "new").exists()


def test_leftovers_of_other_processes_and_results_are_kept(tmp_path):
    mine = tmp_path / f".cmb-{os.getpid()}-1"
    mine.mkdir()
    other = tmp_path / f".cmb-{os.getpid() + 1}-1"
    other.mkdir()
    result = tmp_path / "scan_cmb.csv"
    result.touch()
    Leftovers(tmp_path).remove()
    assert sorted(tmp_path.iterdir()) == sorted([other, result])


def test_leftovers_where_nothing_was_made(tmp_path):
    Leftovers(tmp_path / "never" / "made").remove()
    assert list(tmp_path.iterdir()) == []


def test_a_new_folder_with_results_in_it_stays(tmp_path):
    leftovers = Leftovers(tmp_path / "out")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "first_cmb.csv").touch()
    leftovers.remove()
    assert (tmp_path / "out" / "first_cmb.csv").exists()


def test_leftovers_of_several_folders(tmp_path):
    folders = [tmp_path / "new" / "a", tmp_path / "new" / "a" / "b", tmp_path / "new" / "c"]
    leftovers = Leftovers(*folders)
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / f".cmb-{os.getpid()}-x.csv").touch()
    (folders[2] / "first_cmb.csv").touch()
    leftovers.remove()
    assert sorted(tmp_path.rglob("*")) == [
        tmp_path / "new",
        tmp_path / "new" / "c",
        tmp_path / "new" / "c" / "first_cmb.csv",
    ]


def no_abandoning() -> None:
    raise AssertionError("must not be called")


def test_errors_of_the_work_are_raised_here_and_handlers_restored():
    before = signal.getsignal(signal.SIGINT)
    threads = []

    def work(cancel):
        threads.append(threading.current_thread())
        raise KeyError("x")

    with pytest.raises(KeyError):
        run_cancellable(work, no_abandoning)
    assert threads != [threading.main_thread()]
    assert signal.getsignal(signal.SIGINT) is before


def test_runs_outside_the_main_thread_too():
    done: list[Path] = []

    def outer():
        run_cancellable(lambda cancel: done.append(Path()), no_abandoning)

    thread = threading.Thread(target=outer)
    thread.start()
    thread.join(60)
    assert done == [Path()]


@posix
def test_work_that_listens_ends_by_itself():
    seen = []

    def work(cancel):
        os.kill(os.getpid(), signal.SIGINT)
        while not cancel.is_cancelled:
            pass
        seen.append("stopped")

    run_cancellable(work, no_abandoning)
    assert seen == ["stopped"]


def test_the_end_can_be_asked_for_without_a_signal():
    asked = []

    def work(cancel):
        while not cancel.is_cancelled:
            pass

    def wants_end() -> bool:
        asked.append(True)
        return len(asked) > 2

    run_cancellable(work, no_abandoning, wants_end)
    assert len(asked) == 3
