"""The page: overview, where datasets differ, and a plot of each feature."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timezone

from CMBDetectorLib.reporting.document import INTENDED_USE
from CMBDetectorLib.reporting.evaluation_html import (
    escaped,
    figure,
    number,
    paragraph,
    plural,
    section,
    signed,
    table,
)
from CMBDetectorLib.reporting.evaluation_page import page_foot, page_head
from CMBDetectorLib.reporting.evaluation_svg import plot_style
from CMBDetectorLib.version import __version__
from training.analysis.distributions import PERCENTILES, ComparedFeature, Difference
from training.analysis.overview import OverviewRow
from training.analysis.plots import dataset_colors, distribution_plot
from training.analysis.reference import REAL_LESIONS, SOURCE
from training.analysis.scan_analysis import ScanRecord

_SEPARATE = (
    "A KS statistic is the largest gap between two cumulative distributions (0: the same, 1: no "
    "overlap). The standardized difference is the difference of the means in standard deviations; "
    "it is positive where the dataset is larger. The Wasserstein distance is in the feature's "
    "unit. The p-value takes lesions to be independent, which those of one head are not: it is "
    "too small, and with many lesions it is small for differences that do not matter."
)


def format_page(
    records: Sequence[ScanRecord],
    datasets: Sequence[str],
    reference: str | None,
    overview: Sequence[OverviewRow],
    features: Sequence[ComparedFeature],
) -> str:
    """The whole page; vector plots, nothing loaded from elsewhere.

    Raises
    ------
    MissingDependencyError
        If matplotlib is not installed.
    """
    title = "Lesions and scans of " + _listed(datasets)
    now = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    problems = [record for record in records if record.problem]
    parts = [
        page_head(escaped(title)),
        f"<header><h1>{escaped(title)}</h1>"
        f'<p class="research">{escaped(INTENDED_USE)}</p>'
        f'<p class="muted">CMBDetector {escaped(__version__)}, {now}.</p></header>\n',
        _problem_note(problems),
        _overview_section(overview, datasets),
        _difference_section(features, reference),
        _plot_section(features, datasets, reference),
        _distribution_section(features),
        page_foot(),
    ]
    return "".join(parts)


def _problem_note(problems: Sequence[ScanRecord]) -> str:
    if not problems:
        return ""
    items = "".join(
        f"<li>{escaped(r.dataset)}, {escaped(r.scan_id)}: {escaped(r.problem)}</li>"
        for r in problems
    )
    told = plural(len(problems), "scan")
    return (
        f'<div class="note"><p><b>{told} could not be analyzed</b> and '
        f"{'is' if len(problems) == 1 else 'are'} in none of the figures.</p><ul>{items}</ul></div>"
    )


def _overview_section(overview: Sequence[OverviewRow], datasets: Sequence[str]) -> str:
    rows, classes = [], []
    group = ""
    for row in overview:
        if row.group != group:
            group = row.group
            rows.append([f"<b>{escaped(group)}</b>", *[""] * (len(datasets) + 1)])
            classes.append("own")
        cells = [_overview_cell(value, row) for value in row.values]
        published = "" if math.isnan(row.published) else _overview_cell(row.published, row)
        rows.append([escaped(row.figure), *cells, published])
        classes.append("")
    return section(
        "overview",
        "Overview",
        paragraph(
            f"Published: {SOURCE}. No norm: sequences, slices and readers differ. Published shapes "
            "are averages, of which it is not said whether medians or means. The logarithm of the "
            f"diameter is of {REAL_LESIONS.log_normal_source}."
        ),
        table(["", *datasets, "published"], rows, row_css=classes),
    )


def _overview_cell(value: float, row: OverviewRow) -> str:
    if math.isnan(value):
        return number(None, why="not known")
    if row.is_share:
        return f'<data value="{value!r}">{100 * value:.0f} %</data>'
    if row.is_count:
        return number(value, 0 if value == round(value) else 1)
    return number(value, 2 if abs(value) < 100 else 0)


def _difference_section(features: Sequence[ComparedFeature], reference: str | None) -> str:
    if reference is None:
        return ""
    told: list[tuple[Difference, list[str]]] = []
    for feature in features:
        for dataset, difference in feature.differences.items():
            medians = (
                feature.distributions[name].percentiles[PERCENTILES.index(50)]
                for name in (dataset, reference)
            )
            cells = [
                escaped(feature.column.label),
                escaped(dataset),
                *(_plain(median) for median in medians),
                number(difference.ks_statistic, 2),
                f'<data value="{difference.ks_p!r}">{difference.ks_p:.1g}</data>',
                signed(difference.standardized_difference, 2),
                _plain(difference.wasserstein),
            ]
            told.append((difference, cells))
    told.sort(key=lambda entry: entry[0].ks_statistic, reverse=True)
    if not told:
        rest = paragraph("No feature has 5 values or more in two datasets: nothing is compared.")
        return section("differences", f"Where datasets differ from {reference}", rest)
    headers = [
        "feature",
        "dataset",
        "its median",
        f"median of {reference}",
        "KS statistic",
        "p",
        "standardized difference",
        "Wasserstein",
    ]
    return section(
        "differences",
        f"Where datasets differ from {reference}",
        paragraph(_SEPARATE),
        f'<div class="scroll tall">'
        f"{table(headers, [cells for _, cells in told], css='sortable', box=False)}</div>",
    )


def _plot_section(
    features: Sequence[ComparedFeature], datasets: Sequence[str], reference: str | None
) -> str:
    colors = dataset_colors(datasets, reference)
    drawn = [feature for feature in features if feature.column.is_drawn]
    with plot_style():
        figures = [
            figure(
                distribution_plot(feature, colors, f"plot-{row}"),
                f"{feature.column.name}. {_caption(feature, reference)}",
            )
            for row, feature in enumerate(drawn)
        ]
    return section(
        "plots",
        "Distributions",
        paragraph(
            "Left the share of lesions or scans in each class, right the share up to a value. In "
            "parentheses the number of values; fewer than 20 are marks and no bars. Black dots are "
            "published percentiles."
        ),
        *figures,
    )


def _caption(feature: ComparedFeature, reference: str | None) -> str:
    told = [
        f"{dataset} against {reference}: KS {difference.ks_statistic:.2f}, standardized difference "
        f"{difference.standardized_difference:+.2f}."
        for dataset, difference in feature.differences.items()
    ]
    return " ".join(told)


def _distribution_section(features: Sequence[ComparedFeature]) -> str:
    headers = ["feature", "dataset", "n", "mean", "sd", *(f"p{p}" for p in PERCENTILES)]
    rows = [
        [
            escaped(feature.column.label),
            escaped(dataset),
            number(part.n),
            *(_plain(value) for value in (part.mean, part.sd, *part.percentiles)),
        ]
        for feature in features
        for dataset, part in feature.distributions.items()
        if part.n
    ]
    body = table(headers, rows, css="sortable", box=False)
    return section("percentiles", "Percentiles", f'<div class="scroll tall">{body}</div>')


def _plain(value: float) -> str:
    """Three significant digits."""
    if not math.isfinite(value):
        return number(None)
    digits = 0 if value == 0 else max(0, min(4, 2 - math.floor(math.log10(abs(value)))))
    return number(value, digits)


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
