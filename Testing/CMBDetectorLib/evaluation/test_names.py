"""Which files are taken for the same scan."""

from __future__ import annotations

from pathlib import Path

import pytest

from CMBDetectorLib.evaluation.names import (
    ScanName,
    in_natural_order,
    is_brain_mask,
    is_lesion_name,
    is_probability,
    match_names,
    scan_name,
    strip_words,
    unique_ids,
)


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("sub-101_T2starw_cmb_labels.nii.gz", "sub-101_T2starw"),
        ("sub-101_T2starw_cmb.csv", "sub-101_T2starw"),
        ("sub-101_T2starw_cmb.seg.nrrd", "sub-101_T2starw"),
        ("sub-101_T2starw_cmb_probability.nii.gz", "sub-101_T2starw"),
        ("sub-101_T2starw_cmb_reviewed_labels.nii.gz", "sub-101_T2starw"),
        ("sub-101_T2starw_desc-cmb_dseg.nii.gz", "sub-101_T2starw"),
        ("sub-101_T2starw_desc-cmb_points.csv", "sub-101_T2starw"),
        ("sub-101_space-T2S_CMB.nii.gz", "sub-101_space-T2S"),
        ("sub-101_space-T2S_desc-masked_T2S.nii.gz", "sub-101_space-T2S_desc-masked_T2S"),
        ("case7-mask.nii", "case7"),
        ("case7.label.nrrd", "case7"),
        ("case 7 lesions.nii", "case 7"),
        ("case7_manual_mask.nii.gz", "case7"),
        ("007.nii.gz", "007"),
        ("mask_7.nii.gz", "mask_7"),
    ],
)
def test_the_scan_a_file_is_of(file, name):
    assert scan_name(Path(file)).name == name


def test_a_file_called_nothing_but_mask_is_named_by_its_folder(tmp_path):
    file = tmp_path / "site" / "case7" / "mask.nii.gz"
    assert scan_name(file, tmp_path) == ScanName("case7", "site")
    assert scan_name(file).name == "case7"


@pytest.mark.parametrize(
    ("stem", "lesions"),
    [
        ("a_CMB", True),
        ("a_mask", True),
        ("a_brain_mask", False),
        ("a_desc-brain_mask", False),
        ("a_brainmask", False),
        ("a_T2S", False),
        ("a_desc-masked_T2S", False),
    ],
)
def test_names_that_say_lesions(stem, lesions):
    assert is_lesion_name(stem) is lesions
    assert is_brain_mask(stem) is ("brain" in stem)


def test_names_that_say_probability():
    assert is_probability("a_cmb_probability")
    assert is_probability("a_desc-cmb_probseg")
    assert not is_probability("a_cmb_labels")


def pairs(first: list[str], second: list[str]) -> list[tuple[str, str]]:
    sides = [[named(text) for text in side] for side in (first, second)]
    return [(first[a], second[b]) for a, b in match_names(*sides).pairs]


def named(text: str) -> ScanName:
    folder, _, name = text.rpartition("/")
    return ScanName(name, folder)


def test_names_meet_in_any_order_and_case():
    assert pairs(["a", "b", "c"], ["C", "A"]) == [("a", "A"), ("c", "C")]


def test_names_that_repeat_meet_in_their_folders():
    assert pairs(["s1/swi", "s2/swi"], ["s2/swi", "s1/swi"]) == [
        ("s1/swi", "s1/swi"),
        ("s2/swi", "s2/swi"),
    ]


def test_a_name_may_lie_in_another_folder():
    assert pairs(["x/a", "x/b"], ["deep/er/b"]) == [("x/b", "deep/er/b")]


def test_a_name_that_is_there_twice_is_ambiguous():
    matched = match_names([ScanName("a", "x"), ScanName("a", "y")], [ScanName("a")])
    assert matched.pairs == ()
    assert matched.ambiguous == (((0, 1), (0,)),)


def test_bids_entities_meet_where_names_do_not():
    truth = ["sub-101_space-T2S", "sub-102_ses-1_T2starw", "sub-103_run-1_swi"]
    prediction = ["sub-103_run-01_desc-x_swi", "sub-102_ses-1_swi", "sub-101_T2S"]
    assert pairs(truth, prediction) == [
        (truth[0], prediction[2]),
        (truth[1], prediction[1]),
        (truth[2], prediction[0]),
    ]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (["sub-1_ses-1_swi"], ["sub-1_ses-2_swi"]),
        (["sub-1_run-1_swi"], ["sub-1_run-2_swi"]),
        (["sub-1_swi"], ["sub-11_swi"]),
        (["sub-1_T2starw"], ["sub-1_swi", "sub-1_GRE"]),
        (["sub-1_T2starw", "sub-1_swi"], ["sub-1_GRE"]),
        (["case1"], ["case2"]),
    ],
)
def test_scans_that_are_not_the_same(first, second):
    assert pairs(first, second) == []


def test_two_scans_of_a_subject_meet_by_their_names_only():
    first, second = ["sub-1_T2starw", "sub-1_swi"], ["sub-1_swi", "sub-1_GRE"]
    assert pairs(first, second) == [("sub-1_swi", "sub-1_swi")]


def test_ids_are_unique():
    names = [ScanName("swi", "s1"), ScanName("SWI", "s2"), ScanName("b", "s1")]
    assert unique_ids(names) == ["s1/swi", "s2/SWI", "b"]


def test_natural_order():
    assert sorted(["s10", "S2", "s1", "a"], key=in_natural_order) == ["a", "s1", "S2", "s10"]


def test_other_words_can_be_left_out():
    assert strip_words("a_synthseg", frozenset({"synthseg"})) == "a"
    assert strip_words("a_mask", frozenset()) == "a_mask"
