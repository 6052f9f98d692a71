"""Writing a standardized dataset: each scan whole or not at all, and a run can be continued.

A scan is made in a hidden folder. A note of its files is written, the files are moved to their
places, a record of the scan is written, the note is removed. A run that was cut off in between
leaves the note, from which the next run removes what was half moved. A scan with a record, made
from the same bytes in the same way, is not made again. The tables come last.
"""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from CMBDetectorLib.errors import OutputError, UsageError
from CMBDetectorLib.io.writing import write_text
from CMBDetectorLib.version import __version__
from training.datasets.checks import DatasetIssue
from training.datasets.layout import DESCRIPTION_NAME, SCANS_NAME

RECORDS_NAME = ".standardize"
FORMAT = 1

_BIDS_VERSION = "1.10.0"
_IGNORED_BY_BIDS = ("*_swi.*", "derivatives/", "issues.csv", "mismatches.csv", "scans.tsv")


@dataclass(frozen=True)
class ScanRecord:
    """What a finished scan adds to the tables.

    Attributes
    ----------
    fingerprint
        Of the bytes and options that it was made from.
    row
        Columns of the scan table but ``split``.
    files
        Relative to the root, with slashes.
    mismatches
        Rows of the table of listed and found lesions.
    """

    fingerprint: str
    row: Mapping[str, str]
    files: tuple[str, ...]
    issues: tuple[DatasetIssue, ...] = ()
    mismatches: tuple[Mapping[str, str], ...] = field(default=())

    @property
    def scan_id(self) -> str:
        """Name of the scan."""
        return self.row["scan_id"]


class DatasetWriter:
    """A dataset in the making at ``root``; may be used by several processes, each its own scans."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._records = root / RECORDS_NAME

    def start(self, *, layout: str, title: str, license_text: str, url: str, source: str) -> None:
        """Make or open the folder; remove what a run that was cut off left half done.

        Raises
        ------
        UsageError
            If the folder holds something else, or a dataset from another layout.
        OutputError
            If it cannot be written to.
        """
        description = self.root / DESCRIPTION_NAME
        if self.root.exists() and not self.root.is_dir():
            raise UsageError(f"{self.root} is a file, expected a folder; give another output")
        if self._records.is_dir():
            stored = _read_json(self._records / "dataset.json").get("layout")
            if stored not in (None, layout):
                raise UsageError(
                    f"{self.root} holds a dataset from the layout {stored!r}, now it is "
                    f"{layout!r}; give another output folder"
                )
        elif self.root.exists() and any(self.root.iterdir()):
            raise UsageError(
                f"{self.root} is not empty and no standardized dataset; give another output folder"
            )
        try:
            self._records.mkdir(parents=True, exist_ok=True)
            (self.root / "derivatives" / "lesions").mkdir(parents=True, exist_ok=True)
            self._recover()
            # A table of an earlier run does not fit what is being written now.
            (self.root / SCANS_NAME).unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(f"cannot write to {self.root}: {error}") from error
        write_text(self._records / "dataset.json", _json({"layout": layout, "format": FORMAT}))
        content = {
            "Name": title,
            "BIDSVersion": _BIDS_VERSION,
            "DatasetType": "raw",
            "License": license_text,
            "GeneratedBy": [
                {
                    "Name": "CMBDetector",
                    "Version": __version__,
                    "Description": f"python -m training standardize --layout {layout}",
                }
            ],
            "SourceDatasets": [{"URL": url} if url else {"Description": source}],
        }
        write_text(description, _json(content))
        derived = content | {"Name": f"{title}: lesions", "DatasetType": "derivative"}
        write_text(self.root / "derivatives" / "lesions" / DESCRIPTION_NAME, _json(derived))
        write_text(self.root / ".bidsignore", "\n".join(_IGNORED_BY_BIDS) + "\n")

    def find(self, scan_id: str, fingerprint: str) -> ScanRecord | None:
        """The record of a scan, if it was made from this and all its files are there."""
        record = self._read_record(self._records / f"{scan_id}.json")
        if record is None or record.fingerprint != fingerprint:
            return None
        paths = [self.root / name for name in record.files]
        return record if all(p.is_file() and p.stat().st_size for p in paths) else None

    def records(self) -> dict[str, ScanRecord]:
        """All finished scans by their names."""
        paths = sorted(self._records.glob("sub-*.json"))
        found = (self._read_record(path) for path in paths if not path.stem.endswith(".moving"))
        return {record.scan_id: record for record in found if record is not None}

    @contextmanager
    def staging(self, scan_id: str) -> Iterator[Path]:
        """A hidden folder to make the files of a scan in; gone in the end."""
        folder = self._records / f"{scan_id}.partial-{secrets.token_hex(4)}"
        try:
            folder.mkdir()
            yield folder
        except OSError as error:
            raise OutputError(f"cannot write {scan_id} to {self.root}: {error}") from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def commit(self, folder: Path, record: ScanRecord) -> None:
        """Move the files of a scan to their places and record it.

        Parameters
        ----------
        folder
            From :meth:`staging`; holds the files of ``record`` under their last names.

        Raises
        ------
        OutputError
            If the operating system refuses.
        """
        note = self._records / f"{record.scan_id}.moving.json"
        place = self._records / f"{record.scan_id}.json"
        try:
            former = self._read_record(place)
            names = (*record.files, *(former.files if former else ()))
            write_text(note, _json({"files": sorted(set(names))}))
            place.unlink(missing_ok=True)
            for name in set(names) - set(record.files):
                (self.root / name).unlink(missing_ok=True)
            for name in record.files:
                target = self.root / name
                target.parent.mkdir(parents=True, exist_ok=True)
                (folder / PurePosixPath(name).name).replace(target)
            write_text(place, _json(asdict(record)))
            note.unlink()
        except OSError as error:
            self._undo(note)
            raise OutputError(
                f"cannot write {record.scan_id} to {self.root}: {error}; run the command again"
            ) from error

    def write_tables(self, tables: Sequence[tuple[str, str]]) -> None:
        """Write files at the root, by name and content; the scan table last."""
        for name, text in sorted(tables, key=lambda table: table[0] == SCANS_NAME):
            write_text(self.root / name, text)

    def _recover(self) -> None:
        for folder in self._records.glob("*.partial-*"):
            shutil.rmtree(folder, ignore_errors=True)
        for temporary in self._records.glob(".cmb-*"):
            temporary.unlink(missing_ok=True)
        for note in self._records.glob("*.moving.json"):
            self._undo(note)

    def _undo(self, note: Path) -> None:
        """Remove the files of a scan that was not recorded in the end, and the note of them."""
        done = self._records / f"{note.name.removesuffix('.moving.json')}.json"
        if not done.exists():
            for name in _read_json(note).get("files", ()):
                if (self.root / name).is_file():
                    (self.root / name).unlink()
        note.unlink(missing_ok=True)

    def _read_record(self, path: Path) -> ScanRecord | None:
        """None for one that is missing or that another version wrote: the scan is made again."""
        content = _read_json(path)
        with suppress(KeyError, TypeError):
            return ScanRecord(
                fingerprint=content["fingerprint"],
                row=dict(content["row"]),
                files=tuple(content["files"]),
                issues=tuple(DatasetIssue(**issue) for issue in content["issues"]),
                mismatches=tuple(dict(row) for row in content["mismatches"]),
            )
        return None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _json(content: object) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"
