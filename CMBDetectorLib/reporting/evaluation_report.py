"""The report of an evaluation: one page that needs no other file, no network and no script."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from CMBDetectorLib.evaluation.outcomes import ScanOutcome
from CMBDetectorLib.io.writing import atomic_path
from CMBDetectorLib.reporting.evaluation_agreement import (
    classification_section,
    counts_section,
    segmentation_section,
)
from CMBDetectorLib.reporting.evaluation_comparison import comparison_section, published_section
from CMBDetectorLib.reporting.evaluation_detection import (
    curves_section,
    detection_section,
    sizes_section,
    strata_section,
)
from CMBDetectorLib.reporting.evaluation_errors import errors_sections, scans_section
from CMBDetectorLib.reporting.evaluation_glossary import glossary_section
from CMBDetectorLib.reporting.evaluation_html import escaped, section
from CMBDetectorLib.reporting.evaluation_overview import (
    issues_block,
    main_figures,
    report_title,
    rule_text,
    title_block,
)
from CMBDetectorLib.reporting.evaluation_page import page_foot, page_head
from CMBDetectorLib.reporting.evaluation_svg import plot_style
from CMBDetectorLib.reporting.evaluation_tiles import ErrorTile


def write_report(
    path: Path,
    metrics: Mapping[str, Any],
    outcomes: Sequence[ScanOutcome],
    tiles: Iterable[ErrorTile],
) -> None:
    """Write :func:`format_report` part by part; whole or not at all.

    Raises
    ------
    MissingDependencyError
        If matplotlib is not installed.
    OutputError
        If the operating system refuses.
    """
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        for part in report_parts(metrics, outcomes, tiles):
            stream.write(part.encode("utf-8", "backslashreplace"))


def format_report(
    metrics: Mapping[str, Any], outcomes: Sequence[ScanOutcome], tiles: Iterable[ErrorTile]
) -> str:
    """The whole page as HTML.

    All text that comes from users or files is escaped. The same input gives the same page.

    Parameters
    ----------
    metrics
        The dictionary that is written as ``metrics.json``.
    outcomes
        Of the scans that the metrics are of.
    tiles
        Pictures of their errors, in any order; an error without one is listed without a picture.

    Raises
    ------
    MissingDependencyError
        If matplotlib is not installed.
    """
    return "".join(report_parts(metrics, outcomes, tiles))


def report_parts(
    metrics: Mapping[str, Any], outcomes: Sequence[ScanOutcome], tiles: Iterable[ErrorTile]
) -> Iterator[str]:
    """The page from top to bottom, in parts."""
    with plot_style():
        plotted = [
            curves_section(metrics),
            sizes_section(outcomes),
            strata_section(metrics),
            segmentation_section(metrics, outcomes),
            classification_section(metrics),
            counts_section(metrics),
        ]
    yield page_head(escaped(report_title(metrics)))
    yield title_block(metrics)
    yield main_figures(metrics)
    yield rule_text(metrics)
    yield section("issues", "Left out and remarkable", issues_block(metrics))
    yield detection_section(metrics)
    yield from plotted
    yield comparison_section(metrics)
    yield published_section(metrics)
    yield scans_section(outcomes)
    yield from errors_sections(outcomes, tiles)
    yield glossary_section()
    yield page_foot()
