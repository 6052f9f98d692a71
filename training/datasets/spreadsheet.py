"""The first sheet of an Excel workbook, or a CSV file, as rows of text."""

from __future__ import annotations

import csv
import zipfile
from pathlib import Path
from xml.etree import ElementTree

from CMBDetectorLib.errors import InputError, MissingDependencyError

_DELIMITERS = ",;\t"
# What openpyxl raises for files that are none of its own.
_DAMAGED = (
    zipfile.BadZipFile,
    ElementTree.ParseError,
    AttributeError,
    IndexError,
    KeyError,
    TypeError,
    ValueError,
)


def read_rows(path: Path) -> list[list[str]]:
    """All rows with contents; cells are stripped, a cell that is not there is empty.

    Parameters
    ----------
    path
        ``.xlsx``; or ``.csv``, ``.tsv`` or ``.txt`` in UTF-8 with commas, semicolons or tabs.

    Raises
    ------
    InputError
        If the file is missing, of another kind, or damaged.
    MissingDependencyError
        If it is a workbook and openpyxl is not installed.
    """
    try:
        if path.suffix.lower() == ".xlsx":
            rows = _read_workbook(path)
        elif path.suffix.lower() in (".csv", ".tsv", ".txt"):
            rows = _read_text(path)
        else:
            raise InputError(
                f"{path}: expected a table that ends with .csv, .tsv or .xlsx; save it as CSV"
            )
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read: {error}; check the path and the file") from error
    except _DAMAGED as error:
        raise InputError(f"{path} is no whole Excel workbook ({error}); save it as CSV") from error
    stripped = ([cell.strip() for cell in row] for row in rows)
    return [row for row in stripped if any(row)]


def _read_text(path: Path) -> list[list[str]]:
    text = path.read_text(encoding="utf-8-sig")
    first = text.split("\n", 1)[0]
    delimiter = max(_DELIMITERS, key=first.count)
    return list(csv.reader(text.splitlines(), delimiter=delimiter))


def _read_workbook(path: Path) -> list[list[str]]:
    try:
        import openpyxl
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"{path}: openpyxl is needed to read Excel workbooks and is not installed; install "
            'it with: python -m pip install "cmbdetector[training]", or save the table as CSV'
        ) from error
    # Formulas are not computed: of each the value that the spreadsheet program has stored.
    book = openpyxl.load_workbook(path, data_only=True)
    rows = book.worksheets[0].iter_rows(values_only=True)
    return [[_text(value) for value in row] for row in rows]


def _text(value: object) -> str:
    """A cell as it is seen: a whole number has no decimals."""
    if value is None:
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
