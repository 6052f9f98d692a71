"""Which files of a folder are which scan's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from CMBDetectorLib.errors import InputError
from CMBDetectorLib.geometry import Geometry
from training.analysis.sources import (
    dataset_names,
    find_cases,
    find_pairs,
    find_regions,
    find_scans,
)
from training.cases import write_case

GEOMETRY = Geometry((3, 3, 3), np.eye(4))


@pytest.fixture
def touch(save):
    def make(*paths: Path) -> None:
        for path in paths:
            save(np.zeros((3, 3, 3), dtype=np.uint8), GEOMETRY, path)

    return make


def test_a_standardized_dataset(tmp_path: Path, write_dataset) -> None:
    scans = find_scans(write_dataset(tmp_path, [1, 0, None, -2]), "set")
    assert [scan.scan_id for scan in scans] == [f"sub-{n:02d}_T2starw" for n in range(4)]
    assert [scan.lesions is not None for scan in scans] == [True, True, False, False]
    assert [scan.points is not None for scan in scans] == [False, False, False, True]
    assert scans[0].lesions_are == "values"
    assert scans[0].attributes["sequence"] == "T2*"
    assert "n_lesions" not in scans[0].attributes


def test_simulated_cases(tmp_path: Path, make_case) -> None:
    case = make_case(
        "01-a", "01", affine=np.diag([-0.5, 0.5, 2, 1.0]), shape=(24, 26, 12), balls=[]
    )
    write_case(tmp_path, case)
    for found in (find_scans(tmp_path, "set"), find_cases(tmp_path, "set")):
        assert [scan.scan_id for scan in found] == ["01-a"]
        assert found[0].lesions == tmp_path / "01-a" / "truth.nii.gz"


def test_a_folder_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--images and --lesions"):
        find_scans(tmp_path, "set")
    with pytest.raises(InputError, match="got no folder"):
        find_scans(tmp_path / "missing", "set")


def test_pairs_are_matched_by_name(tmp_path: Path, touch) -> None:
    images, lesions = tmp_path / "images", tmp_path / "lesions"
    touch(images / "a.nii.gz", images / "b.nii.gz", images / "sub-1_T2S.nii", images / "c 10.nii")
    touch(lesions / "a_lesions.nii.gz", lesions / "b.nii", lesions / "sub-1_T2S_cmb_labels.nii.gz")
    (images / "notes.txt").write_text("x", encoding="utf-8")
    touch(images / ".hidden.nii.gz", images / "a_brain_mask.nii.gz")
    found = {scan.scan_id: scan.lesions for scan in find_pairs(images, lesions, "set")}
    assert found == {
        "a": lesions / "a_lesions.nii.gz",
        "b": lesions / "b.nii",
        "c 10": None,
        "sub-1_T2S": lesions / "sub-1_T2S_cmb_labels.nii.gz",
    }


def test_a_label_map_without_its_image_is_named(tmp_path: Path, touch) -> None:
    images, lesions = tmp_path / "images", tmp_path / "lesions"
    touch(images / "a.nii.gz", lesions / "a.nii.gz", lesions / "z_lesions.nii.gz")
    with pytest.raises(InputError, match=r"z_lesions\.nii\.gz"):
        find_pairs(images, lesions, "set")


def test_two_label_maps_of_one_image_are_refused(tmp_path: Path, touch) -> None:
    images, lesions = tmp_path / "images", tmp_path / "lesions"
    touch(images / "a.nii.gz", lesions / "a_lesions.nii.gz", lesions / "a_mask.nii.gz")
    with pytest.raises(InputError, match=r"a_lesions\.nii\.gz, a_mask\.nii\.gz"):
        find_pairs(images, lesions, "set")


def test_empty_folders_are_refused(tmp_path: Path, touch) -> None:
    touch(tmp_path / "images" / "a.nii.gz")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(InputError, match="holds no volume"):
        find_pairs(tmp_path / "images", tmp_path / "nothing", "set")
    with pytest.raises(InputError, match="there is none"):
        find_pairs(tmp_path / "images", tmp_path / "missing", "set")


def test_regions_of_some_scans(tmp_path: Path, touch) -> None:
    touch(tmp_path / "sub-01_T2starw_aseg.nii.gz", tmp_path / "other.nii.gz")
    found = find_regions(tmp_path, ["sub-01_T2starw", "sub-02_T2starw"])
    assert found == {"sub-01_T2starw": tmp_path / "sub-01_T2starw_aseg.nii.gz"}
    with pytest.raises(InputError, match="no region map"):
        find_regions(tmp_path, ["sub-03_T2starw"])


def test_names_of_datasets(tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "b", tmp_path / "c"]
    assert dataset_names(folders, ["A", "B"]) == ["A", "B", "c"]
    assert dataset_names(folders, []) == ["a", "b", "c"]
