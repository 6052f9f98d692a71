"""Child processes: what they say, how they end, and that nothing is left of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from child_runs import PATIENCE_S, REPOSITORY, Loop, areGone, fakeRunner, realRunner, treeOf
from CMBDetectorSlicer import child_process, processes
from CMBDetectorSlicer.processes import PythonProcessRunner, libraryParent, slicerPython
from CMBDetectorSlicer.run_folder import PREFIX

from CMBDetectorLib.errors import MissingDependencyError, OutputError
from CMBDetectorLib.version import __version__

CANCEL_S = 2.0
# A grandchild that writes its number to the file that is the first argument, and waits.
STUBBORN = """\
import pathlib, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
code = "import time; time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", code])
print(child.pid, flush=True)
if "leave" not in sys.argv:
    time.sleep(600)
"""
POLITE = """\
import sys
print(sys.stdin.readline().strip(), flush=True)
sys.stdin.read()
sys.exit(6)
"""
TALKATIVE = """\
import os, sys
print(sys.argv[1:], flush=True)
print("größe 脳")
sys.stderr.write("ein Fehler: ü\\n")
sys.stdout.buffer.write(b"windows\\r\\nbroken \\xff\\n" + b"x" * 1_000_000 + b"\\nno end")
sys.exit(3)
"""
posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")


class Listener:
    """Remembers what a process says."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.codes: list[int] = []

    def hasEnded(self) -> bool:
        return bool(self.codes)


@pytest.fixture
def loop():
    return Loop()


@pytest.fixture
def heard():
    return Listener()


@pytest.fixture(autouse=True)
def temporary(tmp_path_factory, monkeypatch):
    """A temporary folder of our own, to see what is left in it."""
    folder = tmp_path_factory.mktemp("temporary ü")
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    yield folder
    assert list(folder.glob(f"{PREFIX}*")) == []


def start(runner, heard, *arguments):
    return runner.start(arguments, heard.lines.append, heard.codes.append)


def test_what_a_child_says(loop, heard, tmp_path):
    process = start(fakeRunner(loop, tmp_path, TALKATIVE), heard, "a b", "ä", "--x=1")
    assert process.isRunning
    assert process.exitCode is None
    loop.runUntil(heard.hasEnded)
    assert heard.lines[:4] == ["['a b', 'ä', '--x=1']", "größe 脳", "windows", "broken \ufffd"]
    assert heard.lines[4:] == ["x" * 1_000_000, "no end"]
    assert heard.codes == [3]
    assert not process.isRunning
    assert process.exitCode == 3
    assert process.log == "ein Fehler: ü\n"


def test_lines_arrive_while_it_runs(loop, heard, tmp_path):
    process = start(fakeRunner(loop, tmp_path, POLITE), heard)
    loop.runUntil(lambda: bool(heard.lines))
    assert heard.lines == ["watch"]
    assert process.isRunning
    process.cancel()
    loop.runUntil(heard.hasEnded, CANCEL_S)
    assert heard.codes == [6]


def test_the_library_is_the_one_of_this_process(loop, heard):
    start(realRunner(loop), heard, "--version")
    loop.runUntil(heard.hasEnded)
    assert heard.lines == [f"cmbdetector {__version__}"]
    assert heard.codes == [0]
    assert libraryParent() == REPOSITORY


def test_the_environment_of_a_child(loop, heard, tmp_path):
    program = (
        "import os, sys\nprint(os.environ['PYTHONPATH'], os.environ['OWN'], sys.flags.utf8_mode)"
    )
    fakeRunner(loop, tmp_path, program)
    variables = {**os.environ, "PYTHONPATH": "before", "OWN": "yes"}
    runner = PythonProcessRunner(Path(sys.executable), tmp_path, loop.schedule, variables)
    start(runner, heard)
    loop.runUntil(heard.hasEnded)
    assert heard.lines == [f"{tmp_path}{os.pathsep}before yes 1"]
    assert child_process.GRACE_S < CANCEL_S


