"""Looking at what is installed, in a real child process."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch
from child_runs import REPOSITORY, Loop, fakeRunner, realRunner
from CMBDetectorSlicer.dependencies import missingPackages
from CMBDetectorSlicer.environment import EnvironmentProbe
from CMBDetectorSlicer.processes import PythonProcessRunner

from CMBDetectorLib.version import __version__


def probed(runner, loop):
    done, failed = [], []
    EnvironmentProbe(runner).start(done.append, failed.append)
    loop.runUntil(lambda: bool(done or failed))
    assert len(done) + len(failed) == 1
    return (done or failed)[0]


@pytest.fixture
def loop():
    return Loop()


def test_here_all_is_well(loop):
    environment = probed(realRunner(loop), loop)
    assert environment.software == __version__
    assert environment.packages["torch"].version == torch.__version__
    assert environment.problems == ()
    assert missingPackages(environment) == ()
    cpu = environment.devices[-1]
    assert (cpu.id, cpu.works, cpu.problem) == ("cpu", True, None)
    assert sys.platform == "win32" or cpu.memoryGib > 0.5


def test_a_damaged_torch_is_missing_and_every_line_says_why(loop, tmp_path):
    (tmp_path / "torch.py").write_text("raise OSError('libtorch_cpu.so: cannot open')")
    variables = os.environ | {"PYTHONPATH": str(tmp_path)}
    runner = PythonProcessRunner(Path(sys.executable), REPOSITORY, loop.schedule, variables)
    environment = probed(runner, loop)
    assert "torch: OSError: libtorch_cpu.so: cannot open" in environment.problems
    names = [requirement.name for requirement in missingPackages(environment)]
    assert names[0] == "torch"
    assert "nibabel" not in names
    (cpu,) = environment.devices
    assert not cpu.works


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("print('{}')", "exit code 0"),
        ("print('[]')", "exit code 0"),
        ("pass", "exit code 0"),
        ("print('hello')\nimport there_is_none", "No module named 'there_is_none'"),
        ('print(\'{"software": 1, "python": 2, "packages": 3, "devices": 4}\')', "exit code"),
    ],
)
def test_a_child_that_says_something_else(program, words, loop, tmp_path):
    error = probed(fakeRunner(loop, tmp_path, program), loop)
    assert error.code == "crash"
    assert words in error.message
    assert "command: info --json" in error.report


def test_a_program_that_does_not_start(loop, tmp_path):
    runner = PythonProcessRunner(tmp_path / "none", tmp_path, loop.schedule)
    assert "could not be started" in probed(runner, loop).message


def test_cancelled(loop, tmp_path):
    said = []
    probe = EnvironmentProbe(fakeRunner(loop, tmp_path, "import time\ntime.sleep(600)"))
    probe.start(said.append, said.append)
    loop.turn()
    probe.cancel()
    loop.runUntil(lambda: not loop.isBusy)
    assert said == []
