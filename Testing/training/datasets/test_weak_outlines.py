"""Weak outlines: replicas of the two layouts that are known from public code."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from CMBDetectorLib.errors import InputError
from training.datasets.weak_outlines import WeakOutlines

VOXELS = ((22, 30, 12), (44, 22, 10))


def draw(shape: tuple[int, int, int], values: tuple[int, int]) -> np.ndarray:
    """A disc in one slice around each voxel."""
    drawing = np.zeros(shape, np.int16)
    for (i, j, k), value in zip(VOXELS, values, strict=True):
        drawing[i - 2 : i + 3, j - 2 : j + 3, k] = value
    return drawing


@pytest.fixture
def rodeja(tmp_path: Path, head, save_nifti) -> Path:
    root = tmp_path / "set" / "cmb_annotations"
    for seed, (name, part) in enumerate(
        {"H001": "cph_annotated", "H002": "cph_annotated_mip"}.items()
    ):
        made = head("left-handed", VOXELS, seed=seed)
        save_nifti(root / part / "images" / "a" / f"{name}.nii.gz", made.array, made.affine)
        # The published drawings have no orientation.
        drawing = draw(made.array.shape, (3, 7))
        save_nifti(root / "Annotations" / "b" / f"{name}mask.nii", drawing, None)
    return root


@pytest.fixture
def study(tmp_path: Path, head, save_nifti) -> Path:
    root = tmp_path / "studies" / "case 7"
    made = head("oblique", VOXELS)
    series = "T2S_4_axial"
    save_nifti(root / "images" / series / "x.nii.gz", made.array, made.affine)
    save_nifti(
        root / "segmentations" / f"{series}.nii.gz", draw(made.array.shape, (1, 2)), made.affine
    )
    marks = {"1": {"attributes": {"Multiple": False}}, "2": {"attributes": {}}}
    tasks = [{"name": "case 7", "series": [{"name": series, "segmentMap": marks}]}]
    (root / "tasks.json").write_text(json.dumps(tasks), encoding="utf-8")
    return root


def test_drawings_become_masks(rodeja: Path, standardize, head, same_image) -> None:
    written = standardize(rodeja.parent)
    assert list(written.scans) == ["sub-H001_swi", "sub-H002_swi"]
    assert {row["annotation"] for row in written.scans.values()} == {"outline"}
    assert written.codes() == ["mask-without-orientation"] * 2
    same_image(
        rodeja / "cph_annotated" / "images" / "a" / "H001.nii.gz", written.load("sub-H001_swi")
    )
    labels = np.asarray(written.load("sub-H001_swi", "lesions").dataobj)
    balls = head("left-handed", VOXELS).balls
    assert [labels[voxel] for voxel in VOXELS] == [1, 2]
    assert np.mean(labels[balls > 0] > 0) > 0.9, "the mask reaches beyond the one slice"
    assert np.sum(labels > 0) < 1.3 * np.sum(balls > 0)


def test_a_study_with_its_list(study: Path, standardize) -> None:
    written = standardize(study.parent)
    row = written.scans["sub-case7_T2starw"]
    assert (row["sequence"], row["n_listed"], row["n_lesions"]) == ("T2*", "2", "2")
    assert written.codes() == []


def test_what_is_drawn_and_not_listed_is_not_taken(study: Path, standardize) -> None:
    text = (study / "tasks.json").read_text(encoding="utf-8")
    marks = '"2": {"attributes": {}}'
    (study / "tasks.json").write_text(text.replace(marks, '"5": {"attributes": {}}'))
    written = standardize(study.parent)
    assert written.scans["sub-case7_T2starw"]["n_lesions"] == "1"
    assert written.codes() == ["count-differs", "unlisted-label"]


def test_what_does_not_pair_is_named(rodeja: Path, study: Path, standardize, tmp_path) -> None:
    (rodeja / "Annotations" / "b" / "H001mask.nii").rename(rodeja / "Annotations" / "H009mask.nii")
    (rodeja / "Annotations" / "other.nii").write_bytes(b"")
    written = standardize(rodeja.parent)
    assert list(written.scans) == ["sub-H002_swi"]
    assert written.codes()[:2] == ["annotation-missing", "image-missing"]
    assert "name-not-understood" in written.codes()
    (study / "tasks.json").write_text("[]", encoding="utf-8")
    assert standardize(study.parent, output=tmp_path / "b").code == 3


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cph_annotated"):
        list(WeakOutlines().scans(tmp_path))
