"""BIDS: masks by their entities, and the written layout read again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from CMBDetectorLib.errors import InputError
from training.datasets.bids_derivative import BidsDerivative


@pytest.fixture
def bids(tmp_path: Path, head, save_nifti) -> Path:
    root = tmp_path / "bids"
    made = head("oblique")
    anat = root / "sub-01" / "ses-a" / "anat"
    save_nifti(anat / "sub-01_ses-a_run-2_swi.nii.gz", made.array, made.affine)
    sidecar = {"MagneticFieldStrength": 3, "EchoTime": 0.02}
    (anat / "sub-01_ses-a_run-2_swi.json").write_text(json.dumps(sidecar), encoding="utf-8")
    masks = root / "derivatives" / "reader" / "sub-01" / "ses-a" / "anat"
    save_nifti(
        masks / "sub-01_ses-a_run-2_space-orig_label-cmb_mask.nii.gz", made.balls, made.affine
    )
    save_nifti(
        masks / "sub-01_ses-a_run-2_swi_desc-brain_mask.nii.gz",
        (made.array > 0).astype(np.uint8),
        made.affine,
    )
    other = head("left-handed", seed=5)
    save_nifti(root / "sub-02" / "anat" / "sub-02_T2starw.nii.gz", other.array, other.affine)
    save_nifti(root / "sub-02" / "anat" / "sub-02_T1w.nii.gz", other.array, other.affine)
    (root / "participants.tsv").write_text("participant_id\tsite\nsub-01\tAarhus\n")
    return root


def test_masks_and_facts_are_found(bids: Path, standardize, same_image, head) -> None:
    written = standardize(bids)
    assert list(written.scans) == ["sub-01_ses-a_acq-run2_swi", "sub-02_T2starw"]
    first, second = written.scans.values()
    assert (first["annotation"], first["n_lesions"]) == ("mask", "2")
    assert (first["field_strength_t"], first["echo_time_ms"]) == ("3", "20")
    assert (first["center"], second["center"]) == ("Aarhus", "n/a")
    assert (second["annotation"], second["lesions"], second["n_lesions"]) == ("none", "n/a", "n/a")
    assert written.codes() == ["not-annotated"]
    labels = np.asarray(written.load("sub-01_ses-a_acq-run2_swi", "lesions").dataobj)
    np.testing.assert_array_equal(labels, head("oblique").balls)
    brain = np.asarray(written.load("sub-01_ses-a_acq-run2_swi", "brain_mask").dataobj)
    np.testing.assert_array_equal(brain, head("oblique").array > 0)
    source = bids / "sub-02" / "anat" / "sub-02_T2starw.nii.gz"
    same_image(source, written.load("sub-02_T2starw"))


def test_what_was_written_can_be_the_source(bids: Path, standardize, tmp_path: Path) -> None:
    first = standardize(bids, output=tmp_path / "a")
    again = standardize(tmp_path / "a", output=tmp_path / "b")
    assert [row["image_sha256"] for row in again.scans.values()] == [
        row["image_sha256"] for row in first.scans.values()
    ]
    assert [row["n_lesions"] for row in again.scans.values()] == ["2", "n/a"]


def test_nothing_is_chosen_of_several_masks(bids: Path, standardize, head, save_nifti) -> None:
    made = head("oblique")
    masks = bids / "derivatives" / "sub-01" / "ses-a" / "anat"
    save_nifti(masks / "sub-01_ses-a_run-2_desc-microbleeds_dseg.nii.gz", made.balls, made.affine)
    save_nifti(masks / "sub-09_desc-cmb_mask.nii.gz", made.balls, made.affine)
    written = standardize(bids)
    assert list(written.scans) == ["sub-02_T2starw"]
    assert written.codes() == ["ambiguous-annotation", "image-missing", "not-annotated"]


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="sub-01_T2starw"):
        list(BidsDerivative().scans(tmp_path))
