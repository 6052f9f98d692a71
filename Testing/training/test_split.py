"""Who is learned from and who validates: folds, patterns, real scans, and never both."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from CMBDetectorLib.errors import InputError, UsageError
from training.prepared_case import PreparedCase, write_prepared
from training.settings import DataSettings
from training.split import make_split

DATA = DataSettings(
    training=("split:train",),
    selection=("split:val",),
    test=("split:test",),
    folds=(),
    min_contrast_to_noise=2.0,
    found_mask_share=0.0,
)


@pytest.fixture
def make(tmp_path: Path):
    def _make(name: str, group: str, split: str = "", *, lesions: int = 1, image: str = "", **more):
        points = np.zeros((lesions, 3), np.int16)
        info = {
            "case_id": name,
            "group": group,
            "split": split,
            "source": "real" if split else "simulated",
            "image_sha256": image,
            "taught": list(range(lesions)),
            "content_sha256": name,
        } | more
        voxels = np.zeros((2, 2, 2), np.uint8)
        arrays = (voxels.astype(np.float16), voxels, voxels > 0, points, points, points, points)
        write_prepared(tmp_path / name, PreparedCase(*arrays, info=info), "x")
        return tmp_path / name

    return _make


def names(folders) -> list[str]:
    return [folder.name for folder in folders]


def test_splits_of_a_dataset_beside_simulated_heads(make) -> None:
    folders = [
        make("a", "sub-1", "train"),
        make("b", "sub-2", "val"),
        make("c", "sub-3", "test"),
        make("s", "07"),
        make("t", "15"),
    ]
    data = replace(DATA, training=("split:train", "0*"))
    split = make_split(folders, data, None, 0)
    assert names(split.learning) == ["a", "s"]
    assert names(split.validation) == ["b"]
    assert split.left_out == ("sub-2",)
    assert split.sources == {"real": 1, "simulated": 1}


def test_patterns_keep_the_test_out_of_training(make) -> None:
    folders = [make(f"c{n}", f"sub-{n}") for n in range(4)]
    data = replace(DATA, training=("sub-*",), selection=("sub-1",), test=("sub-2",))
    split = make_split(folders, data, None, 0)
    assert names(split.learning) == ["c0", "c3"]
    assert names(split.validation) == ["c1"]


def test_a_number_of_folds_leaves_each_participant_out_once(make) -> None:
    folders = [
        make(f"c{n}-{scan}", f"sub-{n}", lesions=n % 2) for n in range(8) for scan in range(2)
    ]
    data = replace(DATA, training=("*",), selection=(), test=(), folds=4)
    splits = [make_split(folders, data, member, 3) for member in range(4)]
    left_out = [group for split in splits for group in split.left_out]
    assert sorted(left_out) == [f"sub-{n}" for n in range(8)]
    for split in splits:
        assert len(split.validation) == 4
        assert not {n.split("-")[0] for n in names(split.learning)} & {
            n.split("-")[0] for n in names(split.validation)
        }
        assert sum("c1" <= n < "c9" and int(n[1]) % 2 for n in names(split.validation)) == 2, (
            "with and without lesions alike"
        )
    assert make_split(folders, data, 0, 3) == splits[0]
    with pytest.raises(UsageError, match="members 0 to 3"):
        make_split(folders, data, 4, 3)
    with pytest.raises(InputError, match="cannot make 9 folds"):
        make_split(folders, replace(data, folds=9), 0, 3)


def test_one_person_under_two_names_stays_in_one_fold(make) -> None:
    folders = [make(f"c{n}", f"sub-{n}", image="same" if n < 2 else str(n)) for n in range(6)]
    data = replace(DATA, training=("*",), selection=(), test=(), folds=3)
    for member in range(3):
        left_out = make_split(folders, data, member, 0).left_out
        assert ("sub-0" in left_out) == ("sub-1" in left_out)
    data = replace(data, folds=(("sub-0",), ("sub-1",)))
    with pytest.raises(InputError, match="c0 and c1 are the same image"):
        make_split(folders, data, 0, 0)


def test_the_hash_is_of_names_sides_and_contents(make) -> None:
    one, other = make("a", "01"), make("b", "02")
    data = replace(DATA, training=("01", "02"), selection=(), folds=(("01",), ("02",)))
    first, second = (make_split([one, other], data, member, 0).sha256 for member in range(2))
    assert first != second
    assert make_split([other, one], data, 0, 0).sha256 == first
    make("b", "02", content_sha256="changed")
    assert make_split([one, other], data, 0, 0).sha256 != first


def test_nothing_to_learn_from_is_an_error(make) -> None:
    folders = [make("b", "sub-2", "val")]
    with pytest.raises(InputError, match=r"0 cases to learn from and 1 to validate on .*split:val"):
        make_split(folders, DATA, None, 0)
