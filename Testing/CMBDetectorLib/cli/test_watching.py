"""A child process that ends when its parent is gone, or closes its stdin."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from CMBDetectorLib.cli import build_parser, main
from CMBDetectorLib.cli.watching import Watch

WORK = """\
import sys, time
from CMBDetectorLib.cli.cancelling import run_cancellable
from CMBDetectorLib.cli.watching import Watch

watch = Watch(stdin="stdin" in sys.argv, process_id=int(sys.argv[1]) or None)

def work(cancel):
    print("working", flush=True)
    while not cancel.is_cancelled:
        time.sleep(0.01)
    print("cancelled", flush=True)

run_cancellable(work, lambda: print("abandoned", flush=True), watch.wants_end)
"""


@contextmanager
def working(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Work that runs until it is cancelled, in another process."""
    process = subprocess.Popen(
        [sys.executable, "-c", WORK, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "working\n"
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def rest_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.read()


def test_the_end_of_stdin_cancels_after_the_handshake():
    with working(0, "stdin") as process:
        assert process.stdin is not None
        process.stdin.write("watch\nwhatever else\n")
        process.stdin.flush()
        process.stdin.close()
        assert rest_of(process) == "cancelled\n"


@pytest.mark.parametrize("written", ["", "watchful\n", "I watch\n"])
def test_the_end_of_stdin_means_nothing_without_the_handshake(written):
    with working(0, "stdin") as process:
        assert process.stdin is not None
        process.stdin.write(written)
        process.stdin.close()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)


def test_the_end_of_another_process_cancels():
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with working(other.pid) as process:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        other.kill()
        other.communicate()
        assert rest_of(process) == "cancelled\n"


def test_nothing_to_watch():
    assert not Watch(stdin=False, process_id=None).wants_end()
    assert not Watch(stdin=False, process_id=os.getpid()).wants_end()


@pytest.mark.parametrize("number", ["0", "-3", "parent", "1.5"])
def test_a_process_is_named_by_its_number(number, capsys):
    arguments = ["check", "a.nii", "--watch-process", number]
    assert main(arguments) == 2
    assert "must be a process number" in capsys.readouterr().err


def test_both_commands_that_take_long_can_watch():
    for words in (["detect", "a.nii", "-o", "out"], ["check", "a.nii"]):
        parsed = build_parser().parse_args([*words, "--watch-stdin", "--watch-process", "7"])
        assert (parsed.watch_stdin, parsed.watch_process) == (True, 7)


def start_detect(out: Path, scan: Path, *options: str) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "CMBDetectorLib",
        "detect",
        "--anatomy",
        "none",
        str(scan),
        "-o",
        str(out),
    ]
    command += ["--progress", "jsonl", "--device", "cpu", *options]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"
    )


def test_a_search_that_is_cancelled_by_closing_its_stdin(sample_scan, tmp_path):
    process = start_detect(tmp_path / "out", sample_scan, "--watch-stdin")
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("watch\n")
    process.stdin.flush()
    tree = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    events = []
    for line in process.stdout:
        events.append(json.loads(line))
        if events[-1].get("stage") == "inference" and not process.stdin.closed:
            process.stdin.close()
    assert process.wait(60) == 6
    assert [event["event"] for event in events[-2:]] == ["error", "end"]
    assert events[-2]["code"] == "cancelled"
    assert not any(one.is_running() for one in tree)
    assert not (tmp_path / "out").exists()


def test_a_watched_search_ends_by_itself_as_well(tiny_scan, tiny_bundle, tmp_path):
    process = start_detect(
        tmp_path / "out", tiny_scan.image_path, "--watch-stdin",
        "--watch-process", str(os.getpid()),
        "--brain-mask", str(tiny_scan.mask_path), "--model", str(tiny_bundle.root),
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("watch\n")
    process.stdin.flush()
    events = [json.loads(line) for line in process.stdout]
    assert process.wait(60) == 0
    assert events[-1] == {"event": "end", "done": 1, "failed": 0, "skipped": 0, "exit_code": 0}
    process.stdin.close()
    assert len(list((tmp_path / "out").iterdir())) == 5
