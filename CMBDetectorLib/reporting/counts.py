"""Counts over the lesions of a scan: for the document, as a table of one row, and in words.

Whatever is counted by a published scheme is named with it: zones and regions by MARS, sizes and
regions by tissue by BOMBS.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from CMBDetectorLib.anatomy.schemes import Summary, summarize
from CMBDetectorLib.reporting.rows import format_rows
from CMBDetectorLib.results import NOT_ASSESSED, Detection, DroppedDetection

_YES_NO = {True: "yes", False: "no", None: NOT_ASSESSED}


def counts_document(detections: Sequence[Detection]) -> dict[str, Any]:
    """Counts as plain types, with the schemes they are by; every class is there, with 0 as well."""
    counts = summarize(detections)
    return {
        "scheme": counts.scheme,
        "n_by_zone": counts.by_zone,
        "n_by_region": counts.by_region,
        "n_by_hemisphere": counts.by_hemisphere,
        "strictly_lobar": counts.strictly_lobar,
        "bombs_scheme": counts.bombs_scheme,
        "n_by_bombs_region": counts.by_bombs_region,
        "n_by_max_diameter": counts.by_size,
    }


def format_counts_csv(
    image: str, detections: Sequence[Detection], *, anatomy: str, n_dropped: int
) -> str:
    """One row under a header, the same for every scan, so that rows of a cohort can be joined.

    Columns are ``image``, ``n_lesions``, ``total_volume_mm3``, ``n_dropped``, ``anatomy``
    (its source), ``strictly_lobar`` (yes, no, not assessed), and the numbers of lesions
    ``mars_zone_…``, ``mars_region_…``, ``side_…``, ``bombs_region_…`` and ``bombs_size_…`` by
    maximum diameter.
    """
    counts = summarize(detections)
    row: dict[str, object] = {
        "image": image,
        "n_lesions": counts.n,
        "total_volume_mm3": f"{math.fsum(lesion.volume_mm3 for lesion in detections):.3f}",
        "n_dropped": n_dropped,
        "anatomy": anatomy,
        "strictly_lobar": _YES_NO[counts.strictly_lobar],
    }
    for prefix, by_class in (
        ("mars_zone", counts.by_zone),
        ("mars_region", counts.by_region),
        ("side", counts.by_hemisphere),
        ("bombs_region", counts.by_bombs_region),
        ("bombs_size", counts.by_size),
    ):
        row |= {f"{prefix}_{_column(name)}": number for name, number in by_class.items()}
    return format_rows(tuple(row), [tuple(row.values())])


def count_lines(detections: Sequence[Detection]) -> list[str]:
    """The counts in words for a terminal, ASCII; zones and regions only where one is known."""
    if not detections:
        return []
    counts = summarize(detections)
    lines = []
    if counts.by_zone[NOT_ASSESSED] < counts.n:
        lines += [
            f"zones ({counts.scheme}): {listed(counts.by_zone)}; "
            f"strictly lobar: {_YES_NO[counts.strictly_lobar]}",
            f"regions ({counts.scheme}): {listed(counts.by_region)}",
            f"regions ({counts.bombs_scheme}): {listed(counts.by_bombs_region)}",
        ]
    if counts.by_hemisphere[NOT_ASSESSED] < counts.n:
        lines.append(f"sides: {listed(counts.by_hemisphere)}")
    lines.append(f"sizes ({counts.bombs_scheme}): {listed(counts.by_size)}")
    return lines


def places_line(counts: Summary) -> str:
    """Counts by zone and side, and whether the pattern is strictly lobar."""
    return (
        f"zones ({counts.scheme}): {listed(counts.by_zone)}  ·  "
        f"sides: {listed(counts.by_hemisphere)}  ·  "
        f"strictly lobar: {_YES_NO[counts.strictly_lobar]}"
    )


def dropped_line(dropped: Sequence[DroppedDetection]) -> str:
    """How many candidates were left out, and why, most frequent first; empty where none was.

    >>> dropped_line([])
    ''
    """
    if not dropped:
        return ""
    reasons = Counter(one.reason for one in dropped)
    if len(reasons) == 1:
        return f"{len(dropped)} dropped: {next(iter(reasons))}"
    told = "; ".join(f"{number} {reason}" for reason, number in reasons.most_common())
    return f"{len(dropped)} dropped: {told}"


def listed(counts: Mapping[str, int]) -> str:
    """The classes that occur, with their numbers."""
    return ", ".join(f"{name} {number}" for name, number in counts.items() if number) or "none"


def _column(name: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in name)
