"""Which prediction is of which truth, and what else there is for each scan."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from CMBDetectorLib.errors import InputError, UsageError
from CMBDetectorLib.evaluation.issues import Issue
from CMBDetectorLib.evaluation.names import (
    IMAGE_WORDS,
    REGION_WORDS,
    Matched,
    ScanName,
    file_stem,
    is_brain_mask,
    is_lesion_name,
    is_own_anatomy,
    match_names,
    scan_name,
    unique_ids,
)
from CMBDetectorLib.evaluation.scan_table import ScanTable
from CMBDetectorLib.evaluation.sources import Source, SourceScan, image_files

# What remains where a subject has images of several contrasts, as T1 and T2* in VALDO.
_BLOOD_SENSITIVE = re.compile(r"(t2s|t2star|t2starw|swi|swan|gre|t2star_gre)$", re.IGNORECASE)
_EXAMPLES = 3


@dataclass
class Pairing:
    """Scans that can be evaluated, and what kept the others out.

    Attributes
    ----------
    truths, predictions
        Of each scan its two sides; None where a side says that it has no lesion.
    names
        Of each scan what it is called by either side, the truth first.
    excluded
        Ids of the scans that are kept out.
    """

    scan_ids: list[str] = field(default_factory=list)
    truths: list[SourceScan | None] = field(default_factory=list)
    predictions: list[SourceScan | None] = field(default_factory=list)
    names: list[tuple[ScanName, ...]] = field(default_factory=list)
    issues: list[Issue] = field(default_factory=list)
    excluded: list[str] = field(default_factory=list)

    def add(
        self,
        scan_id: str,
        truth: SourceScan | None,
        prediction: SourceScan | None,
        *names: ScanName,
    ) -> None:
        """Add a scan."""
        self.scan_ids.append(scan_id)
        self.truths.append(truth)
        self.predictions.append(prediction)
        self.names.append(tuple(dict.fromkeys(names)))


def pair_sources(
    truth: Source, prediction: Source, table: ScanTable | None, *, missing_is_empty: bool
) -> Pairing:
    """Bring the scans of both sides together.

    Two single files belong together whatever they are called; so do a single file and the one
    scan of the other side. Otherwise names decide, as :mod:`CMBDetectorLib.evaluation.names` says.

    Parameters
    ----------
    missing_is_empty
        Count a scan without a prediction as one in which nothing was found.

    Raises
    ------
    InputError
        If no scan of one side is on the other.
    """
    sides = (truth, prediction)
    paired = Pairing(issues=[*truth.issues, *prediction.issues])
    names = [[s.name for s in side.scans] + [name for name, _ in side.clashes] for side in sides]
    n_good = [len(side.scans) for side in sides]
    if [len(side) for side in names] == [1, 1] and any(side.is_single for side in sides):
        matched = Matched(((0, 0),), ())
    else:
        matched = match_names(names[0], names[1])
    _refuse_strangers(sides, names, matched)
    ids = [unique_ids(side) for side in names]
    clashing = [set(range(n_good[k], len(names[k]))) for k in (0, 1)]
    partner_clashes = (
        {row for pair in matched.pairs for row in pair[:1] if pair[1] in clashing[1]},
        {row for pair in matched.pairs for row in pair[1:] if pair[0] in clashing[0]},
    )
    for number, side in enumerate(sides):
        for row, (_, files) in enumerate(side.clashes, start=n_good[number]):
            _add_duplicate(paired, ids[number][row], files)
    done: list[set[int]] = [clashing[0] | partner_clashes[0], clashing[1] | partner_clashes[1]]
    in_pairs = [{pair[k] for pair in matched.pairs} | done[k] for k in (0, 1)]
    for group in matched.ambiguous:
        unmet = [set(group[k]) - in_pairs[k] for k in (0, 1)]
        if not unmet[0] or not unmet[1]:
            continue
        alike = [sides[k].scans[row].file for k in (0, 1) for row in group[k] if len(group[k]) > 1]
        _add_duplicate(paired, names[0][group[0][0]].name, alike)
        for k in (0, 1):
            done[k] |= unmet[k]
    for t_row, p_row in matched.pairs:
        if t_row not in done[0] and p_row not in done[1]:
            names_of = names[0][t_row], names[1][p_row]
            paired.add(ids[0][t_row], truth.scans[t_row], prediction.scans[p_row], *names_of)
    met_rows = [{pair[k] for pair in matched.pairs} | done[k] for k in (0, 1)]
    for row in [r for r in range(n_good[0]) if r not in met_rows[0]]:
        _add_unpredicted(paired, ids[0][row], truth.scans[row], prediction, missing_is_empty)
    for row in [r for r in range(n_good[1]) if r not in met_rows[1]]:
        _add_without_truth(paired, ids[1][row], prediction.scans[row], truth)
    if table is not None and truth.is_cohort_table and prediction.is_cohort_table:
        _add_scans_of_table(paired, table)
    return paired


def files_for_scans(
    names: Sequence[tuple[ScanName, ...]], path: Path | None, words: frozenset[str], option: str
) -> list[Path | None]:
    """The image, or the map of regions, of each scan; None where there is none.

    Parameters
    ----------
    names
        Of each scan what it is called by either side.
    path
        A file for a single scan, or a folder.
    words
        Endings that say what a file is: :data:`IMAGE_WORDS` or :data:`REGION_WORDS`.
    option
        For messages.

    Raises
    ------
    UsageError
        If one file is given for several scans.
    InputError
        If there is nothing at the path.
    """
    if path is None:
        return [None] * len(names)
    if not path.exists():
        raise InputError(f"{path}: there is no such file or folder; check {option}")
    if not path.is_dir():
        if len(names) > 1:
            raise UsageError(f"{option} is one file, got {len(names)} scans; pass a folder")
        return [path] * len(names)
    files = [file for file in image_files(path) if not is_brain_mask(file_stem(file))]
    if words is IMAGE_WORDS:
        stems = [file_stem(file) for file in files]
        files = [
            file
            for file, stem in zip(files, stems, strict=True)
            if not (is_lesion_name(stem) or is_own_anatomy(stem))
        ]
    found: list[Path | None] = [None] * len(names)
    contrast = [file for file in files if _BLOOD_SENSITIVE.search(file_stem(file))]
    rounds = ((files, frozenset[str]()), (files, words), (contrast, words))
    for some, endings in rounds:
        file_names = [scan_name(file, path, endings) for file in some]
        for which in (0, -1):
            # All scans take part each time: a file of one that has its own is no other's.
            wanted = [own[which] for own in names]
            for row, match in match_names(wanted, file_names).pairs:
                found[row] = found[row] or some[match]
    return found


def image_paths(names: Sequence[tuple[ScanName, ...]], path: Path | None) -> list[Path | None]:
    """As :func:`files_for_scans`, for images."""
    return files_for_scans(names, path, IMAGE_WORDS, "--images")


def region_paths(names: Sequence[tuple[ScanName, ...]], path: Path | None) -> list[Path | None]:
    """As :func:`files_for_scans`, for maps of brain regions."""
    return files_for_scans(names, path, REGION_WORDS, "--regions")


def _refuse_strangers(
    sides: tuple[Source, Source], names: list[list[ScanName]], matched: Matched
) -> None:
    # A table of a cohort in which nothing was found has no rows at all.
    if matched.pairs or matched.ambiguous:
        return
    if any(side.is_cohort_table and not found for side, found in zip(sides, names, strict=True)):
        return
    told = [
        f"the {side.side} ({side.path}) has {len(found)}, such as "
        f"{', '.join(name.name for name in found[:_EXAMPLES])}"
        for side, found in zip(sides, names, strict=True)
    ]
    raise InputError(
        f"no scan is on both sides: {'; '.join(told)}; name the files of a scan alike, or pass two "
        "single files"
    )


def _add_duplicate(paired: Pairing, scan_id: str, files: Sequence[Path]) -> None:
    told = " and ".join(str(file) for file in files)
    message = f"{told} stand for the same scan, which is not evaluated; leave one, or rename them"
    paired.issues.append(Issue(scan_id, str(files[0]), "duplicate-name", message))
    paired.excluded.append(scan_id)


def _add_unpredicted(
    paired: Pairing, scan_id: str, scan: SourceScan, prediction: Source, missing_is_empty: bool
) -> None:
    if prediction.is_cohort_table:
        paired.add(scan_id, scan, None, scan.name)
        return
    fate = "counted as if nothing was found" if missing_is_empty else "not evaluated"
    message = f"no prediction in {prediction.path} has this name; {fate}"
    paired.issues.append(Issue(scan_id, str(scan.file), "missing-prediction", message))
    if missing_is_empty:
        paired.add(scan_id, scan, None, scan.name)
    else:
        paired.excluded.append(scan_id)


def _add_without_truth(paired: Pairing, scan_id: str, scan: SourceScan, truth: Source) -> None:
    if truth.is_cohort_table:
        paired.add(scan_id, None, scan, scan.name)
        return
    message = f"no truth in {truth.path} has this name; not evaluated"
    paired.issues.append(Issue(scan_id, str(scan.file), "missing-truth", message))
    paired.excluded.append(scan_id)


def _add_scans_of_table(paired: Pairing, table: ScanTable) -> None:
    """Scans that two lists of points do not name: without a lesion on either side."""
    if table.is_of_participants:
        return
    known = [names[0] for names in paired.names]
    met = {row for row in table.rows_of(known) if row is not None}
    for row, name in enumerate(table.names):
        if row not in met:
            paired.add(name.name, None, None, name)
