"""What each dataset holds, in one table beside what is published."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from CMBDetectorLib.geometry import FloatArray
from CMBDetectorLib.results import NOT_ASSESSED
from training.analysis.distributions import PERCENTILES
from training.analysis.reference import COUNT_CLASSES, REAL_LESIONS, SOURCE, Reference, count_class
from training.analysis.scan_analysis import ScanRecord

SIZE_COLUMNS = (
    ("equivalent_diameter_mm", "Equivalent diameter (mm)"),
    ("original_shape_VoxelVolume", "Volume (mm³)"),
)
MEDIAN_COLUMNS = (
    ("original_shape_Elongation", "Minor over major axis"),
    ("original_shape_Flatness", "Least over major axis"),
    ("original_shape_Sphericity", "Sphericity"),
    ("mean_contrast", "Mean contrast"),
    ("depth_to_noise", "Depth over noise"),
    ("distance_to_surface_mm", "Distance to the brain's surface (mm)"),
)


@dataclass(frozen=True)
class OverviewRow:
    """One line of the overview.

    Attributes
    ----------
    group, figure
        Heading, and what the figures are.
    values
        One per dataset, NaN where unknown.
    published
        Of real lesions; NaN where nothing is published.
    source
        Of ``published``.
    is_share, is_count
        How to print them.
    """

    group: str
    figure: str
    values: tuple[float, ...]
    published: float = math.nan
    source: str = SOURCE
    is_share: bool = False
    is_count: bool = False


def make_overview(
    records: Sequence[ScanRecord], datasets: Sequence[str], reference: Reference = REAL_LESIONS
) -> tuple[OverviewRow, ...]:
    """Scans, counts, sizes, shapes and places of each dataset.

    Shares of counts are of the annotated scans with lesions, shares of zones and places of the
    lesions for which one is known. A scan that nobody has annotated counts as a scan and nowhere
    else.
    """
    groups = [[r for r in records if r.dataset == name and not r.problem] for name in datasets]
    failed = [sum(bool(r.problem) for r in records if r.dataset == name) for name in datasets]
    return (
        *_scan_rows(groups, failed, reference),
        *_count_rows(groups, reference),
        *_size_rows(groups, reference),
        *_median_rows(groups, reference),
        *_share_rows(groups, "Zone (MARS)", "zone", reference.zone_shares),
        *_share_rows(groups, "Place", "place", reference.place_shares),
    )


def _scan_rows(
    groups: Sequence[Sequence[ScanRecord]], failed: Sequence[int], reference: Reference
) -> list[OverviewRow]:
    def row(figure: str, values: Sequence[float], published: float = math.nan) -> OverviewRow:
        return OverviewRow("Scans", figure, tuple(map(float, values)), published, is_count=True)

    annotated = [[r for r in group if r.is_annotated] for group in groups]
    rows = [
        row("scans", [len(group) for group in groups]),
        row("of these annotated", [len(group) for group in annotated]),
        row("of these with lesions", [sum(_n(r) > 0 for r in group) for group in annotated]),
        row("lesions", [sum(map(_n, group)) for group in annotated], reference.lesions),
    ]
    listed = [[r.scan["n_listed"] for r in group if "n_listed" in r.scan] for group in annotated]
    if any(listed):
        rows.append(row("lesions listed by the source", [_sum_or_nan(part) for part in listed]))
    faint = [[r.scan["n_faint"] for r in group if "n_faint" in r.scan] for group in groups]
    if any(faint):
        rows.append(row("lesions left out as too faint", [_sum_or_nan(part) for part in faint]))
    if any(failed):
        rows.append(row("scans that could not be analyzed", failed))
    return rows


def _count_rows(groups: Sequence[Sequence[ScanRecord]], reference: Reference) -> list[OverviewRow]:
    counts = [np.array([_n(r) for r in group if r.is_annotated and _n(r) > 0]) for group in groups]
    title = "Lesions of a scan with lesions"
    rows = [
        OverviewRow(title, "median", tuple(_median(part) for part in counts), is_count=True),
        OverviewRow(
            title,
            "most",
            tuple(float(part.max()) if len(part) else math.nan for part in counts),
            reference.most_lesions,
            is_count=True,
        ),
    ]
    for name in COUNT_CLASSES:
        shares = [
            float(np.mean([count_class(n) == name for n in part])) if len(part) else math.nan
            for part in counts
        ]
        published = reference.count_shares[name]
        rows.append(OverviewRow(title, name, tuple(shares), published, is_share=True))
    return rows


def _size_rows(groups: Sequence[Sequence[ScanRecord]], reference: Reference) -> list[OverviewRow]:
    rows = []
    for column, title in SIZE_COLUMNS:
        published = reference.percentiles.get(column, {})
        values = [_values(group, column) for group in groups]
        for percentile in PERCENTILES:
            numbers = tuple(
                float(np.percentile(part, percentile)) if len(part) else math.nan for part in values
            )
            name = "median" if percentile == 50 else f"{percentile}th percentile"
            rows.append(OverviewRow(title, name, numbers, published.get(percentile, math.nan)))
    diameters = [_values(group, "equivalent_diameter_mm") for group in groups]
    logs = [np.log(part) for part in diameters]
    mean, deviation = reference.log_normal_diameter
    title, source = "Logarithm of the diameter in mm", reference.log_normal_source
    means = tuple(float(part.mean()) if len(part) else math.nan for part in logs)
    deviations = tuple(float(part.std(ddof=1)) if len(part) > 1 else math.nan for part in logs)
    rows.append(OverviewRow(title, "mean", means, mean, source))
    rows.append(OverviewRow(title, "standard deviation", deviations, deviation, source))
    return rows


def _median_rows(groups: Sequence[Sequence[ScanRecord]], reference: Reference) -> list[OverviewRow]:
    return [
        OverviewRow(
            "Medians",
            title,
            tuple(_median(_values(group, column)) for group in groups),
            reference.typical.get(column, math.nan),
        )
        for column, title in MEDIAN_COLUMNS
    ]


def _share_rows(
    groups: Sequence[Sequence[ScanRecord]],
    title: str,
    column: str,
    published: Mapping[str, float],
) -> list[OverviewRow]:
    """Shares of the lesions for which the column is known; no rows where it is for none."""
    counts = [Counter(_texts(group, column)) for group in groups]
    names = [*published, *sorted(set().union(*counts) - set(published))]
    if not any(counts):
        return []
    rows = [
        OverviewRow(
            title,
            "lesions with a known one",
            tuple(float(part.total()) for part in counts),
            is_count=True,
        )
    ]
    for name in names:
        shares = tuple(part[name] / part.total() if part else math.nan for part in counts)
        share = published.get(name, math.nan)
        rows.append(OverviewRow(title, name, shares, share, is_share=True))
    return rows


def _n(record: ScanRecord) -> float:
    return float(record.scan["n_lesions"])


def _values(group: Sequence[ScanRecord], column: str) -> FloatArray:
    values = [row.get(column, math.nan) for record in group for row in record.lesions]
    numbers = np.array(values, dtype=np.float64)
    return numbers[np.isfinite(numbers)]


def _texts(group: Sequence[ScanRecord], column: str) -> list[str]:
    texts = [str(row.get(column, "")) for record in group for row in record.lesions]
    return [text for text in texts if text not in ("", NOT_ASSESSED)]


def _median(values: FloatArray) -> float:
    return float(np.median(values)) if len(values) else math.nan


def _sum_or_nan(values: Sequence[float | str]) -> float:
    return sum(map(float, values)) if values else math.nan
