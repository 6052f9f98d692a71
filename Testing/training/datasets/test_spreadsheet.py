"""Tables as spreadsheet programs write them."""

from __future__ import annotations

from pathlib import Path

import openpyxl
import pytest

from CMBDetectorLib.errors import InputError
from training.datasets.spreadsheet import read_rows


def write_book(path: Path) -> Path:
    book = openpyxl.Workbook()
    sheet = book.worksheets[0]
    sheet.append(["Name ", "x"])
    sheet.append(["a.nii", None, None, 12.5])
    sheet.append([None, 3.0, 7])
    sheet.append([" "])
    book.create_sheet("Later").append(["not", "read"])
    book.save(path)
    return path


def test_workbook(tmp_path: Path) -> None:
    rows = read_rows(write_book(tmp_path / "a.xlsx"))
    assert [[cell for cell in row if cell] for row in rows] == [
        ["Name", "x"],
        ["a.nii", "12.5"],
        ["3", "7"],
    ], "a row of blanks is none"
    assert rows[1][3] == "12.5"


def test_text_tables(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    for delimiter in ",;\t":
        text = delimiter.join(("image", "x")) + "\n\n" + delimiter.join(("a.nii", '"1.5"'))
        path.write_bytes(b"\xef\xbb\xbf" + text.encode())
        assert read_rows(path) == [["image", "x"], ["a.nii", "1.5"]]


@pytest.mark.parametrize("kept", [0, 10, 500, 2000, 4000])
def test_a_workbook_that_is_cut_off_is_refused(tmp_path: Path, kept: int) -> None:
    path = write_book(tmp_path / "a.xlsx")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(InputError, match="no whole Excel workbook"):
        read_rows(path)


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.xlsx").write_bytes(b"PK nothing")
    with pytest.raises(InputError, match="no whole Excel workbook"):
        read_rows(tmp_path / "a.xlsx")
    with pytest.raises(InputError, match="save it as CSV"):
        read_rows(tmp_path / "a.xls")
    with pytest.raises(InputError, match="cannot be read"):
        read_rows(tmp_path / "a.csv")
