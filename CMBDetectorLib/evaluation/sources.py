"""The lesions of one side: a label map, a folder, a BIDS dataset, or tables of points.

In a folder, each scan is taken once:

- hidden files, brain masks, this software's anatomies and pictures are no lesions;
- where the names of some images say that they hold lesions (``_mask``, ``_cmb_labels``, ``_CMB``,
  ``_dseg`` …), the other images are left out;
- a label map goes before a segmentation of 3D Slicer (``_cmb.seg.nrrd``), that before a table of
  points, and that before a probability map, which needs a threshold;
- where a result of this software was reviewed, the reviewed files are the truth and the plain ones
  the prediction.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from CMBDetectorLib.errors import InputError
from CMBDetectorLib.evaluation import bids
from CMBDetectorLib.evaluation.issues import Issue
from CMBDetectorLib.evaluation.names import (
    IMAGE_SUFFIXES,
    TABLE_SUFFIXES,
    ScanName,
    file_stem,
    is_brain_mask,
    is_lesion_name,
    is_own_anatomy,
    is_probability,
    named_scan,
    scan_name,
)
from CMBDetectorLib.evaluation.outcomes import Side
from CMBDetectorLib.evaluation.points import (
    PointRow,
    are_points,
    read_columns,
    read_points,
    scan_column,
)

_OWN_RESULT = re.compile(
    r"^(?P<scan>.+)_cmb(?P<reviewed>_reviewed)?(?P<what>_labels|_probability|\.seg)?$",
    re.IGNORECASE,
)
# What a scan's lesions are taken from, best first.
_OF_AN_EVALUATION = frozenset({"scan_id", "method", "side", "outcome"})
_LABELS, _SEGMENTS, _POINTS, _PROBABILITY = range(4)


@dataclass(frozen=True)
class SourceScan:
    """The lesions of one scan on one side, not read yet.

    Attributes
    ----------
    file
        Label map, probability map or table.
    is_table
        Whether the file is a table of points.
    points
        The rows of this scan in a table of the whole cohort; else None.
    scores_file
        Table with a score for each number of the label map; None without.
    has_scores
        Of a table of the whole cohort: whether it has a column for scores.
    """

    name: ScanName
    file: Path
    is_table: bool = False
    points: tuple[PointRow, ...] | None = None
    scores_file: Path | None = None
    has_scores: bool = False


@dataclass(frozen=True)
class Source:
    """All scans of one side.

    Attributes
    ----------
    is_single
        Whether one file was named that is one scan.
    is_cohort_table, has_scores
        Whether the source is one table for all scans, in which one without rows has no lesions,
        and whether that has a column for scores.
    clashes
        Files of which several stand for the same scan; none of them is in ``scans``.
    """

    path: Path
    side: Side
    scans: tuple[SourceScan, ...]
    is_single: bool = False
    is_cohort_table: bool = False
    has_scores: bool = False
    clashes: tuple[tuple[ScanName, tuple[Path, ...]], ...] = ()
    issues: tuple[Issue, ...] = ()


def find_source(path: Path, side: Side, *, takes_probability: bool = False) -> Source:
    """What there is at a path.

    Parameters
    ----------
    takes_probability
        Whether probability maps count where there is nothing better.

    Raises
    ------
    InputError
        If there is nothing, or nothing that can be lesions.
    """
    if not _exists(path):
        raise InputError(f"{path}: there is no such file or folder; check the path of the {side}")
    if path.is_dir():
        return _from_folder(path, side, takes_probability=takes_probability)
    if path.name.lower().endswith(TABLE_SUFFIXES):
        return _from_table(path, side)
    scan = SourceScan(scan_name(path), path, scores_file=_scores_beside(path))
    return Source(path, side, (scan,), is_single=True)


def files_below(folder: Path, suffixes: tuple[str, ...]) -> Iterator[Path]:
    """The files in a folder and below it with these endings, in the order of their paths.

    Hidden files and folders, and folders that are links, are left out.

    Raises
    ------
    InputError
        If a folder cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise InputError(
            f"{error.filename}: the folder cannot be read ({error.strerror}); ask for read access"
        ) from error

    found: list[Path] = []
    for place, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            Path(place) / name
            for name in names
            if name.lower().endswith(suffixes) and not name.startswith(".")
        ]
    return iter(sorted(found))


def image_files(folder: Path) -> list[Path]:
    """The images in a folder and below it; of a pair .hdr and .img the first."""
    files = list(files_below(folder, IMAGE_SUFFIXES))
    return [path for path in files if not path.name.lower().endswith((".img", ".img.gz"))]


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; check the path") from error


def _from_table(path: Path, side: Side) -> Source:
    if scan_column(read_columns(path)) is None:
        return Source(path, side, (SourceScan(scan_name(path), path, is_table=True),), True)
    table = read_points(path)
    rows: dict[str, list[PointRow]] = {}
    names: dict[str, ScanName] = {}
    for row in table.rows:
        name = named_scan(row.scan or "")
        names.setdefault(name.place, name)
        rows.setdefault(name.place, []).append(row)
    scans = [
        SourceScan(names[key], path, True, tuple(rows[key]), has_scores=table.has_scores)
        for key in rows
    ]
    return Source(path, side, tuple(scans), is_cohort_table=True, has_scores=table.has_scores)


@dataclass(frozen=True)
class _Candidate:
    name: ScanName
    path: Path
    rank: int
    is_reviewed: bool = False


