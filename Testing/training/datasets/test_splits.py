from __future__ import annotations

import hashlib
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from CMBDetectorLib.errors import InputError, UsageError
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.volume import Volume
from training.datasets.splits import (
    SplitEntry,
    assign_splits,
    check_splits,
    image_hash,
    read_split_file,
    same_person_groups,
    split_hash,
)

FRACTIONS = {"train": 0.7, "validation": 0.1, "test": 0.2}
NAMES = st.text("abcdefgh0123456789-é", min_size=1, max_size=6)
COHORTS = st.dictionaries(NAMES, st.sampled_from(["a", "b", "c"]), max_size=40)


@st.composite
def cohorts_with_groups(draw: st.DrawFn) -> tuple[dict[str, str], list[set[str]]]:
    cohort = draw(COHORTS)
    names = sorted(cohort)
    groups = draw(
        st.lists(st.sets(st.sampled_from(names), max_size=4), max_size=5) if names else st.just([])
    )
    return cohort, groups


def cohort_of(n: int, strata: tuple[str, ...] = ("a", "b")) -> dict[str, str]:
    return {f"sub-{number:03d}": strata[number % len(strata)] for number in range(n)}


@settings(max_examples=50, deadline=None)
@given(cohorts_with_groups(), st.integers(0, 99))
def test_everybody_is_in_one_split_and_one_person_in_the_same(cohort_and_groups, seed: int) -> None:
    cohort, groups = cohort_and_groups
    splits = assign_splits(cohort, FRACTIONS, seed, same_person=groups)
    assert set(splits) == set(cohort)
    assert list(splits) == sorted(splits)
    assert set(splits.values()) <= set(FRACTIONS)
    for group in groups:
        assert len({splits[name] for name in group}) <= 1
    # Neither the order of the participants nor that of the groups matters.
    backwards = dict(reversed(cohort.items()))
    assert assign_splits(backwards, FRACTIONS, seed, same_person=groups[::-1]) == splits


@settings(max_examples=50, deadline=None)
@given(COHORTS, st.integers(0, 99))
def test_no_split_is_empty_where_there_are_people_enough(cohort, seed: int) -> None:
    count = Counter(assign_splits(cohort, FRACTIONS, seed).values())
    assert len(count) == min(len(cohort), len(FRACTIONS))


@settings(max_examples=50, deadline=None)
@given(st.integers(20, 60), NAMES, st.integers(0, 99))
def test_a_new_participant_moves_few_and_with_keep_nobody(n: int, name: str, seed: int) -> None:
    cohort = cohort_of(n)
    before = assign_splits(cohort, FRACTIONS, seed)
    grown = cohort | {name: "a"}
    after = assign_splits(grown, FRACTIONS, seed)
    moved = [one for one in cohort if before[one] != after[one]]
    # At most one at each of the two borders of the stratum; the other stratum stays.
    assert len(moved) <= len(FRACTIONS) - 1
    assert all(cohort[one] == "a" for one in moved)
    kept = assign_splits(grown, FRACTIONS, seed, keep=before | {"nobody": "elsewhere"})
    assert {one: kept[one] for one in cohort} == before


def test_each_stratum_is_dealt_out_by_the_fractions() -> None:
    cohort = {f"sub-{number}": "many" if number % 3 else "few" for number in range(300)}
    splits = assign_splits(cohort, FRACTIONS, 5)
    for stratum, size in (("many", 200), ("few", 100)):
        count = Counter(splits[name] for name in cohort if cohort[name] == stratum)
        for split, fraction in FRACTIONS.items():
            assert abs(count[split] - fraction * size) <= 1
    assert assign_splits(cohort, FRACTIONS, 6) != splits


def test_strata_of_one_do_not_all_go_to_the_same_split() -> None:
    cohort = {f"sub-{number}": f"center {number}" for number in range(300)}
    count = Counter(assign_splits(cohort, FRACTIONS, 0).values())
    for split, fraction in FRACTIONS.items():
        sd = math.sqrt(300 * fraction * (1 - fraction))
        assert abs(count[split] - 300 * fraction) < 4 * sd


def test_a_group_takes_the_split_of_the_member_that_is_kept() -> None:
    cohort = cohort_of(12)
    splits = assign_splits(
        cohort, FRACTIONS, 0, same_person=[["sub-003", "sub-008"]], keep={"sub-008": "test"}
    )
    assert splits["sub-003"] == splits["sub-008"] == "test"


def test_groups_that_share_a_name_are_one() -> None:
    groups = same_person_groups(
        [
            ("a", "1"),
            ("b", "1"),
            ("b", "2"),
            ("c", "2"),
            ("d", "3"),
            ("d", "3"),
            ("e", ""),
            ("f", ""),
        ]
    )
    assert groups == (frozenset("abc"),)


def test_what_cannot_be_dealt_out_is_refused() -> None:
    cohort = cohort_of(4)
    for fractions in (
        {},
        {"train": 0.5},
        {"train": 1.5, "test": -0.5},
        {"train": 1.0, "test": 0.0},
    ):
        with pytest.raises(UsageError, match="1 together"):
            assign_splits(cohort, fractions, 0)
    with pytest.raises(InputError, match="sub-900"):
        assign_splits(cohort, FRACTIONS, 0, same_person=[["sub-001", "sub-900"]])
    with pytest.raises(UsageError, match="sub-002 is in the split holdout"):
        assign_splits(cohort, FRACTIONS, 0, keep={"sub-002": "holdout"})
    with pytest.raises(InputError, match="one person is in two splits"):
        assign_splits(
            cohort,
            FRACTIONS,
            0,
            same_person=[["sub-001", "sub-002"]],
            keep={"sub-001": "train", "sub-002": "test"},
        )
    assert assign_splits({}, FRACTIONS, 0) == {}


