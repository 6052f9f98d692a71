"""Tables of points, good and bad."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from CMBDetectorLib.errors import InputError
from CMBDetectorLib.evaluation.points import (
    are_points,
    lesions_from_rows,
    read_columns,
    read_points,
    read_scores,
)
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.reporting.tables import format_csv
from CMBDetectorLib.results import Detection

OBLIQUE = np.array([[0, -0.5, 0.1, 3], [0.7, 0, 0, -4], [0, 0.1, 2.0, 5], [0, 0, 0, 1]])


def write(folder: Path, text: str, name: str = "x.csv") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_points_in_mm(separator, tmp_path):
    text = "\ufefflesion,x_ras_mm,Y_RAS_mm,z_ras_mm,score,diameter_mm\n"
    text += "4,1,2,3,.5,3.5\n2,-1,0,1e1,,n/a\n"
    table = read_points(write(tmp_path, text.replace(",", separator)))
    assert table.scan_column is None
    assert table.has_scores
    lesions = lesions_from_rows(table.rows).lesions
    assert [lesion.number for lesion in lesions] == [2, 4]
    assert lesions[0].center_ras_mm == (-1, 0, 10)
    assert math.isnan(lesions[0].score)
    assert math.isnan(lesions[0].equivalent_diameter_mm)
    assert (lesions[1].score, lesions[1].equivalent_diameter_mm) == (0.5, 3.5)


def test_voxels_are_placed_by_a_grid(tmp_path):
    table = read_points(write(tmp_path, "i,j,k\n1,2,3\n0,0,0.5\n"))
    grid = Geometry((5, 6, 7), OBLIQUE)
    lesions = lesions_from_rows(table.rows, grid)
    np.testing.assert_allclose(lesions.centers_ras_mm, [(2.3, -3.3, 11.2), (3.05, -4, 6)])
    assert [lesion.number for lesion in lesions.lesions] == [1, 2]
    assert not lesions.has_masks
    with pytest.raises(InputError, match=r"line 2.*--images"):
        lesions_from_rows(table.rows)


def test_mm_go_before_voxels(tmp_path):
    table = read_points(write(tmp_path, "i,j,k,x_ras_mm,y_ras_mm,z_ras_mm\n9,9,9,1,2,3\n"))
    assert lesions_from_rows(table.rows).lesions[0].center_ras_mm == (1, 2, 3)


def test_our_own_table(tmp_path):
    detection = Detection(
        label=3, center_ras_mm=(1.0, -2.0, 3.0), center_ijk=(4.0, 5.0, 6.0), axial_slice=7,
        volume_mm3=8.0, n_voxels=9, equivalent_diameter_mm=2.5, max_diameter_mm=3.5,
        elongation=0.6, mean_probability=0.7, peak_probability=0.9,
    )  # fmt: skip
    path = write(tmp_path, format_csv([detection]))
    [lesion] = lesions_from_rows(read_points(path).rows).lesions
    assert (lesion.number, lesion.center_ras_mm, lesion.score) == (3, (1, -2, 3), 0.8)
    assert (lesion.volume_mm3, lesion.n_voxels, lesion.elongation) == (8, 9, 0.6)
    assert (lesion.equivalent_diameter_mm, lesion.max_diameter_mm) == (2.5, 3.5)
    assert read_scores(path) == {3: 0.8}


def test_a_header_alone_means_no_lesion(tmp_path):
    table = read_points(write(tmp_path, format_csv([])))
    assert table.rows == ()
    assert lesions_from_rows(table.rows).lesions == ()


def test_rejected_lesions_are_none(tmp_path):
    text = "lesion,x_ras_mm,y_ras_mm,z_ras_mm,verdict\n1,0,0,0,accepted\n2,0,0,9,rejected\n"
    assert [row.number for row in read_points(write(tmp_path, text)).rows] == [1]


@pytest.mark.parametrize("column", ["scan_id", "participant_id", "subject", "case_id"])
def test_a_table_of_a_cohort(column, tmp_path):
    text = f"{column},x_ras_mm,y_ras_mm,z_ras_mm\na,0,0,0\nb,1,1,1\na,2,2,2\n"
    table = read_points(write(tmp_path, text))
    assert table.scan_column == column
    assert [row.scan for row in table.rows] == ["a", "b", "a"]


def test_empty_lines_are_nothing(tmp_path):
    text = "x_ras_mm,y_ras_mm,z_ras_mm\n0,0,0\n\n,,\n1,1,1\n"
    assert len(read_points(write(tmp_path, text)).rows) == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("a,b\n1,2\n", "no points: expected the columns x_ras_mm"),
        ("x_ras_mm,y_ras_mm\n1,2\n", "no points"),
        ("x_ras_mm,y_ras_mm,z_ras_mm\n1,2,far\n", "line 2: z_ras_mm is a number, got 'far'"),
        ("x_ras_mm,y_ras_mm,z_ras_mm\n0,0,0\n1,2,inf\n", "line 3: z_ras_mm is a finite number"),
        ("x_ras_mm,y_ras_mm,z_ras_mm\n1,2,\n", "line 2 lacks one of"),
        ("x_ras_mm,y_ras_mm,z_ras_mm,score\n,,,0.5\n", "line 2 has no position"),
        ("scan_id,x_ras_mm,y_ras_mm,z_ras_mm\n,1,2,3\n", "line 2 names no scan"),
        ("i,i,j,k\n1,2,3,4\n", "column i twice"),
    ],
)
def test_tables_that_are_refused(text, words, tmp_path):
    path = write(tmp_path, text)
    with pytest.raises(InputError, match=words) as caught:
        read_points(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_text(tmp_path):
    (tmp_path / "x.csv").write_bytes(b"i,j,k\n\xff\xfe\x00\n")
    with pytest.raises(InputError, match="no table"):
        read_points(tmp_path / "x.csv")


def test_numbers_that_do_not_tell_lesions_apart(tmp_path):
    text = "lesion,x_ras_mm,y_ras_mm,z_ras_mm\n1,0,0,0\n1,9,9,9\n"
    with pytest.raises(InputError, match="twice"):
        lesions_from_rows(read_points(write(tmp_path, text)).rows)


def test_other_tables_are_told_from_points(tmp_path):
    assert are_points(read_columns(write(tmp_path, "i,j,k,score\n")))
    assert not are_points(read_columns(write(tmp_path, "scan_id,center\n")))
    assert read_scores(write(tmp_path, "i,j,k\n1,2,3\n")) is None
