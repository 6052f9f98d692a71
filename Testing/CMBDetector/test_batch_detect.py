"""Many scans without a window: real files, the real child process, the real scene."""

from __future__ import annotations

import runpy
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import slicer
from CMBDetectorSlicer import batch
from CMBDetectorSlicer.processes import PythonProcessRunner, Schedule
from CMBDetectorSlicer.result_nodes import ResultNodes
from CMBDetectorSlicer.volumes import volumeFromNode
from panel_driver import REPOSITORY, PanelDriver, installTinyModel, tinyScan
from sessions import makeAnatomy

from CMBDetectorLib.errors import UsageError

SCRIPT = REPOSITORY / "CMBDetector/Scripts/batch_detect.py"
ENDINGS = (
    "_cmb_labels.nii.gz",
    "_cmb.csv",
    "_cmb.json",
    "_cmb.png",
    "_cmb_summary.csv",
    "_cmb.mrb",
)
NO_ANATOMY = ("--", "--anatomy", "none")


def makeRunner(schedule: Schedule) -> PythonProcessRunner:
    return PythonProcessRunner(Path(sys.executable), REPOSITORY, schedule)


@pytest.fixture
def model(scene: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A quick model that calls dark voxels microbleeds; its id."""
    return installTinyModel(tmp_path / "models", monkeypatch)


def writeScan(path: Path) -> Path:
    """A scan with two lesions, left-handed as many scanners' files are."""
    made = tinyScan()
    path.parent.mkdir(parents=True, exist_ok=True)
    assert np.linalg.det(made.geometry.affine) < 0
    nib.save(nib.Nifti1Image(made.array.astype(np.int16), made.geometry.affine), path)
    return path


def resultsOf(folder: Path, stem: str) -> set[str]:
    assert not list(folder.rglob(".*")), "temporary files are left"
    return {p.name.removeprefix(stem) for p in folder.iterdir() if p.name.startswith(stem)}


def run(*words: object) -> int:
    return batch.runBatch([str(word) for word in words], makeRunner)


def openScene(path: Path) -> ResultNodes:
    slicer.mrmlScene.Clear(False)
    assert slicer.mrmlScene.ReadFromMRB(str(path))
    (nodes,) = ResultNodes.all(slicer.mrmlScene)
    return nodes


@pytest.mark.slow
def testTheScriptSearchesTheSampleAndGoesOnAfterABrokenFile(
    scene: object,
    app: object,
    sample_scan: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(b"this is no image")
    out = tmp_path / "results"
    monkeypatch.setattr(batch, "slicerRunner", makeRunner)
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), str(broken), str(sample_scan), str(out)])
    runpy.run_path(str(SCRIPT))
    assert app.exitCodes == [3]
    told = capsys.readouterr()
    assert "broken.nii.gz" in told.err
    assert "1 done, 1 failed" in told.out
    assert "suspected microbleeds" in told.out
    assert resultsOf(out, "sample_t2star") == set(ENDINGS)
    assert resultsOf(out, "broken") == set()
    assert not slicer.mrmlScene.GetNodesByClass("vtkMRMLVolumeNode").GetNumberOfItems()
    nodes = openScene(out / "sample_t2star_cmb.mrb")
    session = nodes.loadSession()
    assert nodes.volumeNode.GetName() == "sample_t2star"
    assert nodes.picture == (out / "sample_t2star_cmb.png").read_bytes()
    # The segments are where nibabel finds the labels that the command line wrote.
    labels = nib.load(out / "sample_t2star_cmb_labels.nii.gz")
    array = np.asarray(labels.dataobj)
    assert len(session.lesions) == len(np.unique(array[array > 0])) >= 5
    for lesion in session.lesions:
        inFile = nib.affines.apply_affine(labels.affine, np.argwhere(array == lesion.id))
        inScene = volumeFromNode(nodes.volumeNode).geometry.ijk_to_ras_mm(
            np.argwhere(session.label_map.array == lesion.id)
        )
        order = np.lexsort(inFile.round(3).T), np.lexsort(inScene.round(3).T)
        np.testing.assert_allclose(inFile[order[0]], inScene[order[1]], atol=1e-3)


