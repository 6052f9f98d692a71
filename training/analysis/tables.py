"""The results as CSV: lesions, scans, overview, distributions."""

from __future__ import annotations

import math
from collections.abc import Sequence

from CMBDetectorLib.reporting.rows import format_rows
from training.analysis.columns import LESION_COLUMNS, SCAN_COLUMNS
from training.analysis.distributions import PERCENTILES, ComparedFeature
from training.analysis.overview import OverviewRow
from training.analysis.scan_analysis import ScanRecord

DISTRIBUTION_COLUMNS = (
    "feature",
    "unit",
    "dataset",
    "n",
    "mean",
    "sd",
    *(f"p{percentile}" for percentile in PERCENTILES),
    "compared_with",
    "ks_statistic",
    "ks_p",
    "standardized_difference",
    "wasserstein",
)


def lesion_table(records: Sequence[ScanRecord]) -> str:
    """One row per lesion; what is not known or not defined is empty."""
    names = [column.name for column in LESION_COLUMNS]
    return format_rows(
        names,
        ([_cell(row.get(name)) for name in names] for r in records for row in r.lesions),
    )


def scan_table(records: Sequence[ScanRecord]) -> str:
    """One row per scan, with the problem where it could not be analyzed."""
    names = [column.name for column in SCAN_COLUMNS]
    return format_rows(names, ([_cell(r.scan.get(name)) for name in names] for r in records))


def overview_table(rows: Sequence[OverviewRow], datasets: Sequence[str]) -> str:
    """The overview, one column per dataset, and what is published."""
    return format_rows(
        ("group", "figure", *datasets, "published", "published_source"),
        (
            [
                row.group,
                row.figure,
                *map(_cell, row.values),
                _cell(row.published),
                "" if math.isnan(row.published) else row.source,
            ]
            for row in rows
        ),
    )


def distribution_table(features: Sequence[ComparedFeature], reference: str | None) -> str:
    """One row per feature and dataset."""
    rows = []
    for feature in features:
        for dataset, part in feature.distributions.items():
            difference = feature.differences.get(dataset)
            compared: list[str] = [""] * 5
            if difference is not None:
                compared = [str(reference), *map(_cell, vars(difference).values())]
            rows.append(
                [
                    feature.column.name,
                    feature.column.unit,
                    dataset,
                    part.n,
                    *map(_cell, (part.mean, part.sd, *part.percentiles)),
                    *compared,
                ]
            )
    return format_rows(DISTRIBUTION_COLUMNS, rows)


def _cell(value: float | str | None) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return f"{value:.7g}" if math.isfinite(value) else ""