@pytest.mark.parametrize("how", ["cancel", "kill"])
def test_a_tree_that_does_not_listen_is_gone_within_two_seconds(how, loop, heard, tmp_path):
    process = start(fakeRunner(loop, tmp_path, STUBBORN), heard)
    loop.runUntil(lambda: bool(heard.lines))
    tree = treeOf(process.pid)
    assert int(heard.lines[0]) in [one.pid for one in tree]
    getattr(process, how)()
    process.cancel()
    loop.runUntil(lambda: heard.hasEnded() and areGone(tree), CANCEL_S)
    process.cancel()
    process.kill()
    loop.turn()
    assert len(heard.codes) == 1
    assert heard.codes[0] != 0


def test_what_a_child_leaves_running_goes_with_it(loop, heard, tmp_path):
    start(fakeRunner(loop, tmp_path, STUBBORN), heard, "leave")
    loop.runUntil(heard.hasEnded)
    assert heard.codes == [0]
    grandchild = int(heard.lines[0])
    loop.runUntil(lambda: not psutil.pid_exists(grandchild) or areGone(treeOf(grandchild)))


@posix
def test_a_child_that_is_killed_from_outside(loop, heard, tmp_path):
    process = start(fakeRunner(loop, tmp_path, STUBBORN), heard)
    loop.runUntil(lambda: bool(heard.lines))
    tree = treeOf(process.pid)
    tree[0].kill()
    loop.runUntil(lambda: heard.hasEnded() and areGone(tree))
    assert heard.codes == [-9]


def test_a_launcher_goes_with_what_it_has_launched(loop, heard, tmp_path):
    """PythonSlicer starts the real Python, and does not always pass its stdin on."""
    fakeRunner(loop, tmp_path, STUBBORN)
    launcher = tmp_path / "launcher.py"
    launcher.write_text(
        "import subprocess, sys\n"
        "command = [sys.executable, *sys.argv[1:]]\n"
        "sys.exit(subprocess.run(command, stdin=subprocess.DEVNULL).returncode)\n"
    )
    program = tmp_path / "PythonSlicer"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{launcher}" "$@"\n')
    program.chmod(0o755)
    if sys.platform == "win32":
        pytest.skip("a shell script")
    process = start(PythonProcessRunner(program, tmp_path, loop.schedule), heard)
    loop.runUntil(lambda: bool(heard.lines))
    tree = treeOf(process.pid)
    assert len(tree) == 3
    process.cancel()
    loop.runUntil(lambda: heard.hasEnded() and areGone(tree), CANCEL_S)


def test_a_program_that_is_not_there(loop, heard, tmp_path):
    runner = PythonProcessRunner(tmp_path / "PythonSlicer", tmp_path, loop.schedule)
    with pytest.raises(OutputError, match="PythonSlicer could not be started: No such file"):
        start(runner, heard)
    loop.turn()
    assert heard.codes == []


def test_a_temporary_folder_that_is_not_there(loop, heard, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    with pytest.raises(OutputError, match=r"no temporary folder can be made in .*TMPDIR"):
        start(realRunner(loop), heard, "--version")


def test_a_listener_that_runs_the_loop_hears_everything_once(loop, tmp_path):
    """As a message box does."""
    runner = fakeRunner(loop, tmp_path, "for number in range(5):\n    print(number)")
    lines, codes, steps = [], [], []

    def schedule(step, intervalMs):
        steps.append(step)

    def onLine(line):
        lines.append(line)
        assert steps[0]()

    def onFinished(code):
        codes.append(code)
        assert not steps[0]()

    runner = PythonProcessRunner(Path(sys.executable), tmp_path, schedule)
    runner.start([], onLine, onFinished)
    loop.schedule(steps[0], 0)
    loop.runUntil(lambda: bool(codes))
    assert lines == ["0", "1", "2", "3", "4"]
    assert codes == [0]


def test_a_listener_that_fails_does_not_lose_the_rest(loop, heard, tmp_path):
    runner = fakeRunner(loop, tmp_path, "print('good')\nprint('bad')\nprint('later')")

    def onLine(line):
        heard.lines.append(line)
        if line == "bad":
            raise ZeroDivisionError

    runner.start([], onLine, heard.codes.append)
    with pytest.raises(ZeroDivisionError):
        loop.runUntil(heard.hasEnded)
    loop.runUntil(heard.hasEnded)
    assert heard.lines == ["good", "bad", "later"]
    assert heard.codes == [0]


PARENT = """\
import sys, time
from pathlib import Path
sys.path[:0] = sys.argv[1:3]
from child_runs import Loop, REPOSITORY
from CMBDetectorSlicer.processes import PythonProcessRunner

loop = Loop()
runner = PythonProcessRunner(Path(sys.argv[4]), Path(sys.argv[3]), loop.schedule)
process = runner.start(sys.argv[5:], lambda line: print(process.pid, flush=True), print)
while True:
    loop.turn()
    if Path("end").exists():
        break
"""


def startParent(folder: Path, temporary: Path, library: Path, *arguments: str):
    """A process that runs a child as Slicer does; returned once the child has said something."""
    here = Path(__file__).resolve().parent
    folder.mkdir(exist_ok=True)
    folders = [str(here), str(REPOSITORY / "CMBDetector"), str(library)]
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, *folders, sys.executable, *arguments],
        stdout=subprocess.PIPE,
        env=os.environ | {"TMPDIR": str(temporary), "PYTHONPATH": str(REPOSITORY)},
        encoding="utf-8",
        cwd=folder,
    )
    assert parent.stdout is not None
    tree = treeOf(int(parent.stdout.readline()))
    parent.stdout.close()
    return parent, tree


