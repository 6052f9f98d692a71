"""What is taken for lesions in a folder, and what is left alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from CMBDetectorLib.errors import InputError
from CMBDetectorLib.evaluation.outcomes import Side
from CMBDetectorLib.evaluation.sources import Source, find_source
from CMBDetectorLib.reporting.counts import format_counts_csv

POINTS = "x_ras_mm,y_ras_mm,z_ras_mm\n1,2,3\n"
COHORT = "scan_id,x_ras_mm,y_ras_mm,z_ras_mm\nsub-1.nii.gz,1,2,3\nsub-2,1,2,3\nSUB-1,4,5,6\n"


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(POINTS if name.endswith((".csv", ".tsv")) else "", encoding="utf-8")


def found(folder: Path, side: Side = "prediction", **options: bool) -> dict[str, str]:
    source = find_source(folder, side, **options)
    return {scan.name.name: scan.file.relative_to(source.path).as_posix() for scan in source.scans}


def left_out(source: Source) -> list[str]:
    return [issue.message for issue in source.issues if issue.code == "left-out"]


def test_a_folder_of_plain_names(tmp_path):
    touch(
        tmp_path, "1.nii.gz", "deep/2.nrrd", "3.hdr", "3.img", "notes.txt", ".hid/4.nii", ".5.nii"
    )
    assert found(tmp_path) == {"1": "1.nii.gz", "2": "deep/2.nrrd", "3": "3.hdr"}


def test_images_beside_masks_are_left_out(tmp_path):
    touch(tmp_path, "sub-1/sub-1_space-T2S_CMB.nii.gz", "sub-1/sub-1_space-T2S_T1.nii.gz")
    touch(tmp_path, "sub-1/sub-1_space-T2S_brain_mask.nii.gz")
    assert list(found(tmp_path)) == ["sub-1_space-T2S"]
    [message] = left_out(find_source(tmp_path, "truth"))
    assert message.startswith("1 file was not taken for the truth")


def test_results_of_detect_are_one_scan_each(tmp_path):
    names = ("_labels.nii.gz", ".csv", ".json", ".png", ".seg.nrrd", "_probability.nii.gz")
    touch(tmp_path, *(f"s/swi_cmb{name}" for name in names), "t/swi_cmb.csv")
    touch(tmp_path, "s/swi_cmb_anatomy.nii.gz", "t/swi_cmb_anatomy.nii.gz")
    for folder in "st":
        counts = format_counts_csv("swi.nii.gz", [], anatomy="network", n_dropped=0)
        (tmp_path / folder / "swi_cmb_summary.csv").write_text(counts, encoding="utf-8")
    for threshold in (False, True):
        source = find_source(tmp_path, "prediction", takes_probability=threshold)
        labels, table = source.scans
        assert labels.file == tmp_path / "s/swi_cmb_labels.nii.gz"
        assert labels.scores_file == tmp_path / "s/swi_cmb.csv"
        assert (table.file, table.is_table) == (tmp_path / "t/swi_cmb.csv", True)
        assert source.clashes == ()
        assert source.issues == ()


def test_reviewed_results_are_the_truth_and_plain_ones_the_prediction(tmp_path):
    touch(tmp_path, "a_cmb_labels.nii.gz", "a_cmb.csv")
    touch(tmp_path, "a_cmb_reviewed_labels.nii.gz", "a_cmb_reviewed.csv", "b_cmb_labels.nii.gz")
    assert found(tmp_path, "truth") == {
        "a": "a_cmb_reviewed_labels.nii.gz",
        "b": "b_cmb_labels.nii.gz",
    }
    assert found(tmp_path) == {"a": "a_cmb_labels.nii.gz", "b": "b_cmb_labels.nii.gz"}
    named = find_source(tmp_path / "a_cmb_reviewed_labels.nii.gz", "prediction")
    assert named.scans[0].scores_file == tmp_path / "a_cmb_reviewed.csv"


def test_probability_maps_need_a_threshold(tmp_path):
    touch(tmp_path, "a_probability.nii.gz", "b_probseg.nii.gz", "b_dseg.nii.gz")
    assert found(tmp_path) == {"b": "b_dseg.nii.gz"}
    assert found(tmp_path, takes_probability=True) == {
        "a": "a_probability.nii.gz",
        "b": "b_dseg.nii.gz",
    }


def test_only_probability_maps(tmp_path):
    touch(tmp_path, "a_probability.nii.gz")
    with pytest.raises(InputError, match=r"no lesions are in this folder.*--threshold"):
        find_source(tmp_path, "prediction")


def test_two_masks_of_a_scan_clash(tmp_path):
    touch(tmp_path, "a_mask.nii.gz", "a_seg.nrrd", "b_mask.nii.gz")
    source = find_source(tmp_path, "truth")
    assert [scan.name.name for scan in source.scans] == ["b"]
    [(name, files)] = source.clashes
    assert name.name == "a"
    assert files == (tmp_path / "a_mask.nii.gz", tmp_path / "a_seg.nrrd")


def test_a_folder_of_points(tmp_path):
    touch(tmp_path, "a.csv", "b_points.tsv")
    (tmp_path / "participants.tsv").write_text("participant_id\tage\n", encoding="utf-8")
    (tmp_path / "damaged.csv").write_bytes(b"\xff\xfe\x00")
    assert found(tmp_path) == {"a": "a.csv", "b": "b_points.tsv"}
    assert "damaged.csv" in left_out(find_source(tmp_path, "truth"))[0]


def test_a_table_of_a_cohort(tmp_path):
    (tmp_path / "all.csv").write_text(COHORT, encoding="utf-8")
    for path in (tmp_path / "all.csv", tmp_path):
        source = find_source(path, "truth")
        assert source.is_cohort_table
        assert not source.is_single
        assert [scan.name.name for scan in source.scans] == ["sub-1", "sub-2"]
        assert [len(scan.points or ()) for scan in source.scans] == [2, 1]


def test_a_table_of_a_cohort_beside_label_maps_is_left_out(tmp_path):
    touch(tmp_path, "a.nii.gz")
    (tmp_path / "all.csv").write_text(COHORT, encoding="utf-8")
    source = find_source(tmp_path, "truth")
    assert [scan.file.name for scan in source.scans] == ["a.nii.gz"]
    assert "all.csv" in left_out(source)[0]


def test_a_bids_dataset_has_its_lesions_in_the_derivative(tmp_path):
    anat = "derivatives/lesions/sub-1/anat/sub-1_T2starw"
    touch(tmp_path, "sub-1/anat/sub-1_T2starw.nii.gz", f"{anat}_desc-cmb_dseg.nii.gz")
    touch(tmp_path, f"{anat}_desc-cmb_points.csv", f"{anat}_desc-brain_mask.nii.gz")
    touch(tmp_path, "derivatives/lesions/sub-2/anat/sub-2_swi_desc-cmb_points.csv")
    (tmp_path / "dataset_description.json").write_text("{}", encoding="utf-8")
    for folder in (tmp_path, tmp_path / "derivatives/lesions"):
        source = find_source(folder, "truth")
        assert [(s.name.name, s.is_table) for s in source.scans] == [
            ("sub-1_T2starw", False),
            ("sub-2_swi", True),
        ]


def test_other_segmentations_of_a_bids_derivative_are_left_out(tmp_path):
    touch(tmp_path, "sub-1_desc-aparcaseg_dseg.nii.gz", "sub-1_desc-cmb_dseg.nii.gz")
    assert found(tmp_path) == {"sub-1": "sub-1_desc-cmb_dseg.nii.gz"}


def test_named_files(tmp_path):
    touch(tmp_path, "prob_probability.nii.gz", "points.csv")
    assert find_source(tmp_path / "prob_probability.nii.gz", "prediction").is_single
    assert find_source(tmp_path / "points.csv", "prediction").scans[0].is_table


@pytest.mark.parametrize("name", ["none", "none.nii.gz", "x" * 300])
def test_there_is_nothing(name, tmp_path):
    with pytest.raises(InputError, match=r"no such file|too long"):
        find_source(tmp_path / name, "truth")


def test_an_empty_folder(tmp_path):
    with pytest.raises(InputError, match="no lesions are in this folder"):
        find_source(tmp_path, "truth")
