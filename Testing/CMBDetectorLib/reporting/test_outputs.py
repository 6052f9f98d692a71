from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import nibabel as nib
import nrrd
import numpy as np
import pytest
from PIL import Image

from CMBDetectorLib.errors import Cancelled, OutputError, UsageError
from CMBDetectorLib.progress import CancelToken, ProgressReporter
from CMBDetectorLib.reporting import outputs
from CMBDetectorLib.reporting.document import read_document
from CMBDetectorLib.reporting.outputs import output_stem, planned_outputs, write_outputs
from CMBDetectorLib.reporting.tables import read_csv

CENTERS = [(10.0, 5.0, 0.0), (-12.0, -8.0, 6.0)]
DISK_FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("a.nii.gz", "a"),
        ("a.nii", "a"),
        ("A.NII.GZ", "A"),
        ("a.nrrd", "a"),
        ("a.nhdr", "a"),
        ("a.hdr", "a"),
        ("a.img", "a"),
        ("sub-01.T2S.nii.gz", "sub-01.T2S"),
        ("größe 脳.nii.gz", "größe 脳"),
        ("a.mgz", "a.mgz"),
        (".nii", ".nii"),
    ],
)
def test_stem(name: str, stem: str) -> None:
    assert output_stem(Path("x") / name) == stem


def test_planned_outputs_name_every_file(tmp_path: Path) -> None:
    paths = planned_outputs(Path("in/s.nii.gz"), tmp_path / "new", save_probability=True)
    assert [path.name for path in paths.all_paths()] == [
        "s_cmb_labels.nii.gz",
        "s_cmb.csv",
        "s_cmb_summary.csv",
        "s_cmb.json",
        "s_cmb.png",
        "s_cmb_probability.nii.gz",
    ]
    assert not (tmp_path / "new").exists()
    assert len(planned_outputs(Path("s.nii"), tmp_path, save_probability=False).all_paths()) == 5
    paths = planned_outputs(Path("s.nii"), tmp_path, save_probability=False, save_segmentation=True)
    assert paths.named()["segmentation"].name == "s_cmb.seg.nrrd"
    assert len(paths.all_paths()) == 6
    paths = planned_outputs(Path("s.nii"), tmp_path, save_probability=False, save_anatomy=True)
    assert paths.named()["anatomy"].name == "s_cmb_anatomy.nii.gz"


def test_segmentation_of_a_run_has_a_segment_for_each_lesion(make_result, tmp_path: Path) -> None:
    result, image = make_result(CENTERS)
    paths = planned_outputs(
        Path("s.nii.gz"), tmp_path, save_probability=False, save_segmentation=True
    )
    write_outputs(result, image, paths)
    assert sorted(tmp_path.iterdir()) == sorted(paths.all_paths())
    data, header = nrrd.read(str(paths.segmentation))
    np.testing.assert_array_equal(data, result.label_map.array)
    assert [header[f"Segment{number}_Name"] for number in range(2)] == ["CMB 1", "CMB 2"]
    assert "CMBDetector.Verdict:unreviewed|" in header["Segment0_Tags"]
    assert read_document(paths.document).outputs["segmentation"] == "s_cmb.seg.nrrd"


def test_writes_all_files_and_nothing_else(make_result, tmp_path: Path) -> None:
    result, image = make_result(CENTERS, keep_probability=True)
    folder = tmp_path / "new" / "größe 脳"
    paths = planned_outputs(Path("s.nii.gz"), folder, save_probability=True)
    write_outputs(result, image, paths)
    assert sorted(folder.iterdir()) == sorted(paths.all_paths())

    labels = nib.load(paths.labels)
    np.testing.assert_array_equal(np.asarray(labels.dataobj), result.label_map.array)
    np.testing.assert_allclose(labels.affine, image.geometry.affine, atol=1e-5)
    assert labels.get_data_dtype() == np.int16
    probability = nib.load(paths.probability)
    np.testing.assert_array_equal(np.asarray(probability.dataobj), result.probability.array)
    assert len(read_csv(paths.table)) == 2
    read = read_document(paths.document)
    assert read.detections == result.detections
    for name, file in read.outputs.items():
        assert (folder / file).is_file(), name
    with Image.open(paths.picture) as picture:
        picture.load()
        assert picture.format == "PNG"


def test_replaces_earlier_results(make_result, tmp_path: Path) -> None:
    paths = planned_outputs(Path("s.nii.gz"), tmp_path, save_probability=False)
    result, image = make_result(CENTERS)
    write_outputs(result, image, paths)
    result, image = make_result([])
    write_outputs(result, image, paths)
    assert read_csv(paths.table) == ()
    assert json.loads(paths.document.read_text(encoding="utf-8"))["lesions"] == []
    assert sorted(tmp_path.iterdir()) == sorted(paths.all_paths())


