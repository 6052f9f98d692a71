"""What a scan table says, and about which scan."""

from __future__ import annotations

from pathlib import Path

import pytest

from CMBDetectorLib.errors import InputError
from CMBDetectorLib.evaluation.names import ScanName
from CMBDetectorLib.evaluation.scan_table import read_scan_table


def write(folder: Path, text: str, name: str = "scans.tsv") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def test_numbers_words_and_the_unknown(tmp_path):
    text = "scan_id\tcenter\tte\tmixed\n1\tA\t20\t1\n2\tn/a\tn/a\tn/a\n3\t\t24.5\tlow\n"
    table = read_scan_table(write(tmp_path, text))
    assert table.attributes == (
        {"center": "A", "te": 20.0, "mixed": "1"},
        {},
        {"te": 24.5, "mixed": "low"},
    )


def test_rows_meet_scans_by_name(tmp_path):
    text = "scan_id,center\nsub-1_T2starw.nii.gz,A\nsub-2_swi,B\nother,C\n"
    table = read_scan_table(write(tmp_path, text, "x.csv"))
    scans = [ScanName("sub-2_SWI"), ScanName("sub-1_space-T2S"), ScanName("none")]
    assert table.rows_of(scans) == [1, 0, None]


def test_bids_scans_table(tmp_path):
    text = "filename\tacq_time\nanat/sub-1_swi.nii.gz\t2020-01-01\n"
    assert read_scan_table(write(tmp_path, text)).rows_of([ScanName("sub-1_swi")]) == [0]


def test_bids_participants_have_several_scans(tmp_path):
    text = "participant_id\tage\nsub-1\t70\n2\t80\n"
    table = read_scan_table(write(tmp_path, text))
    assert table.is_of_participants
    scans = [ScanName("sub-1_ses-1_swi"), ScanName("sub-1_ses-2_swi"), ScanName("sub-2_swi")]
    assert table.rows_of([*scans, ScanName("sub-11_swi")]) == [0, 0, 1, None]


def test_places_of_files_are_no_attributes(tmp_path):
    text = "scan_id\timage\tlesions\tsequence\ns\ta.nii\tb.nii\tSWI\n"
    assert read_scan_table(write(tmp_path, text)).attributes == ({"sequence": "SWI"},)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("center\nA\n", "which scan a row is of: expected scan_id"),
        ("scan_id\ta\ns\t1\nS\t2\n", "S is there twice"),
        ("scan_id\ta\nn/a\t1\n", "line 2 has no scan_id"),
        ("", "empty"),
    ],
)
def test_tables_that_are_refused(text, words, tmp_path):
    with pytest.raises(InputError, match=words):
        read_scan_table(write(tmp_path, text))


def test_no_table(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_scan_table(tmp_path / "none.tsv")
