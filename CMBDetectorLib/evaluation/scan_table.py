"""A table with a row for each scan: field strength, center, and whatever else is known."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from CMBDetectorLib.errors import InputError
from CMBDetectorLib.evaluation.names import ScanName, match_names, named_scan
from CMBDetectorLib.evaluation.points import read_table
from CMBDetectorLib.io.reading import errors_naming

KEY_COLUMNS = ("scan_id", "filename", "participant_id")
UNKNOWN = frozenset({"", "n/a"})
Attributes = Mapping[str, float | str]

_SUBJECT = re.compile(r"^(sub-[a-z0-9]+)", re.IGNORECASE)
# Places of files and a list's own bookkeeping: no stratum is formed by them.
_NO_ATTRIBUTES = frozenset(
    {"image", "lesions", "points", "brain_mask", "image_sha256", "source", "session"}
)


@dataclass(frozen=True)
class ScanTable:
    """A scan table.

    Attributes
    ----------
    key_column
        One of :data:`KEY_COLUMNS`.
    names, attributes
        Of each row; attributes that are unknown are not there.
    """

    path: Path
    key_column: str
    names: tuple[ScanName, ...]
    attributes: tuple[Attributes, ...]

    @property
    def is_of_participants(self) -> bool:
        """Whether a row is for a participant, whatever the number of scans."""
        return self.key_column == "participant_id"

    def rows_of(self, scans: Sequence[ScanName]) -> list[int | None]:
        """The row of each scan; None where there is none."""
        if self.is_of_participants:
            row_of = {name.name.casefold(): row for row, name in enumerate(self.names)}
            return [row_of.get(_subject(scan.name).casefold()) for scan in scans]
        found = dict(match_names(scans, self.names).pairs)
        return [found.get(row) for row in range(len(scans))]


def read_scan_table(path: Path) -> ScanTable:
    """Read a CSV or TSV file with a column ``scan_id``, ``filename`` or ``participant_id``.

    So it reads ``participants.tsv`` and ``scans.tsv`` of BIDS. All other columns become
    attributes, but for those that hold the places of files: numbers where every value is one, else
    words. ``n/a`` and empty mean unknown.

    Raises
    ------
    InputError
        If the file cannot be read, has no such column, or names a scan twice.
    """
    columns, lines = read_table(path)
    with errors_naming(path):
        key = next((name for name in KEY_COLUMNS if name in columns), None)
        if key is None:
            raise InputError(
                f"no column says which scan a row is of: expected {', '.join(KEY_COLUMNS)}, got "
                f"{', '.join(columns)}"
            )
        names = tuple(_name(cells[key], key, line) for line, cells in lines)
        seen: set[str] = set()
        for name in names:
            if name.place in seen:
                raise InputError(f"the scan {name.name} is there twice; leave one row")
            seen.add(name.place)
        kept = [
            name
            for name in columns
            if name and name != key and not (name in _NO_ATTRIBUTES and key == "scan_id")
        ]
        numeric = {name for name in kept if all(_is_number(cells[name]) for _, cells in lines)}
        attributes = tuple(
            {
                name: float(cells[name]) if name in numeric else cells[name]
                for name in kept
                if cells[name].lower() not in UNKNOWN
            }
            for _, cells in lines
        )
        return ScanTable(path, key, names, attributes)


def _name(text: str, key: str, line: int) -> ScanName:
    if text.lower() in UNKNOWN:
        raise InputError(f"line {line} has no {key}; complete or remove it")
    if key == "participant_id":
        return ScanName(text if text.lower().startswith("sub-") else f"sub-{text}")
    return named_scan(text)


def _subject(name: str) -> str:
    match = _SUBJECT.match(name)
    return match[1] if match else f"sub-{name}"


def _is_number(text: str) -> bool:
    if text.lower() in UNKNOWN:
        return True
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
