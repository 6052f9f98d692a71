"""All measures as tables, for the terminal and as Markdown: the same text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from training.measures.scans import MEASURES

Report = Mapping[str, Any]

_FEWEST_LESIONS = 5
_LOW_RECALL = 0.6


def measures_markdown(report: Report) -> list[str]:
    """The lines of all tables of a report of ``measure``."""
    point = report["operating_point"]
    lines = [
        f"## {report['bundle']} {report['version']}, threshold {point['threshold']:g}, "
        f"at least {point['min_volume_mm3']:g} mm³, anatomy {report['anatomy']}",
        "",
        f"{report['rule'][0].upper()}{report['rule'][1:]}. {_INTERVALS}",
        "",
        *_figures(report["figures"]),
        *_not_measured(report["not_measured"]),
        *_strata(report["measures"]),
        *_scans(report["measures"]),
    ]
    if len(report["sweep"]) > 1:
        lines += ["### Thresholds", "", *_sweep(report["sweep"], "threshold")]
    for name, sweep in report["members"].items():
        lines += [f"### Thresholds, {name}", "", *_sweep(sweep, "threshold")]
    return lines


def card_lines(name: str, report: Report) -> list[str]:
    """The lines of a model card: the figures, and the classes in which much is missed."""
    point = report["operating_point"]
    lines = [
        f"### {name}",
        "",
        f"By `python -m training measure`; threshold {point['threshold']:g}, at least "
        f"{point['min_volume_mm3']:g} mm³, anatomy {report['anatomy']}. Matching: {report['rule']} "
        f"(visibility below {report['min_contrast_to_noise']:g}). {_INTERVALS}",
        "",
        *_figures(report["figures"]),
    ]
    missed = [
        f"- ({measure}) {_KINDS[kind]}, {one['class']}: {one['recall']:.2f} of {one['lesions']} "
        "lesions found"
        for measure, kind, one in _classes(report["measures"])
        if one["lesions"] >= _FEWEST_LESIONS and (one["recall"] or 0.0) < _LOW_RECALL
    ]
    if missed:
        lines += [
            f"Where it fails, classes of {_FEWEST_LESIONS} lesions or more with a recall below "
            f"{_LOW_RECALL:g}:",
            "",
            *missed,
            "",
        ]
    return lines


def _figures(figures: Sequence[Report]) -> list[str]:
    rows = [
        [
            f"({one['measure']}) {one['name']}",
            _with_interval(one["value"], one["interval"]),
            one["aim"] or "-",
            {True: "yes", False: "NO", None: "-"}[one["met"]],
            one["basis"],
        ]
        for one in figures
    ]
    return [*table(["figure", "value (95 %)", "aim", "met", "counted on"], rows), ""]


def _not_measured(reasons: Mapping[str, str]) -> list[str]:
    lines = [
        f"Not measured: ({name}) {MEASURES[name]}: {reason}." for name, reason in reasons.items()
    ]
    return [*lines, ""] if lines else []


def _classes(measures: Mapping[str, Report]) -> Iterator[tuple[str, str, Report]]:
    """Measure, kind of class and the class, of all that hold anything."""
    for measure, summary in measures.items():
        for kind, classes in (*summary["by_lesion"].items(), *summary["by_scan"].items()):
            for one in classes:
                if one["class"] != "unknown" and (one["lesions"] or one["scans"]):
                    yield measure, kind, one


def _strata(measures: Mapping[str, Report]) -> list[str]:
    rows = [
        [
            f"({name}) {_KINDS[kind]}",
            one["class"],
            "-" if one["scans"] is None else str(one["scans"]),
            str(one["lesions"]),
            _with_interval(one["recall"], one["intervals"]["recall"]),
            _number(one["precision"] if one["scans"] else None),
            _number(one["f1"] if one["scans"] else None),
            _number(one["false_positives_per_scan"] if one["scans"] else None),
        ]
        for name, kind, one in _classes(measures)
    ]
    head = ["classes", "class", "scans", "lesions", "recall (95 %)", "P", "F1", "FP/scan"]
    return ["### Classes", "", *table(head, rows), ""] if rows else []


def _scans(measures: Mapping[str, Report]) -> list[str]:
    rows = [
        [
            f"({name}) {row['scan']}",
            *(str(row[k]) for k in ("true_positives", "false_positives", "false_negatives")),
            str(row["invisible"]),
        ]
        for name in ("b", "d")
        for row in measures.get(name, {"rows": ()})["rows"]
    ]
    head = ["scan", "TP", "FP", "FN", "too faint"]
    return ["### Real scans", "", *table(head, rows), ""] if rows else []


def _sweep(sweep: Sequence[Report], first: str) -> list[str]:
    columns = list(sweep[0]["figures"])
    rows = [
        [f"{one['threshold']:.2f}", *(_number(one["figures"].get(c), 2) for c in columns)]
        for one in sweep
    ]
    return [*table([first, *columns], rows), ""]


_INTERVALS = (
    "Intervals: 95 %, bootstrap over scans; those of (b) and (c) say nothing about other heads, "
    "as there is one."
)
_KINDS = {
    "equivalent_diameter_mm": "diameter (mm)",
    "region": "place",
    "slice_class": "slices",
    "image": "image",
}


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table whose columns also line up as plain text."""
    widths = [max(len(cell) for cell in column) for column in zip(head, *rows, strict=True)]
    return [
        "| " + " | ".join(c.ljust(w) for c, w in zip(cells, widths, strict=True)) + " |"
        for cells in (head, ["-" * width for width in widths], *rows)
    ]


def _with_interval(value: float | None, ends: Sequence[float] | None) -> str:
    if value is None or ends is None:
        return _number(value)
    return f"{value:.2f} ({ends[0]:.2f}-{ends[1]:.2f})"


def _number(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