@settings(max_examples=30, deadline=None)
@given(cohorts_with_groups(), st.integers(0, 9))
def test_what_was_dealt_out_passes_the_check(cohort_and_groups, seed: int) -> None:
    cohort, groups = cohort_and_groups
    images = [(name, f"hash {n}") for n, group in enumerate(groups) for name in group]
    splits = assign_splits(cohort, FRACTIONS, seed, same_person=same_person_groups(images))
    entries = [
        SplitEntry(f"{name}_{digest}", name, splits[name], digest) for name, digest in images
    ]
    check_splits(entries)


def test_leaks_are_named() -> None:
    fine = SplitEntry("sub-1_T2starw", "sub-1", "train", "aa")
    check_splits([fine, SplitEntry("sub-2_T2starw", "sub-2", "train", "aa")])
    check_splits([fine, SplitEntry("sub-1_swi", "sub-1", "n/a", "aa")])
    check_splits(
        [fine, SplitEntry("sub-2_swi", "sub-2", "test", ""), SplitEntry("x", "y", "train")]
    )
    with pytest.raises(InputError, match="participant sub-1 is in test and train"):
        check_splits([fine, SplitEntry("sub-1_swi", "sub-1", "test", "bb")])
    with pytest.raises(
        InputError, match=r"same in sub-1_T2starw \(train\), sub-2_T2starw \(test\)"
    ):
        check_splits([fine, SplitEntry("sub-2_T2starw", "sub-2", "test", "aa")])
    many = [SplitEntry(f"s{n}{split}", f"p{n}", split) for n in range(9) for split in ("a", "b")]
    with pytest.raises(InputError, match="and 6 more"):
        check_splits(many)


def test_image_hash_is_that_of_the_voxels_alone(axis_order: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    array = rng.integers(-500, 3000, (5, 6, 7)).astype(np.int16)
    affine = np.diag([-0.5, 0.5, 3.0, 1.0])
    image = Volume(array, Geometry(array.shape, affine))
    expected = image_hash(image)
    assert len(expected) == 64
    assert image_hash(image.reoriented(axis_order)) == expected
    mirrored = np.transpose(array[::-1], np.argsort(axis_order[:, 0]))
    other_header = Geometry(mirrored.shape, np.diag([1.0, 2.0, 3.0, 1.0]))
    assert image_hash(Volume(mirrored.astype(np.float64), other_header)) == expected
    array[2, 3, 4] += 1
    assert image_hash(image) != expected


def test_image_hash_and_background() -> None:
    array = np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32)
    array[0] = 0
    image = Volume(array, Geometry(array.shape, np.eye(4)))
    before = array.copy()
    expected = image_hash(image)
    for value in (np.nan, -0.0, np.inf):
        cleaned = array.copy()
        cleaned[0] = value
        assert image_hash(image.with_array(cleaned)) == expected
    assert image_hash(image.with_array(array.astype(">f8"))) == expected
    np.testing.assert_array_equal(array, before)
    reshaped = array.reshape(2, 10, 6)
    assert image_hash(Volume(reshaped, Geometry(reshaped.shape, np.eye(4)))) != expected
    by_hand = hashlib.sha256(b"[4, 5, 6]" + np.sort(array, axis=None).tobytes()).hexdigest()
    assert expected == by_hand


def test_split_hash_depends_on_who_is_where() -> None:
    splits = {"sub-1": "train", "sub-2": "test"}
    assert split_hash(splits) == split_hash(dict(reversed(splits.items())))
    assert split_hash(splits) != split_hash(splits | {"sub-2": "train"})
    assert split_hash(splits) == hashlib.sha256(b"sub-1\ttrain\nsub-2\ttest\n").hexdigest()


@pytest.mark.parametrize(("suffix", "delimiter"), [(".tsv", "\t"), (".csv", ","), (".TSV", "\t")])
def test_split_file(tmp_path: Path, suffix: str, delimiter: str) -> None:
    path = tmp_path / f"participants{suffix}"
    rows = [
        "center,split,participant_id",
        "A,train,sub-1",
        "B,n/a,sub-2",
        "C,test,sub-3",
        "C,test,sub-3",
    ]
    text = "\r\n".join(rows).replace(",", delimiter)
    path.write_text(text, encoding="utf-8-sig")
    assert read_split_file(path) == {"sub-1": "train", "sub-3": "test"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"participant_id,center\na,b\n", "lacks the column split"),
        (b"", "lacks the column participant_id and split"),
        (b"participant_id,split\na,train\na,test\n", "participant a is in train and in test"),
        (b"participant_id,split\n,train\n", "line 2: no participant_id"),
        (b"participant_id,split\n\xff,train\n", "UTF-8"),
    ],
)
def test_split_files_that_are_refused(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "splits.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=words) as caught:
        read_split_file(path)
    assert "splits.csv" in str(caught.value)
    with pytest.raises(InputError, match="cannot read"):
        read_split_file(tmp_path / "missing.csv")
