"""Folders as inputs: which images are found, and where their results go."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from CMBDetectorLib.cli import main
from CMBDetectorLib.cli.inputs import IMAGE_SUFFIXES, ScanInput, expand_inputs, is_image_name
from CMBDetectorLib.errors import InputError
from CMBDetectorLib.io.reading import NIFTI_SUFFIXES, NRRD_SUFFIXES
from CMBDetectorLib.reporting.outputs import planned_outputs


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_the_images_of_a_folder_in_order_with_their_places(tmp_path):
    touch(tmp_path, "b.nii.gz", "a/x.NII", "a/deep/y.nrrd", "c.nhdr", "notes.txt", "d.hdr", "d.img")
    assert expand_inputs([tmp_path]) == [
        ScanInput(tmp_path / "a" / "deep" / "y.nrrd", Path("a/deep")),
        ScanInput(tmp_path / "a" / "x.NII", Path("a")),
        ScanInput(tmp_path / "b.nii.gz"),
        ScanInput(tmp_path / "c.nhdr"),
        ScanInput(tmp_path / "d.hdr"),
    ]


def test_files_are_left_as_they_are_whatever_they_are_called(tmp_path):
    touch(tmp_path, "sub/swi.nii", "t2_mask.nii")
    given = [tmp_path / "t2_mask.nii", tmp_path / "sub", tmp_path / "there is none.nii"]
    assert expand_inputs(given) == [
        ScanInput(tmp_path / "t2_mask.nii"),
        ScanInput(tmp_path / "sub" / "swi.nii"),
        ScanInput(tmp_path / "there is none.nii"),
    ]


def test_results_of_this_software_are_no_inputs(tmp_path):
    image = tmp_path / "scan.nii.gz"
    paths = planned_outputs(image, tmp_path, save_probability=True, save_segmentation=True)
    touch(tmp_path, "scan.nii.gz", *(path.name for path in paths.all_paths()))
    touch(tmp_path, "scan_cmb_reviewed_labels.nii.gz", "scan_cmb_reviewed.seg.nrrd")
    touch(tmp_path, ".cmb-12-ab/labels.nii.gz")
    assert expand_inputs([tmp_path]) == [ScanInput(image)]


@pytest.mark.parametrize(
    "name",
    [
        "scan_mask.nii.gz", "scan-brainmask.nii", "MASK.nrrd", "scan.seg.nrrd", "scan_dseg.nii",
        "sample_t2star_lesions.nii.gz", ".scan.nii", ".nii", "scan.img", "scan.dcm", "scan",
    ],
)  # fmt: skip
def test_names_that_are_left_out(name):
    assert not is_image_name(name)


@pytest.mark.parametrize(
    "name", ["masked.nii.gz", "unmask_1.nii", "sub-01_T2starw.nii.gz", "a.b.nii"]
)
def test_names_that_are_taken(name):
    assert is_image_name(name)


def test_the_kinds_of_files_are_those_that_can_be_read():
    assert set(IMAGE_SUFFIXES) | {".img"} == {*NIFTI_SUFFIXES, *NRRD_SUFFIXES}


def test_a_folder_without_images_is_refused_in_one_line(tmp_path, capsys):
    touch(tmp_path, "in/scan_mask.nii.gz")
    with pytest.raises(InputError, match="no image is in this folder"):
        expand_inputs([tmp_path / "in"])
    assert main(["detect", str(tmp_path / "in"), "-o", str(tmp_path / "out")]) == 3
    assert main(["check", str(tmp_path / "in")]) == 3
    shown = capsys.readouterr()
    assert [line.count("no image is in this folder") for line in shown.err.splitlines()] == [1, 1]
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(
    sys.platform == "win32" or os.geteuid() == 0, reason="needs POSIX permissions, and not root"
)
def test_a_folder_that_may_not_be_read_is_refused(tmp_path):
    (tmp_path / "secret").mkdir(mode=0)
    with pytest.raises(InputError, match="secret: the folder cannot be read"):
        expand_inputs([tmp_path])
