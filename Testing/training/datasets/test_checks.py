"""Checks of single images and lists, and how they are told."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.volume import Volume
from training.datasets.checks import (
    CODES,
    DatasetIssue,
    LeftOutError,
    check_grid,
    check_points,
    check_values,
    clear_background,
    duplicate_images,
    format_issues,
    summarize_issues,
)


@pytest.mark.parametrize(
    ("array", "code"),
    [
        (np.zeros((4, 4, 4)), "empty-image"),
        (np.full((4, 4, 4), np.nan), "empty-image"),
        (np.where(np.eye(4)[..., None] > 0, np.nan, 0.0), "empty-image"),
        (np.full((4, 4, 4), 7, np.int16), "constant-image"),
    ],
)
def test_images_without_contents_are_left_out(array: np.ndarray, code: str) -> None:
    with pytest.raises(LeftOutError) as caught:
        check_values(array, "x")
    assert caught.value.issue.code == code


def test_only_missing_voxels_at_the_border_are_cleared() -> None:
    array = np.ones((8, 8, 8), np.float32)
    array[:2] = np.nan
    array[7, 7, 7] = np.inf
    array[5, 4, 4] = np.nan
    cleared, issues = clear_background(array, "x")
    assert [issue.code for issue in issues] == ["nan-background", "nan-inside"]
    assert (cleared[:2] == 0).all()
    assert cleared[7, 7, 7] == 0
    assert np.isnan(cleared[5, 4, 4])
    assert cleared.dtype == np.float32
    assert np.isnan(array[0, 0, 0]), "what was given is not changed"


def test_integers_are_not_touched() -> None:
    array = np.zeros((3, 3, 3), np.int16)
    assert clear_background(array, "x")[0] is array


@pytest.mark.parametrize("spacing", [(0.01, 0.01, 1.0), (500.0, 0.5, 1.0)])
def test_grids_of_no_head_are_named(spacing: tuple[float, float, float]) -> None:
    geometry = Geometry((64, 64, 24), np.diag([*spacing, 1.0]))
    assert [issue.code for issue in check_grid(geometry, "x")] == ["implausible-spacing"]


def test_points(some_affine: np.ndarray) -> None:
    array = np.ones((10, 10, 10))
    array[1, 1, 1] = 0
    array[2, 2, 2] = np.nan
    image = Volume(array, Geometry((10, 10, 10), some_affine))
    ijk = [(5, 5, 5), (1, 1, 1), (2, 2, 2), (-1, 0, 0), (9, 9, 10), (5, 5, 5), (9, 9, 9)]
    issues = check_points(image.geometry.ijk_to_ras_mm(ijk), image, "x")
    assert [issue.code for issue in issues] == [
        "point-on-background",
        "point-on-background",
        "point-outside-image",
        "point-outside-image",
        "point-repeated",
    ]
    assert "point 4" in issues[2].message


def test_duplicates_name_each_other() -> None:
    issues = duplicate_images({"a": "1", "b": "2", "c": "1"})
    assert [(issue.scan_id, issue.code) for issue in issues] == [
        ("a", "duplicate-image"),
        ("c", "duplicate-image"),
    ]
    assert "as c" in issues[0].message


def test_issues_as_text() -> None:
    issues = [DatasetIssue("nan-background", "a, b", "f.nii", "s")] * 2
    issues.append(DatasetIssue("empty-image", "none"))
    assert format_issues(issues).splitlines()[1] == 's,f.nii,nan-background,"a, b"'
    first, second = summarize_issues(issues)
    assert first.split()[:2] == ["1", "empty-image:"]
    assert second == f"    2  nan-background: {CODES['nan-background']}"


def test_every_code_is_documented() -> None:
    page = (Path(__file__).parents[3] / "docs" / "datasets.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([a-z-]+)` \| (.+) \|$", page, re.MULTILINE))
    assert {code: rows.get(code) for code in CODES} == dict(CODES)
