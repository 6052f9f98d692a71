"""Lesions as points in a table: one file for a scan, or one for a whole cohort."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from CMBDetectorLib.errors import InputError
from CMBDetectorLib.evaluation.lesions import LesionSet, MarkedLesion
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.io.reading import errors_naming
from CMBDetectorLib.results import NOT_ASSESSED

RAS_COLUMNS = ("x_ras_mm", "y_ras_mm", "z_ras_mm")
VOXEL_COLUMNS = ("i", "j", "k")
SCAN_COLUMNS = ("scan_id", "scan", "image", "participant_id", "subject", "subject_id", "case_id")
DIAMETER_COLUMNS = ("equivalent_diameter_mm", "diameter_mm")
_PERSON_COLUMNS = ("participant_id", "subject", "subject_id")
_SESSION_COLUMNS = ("session_id", "session")
_UNKNOWN = frozenset({"", "n/a", "na", "nan", "none"})
_REJECTED = "rejected"


@dataclass(frozen=True)
class PointRow:
    """A lesion as a table has it; positions are of one of the two kinds, or of both.

    Attributes
    ----------
    scan
        The text that names the scan; None where the table has no such column.
    line
        Of the file, from 1, for messages.
    """

    line: int
    scan: str | None = None
    number: int | None = None
    ras_mm: tuple[float, float, float] | None = None
    ijk: tuple[float, float, float] | None = None
    score: float = math.nan
    equivalent_diameter_mm: float = math.nan
    max_diameter_mm: float = math.nan
    volume_mm3: float = math.nan
    elongation: float = math.nan
    n_voxels: int = 0
    hemisphere: str = NOT_ASSESSED
    zone: str = NOT_ASSESSED
    region: str = NOT_ASSESSED


@dataclass(frozen=True)
class PointTable:
    """The rows of a file.

    Attributes
    ----------
    scan_column
        The column that names the scan of each row; None in a table of one scan.
    has_scores
        Whether there is a column ``score``.
    """

    path: Path
    rows: tuple[PointRow, ...]
    scan_column: str | None
    has_scores: bool

    @property
    def needs_grid(self) -> bool:
        """Whether a row has voxel indices only."""
        return any(row.ras_mm is None for row in self.rows)


def read_columns(path: Path) -> tuple[str, ...]:
    """The columns of a CSV or TSV file, in lower case.

    Raises
    ------
    InputError
        If it cannot be read, is no text, or has no header.
    """
    with errors_naming(path), _text_told(), path.open(encoding="utf-8-sig", newline="") as file:
        return _header(file.readline())


def are_points(columns: Sequence[str]) -> bool:
    """Whether a table with these columns is one of points."""
    return any(set(wanted) <= set(columns) for wanted in (RAS_COLUMNS, VOXEL_COLUMNS))


def scan_column(columns: Sequence[str]) -> str | None:
    """The column that names the scan of each row; None in a table of one scan."""
    return next((name for name in SCAN_COLUMNS if name in columns), None)


def read_points(path: Path) -> PointTable:
    """Read a CSV or TSV file of points.

    Columns are ``x_ras_mm, y_ras_mm, z_ras_mm`` or ``i, j, k`` (voxels from 0; the first are
    preferred where both are there), and as far as there are: a name of the scan, ``lesion``,
    ``score``, ``diameter_mm`` or ``equivalent_diameter_mm``, ``max_diameter_mm``, ``volume_mm3``,
    ``n_voxels``, ``elongation``, ``hemisphere``, ``zone``, ``region``. Rows whose ``verdict`` is
    ``rejected``, as in reviewed results, are left out. The header alone means no lesion.

    Raises
    ------
    InputError
        If the file cannot be read, has no such columns, or a value is no number. The message
        names file and line.
    """
    columns, lines = read_table(path)
    with errors_naming(path):
        if not are_points(columns):
            raise InputError(
                f"this table has no points: expected the columns {', '.join(RAS_COLUMNS)} (RAS mm) "
                f"or {', '.join(VOXEL_COLUMNS)} (voxels from 0), got {', '.join(columns)}"
            )
        rows = tuple(
            _point(line, cells, columns)
            for line, cells in lines
            if cells.get("verdict", "").lower() != _REJECTED
        )
        return PointTable(path, rows, scan_column(columns), "score" in columns)


def read_scores(path: Path) -> dict[int, float] | None:
    """Score of each lesion number in a table; None where it has no such columns.

    Raises
    ------
    InputError
        As :func:`read_points`, but for the columns.
    """
    columns, lines = read_table(path)
    if not {"lesion", "score"} <= set(columns):
        return None
    scores: dict[int, float] = {}
    with errors_naming(path):
        for line, cells in lines:
            number = _whole_number(cells, "lesion", line)
            if number is None:
                continue
            if number in scores:
                raise InputError(f"lesion {number} is there twice, in line {line} again; keep one")
            scores[number] = _number(cells, "score", line)
    return scores


def read_table(path: Path) -> tuple[tuple[str, ...], list[tuple[int, dict[str, str]]]]:
    """Columns, in lower case, and the rows of a CSV or TSV file with their lines.

    The separator is told from the header: tab, semicolon or comma.

    Raises
    ------
    InputError
        If the file cannot be read, is no text, or has no header. The message begins with the path.
    """
    with errors_naming(path), _text_told(), path.open(encoding="utf-8-sig", newline="") as file:
        first = file.readline()
        columns = _header(first)
        reader = csv.DictReader(file, columns, restval="", delimiter=_separator(first))
        rows = [
            (reader.line_num + 1, {c: (v or "").strip() for c, v in row.items() if c})
            for row in reader
        ]
    return columns, [(line, cells) for line, cells in rows if any(cells.values())]


def lesions_from_rows(rows: Sequence[PointRow], grid: Geometry | None = None) -> LesionSet:
    """The lesions of one scan.

    Parameters
    ----------
    grid
        Of the voxel indices; needed where a row has no position in mm.

    Raises
    ------
    InputError
        If two rows have the same number, only some have one, or a grid is missing.
    """
    numbers = [row.number for row in rows]
    given = [number for number in numbers if number is not None]
    if given and (len(given) < len(rows) or len(set(given)) < len(given)):
        raise InputError(
            "the column lesion does not tell the lesions apart (a number is missing or there "
            "twice); number them, or leave the column out"
        )
    lesions = [
        MarkedLesion(
            number=place if row.number is None else row.number,
            center_ras_mm=_center(row, grid),
            score=row.score,
            volume_mm3=row.volume_mm3,
            n_voxels=row.n_voxels,
            equivalent_diameter_mm=row.equivalent_diameter_mm,
            max_diameter_mm=row.max_diameter_mm,
            elongation=row.elongation,
            hemisphere=row.hemisphere,
            zone=row.zone,
            region=row.region,
        )
        for place, row in enumerate(rows, start=1)
    ]
    return LesionSet(tuple(sorted(lesions, key=lambda lesion: lesion.number)))


def _center(row: PointRow, grid: Geometry | None) -> tuple[float, float, float]:
    if row.ras_mm is not None:
        return row.ras_mm
    if grid is None or row.ijk is None:
        raise InputError(
            f"line {row.line} gives voxel indices, which need an image to place them; pass the "
            "images (--images), or columns in RAS mm"
        )
    x, y, z = grid.ijk_to_ras_mm(row.ijk).tolist()
    return x, y, z


def _header(first: str) -> tuple[str, ...]:
    columns = next(csv.reader([first], delimiter=_separator(first)), [])
    names = tuple(column.strip().lower() for column in columns)
    if not any(names) or "\0" in first:
        raise InputError("the table is empty; expected a header with the names of the columns")
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise InputError(f"the table has the column {twice[0]} twice; rename one")
    return names


def _separator(first: str) -> str:
    return next((mark for mark in "\t;" if mark in first), ",")


@contextmanager
def _text_told() -> Iterator[None]:
    """Turn what is raised by a file that is no table into an InputError."""
    try:
        yield
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"this is no table ({error}); expected a CSV or TSV file in UTF-8"
        ) from error


def _point(line: int, cells: Mapping[str, str], columns: Sequence[str]) -> PointRow:
    ras_mm = _triple(cells, RAS_COLUMNS, line)
    ijk = _triple(cells, VOXEL_COLUMNS, line) if ras_mm is None else None
    if ras_mm is None and ijk is None:
        raise InputError(f"line {line} has no position; complete or remove it")
    column = scan_column(columns)
    scan = cells[column] if column else None
    if scan is not None and scan.lower() in _UNKNOWN:
        raise InputError(f"line {line} names no scan in the column {column}; complete it")
    if scan is not None and column in _PERSON_COLUMNS:
        session = next((cells[name] for name in _SESSION_COLUMNS if name in cells), "")
        if session.lower() not in _UNKNOWN:
            scan = f"sub-{scan.removeprefix('sub-')}_ses-{session.removeprefix('ses-')}"
    number = _whole_number(cells, "lesion", line)
    diameter = next((name for name in DIAMETER_COLUMNS if name in cells), DIAMETER_COLUMNS[0])
    n_voxels = _number(cells, "n_voxels", line)
    return PointRow(
        line=line,
        scan=scan,
        number=number,
        ras_mm=ras_mm,
        ijk=ijk,
        score=_number(cells, "score", line),
        equivalent_diameter_mm=_number(cells, diameter, line),
        max_diameter_mm=_number(cells, "max_diameter_mm", line),
        volume_mm3=_number(cells, "volume_mm3", line),
        elongation=_number(cells, "elongation", line),
        n_voxels=0 if math.isnan(n_voxels) else int(n_voxels),
        hemisphere=cells.get("hemisphere") or NOT_ASSESSED,
        zone=cells.get("zone") or NOT_ASSESSED,
        region=cells.get("region") or NOT_ASSESSED,
    )


def _triple(
    cells: Mapping[str, str], names: Sequence[str], line: int
) -> tuple[float, float, float] | None:
    values = [_number(cells, name, line) for name in names]
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return None
    if len(known) < len(names):
        raise InputError(f"line {line} lacks one of {', '.join(names)}; complete or remove it")
    x, y, z = values
    return x, y, z


def _number(cells: Mapping[str, str], name: str, line: int) -> float:
    """NaN where there is no such column or the value is unknown."""
    text = cells.get(name, "")
    if text.lower() in _UNKNOWN:
        return math.nan
    try:
        value = float(text)
    except ValueError:
        raise InputError(f"line {line}: {name} is a number, got {text!r}") from None
    if not math.isfinite(value):
        raise InputError(f"line {line}: {name} is a finite number, got {text!r}")
    return value


def _whole_number(cells: Mapping[str, str], name: str, line: int) -> int | None:
    """None where it is unknown."""
    value = _number(cells, name, line)
    if math.isnan(value):
        return None
    if not value.is_integer():
        raise InputError(f"line {line}: {name} is a whole number, got {cells[name]!r}")
    return int(value)
