from __future__ import annotations

import csv
from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import pytest

from CMBDetectorLib.errors import InputError
from CMBDetectorLib.reporting.tables import (
    COLUMNS,
    format_csv,
    format_table,
    lesion_lines,
    read_csv,
    result_lines,
)
from CMBDetectorLib.results import NO_ANATOMY_NETWORK

CENTERS = [(10.0, 5.0, 0.0), (-12.0, -8.0, 6.0), (0.0, 15.0, -9.0)]


def test_csv_round_trip(make_result, tmp_path: Path) -> None:
    result, _ = make_result(CENTERS)
    flagged = replace(result.detections[0], flags=("over 10 mm", 'near a "vein", left'))
    detections = (flagged, *result.detections[1:])
    path = tmp_path / "a_cmb.csv"
    path.write_bytes(format_csv(detections).encode("utf-8"))
    found = read_csv(path)
    assert len(found) == 3
    for ours, theirs in zip(found, detections, strict=True):
        numbers = [np.hstack(astuple(lesion)[:11]).astype(float) for lesion in (ours, theirs)]
        np.testing.assert_allclose(numbers[0], numbers[1], atol=5.1e-4)
        assert (ours.label, ours.axial_slice, ours.n_voxels) == (
            theirs.label,
            theirs.axial_slice,
            theirs.n_voxels,
        )
        assert (ours.hemisphere, ours.region, ours.flags) == (
            theirs.hemisphere,
            theirs.region,
            theirs.flags,
        )


def test_csv_is_rfc_4180_with_stated_columns(make_result) -> None:
    result, _ = make_result(CENTERS[:1])
    text = format_csv(result.detections)
    lines = text.split("\r\n")
    assert lines[-1] == ""
    assert len(lines) == 3
    assert "\n" not in text.replace("\r\n", "")
    (row,) = csv.DictReader(lines)
    assert tuple(row) == COLUMNS
    assert float(row["x_ras_mm"]) == pytest.approx(10, abs=0.5)
    assert float(row["y_ras_mm"]) == pytest.approx(5, abs=0.5)
    assert float(row["z_ras_mm"]) == pytest.approx(0, abs=0.8)
    assert row["region"] == "not assessed"
    assert row["score"] == "0.9900"


def test_csv_has_a_header_without_lesions(tmp_path: Path) -> None:
    assert format_csv(()) == ",".join(COLUMNS) + "\r\n"
    path = tmp_path / "a_cmb.csv"
    path.write_text(format_csv(()), encoding="utf-8", newline="")
    assert read_csv(path) == ()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"lesion,x_ras_mm\r\n1,2\r\n",
        b"\xff\xfe\x00",
        ",".join(COLUMNS).encode() + b"\r\n1,2\r\n",
    ],
)
def test_what_is_no_table_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a_cmb.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a_cmb\.csv") as caught:
        read_csv(path)
    assert "\n" not in str(caught.value)


def test_missing_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.csv"):
        read_csv(tmp_path / "none.csv")


def test_terminal_table_is_aligned(make_result) -> None:
    result, _ = make_result(CENTERS, radius_mm=5.5)
    text = format_table(result)
    assert text.isascii()
    lines = text.splitlines()
    assert lines[0].startswith("3 suspected microbleeds (threshold 0.5, at least 2 mm3")
    header, *rows = lines[2:6]
    assert lines[6:] == ["", "sizes (BOMBS): over 10 mm 3"]
    end = header.index("slice") + len("slice")
    for row, lesion in zip(rows, result.detections, strict=True):
        assert row[:end].split()[-1] == str(lesion.axial_slice)
        assert row[: header.index("no.") + 3].strip() == str(lesion.label)
        assert row.endswith("over 10 mm")
        assert header.index("flags") == row.index("over 10 mm")


def test_none_found_is_said_in_words_with_the_warnings_beneath(make_result) -> None:
    result, _ = make_result([], warnings=("slices of 4 mm", "8-bit intensities"))
    lines = format_table(result).splitlines()
    assert lines[0].startswith("No microbleed found (threshold 0.5")
    assert lines[2].startswith("2 warnings")
    assert lines[3:] == ["  ! slices of 4 mm", "  ! 8-bit intensities"]
    quiet, _ = make_result([])
    assert len(format_table(quiet).splitlines()) == 1


def test_why_nothing_was_located_is_said_where_results_are_shown(make_result) -> None:
    result, _ = make_result(CENTERS)
    provenance = replace(result.provenance, anatomy_name=NO_ANATOMY_NETWORK)
    said = result_lines(replace(result, provenance=provenance))
    assert said[-1].startswith("Regions are not assessed: no anatomy network is installed")
    assert "--anatomy FILE" in said[-1]
    assert not any("Regions" in line for line in result_lines(result))
    nothing, _ = make_result([])
    assert result_lines(replace(nothing, provenance=provenance)) == []


def test_one_lesion_is_not_plural(make_result) -> None:
    result, _ = make_result(CENTERS[:1])
    assert format_table(result).startswith("1 suspected microbleed (")


def test_places_are_in_the_table_and_read_back(make_result, tmp_path: Path) -> None:
    result, _ = make_result(CENTERS)
    placed = replace(
        result.detections[0],
        hemisphere="left",
        region="frontal",
        bombs_region="subcortical white matter",
        structure="Left-Cerebral-White-Matter",
        structure_shares=(("Left-Cerebral-White-Matter", 0.75), ("Left-Lesion", 0.25)),
        distance_to_ventricle_mm=12.5,
        location_confidence="low",
        region_is_approximate=True,
    )
    path = tmp_path / "a_cmb.csv"
    path.write_text(format_csv([placed, *result.detections[1:]]), encoding="utf-8", newline="")
    found = read_csv(path)
    for name in ("structure_shares", "distance_to_ventricle_mm", "distance_to_brain_surface_mm"):
        assert getattr(found[0], name) == getattr(placed, name)
    assert (found[0].location_confidence, found[0].region_is_approximate) == ("low", True)
    assert found[1].structure_shares == ()
    shown = lesion_lines([placed, *result.detections[1:]])
    assert "zone (MARS)" in shown[0]
    assert shown[1].endswith("lobar        left  frontal ~?")
    assert [line[0] for line in shown[-2:]] == ["~", "?"]


def test_a_table_of_a_version_without_places_is_read(make_result, tmp_path: Path) -> None:
    result, _ = make_result(CENTERS)
    lines = format_csv(result.detections).splitlines()
    n_old = COLUMNS.index("flags") + 1
    path = tmp_path / "a_cmb.csv"
    text = "".join(",".join(line.split(",")[:n_old]) + "\r\n" for line in lines)
    path.write_text(text, encoding="utf-8", newline="")
    assert [lesion.label for lesion in read_csv(path)] == [1, 2, 3]
