"""A folder of images with a table of points, or with masks by name."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

HEADER = "image,x_ras_mm,y_ras_mm,z_ras_mm"


@pytest.fixture
def images(tmp_path: Path, head, save_nifti) -> Path:
    root = tmp_path / "images"
    for seed, name in enumerate(("a", "deep/a_2", "b.1")):
        made = head(("left-handed", "permuted", "oblique")[seed], seed=seed)
        save_nifti(root / f"{name}.nii.gz", made.array, made.affine)
    return root


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_points_in_space_or_in_voxels_are_the_same(images: Path, standardize, tmp_path) -> None:
    in_space, in_voxels = [HEADER], ["image;i;j;k"]
    affine = nib.load(images / "b.1.nii.gz").affine
    voxels = np.array([[22, 30, 12], [44, 22, 10]])
    for x, y, z in nib.affines.apply_affine(affine, voxels):
        in_space.append(f"b.1,{x},{y},{z}")
    in_voxels += [f"b.1.nii.gz;{i};{j};{k}" for i, j, k in voxels + 1]
    options = ("--sequence", "SWI", "--points")
    first = standardize(images, *options, write(tmp_path / "ras.csv", *in_space))
    second = standardize(
        images,
        *options,
        write(tmp_path / "ijk.csv", *in_voxels),
        "--index-base",
        1,
        output=tmp_path / "second",
    )
    assert list(first.scans) == ["sub-a2_swi", "sub-a_swi", "sub-b1_swi"]
    assert first.codes() == second.codes() == ["not-annotated"] * 2
    assert first.scans["sub-b1_swi"]["n_lesions"] == "2"
    assert first.points("sub-b1_swi") == second.points("sub-b1_swi")
    labels = [np.asarray(w.load("sub-b1_swi", "lesions").dataobj) for w in (first, second)]
    np.testing.assert_array_equal(*labels)


def test_a_row_without_numbers_is_a_scan_without_lesions(images, standardize, tmp_path) -> None:
    points = write(tmp_path / "points.csv", HEADER, "a,,,", "c,1,2,3")
    written = standardize(images, "--points", points, "--sequence", "T2*")
    rows = written.scans
    assert [rows[f"sub-{name}_T2starw"]["annotation"] for name in ("a", "a2", "b1")] == [
        "points",
        "none",
        "none",
    ]
    assert rows["sub-a_T2starw"]["n_lesions"] == "0"
    assert rows["sub-a2_T2starw"]["n_lesions"] == "n/a"
    assert written.codes() == ["image-missing", "not-annotated", "not-annotated"]


def test_masks_by_name_and_a_scan_table(images, standardize, tmp_path, head, save_nifti) -> None:
    for name, seed, affine in (
        ("a_mask", 0, "left-handed"),
        ("a_2-lesions", 1, "permuted"),
        ("lost", 0, "left-handed"),
    ):
        made = head(affine, seed=seed)
        save_nifti(images / "masks" / f"{name}.nii.gz", made.balls, made.affine)
    table = write(
        tmp_path / "table.csv",
        "image,participant_id,session,sequence,center,echo_time_ms",
        "a.nii.gz,sub-P1,one,SWI,Oslo,24",
        "deep/a_2.nii.gz,P1,ses-two,SWI,Oslo,n/a",
        "b.1.nii.gz,P2,,T2*,,",
    )
    written = standardize(images, "--masks", images / "masks", "--scan-table", table)
    rows = written.scans
    assert list(rows) == ["sub-P1_ses-one_swi", "sub-P1_ses-two_swi", "sub-P2_T2starw"]
    assert [row["n_lesions"] for row in rows.values()] == ["2", "2", "n/a"]
    assert rows["sub-P1_ses-one_swi"]["echo_time_ms"] == "24"
    assert rows["sub-P1_ses-two_swi"]["echo_time_ms"] == "n/a"
    people = {row["participant_id"]: row["n_scans"] for row in written.table("participants.tsv")}
    assert people == {"sub-P1": "2", "sub-P2": "1"}
    assert written.codes() == ["image-missing", "not-annotated"]


def test_names_as_in_bids_say_whose_images_they_are(
    standardize, tmp_path, head, save_nifti
) -> None:
    root = tmp_path / "named"
    names = ("sub-7_ses-1_T2S", "sub-7_ses-2_T2S", "sub-7_run-2_T2S", "sub-8_T2S", "plain")
    for seed, name in enumerate(names):
        made = head("left-handed", seed=seed)
        save_nifti(root / f"{name}.nii.gz", made.array, made.affine)
    points = write(tmp_path / "points.csv", HEADER, *(f"{name},,," for name in names))
    written = standardize(
        root, "--points", points, "--sequence", "T2*", "--split", "train=.5,test=.5"
    )
    assert {name: row["participant_id"] for name, row in written.scans.items()} == {
        "sub-7_ses-1_T2starw": "sub-7",
        "sub-7_ses-2_T2starw": "sub-7",
        "sub-7_acq-run2_T2starw": "sub-7",
        "sub-8_T2starw": "sub-8",
        "sub-plain_T2starw": "sub-plain",
    }
    of_seven = {r["split"] for r in written.scans.values() if r["participant_id"] == "sub-7"}
    assert len(of_seven) == 1


def test_outlines_are_grown(images, standardize, head, save_nifti) -> None:
    made = head("left-handed", seed=0)
    drawing = made.balls.copy()
    drawing[:, :, [k for k in range(24) if k not in (10, 12)]] = 0
    save_nifti(images / "drawn" / "a.nii.gz", drawing, made.affine)
    written = standardize(images, "--outlines", images / "drawn", "--sequence", "SWI")
    row = written.scans["sub-a_swi"]
    assert (row["annotation"], row["n_lesions"]) == ("outline", "2")
    labels = np.asarray(written.load("sub-a_swi", "lesions").dataobj)
    assert np.mean(labels[made.balls > 0] > 0) > 0.9


@pytest.mark.parametrize(
    ("options", "lines", "code", "message"),
    [
        (("--sequence", "SWI"), ("image,i,j,k", "a,1,2,3"), 2, "--index-base"),
        ((), (HEADER, "a,1,2,3"), 2, "--sequence"),
        (("--sequence", "SWI"), ("image,left,right", "a,1,2"), 3, "expected image and x_ras_mm"),
        (("--sequence", "SWI"), ("name,x,y,z", "a,1,2,3"), 3, "no column image"),
        (("--sequence", "SWI"), (HEADER, "a,1,up,3"), 3, "expected 3 numbers"),
    ],
)
def test_tables_that_do_not_say_enough(
    images, standardize, tmp_path, capsys, options, lines, code, message
) -> None:
    points = write(tmp_path / "points.csv", *lines)
    assert standardize(images, "--points", points, *options).code == code
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_images_of_one_name_are_refused(images, standardize, capsys, head, save_nifti) -> None:
    made = head()
    save_nifti(images / "again" / "a.nii", made.array, made.affine)
    assert standardize(images, "--layout", "generic", "--sequence", "SWI").code == 3
    assert "same name" in capsys.readouterr().err


def test_decimal_commas_are_not_taken_for_columns(images, standardize, tmp_path, capsys) -> None:
    points = write(tmp_path / "points.csv", HEADER, "a,12,0,14,0,12,0")
    assert standardize(images, "--points", points, "--sequence", "SWI").code == 3
    assert "more cells" in capsys.readouterr().err


def test_a_scan_table_that_names_no_image_is_told(images, standardize, tmp_path) -> None:
    points = write(tmp_path / "points.csv", HEADER, "a,,,")
    table = write(tmp_path / "table.csv", "image,participant_id", "aa,P1")
    written = standardize(images, "--points", points, "--scan-table", table, "--sequence", "SWI")
    assert "image-missing" in written.codes()


@pytest.mark.parametrize("value", ["3T", "nan", "-5"])
def test_a_field_strength_that_is_no_number(images, standardize, tmp_path, capsys, value) -> None:
    points = write(tmp_path / "points.csv", HEADER, "a,,,")
    table = write(tmp_path / "table.csv", "image,field_strength_t", f"a,{value}")
    options = ("--points", points, "--scan-table", table, "--sequence", "SWI")
    assert standardize(images, *options).code == 3
    assert "without its unit" in capsys.readouterr().err


def test_hidden_folders_are_left_out_and_endings_may_be_capital(
    images, standardize, tmp_path, head, save_nifti
) -> None:
    made = head("left-handed", seed=5)
    save_nifti(images / ".cache" / "hidden.nii.gz", made.array, made.affine)
    save_nifti(images / "upper.nii.gz", made.array, made.affine)
    (images / "upper.nii.gz").rename(images / "upper.NII.GZ")
    points = write(tmp_path / "points.csv", HEADER, "upper,,,")
    written = standardize(images, "--points", points, "--sequence", "SWI")
    assert "sub-upper_swi" in written.scans
    assert "sub-hidden_swi" not in written.scans


def test_an_output_inside_of_the_source_is_refused(images, standardize, tmp_path, capsys) -> None:
    points = write(tmp_path / "points.csv", HEADER, "a,,,")
    options = ("--points", points, "--sequence", "SWI")
    assert standardize(images, *options, output=images / "out").code == 2
    assert "inside" in capsys.readouterr().err


def test_a_file_that_was_emptied_is_made_again(images, standardize, tmp_path) -> None:
    points = write(tmp_path / "points.csv", HEADER, "a,,,")
    options = ("--points", points, "--sequence", "SWI")
    first = standardize(images, *options)
    copy = first.root / first.scans["sub-a_swi"]["image"]
    content = copy.read_bytes()
    copy.write_bytes(b"")
    standardize(images, *options)
    assert copy.read_bytes() == content


def test_a_participant_on_two_sides_under_two_spellings(
    images, standardize, tmp_path, capsys
) -> None:
    points = write(tmp_path / "points.csv", HEADER, "a,,,")
    splits = write(tmp_path / "splits.csv", "participant_id,split", "a,train", "sub-a,test")
    options = ("--points", points, "--sequence", "SWI", "--split-file", splits)
    assert standardize(images, *options).code == 3
    assert "is in train and in test" in capsys.readouterr().err
