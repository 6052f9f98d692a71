"""All scans of a dataset, one after another or side by side, and the tables about them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path

from CMBDetectorLib.errors import InputError, OutputError, UsageError
from CMBDetectorLib.reporting.rows import format_rows
from training.datasets.checks import (
    LEFT_OUT,
    PROBLEMS,
    DatasetIssue,
    duplicate_images,
    format_issues,
    summarize_issues,
)
from training.datasets.dataset_writer import DatasetWriter, ScanRecord
from training.datasets.layout import (
    ISSUES_NAME,
    MISMATCHES_NAME,
    PARTICIPANT_COLUMNS,
    PARTICIPANTS_NAME,
    SCAN_COLUMNS,
    SCANS_NAME,
    UNKNOWN,
    format_table,
)
from training.datasets.mismatches import MISMATCH_COLUMNS
from training.datasets.scan_job import ScanOutcome, finished_record, standardize_scan
from training.datasets.source import Adapter, SourceScan
from training.datasets.splits import (
    SplitEntry,
    assign_splits,
    check_splits,
    read_split_file,
    same_person_groups,
)

Row = dict[str, str]


@dataclass(frozen=True)
class SplitRequest:
    """How participants are divided: by chance in these shares, or as a table says."""

    fractions: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0
    table: Path | None = None


@dataclass(frozen=True)
class StandardizedDataset:
    """What a run has made.

    Attributes
    ----------
    rows
        Of the scan table.
    issues
        All that is in the table of issues.
    n_kept
        How many scans were there already.
    """

    rows: tuple[Row, ...]
    issues: tuple[DatasetIssue, ...]
    n_kept: int


def standardize_dataset(
    adapter: Adapter,
    source: Path,
    output: Path,
    *,
    split: SplitRequest | None = None,
    jobs: int = 1,
    limit: int | None = None,
    strict: bool = False,
) -> StandardizedDataset:
    """Bring a dataset to the layout of :mod:`training.datasets.layout`.

    A line per scan is printed, with the time left. What an earlier run has finished is kept.

    Raises
    ------
    InputError
        If the source is not in the adapter's layout, no scan can be used, two scans get the same
        name, or ``strict`` and something was left out or is doubtful; the table of issues is
        written then, too.
    UsageError
        If the output folder holds something else, or the shares of a split are not 1 together.
    OutputError
        If it cannot be written to.
    """
    _check_request(split)
    if output.resolve().is_relative_to(source.resolve()):
        raise UsageError(
            f"{output} lies inside of {source}, where it would be taken for a part of it; give "
            "another output folder"
        )
    found = list(adapter.scans(source))
    issues = [entry for entry in found if isinstance(entry, DatasetIssue)]
    scans = [entry for entry in found if isinstance(entry, SourceScan)]
    _require_own_names(scans)
    wanted = scans if limit is None else scans[:limit]
    writer = DatasetWriter(output)
    writer.start(
        layout=adapter.layout,
        title=adapter.title,
        license_text=adapter.license,
        url=adapter.url,
        source=source.name,
    )
    outcomes = list(_run_all(wanted, output, jobs))
    issues += [issue for outcome in outcomes for issue in outcome.issues]
    records = {o.record.scan_id: o.record for o in outcomes if o.record is not None}
    in_source = {scan.scan_id for scan in scans}
    for scan_id in writer.records():
        if scan_id not in in_source:
            text = f"{scan_id} was made by an earlier run and is not in the source any more"
            issues.append(DatasetIssue("not-in-source", text, scan_id=scan_id))
    for scan in scans[len(wanted) :]:
        kept = finished_record(scan, writer)
        if kept is not None:
            records[scan.scan_id] = kept
            issues += kept.issues
    ordered = [records[scan_id] for scan_id in sorted(records)]
    hashes = {record.scan_id: record.row["image_sha256"] for record in ordered}
    issues += duplicate_images(hashes)
    mismatches = [
        [row[name] for name in MISMATCH_COLUMNS] for record in ordered for row in record.mismatches
    ]
    writer.write_tables(
        [
            (ISSUES_NAME, format_issues(issues)),
            (MISMATCHES_NAME, format_rows(MISMATCH_COLUMNS, mismatches)),
        ]
    )
    _require_usable(ordered, issues, output, strict=strict)
    rows = _with_splits([dict(record.row) for record in ordered], split)
    writer.write_tables(
        [
            (PARTICIPANTS_NAME, format_table(PARTICIPANT_COLUMNS, _participants(rows))),
            (SCANS_NAME, format_table(SCAN_COLUMNS, rows)),
        ]
    )
    return StandardizedDataset(tuple(rows), tuple(issues), sum(o.was_there for o in outcomes))


def _check_request(split: SplitRequest | None) -> None:
    """Refuse wrong shares or a missing table now, not after hours of work."""
    if split is not None and split.table is not None:
        read_split_file(split.table)
    elif split is not None:
        assign_splits({}, split.fractions, split.seed)


def _require_own_names(scans: Sequence[SourceScan]) -> None:
    names: dict[str, str] = {}
    for scan in scans:
        if scan.scan_id in names:
            raise InputError(
                f"{names[scan.scan_id]} and {scan.source} would both be called {scan.scan_id}, "
                "expected a participant and session of its own for each; rename one, or name "
                "their sessions in a scan table"
            )
        names[scan.scan_id] = scan.source


def _run_all(scans: Sequence[SourceScan], output: Path, jobs: int) -> Iterator[ScanOutcome]:
    started_s, n_made = time.monotonic(), 0
    for number, outcome in enumerate(_outcomes(scans, output, jobs), start=1):
        n_made += not outcome.was_there
        left_s = (time.monotonic() - started_s) / max(n_made, 1) * (len(scans) - number)
        print(f"[{number}/{len(scans)}, {left_s:.0f} s left] {outcome.line}", flush=True)
        yield outcome


def _outcomes(scans: Sequence[SourceScan], output: Path, jobs: int) -> Iterator[ScanOutcome]:
    if jobs == 1:
        for scan in scans:
            yield standardize_scan(scan, output)
        return
    try:
        with ProcessPoolExecutor(max_workers=jobs) as pool:
            yield from pool.map(standardize_scan, scans, [output] * len(scans))
    except BrokenProcessPool as error:
        raise OutputError(
            "a process was ended from outside, for lack of memory perhaps; "
            "run the command again with fewer --jobs, what is finished is kept"
        ) from error


def _require_usable(
    records: Sequence[ScanRecord], issues: Sequence[DatasetIssue], output: Path, *, strict: bool
) -> None:
    serious = [issue for issue in issues if issue.code in LEFT_OUT or issue.code in PROBLEMS]
    if records and not (strict and serious):
        return
    counts = "; ".join(" ".join(line.split(":")[0].split()) for line in summarize_issues(serious))
    why = "with --strict nothing may be left out or doubtful" if records else "no scan can be used"
    raise InputError(f"{why}: {counts or 'the source is empty'}; see {output / ISSUES_NAME}")


def _with_splits(rows: Sequence[Row], split: SplitRequest | None) -> list[Row]:
    """The rows with a split each; participants who share an image are on one side."""
    if split is None:
        return [row | {"split": UNKNOWN} for row in rows]
    if split.table is not None:
        chosen = _given_splits(split.table, sorted({row["participant_id"] for row in rows}))
    else:
        same = same_person_groups((row["participant_id"], row["image_sha256"]) for row in rows)
        chosen = assign_splits(_strata(rows), split.fractions, split.seed, same_person=same)
    divided = [row | {"split": chosen[row["participant_id"]]} for row in rows]
    check_splits(
        SplitEntry(row["scan_id"], row["participant_id"], row["split"], row["image_sha256"])
        for row in divided
    )
    return divided


def _strata(rows: Sequence[Row]) -> dict[str, str]:
    """Each participant's center, and whether any of the scans has a lesion."""
    has_lesions = {row["participant_id"]: False for row in rows}
    for row in rows:
        has_lesions[row["participant_id"]] |= row["n_lesions"] not in ("0", UNKNOWN)
    return {
        row["participant_id"]: f"{row['center']}, "
        f"{'with' if has_lesions[row['participant_id']] else 'without'} lesions"
        for row in rows
    }


def _given_splits(path: Path, participants: Sequence[str]) -> dict[str, str]:
    given: dict[str, str] = {}
    for name, split in read_split_file(path).items():
        full = "sub-" + name.removeprefix("sub-")
        if given.setdefault(full, split) != split:
            raise InputError(
                f"{path}: participant {full} is in {given[full]} and in {split}; keep one"
            )
    missing = [name for name in participants if name not in given]
    if missing:
        raise InputError(
            f"{path} has no split of {len(missing)} participants, the first is {missing[0]}; "
            "add a row for each"
        )
    return {name: given[name] for name in participants}


def _participants(rows: Sequence[Row]) -> list[Row]:
    by_name: dict[str, list[Row]] = {}
    for row in rows:
        by_name.setdefault(row["participant_id"], []).append(row)
    return [
        {
            "participant_id": name,
            "center": "; ".join(sorted({row["center"] for row in own})),
            "split": own[0]["split"],
            "n_scans": str(len(own)),
        }
        for name, own in sorted(by_name.items())
    ]
