"""How the chosen anatomy reaches the child process, and what a report says of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from child_runs import Loop, Recorder, check, detection, fakeRunner, realRunner
from CMBDetectorSlicer.child_job import ANATOMY_NAME
from CMBDetectorSlicer.run_folder import PREFIX

from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.volume import Volume

PATIENT = "DOE_Jane_19500101"


@pytest.fixture
def block():
    return Volume(np.full((20, 20, 20), 7, np.int16), Geometry((20, 20, 20), np.diag([3, 3, 3, 1])))


@pytest.mark.parametrize("make", [detection, check])
def test_the_anatomy_reaches_the_command_line(make, block, tmp_path):
    program = (
        "import json, sys\nprint(json.dumps({'event': 'said', 'words': sys.argv[1:]}))\nsys.exit(3)"
    )
    loop = Loop()
    runner = fakeRunner(loop, tmp_path, program)
    given = {"none": "none", "auto": "auto", "map": block, "file": tmp_path / "aseg.mgz"}
    for what, anatomy in given.items():
        heard = Recorder()
        job = make(runner, block, heard, anatomy=anatomy)
        job.start()
        loop.runUntil(heard.hasEnded)
        (said,) = [event for event in job._events if event.get("event") == "said"]
        word = said["words"][said["words"].index("--anatomy") + 1]
        if what == "map":
            assert Path(word).name == ANATOMY_NAME
            assert Path(word).parent.name.startswith(PREFIX)
        else:
            assert word == str(anatomy)
        saves = make is detection and what != "none"
        assert ("--save-anatomy" in said["words"]) is saves


def test_a_report_does_not_name_the_anatomy_file(block, tmp_path):
    path = tmp_path / PATIENT / "aseg.nii.gz"
    loop, heard = Loop(), Recorder()
    check(realRunner(loop), block, heard, anatomy=path).start()
    loop.runUntil(heard.hasEnded)
    (error,) = heard.failed
    assert error.code == "input"
    assert PATIENT not in error.report
    assert "the anatomy file" in error.report