def testAFolderKeepsItsSubfoldersAndALeftHandedScanItsPlace(model: str, tmp_path: Path) -> None:
    writeScan(tmp_path / "scans/a/scan.nii.gz")
    writeScan(tmp_path / "scans/b/scan.nii.gz")
    (tmp_path / "empty").mkdir()
    out = tmp_path / "out"
    assert run(tmp_path / "empty", tmp_path / "scans", out, model, *NO_ANATOMY) == 3
    for folder in (out / "a", out / "b"):
        assert resultsOf(folder, "scan") == set(ENDINGS)
    nodes = openScene(out / "b/scan_cmb.mrb")
    session = nodes.loadSession()
    assert session.provenance.model_id == model
    found = [lesion.detection.center_ras_mm for lesion in session.lesions]
    for center in tinyScan().centers:
        assert min(np.linalg.norm(np.subtract(center, each)) for each in found) < 1.0


def testTheAnatomyOfAFileIsInTheSceneWhereItIsSaved(model: str, tmp_path: Path) -> None:
    scan, out = writeScan(tmp_path / "scan.nii"), tmp_path / "out"
    anatomy = makeAnatomy(tinyScan().geometry)
    nib.save(nib.Nifti1Image(anatomy.array, anatomy.geometry.affine), tmp_path / "aseg.nii.gz")
    options = ("--", "--anatomy", tmp_path / "aseg.nii.gz", "--save-anatomy")
    assert run(scan, out, model, *options) == 0
    assert resultsOf(out, "scan") == {*ENDINGS, "_cmb_anatomy.nii.gz"}
    nodes = openScene(out / "scan_cmb.mrb")
    assert nodes.anatomyNode.GetSegmentation().GetNumberOfSegments() == 4
    assert {lesion.detection.zone for lesion in nodes.loadSession().lesions} != {"not assessed"}


