"""A search and a check of the sample scan in a real child process, and all ways they can end."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
from child_runs import (
    Loop,
    Recorder,
    areGone,
    check,
    detection,
    fakeRunner,
    realRunner,
    treeOf,
)
from CMBDetectorSlicer.child_job import ANATOMY_NAME
from CMBDetectorSlicer.job_report import RunRecord, exitCodeText, makeReport, withoutFolders
from CMBDetectorSlicer.run_folder import PREFIX

from CMBDetectorLib.errors import Cancelled, UsageError
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.io.reading import read_image, read_mask
from CMBDetectorLib.pipeline import STAGE_WEIGHTS
from CMBDetectorLib.volume import Volume

CANCEL_S = 2.0
PATIENT = "DOE_Jane_19500101"


@pytest.fixture(scope="module")
def temporary(tmp_path_factory):
    """A folder of our own for temporary files, named as if it told of a patient."""
    return tmp_path_factory.mktemp(PATIENT)


@pytest.fixture(autouse=True)
def nothingIsLeft(temporary, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    yield
    assert list(temporary.glob(f"{PREFIX}*")) == []


@pytest.fixture(scope="module")
def sample():
    import CMBDetectorLib

    folder = Path(CMBDetectorLib.__file__).parent / "resources" / "samples"
    return read_image(folder / "sample_t2star.nii.gz").volume


@pytest.fixture
def block():
    """An image that is refused: everything in it is 7."""
    return Volume(np.full((20, 20, 20), 7, np.int16), Geometry((20, 20, 20), np.diag([3, 3, 3, 1])))


@pytest.fixture
def loop():
    return Loop()


@pytest.fixture
def heard():
    return Recorder()


@pytest.fixture(scope="module")
def found(sample, temporary):
    """One whole search, for all tests that look at what comes out of it."""
    loop, heard = Loop(), Recorder()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tempfile.tempdir", str(temporary))
        job = detection(realRunner(loop), sample, heard)
        assert not job.isRunning
        job.start()
        assert job.isRunning
        loop.runUntil(heard.hasEnded, 240.0)
        assert not job.isRunning
    assert heard.outcome() == (1, 0, 0), heard.failed
    return heard


def test_what_was_found(found, sample):
    (result,) = found.done
    assert result.labelMap.geometry == sample.geometry
    assert result.labelMap.array.dtype == np.int32
    ids = [lesion.label for lesion in result.document.detections]
    assert len(ids) > 2
    assert sorted(set(np.unique(result.labelMap.array)) - {0}) == sorted(ids)
    for lesion in result.document.detections:
        assert np.count_nonzero(result.labelMap.array == lesion.label) == lesion.n_voxels
    assert result.picture.startswith(b"\x89PNG")
    assert result.device == "cpu"
    assert result.seconds > 0
    assert list(result.document.warnings) == found.warnings
    assert result.document.provenance.input_name == "scan.nii"


def test_how_it_went(found):
    fractions = [fraction for fraction, _, _, _ in found.progress]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    stages = [stage for stage in STAGE_WEIGHTS if stage != "anatomy"]
    assert list(dict.fromkeys(stage for _, stage, _, _ in found.progress)) == stages
    left = [remaining for _, _, _, remaining in found.progress]
    assert left[0] is None
    assert left[-1] == pytest.approx(0.0)
    assert any("tile" in message for _, _, message, _ in found.progress)
    assert len(found.log) >= len(stages)
    told = "\n".join([*found.log, *(message for _, _, message, _ in found.progress)])
    assert PATIENT not in told


def test_a_check_says_what_the_search_warns_of(found, sample, loop, heard):
    check(realRunner(loop), sample, heard).start()
    loop.runUntil(heard.hasEnded)
    assert heard.outcome() == (1, 0, 0), heard.failed
    (seen,) = heard.done
    assert seen.shape == sample.geometry.shape
    assert seen.spacingMm == pytest.approx(sample.geometry.spacing_mm)
    assert seen.axisCodes == sample.geometry.axis_codes
    assert seen.sliceSpacingMm == pytest.approx(3.0)
    assert 1000 < seen.brainVolumeMl < 2200
    assert list(seen.warnings) == found.warnings


def test_a_check_with_a_mask_on_another_grid(sample, loop, heard):
    shape = (40, 40, 40)
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = sample.geometry.center_ras_mm - 40
    mask = Volume(np.ones(shape, bool), Geometry(shape, affine))
    check(realRunner(loop), sample, heard, mask=mask).start()
    loop.runUntil(heard.hasEnded)
    (seen,) = heard.done
    assert seen.brainVolumeMl == pytest.approx(512, rel=0.02)


@pytest.mark.parametrize("stage", ["start", "inference"])
def test_cancelling_takes_effect_within_two_seconds(stage, sample, loop, heard):
    job = detection(realRunner(loop), sample, heard)
    job.start()
    if stage == "inference":
        loop.runUntil(lambda: any(event[1] == stage for event in heard.progress))
    tree = treeOf(job._process.pid)
    job.cancel()
    assert job.isRunning
    loop.runUntil(lambda: heard.hasEnded() and areGone(tree), CANCEL_S)
    assert heard.outcome() == (0, 0, 1)
    assert not job.isRunning
    job.cancel()
    loop.turn()
    assert heard.outcome() == (0, 0, 1)


def test_a_child_that_is_killed_is_a_failure_with_a_report(sample, loop, heard):
    job = detection(realRunner(loop), sample, heard)
    job.start()
    loop.runUntil(lambda: bool(heard.progress))
    tree = treeOf(job._process.pid)
    psutil.Process(job._process.pid).kill()
    loop.runUntil(lambda: heard.hasEnded() and areGone(tree))
    assert heard.outcome() == (0, 1, 0)
    (error,) = heard.failed
    assert error.code == "crash"
    assert "ended without a result" in error.message
    assert "\n" not in error.message
    assert '"event": "start"' in error.report
    assert "224×306×48 voxels of 0.75×0.75×3 mm" in error.report


def test_an_image_that_is_refused(block, loop, heard):
    detection(realRunner(loop), block, heard).start()
    loop.runUntil(heard.hasEnded)
    (error,) = heard.failed
    assert error.code == "input"
    assert error.message.startswith("the image is constant (7) everywhere")
    assert error.message in error.report


def test_a_check_of_an_image_that_is_refused(block, loop, heard):
    check(realRunner(loop), block, heard).start()
    loop.runUntil(heard.hasEnded)
    (error,) = heard.failed
    assert error.code == "input"
    assert error.message.startswith("the image is constant (7) everywhere")


def test_an_empty_mask(sample, loop, heard):
    mask = sample.with_array(np.zeros(sample.geometry.shape, np.uint8))
    check(realRunner(loop), sample, heard, mask=mask).start()
    loop.runUntil(heard.hasEnded)
    (error,) = heard.failed
    assert error.message.startswith("the brain mask: the mask is empty")


@pytest.mark.parametrize(
    ("settings", "code", "words"),
    [
        ({"model": "nonsense"}, "model", "no such model: nonsense"),
        ({"device": "cuda:77"}, "device", "device cuda:77 is not there"),
        ({"threshold": 7.0}, "crash", "above 0 and up to 1"),
    ],
)
def test_settings_that_are_refused(settings, code, words, block, loop, heard):
    detection(realRunner(loop), block, heard, **settings).start()
    loop.runUntil(heard.hasEnded)
    (error,) = heard.failed
    assert error.code == code
    assert words in error.message


def test_settings_reach_the_command_line(block, loop, heard, tmp_path):
    program = "import json, sys\nprint(json.dumps({'event': 'said', 'words': sys.argv[1:]}))"
    settings = {"model": "m", "device": "cuda:1", "threshold": 0.25, "minVolumeMm3": 2.0}
    mask = block.with_array(block.array > 0)
    runner = fakeRunner(loop, tmp_path, program)
    job = detection(runner, block, heard, mask=mask, anatomy="auto", **settings)
    job.start()
    loop.runUntil(heard.hasEnded)
    (said,) = [event for event in job._events if event["event"] == "said"]
    words = " ".join(said["words"])
    assert words.startswith("detect ")
    assert re.search(
        r"--brain-mask \S+mask\.nii --anatomy auto --output-dir \S+results --device cuda:1 ", words
    )
    assert "--save-anatomy --model m --threshold 0.25 --min-volume 2.0 --watch-stdin" in words
    for path in (word for word in said["words"] if word.endswith(".nii")):
        assert PATIENT not in Path(path).name


def test_a_child_that_says_nonsense(block, loop, heard, tmp_path):
    program = "print('hello')\nprint('[1, 2]')\nprint('{\"event\": \"new\"}')"
    detection(fakeRunner(loop, tmp_path, program), block, heard).start()
    loop.runUntil(heard.hasEnded)
    (error,) = heard.failed
    assert error.code == "crash"
    assert "exit code 0" in error.message
    assert heard.log == ["hello", "[1, 2]"]


def test_a_child_without_the_library(block, loop, heard, tmp_path):
    detection(fakeRunner(loop, tmp_path, "import there_is_none"), block, heard).start()
    loop.runUntil(heard.hasEnded)
    (error,) = heard.failed
    assert "Its last words: ModuleNotFoundError: No module named 'there_is_none'" in error.message
    assert "Traceback" in error.report
    assert any("Traceback" in line for line in heard.log)


def test_a_child_that_was_stopped_by_somebody_else(block, loop, heard, tmp_path):
    error = {"event": "error", "code": "cancelled", "message": "cancelled on request"}
    program = f"import sys\nprint({json.dumps(error)!r})\nsys.exit(6)"
    detection(fakeRunner(loop, tmp_path, program), block, heard).start()
    loop.runUntil(heard.hasEnded)
    assert heard.outcome() == (0, 1, 0)
    assert "stopped from outside" in heard.failed[0].message


def test_results_on_another_grid_are_refused(block, loop, heard, tmp_path, found):
    program = """\