@pytest.mark.parametrize("writer", ["write_nifti", "write_text", "write_montage"])
@pytest.mark.parametrize("failure", [DISK_FULL, KeyboardInterrupt()])
def test_failure_leaves_nothing(
    make_result,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    writer: str,
    failure: BaseException,
) -> None:
    def fail(*arguments: object) -> None:
        target = next(argument for argument in arguments if isinstance(argument, Path))
        target.write_bytes(b"half")
        raise failure

    monkeypatch.setattr(outputs, writer, fail)
    result, image = make_result(CENTERS)
    folder = tmp_path / "made" / "for it"
    paths = planned_outputs(Path("s.nii.gz"), folder, save_probability=False)
    expected = OutputError if isinstance(failure, OSError) else KeyboardInterrupt
    with pytest.raises(expected) as caught:
        write_outputs(result, image, paths)
    assert list(tmp_path.iterdir()) == []
    if expected is OutputError:
        assert str(folder / "s_cmb") in str(caught.value)
        assert ".cmb-" not in str(caught.value)
        assert "\n" not in str(caught.value)


def test_full_disk_during_a_real_write_names_the_final_file(
    make_result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise DISK_FULL

    monkeypatch.setattr(os, "fsync", full)
    result, image = make_result(CENTERS)
    paths = planned_outputs(Path("s.nii.gz"), tmp_path, save_probability=False)
    with pytest.raises(OutputError, match="s_cmb_labels") as caught:
        write_outputs(result, image, paths)
    assert ".cmb-" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("n_moves_before", range(10))
@pytest.mark.parametrize("failure", [DISK_FULL, KeyboardInterrupt()])
def test_failure_while_moving_restores_the_earlier_results(
    make_result,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    n_moves_before: int,
    failure: BaseException,
) -> None:
    paths = planned_outputs(Path("s.nii.gz"), tmp_path, save_probability=False)
    result, image = make_result(CENTERS)
    write_outputs(result, image, paths)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}

    other, image = make_result(CENTERS[:1])
    moves = 0
    real_replace = Path.replace

    def replace(self: Path, target: Path) -> Path:
        nonlocal moves
        moves += tmp_path in (self.parent, Path(target).parent)
        if moves == n_moves_before + 1:
            moves += 1
            raise failure
        return real_replace(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises((OutputError, KeyboardInterrupt)):
        write_outputs(other, image, paths)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_cancel_between_two_files_leaves_nothing(make_result, tmp_path: Path) -> None:
    cancel = CancelToken()
    reporter = ProgressReporter({"write": 1.0}, lambda event: cancel.cancel(), cancel)
    result, image = make_result(CENTERS)
    paths = planned_outputs(Path("s.nii.gz"), tmp_path, save_probability=False)
    with pytest.raises(Cancelled):
        write_outputs(result, image, paths, reporter=reporter)
    assert list(tmp_path.iterdir()) == []


def test_output_folder_that_is_a_file_is_refused(make_result, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("", encoding="utf-8")
    result, image = make_result([])
    paths = planned_outputs(Path("s.nii.gz"), tmp_path / "out", save_probability=False)
    with pytest.raises(OutputError, match="out"):
        write_outputs(result, image, paths)
    assert (tmp_path / "out").is_file()


def test_folder_in_the_place_of_a_file_is_kept(make_result, tmp_path: Path) -> None:
    result, image = make_result([])
    paths = planned_outputs(Path("s.nii.gz"), tmp_path, save_probability=False)
    paths.picture.mkdir()
    (paths.picture / "precious").write_text("", encoding="utf-8")
    with pytest.raises(OutputError, match=r"s_cmb\.png is a folder"):
        write_outputs(result, image, paths)
    assert [path.name for path in tmp_path.rglob("*")] == ["s_cmb.png", "precious"]


def test_names_up_to_the_file_system_s_limit_work(make_result, tmp_path: Path) -> None:
    result, image = make_result([])
    stem = "x" * (255 - len("_cmb_labels.nii.gz"))
    paths = planned_outputs(Path(f"{stem}.nii"), tmp_path, save_probability=False)
    write_outputs(result, image, paths)
    assert paths.labels.is_file()


def test_probability_that_was_not_kept_is_refused(make_result, tmp_path: Path) -> None:
    result, image = make_result([])
    paths = planned_outputs(Path("s.nii.gz"), tmp_path, save_probability=True)
    with pytest.raises(UsageError, match="probability"):
        write_outputs(result, image, paths)