def testTheSceneOpensInThePanelReadyForReview(model: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(writeScan(tmp_path / "scan.nii"), out, model, *NO_ANATOMY) == 0
    openScene(out / "scan_cmb.mrb")
    driver = PanelDriver()
    try:
        assert driver.ui.lesionTable.rowCount == 2
        assert driver.ui.inputVolumeSelector.currentNode().GetName() == "scan"
        driver.click("acceptButton")
        assert driver.panel.results.session.progress == (1, 2)
    finally:
        driver.close()


@pytest.mark.slow
def testASecondRunLeavesWhatIsThereAndMakesWhatIsMissing(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scans, out = tmp_path / "scans", tmp_path / "out"
    writeScan(scans / "first.nii.gz")
    assert run(scans, out, model) == 0
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    writeScan(scans / "second.nii.gz")
    (out / "first_cmb.mrb").unlink()
    assert run(scans, out, model) == 0
    assert resultsOf(out, "first") == resultsOf(out, "second") == set(ENDINGS)
    for path, at in before.items():
        assert (path.stat().st_mtime_ns == at) is (path.suffix != ".mrb")
    capsys.readouterr()
    assert run(scans, out, model) == 0
    assert "0 done, 2 were there already, 0 failed" in capsys.readouterr().out


def testASceneIsASceneFile(model: str, tmp_path: Path) -> None:
    assert run(writeScan(tmp_path / "scan.nii"), tmp_path / "out", model, *NO_ANATOMY) == 0
    with zipfile.ZipFile(tmp_path / "out/scan_cmb.mrb") as scene:
        assert any(name.endswith(".mrml") for name in scene.namelist())
        assert {Path(name).parts[0] for name in scene.namelist()} == {"scan_cmb"}


@pytest.mark.slow
def testARelativePathIsThatOfTheCaller(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child process has another working folder."""
    writeScan(tmp_path / "scan.nii")
    monkeypatch.chdir(tmp_path)
    assert run("scan.nii", "out", model) == 0
    assert resultsOf(tmp_path / "out", "scan") == set(ENDINGS)


@pytest.mark.slow
def testASceneThatCannotBeWrittenIsTold(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    (out / "scan_cmb.mrb/in the way").mkdir(parents=True)
    assert run(writeScan(tmp_path / "scan.nii"), out, model) == 7
    told = capsys.readouterr()
    assert "scan_cmb.mrb: cannot be written" in told.err
    assert "0 done, 1 failed" in told.out
    assert not list(out.glob(".*"))


def testAChildThatDiesIsAFailure(
    scene: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    package = tmp_path / "fake/CMBDetectorLib"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text("import os\nos._exit(9)\n", encoding="utf-8")

    def makeDyingRunner(schedule: Schedule) -> PythonProcessRunner:
        return PythonProcessRunner(Path(sys.executable), package.parent, schedule)

    words: Sequence[str] = [str(writeScan(tmp_path / "scan.nii")), str(tmp_path / "out")]
    assert batch.runBatch(words, makeDyingRunner) == 9
    assert "ended without a result" in capsys.readouterr().err


# Arguments


def testTheLastWordIsAModelOnlyIfItIsOne(model: str, tmp_path: Path) -> None:
    scan = str(writeScan(tmp_path / "scan.nii"))
    request = batch.parseArguments([scan, "out", model])
    assert (request.model, request.outputFolder) == (model, Path("out").absolute())
    folder = tmp_path / "models" / model
    assert batch.parseArguments([scan, "out", str(folder)]).model == str(folder)
    # An output folder may be called as a model is.
    request = batch.parseArguments([scan, model])
    assert (request.model, request.outputFolder.name) == (None, model)
    request = batch.parseArguments([scan, scan, str(tmp_path)])
    assert (request.model, len(request.inputs)) == (None, 2)


def testOptionsComeLastAndAFileIsThatOfTheCaller(model: str, tmp_path: Path) -> None:
    scan = str(writeScan(tmp_path / "scan.nii"))
    assert batch.parseArguments([scan, "out"]).anatomy == "auto"
    request = batch.parseArguments([scan, "out", model, "--", "--anatomy", "none"])
    assert (request.anatomy, request.savesAnatomy, request.model) == ("none", False, model)
    request = batch.parseArguments([scan, "out", "--anatomy=aseg.nii.gz", "--save-anatomy"])
    assert request.anatomy == str(Path("aseg.nii.gz").absolute())
    assert (request.savesAnatomy, request.inputs) == (True, (Path(scan),))


@pytest.mark.parametrize("options", [["--anatomy"], ["--anatomy="], ["--anatomi", "none"]])
def testOptionsThatAreNoneAreRefused(options: list[str], app: object) -> None:
    with pytest.raises(UsageError, match=r"--anatomy auto\|none\|FILE"):
        batch.parseArguments(["scan.nii", "out", "--", *options])


@pytest.mark.parametrize("words", [[], ["scan.nii"]])
def testTooFewWordsAreRefused(words: list[str], app: object) -> None:
    with pytest.raises(UsageError, match=r"INPUT... OUTPUT_DIR \[MODEL\]"):
        batch.parseArguments(words)


def testAMisspelledModelIsNotTakenForAFolder(model: str, tmp_path: Path) -> None:
    scan = writeScan(tmp_path / "scan.nii")
    assert run(scan, tmp_path / "out", "darknes") == 2
    with pytest.raises(UsageError, match=rf"'darknes' may be meant as a model.*{model}"):
        batch.parseArguments([str(scan), str(tmp_path / "out"), "darknes"])
    assert not (tmp_path / "darknes").exists()


def testADefectOfTheScriptEndsSlicer(
    app: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """3D Slicer waits for ever where a script ends in an error."""

    def fail(_words: object) -> int:
        raise RuntimeError("a defect")

    monkeypatch.setattr(batch, "parseArguments", fail)
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), "scan.nii", str(tmp_path)])
    with pytest.raises(RuntimeError):
        runpy.run_path(str(SCRIPT))
    assert app.exitCodes == [1]