import json, pathlib, sys
import numpy as np
from nibabel import Nifti1Image, save
out = pathlib.Path(sys.argv[sys.argv.index("--output-dir") + 1])
out.mkdir()
save(Nifti1Image(np.ones((5, 5, 5), np.int16), np.eye(4)), out / "labels.nii.gz")
paths = {"labels": str(out / "labels.nii.gz")}
print(json.dumps({"event": "result", "paths": paths}))
"""
    detection(fakeRunner(loop, tmp_path, program), block, heard).start()
    loop.runUntil(heard.hasEnded)
    (error,) = heard.failed
    assert error.code == "input"
    assert "came back on another grid ((5, 5, 5) voxels)" in error.message


def test_without_the_package_that_writes_images(block, loop, heard, monkeypatch):
    for module in ("nibabel", "nibabel.fileholders"):
        monkeypatch.setitem(sys.modules, module, None)
    check(realRunner(loop), block, heard).start()
    (error,) = heard.failed
    assert error.code == "missing_dependency"
    assert "package nibabel is needed" in error.message


def test_a_program_that_does_not_start(block, heard, tmp_path, loop):
    from CMBDetectorSlicer.processes import PythonProcessRunner

    runner = PythonProcessRunner(tmp_path / "none", tmp_path, loop.schedule)
    job = detection(runner, block, heard)
    job.start()
    assert not job.isRunning
    assert heard.outcome() == (0, 1, 0)
    assert "could not be started" in heard.failed[0].message
    assert "exit code: none" in heard.failed[0].report
    job.cancel()
    with pytest.raises(UsageError, match="started once"):
        job.start()


def test_reports_name_nobody(monkeypatch, temporary):
    home = temporary / "Jane Doe"
    monkeypatch.setattr(Path, "home", lambda: home)
    folder = temporary / "CMBDetector-x"
    record = RunRecord(
        arguments=("detect", str(folder / "scan.nii"), "--model", str(home / "my model")),
        geometry=None,
        events=({"event": "result", "path": str(folder / "ü")},),
        log=f"warning: {folder}/scan.nii\n{home.as_posix()}/x",
        exitCode=3,
    )
    report = makeReport("input", "the image is bad", record, {folder: "(temporary folder)"})
    assert "Doe" not in report
    assert PATIENT not in report
    assert "(temporary folder)/ü" in report
    assert "--model ~" in report
    assert "input: the image is bad" in report
    assert withoutFolders(f"{folder}", {}) == str(folder)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (-9, "killed from outside, as systems do when memory runs out"),
        (-11, "stopped by SIGSEGV"),
        (-99, "stopped by signal 99"),
        (1, "exit code 1"),
        (0xC0000005, "access violation, exit code 0xc0000005"),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="names of POSIX signals")
def test_exit_codes_in_words(code, words):
    assert exitCodeText(code) == words


def test_codes_of_errors_are_those_of_the_command_line():
    from CMBDetectorSlicer.child_job import CANCELLED

    assert Cancelled.code == CANCELLED


def test_the_scan_that_is_written_is_the_scan(block, heard, loop, tmp_path, monkeypatch):
    """Of any type, with any axes."""
    from CMBDetectorSlicer import child_job

    affine = np.array([[0, -2, 0, 5], [0, 0, 3.0, 1], [0.5, 0, 0, -7], [0, 0, 0, 1]])
    array = np.arange(20**3, dtype=np.float64).reshape(20, 20, 20)
    image = Volume(array, Geometry(array.shape, affine))
    labels = image.with_array((array % 5).astype(np.int32))
    job = check(realRunner(loop), image, heard, mask=image.with_array(array > 50), anatomy=labels)
    job._writeInputs(tmp_path)
    written = read_image(tmp_path / child_job.SCAN_NAME).volume
    assert written.geometry.is_close(image.geometry)
    assert np.array_equal(written.array, array)
    assert np.array_equal(read_mask(tmp_path / child_job.MASK_NAME).array, array > 50)
    anatomy = read_image(tmp_path / ANATOMY_NAME).volume
    assert anatomy.geometry.is_close(image.geometry)
    assert np.array_equal(anatomy.array, labels.array)