def _from_folder(path: Path, side: Side, *, takes_probability: bool) -> Source:
    root = bids.lesions_folder(path)
    images, left_out = _lesion_images(root)
    candidates = [_map_candidate(image, root) for image in images]
    tables: list[Path] = []
    cohort_tables: list[Path] = []
    for table in files_below(root, TABLE_SUFFIXES):
        columns = _columns(table)
        if columns is None or set(columns) >= _OF_AN_EVALUATION:
            left_out.append(table)
        elif are_points(columns):
            (tables if scan_column(columns) is None else cohort_tables).append(table)
    if not candidates and not tables and len(cohort_tables) == 1:
        return _from_table(cohort_tables[0], side)
    left_out += cohort_tables
    candidates += [_table_candidate(table, root) for table in tables]
    if not takes_probability:
        candidates = [one for one in candidates if one.rank != _PROBABILITY]
    if not candidates and len(cohort_tables) > 1:
        named = ", ".join(table.name for table in cohort_tables[:3])
        raise InputError(
            f"{path}: got {len(cohort_tables)} tables of a whole cohort ({named}), expected one; "
            "name the one to take"
        )
    if not candidates:
        raise InputError(
            f"{path}: no lesions are in this folder; expected label maps ending in "
            f"{', '.join(IMAGE_SUFFIXES[:4])}, or tables with the columns x_ras_mm, y_ras_mm, "
            "z_ras_mm; probability maps need --threshold"
        )
    groups: dict[str, list[_Candidate]] = {}
    for candidate in candidates:
        groups.setdefault(candidate.name.place, []).append(candidate)
    scans, clashes = [], []
    for group in groups.values():
        best = _best(group, side)
        if len(best) == 1:
            scans.append(_scan(best[0]))
        else:
            clashes.append((best[0].name, tuple(one.path for one in best)))
    return Source(
        path,
        side,
        tuple(scans),
        clashes=tuple(clashes),
        issues=_left_out(path, side, left_out),
    )


def _lesion_images(root: Path) -> tuple[list[Path], list[Path]]:
    """The maps of lesions below a folder, and the images that are none."""
    images = [path for path in image_files(root) if not _is_of_the_brain(file_stem(path))]
    listed = bids.listed_lesions(root)
    if listed is not None:
        not_listed = [path for path in images if path.resolve() not in listed]
        return [path for path in images if path.resolve() in listed], not_listed
    probabilities = [path for path in images if is_probability(file_stem(path))]
    images = [path for path in images if path not in set(probabilities)]
    for says_so in (bids.describes_lesions, lambda path: is_lesion_name(file_stem(path))):
        marked = [path for path in images if says_so(path)]
        if marked:
            left_out = [path for path in images if path not in set(marked)]
            return marked + probabilities, left_out
    return images + probabilities, []


def _is_of_the_brain(stem: str) -> bool:
    return is_brain_mask(stem) or is_own_anatomy(stem)


def _columns(path: Path) -> tuple[str, ...] | None:
    """None of a file that is no table, which was not asked for by name."""
    try:
        return read_columns(path)
    except InputError:
        return None


def _map_candidate(path: Path, root: Path) -> _Candidate:
    stem = file_stem(path)
    own = _OWN_RESULT.match(stem)
    if own is None:
        rank = _PROBABILITY if is_probability(stem) else _LABELS
        return _Candidate(scan_name(path, root), path, rank)
    what = (own["what"] or "").lower()
    rank = {"_probability": _PROBABILITY, ".seg": _SEGMENTS}.get(what, _LABELS)
    return _Candidate(scan_name(path, root), path, rank, is_reviewed=bool(own["reviewed"]))


def _table_candidate(path: Path, root: Path) -> _Candidate:
    own = _OWN_RESULT.match(file_stem(path))
    is_reviewed = own is not None and bool(own["reviewed"])
    return _Candidate(scan_name(path, root), path, _POINTS, is_reviewed=is_reviewed)


def _best(group: Sequence[_Candidate], side: Side) -> list[_Candidate]:
    """The one that stands for the scan; several where that cannot be told."""
    wanted = [one for one in group if one.is_reviewed == (side == "truth")]
    group = wanted or list(group)
    rank = min(one.rank for one in group)
    return [one for one in group if one.rank == rank]


def _scan(candidate: _Candidate) -> SourceScan:
    path = candidate.path
    if candidate.rank == _POINTS:
        return SourceScan(candidate.name, path, is_table=True)
    return SourceScan(candidate.name, path, scores_file=_scores_beside(path))


def _scores_beside(path: Path) -> Path | None:
    """The table that belongs to a label map: ``X_cmb.csv`` to ``X_cmb_labels``, ``X.csv`` to ``X``.

    A probability map has its scores in itself.
    """
    stem = file_stem(path)
    if is_probability(stem):
        return None
    stems = [re.sub(r"(_labels|\.seg)$", "", stem, flags=re.IGNORECASE), stem]
    tables = [path.with_name(one + suffix) for one in stems for suffix in TABLE_SUFFIXES]
    return next((table for table in tables if table.is_file()), None)


def _left_out(path: Path, side: Side, files: Sequence[Path]) -> tuple[Issue, ...]:
    if not files:
        return ()
    number = "1 file was" if len(files) == 1 else f"{len(files)} files were"
    return (
        Issue(
            None,
            str(path),
            "left-out",
            f"{number} not taken for the {side}, such as {files[0].name}; name the file itself "
            "if it holds lesions",
        ),
    )