def waitFor(isTrue, patienceS: float = PATIENCE_S) -> None:
    endS = time.monotonic() + patienceS
    while not isTrue():
        assert time.monotonic() < endS
        time.sleep(0.02)


@posix
@pytest.mark.parametrize("watch", ["--watch-stdin", "--watch-process"])
def test_a_parent_that_is_killed_leaves_no_orphan(watch, sample_scan, tmp_path, temporary):
    out = tmp_path / "out"
    words = ["detect", str(sample_scan), "-o", str(out), "--progress", "jsonl", "--device", "cpu"]
    if watch == "--watch-stdin":
        parent, tree = startParent(tmp_path / "cwd", temporary, REPOSITORY, *words, watch)
        parent.kill()
        parent.wait()
    else:
        other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        words += [watch, str(other.pid)]
        parent, tree = startParent(tmp_path / "cwd", temporary, REPOSITORY, *words)
        other.kill()
        other.communicate()
    waitFor(lambda: areGone(tree), 10.0)
    parent.kill()
    parent.wait()
    assert not out.exists()
    for folder in temporary.glob(f"{PREFIX}*"):  # what nobody was left to remove
        assert sorted(path.name for path in folder.iterdir()) == ["stderr", "stdout"]
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


def test_a_parent_that_ends_takes_its_children_along(tmp_path, temporary):
    fakeRunner(Loop(), tmp_path, STUBBORN)
    parent, tree = startParent(tmp_path / "cwd", temporary, tmp_path)
    assert not areGone(tree)
    (tmp_path / "cwd" / "end").touch()
    assert parent.wait(PATIENCE_S) == 0
    waitFor(lambda: areGone(tree))


def test_slicers_timer_runs_the_steps(app, heard, tmp_path):
    fakeRunner(Loop(), tmp_path, "print('ticking')")
    runner = PythonProcessRunner(Path(sys.executable), tmp_path, processes.qtSchedule)
    start(runner, heard)

    def hasEnded():
        app.processEvents()
        return heard.hasEnded()

    waitFor(hasEnded)
    assert heard.lines == ["ticking"]
    waitFor(lambda: app.processEvents() or not processes._timers)


def test_the_python_of_slicer(tmp_path, monkeypatch, app):
    name = "PythonSlicer.exe" if sys.platform == "win32" else "PythonSlicer"
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(app, "slicerHome", str(tmp_path / "home"), raising=False)
    with pytest.raises(MissingDependencyError, match="in neither place"):
        slicerPython()
    beside = tmp_path / "home" / "bin" / name
    beside.parent.mkdir(parents=True)
    beside.touch()
    assert slicerPython() == beside
    onPath = tmp_path / name
    onPath.touch(mode=0o755)
    assert slicerPython() == onPath


def test_a_report_for_each_kind_of_line_is_json_or_not(loop, heard):
    """The library's own events come through whole."""
    start(realRunner(loop), heard, "check", "there is none.nii", "--json")
    loop.runUntil(heard.hasEnded)
    (line,) = heard.lines
    assert json.loads(line)["error"]["code"] == "input"
    assert heard.codes == [3]
