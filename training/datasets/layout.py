"""The one layout that all datasets are brought to, and how it is read.

::

    <root>/dataset_description.json    BIDS; "raw"
    <root>/participants.tsv            participant_id, center, split, n_scans
    <root>/scans.tsv                   one row per scan: SCAN_COLUMNS; "n/a" is unknown
    <root>/issues.csv                  scan_id, file, code, message
    <root>/mismatches.csv              listed lesions that were not found, and found ones not listed
    <root>/sub-X[/ses-Y]/anat/         <scan_id>.nii.gz and .json
    <root>/derivatives/lesions/sub-X[/ses-Y]/anat/
        <scan_id>_desc-cmb_dseg.nii.gz      label map, value = lesion
        <scan_id>_desc-cmb_points.csv       POINT_COLUMNS
        <scan_id>_desc-brain_mask.nii.gz
        <scan_id>_desc-check.png            a picture of each lesion

``scan_id`` is ``sub-X[_ses-Y][_acq-Z]_T2starw`` or ``…_swi``. Paths in the table are relative to
the root, with slashes. ``image_sha256`` is that of the voxels, as
:func:`training.datasets.splits.image_hash` computes it, not of the file.

References
----------
Gorgolewski et al., "The brain imaging data structure", Scientific Data 3, 2016. The suffix ``swi``
and the files under ``derivatives/lesions`` are not part of its standard; ``.bidsignore`` says so.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from CMBDetectorLib.errors import InputError

UNKNOWN = "n/a"
SCANS_NAME = "scans.tsv"
PARTICIPANTS_NAME = "participants.tsv"
ISSUES_NAME = "issues.csv"
MISMATCHES_NAME = "mismatches.csv"
DESCRIPTION_NAME = "dataset_description.json"

SCAN_COLUMNS = (
    "scan_id",
    "participant_id",
    "session",
    "image",
    "lesions",
    "points",
    "brain_mask",
    "sequence",
    "center",
    "field_strength_t",
    "echo_time_ms",
    "slice_thickness_mm",
    "in_plane_mm",
    "annotation",
    "n_listed",
    "n_lesions",
    "split",
    "image_sha256",
    "source",
)
PARTICIPANT_COLUMNS = ("participant_id", "center", "split", "n_scans")
POINT_COLUMNS = ("lesion", "x_ras_mm", "y_ras_mm", "z_ras_mm", "status")
SUFFIXES = {"T2*": "T2starw", "SWI": "swi"}

_OWN_FIELDS = (
    "scan_id",
    "participant_id",
    "session",
    "image",
    "lesions",
    "points",
    "brain_mask",
)
_NOT_IN_LABELS = re.compile(r"[^A-Za-z0-9]")


@dataclass(frozen=True)
class ScanEntry:
    """One row of the scan table.

    Attributes
    ----------
    scan_id
        Name of the image without its ending; unique.
    participant_id
        With the prefix, such as ``sub-101``.
    session
        With the prefix, such as ``ses-T1``; empty without sessions.
    image, lesions, points, brain_mask
        Absolute if the root is; None where the dataset has none. ``lesions`` is an int16 or int32
        label map on the image's grid; in a scan without lesions it is 0 everywhere.
    attributes
        All other columns as text, without those that are unknown: ``sequence`` ("T2*" or "SWI"),
        ``split``, ``slice_thickness_mm`` and so on.
    """

    scan_id: str
    participant_id: str
    session: str
    image: Path
    lesions: Path | None = None
    points: Path | None = None
    brain_mask: Path | None = None
    attributes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ScanPaths:
    """Where the files of a scan lie, relative to the root."""

    image: PurePosixPath
    sidecar: PurePosixPath
    lesions: PurePosixPath
    points: PurePosixPath
    brain_mask: PurePosixPath
    picture: PurePosixPath


def bids_label(text: str) -> str:
    """``text`` as a BIDS label: its letters and digits.

    Raises
    ------
    InputError
        If nothing is left.
    """
    label = _NOT_IN_LABELS.sub("", text)
    if not label:
        raise InputError(f"no name can be made of {text!r}, expected letters or digits; rename it")
    return label


def scan_name(participant: str, session: str, acquisition: str, sequence: str) -> str:
    """``sub-X[_ses-Y][_acq-Z]_suffix`` of labels that are free of prefixes."""
    parts = [f"sub-{participant}"]
    parts += [f"ses-{session}"] if session else []
    parts += [f"acq-{acquisition}"] if acquisition else []
    return "_".join([*parts, SUFFIXES[sequence]])


def scan_paths(participant: str, session: str, scan_id: str) -> ScanPaths:
    """Places of the files of a scan; labels without prefixes."""
    anat = PurePosixPath(f"sub-{participant}")
    anat = anat / f"ses-{session}" / "anat" if session else anat / "anat"
    made = PurePosixPath("derivatives", "lesions") / anat
    return ScanPaths(
        image=anat / f"{scan_id}.nii.gz",
        sidecar=anat / f"{scan_id}.json",
        lesions=made / f"{scan_id}_desc-cmb_dseg.nii.gz",
        points=made / f"{scan_id}_desc-cmb_points.csv",
        brain_mask=made / f"{scan_id}_desc-brain_mask.nii.gz",
        picture=made / f"{scan_id}_desc-check.png",
    )


def read_dataset(root: Path) -> tuple[ScanEntry, ...]:
    """All scans of a dataset in this layout, in the order of its table.

    Raises
    ------
    InputError
        If the table is missing or lacks a column, a scan stands in it twice, or a file that it
        names does not exist.
    """
    path = root / SCANS_NAME
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream, delimiter="\t")
            rows, columns = list(reader), reader.fieldnames or []
    except FileNotFoundError as error:
        raise InputError(
            f"{root} holds no {SCANS_NAME}: it is no standardized dataset, or was cut off; "
            "make or finish it with: python -m training standardize"
        ) from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read: {error}; standardize it again") from error
    missing = [name for name in SCAN_COLUMNS if name not in columns]
    if missing:
        raise InputError(f"{path} lacks the columns {', '.join(missing)}; standardize again")
    entries = tuple(_entry(root, path, row) for row in rows)
    seen: set[str] = set()
    for entry in entries:
        if entry.scan_id in seen:
            raise InputError(f"{path} names {entry.scan_id} twice; standardize again")
        seen.add(entry.scan_id)
    return entries


def _entry(root: Path, table: Path, row: Mapping[str, str | None]) -> ScanEntry:
    def file(column: str) -> Path | None:
        value = row.get(column) or UNKNOWN
        if value == UNKNOWN:
            return None
        path = root.joinpath(*PurePosixPath(value).parts)
        if not path.is_file():
            raise InputError(
                f"{table} names {value}, which does not exist; run the standardization again"
            )
        return path

    image = file("image")
    if image is None or any(value is None for value in row.values()):
        raise InputError(f"{table}: the row of {row.get('scan_id')} is cut off; standardize again")
    known = {key: value for key, value in row.items() if value not in (None, "", UNKNOWN)}
    return ScanEntry(
        scan_id=str(row["scan_id"]),
        participant_id=str(row["participant_id"]),
        session=known.get("session") or "",
        image=image,
        lesions=file("lesions"),
        points=file("points"),
        brain_mask=file("brain_mask"),
        attributes={key: str(value) for key, value in known.items() if key not in _OWN_FIELDS},
    )


def format_table(columns: Sequence[str], rows: Sequence[Mapping[str, str]]) -> str:
    """Tab-separated text; what is unknown is "n/a", tabs and line ends become spaces."""
    lines = ["\t".join(columns)]
    for row in rows:
        cells = (" ".join(str(row.get(name) or UNKNOWN).split()) for name in columns)
        lines.append("\t".join(cells))
    return "\n".join(lines) + "\n"
