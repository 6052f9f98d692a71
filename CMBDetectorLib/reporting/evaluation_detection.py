"""The detection part of an evaluation report: counts, curves, sizes and strata."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from CMBDetectorLib.evaluation.outcomes import Outcome, ScanOutcome
from CMBDetectorLib.reporting.evaluation_html import (
    LEVEL_TEXT,
    escaped,
    figure,
    interval,
    number,
    paragraph,
    row_of_figures,
    section,
    table,
    undefined,
    with_interval,
)
from CMBDetectorLib.reporting.evaluation_overview import (
    WHY_NO_F1,
    WHY_NO_PRECISION,
    WHY_NO_RATE,
    WHY_NO_RECALL,
    Metrics,
)
from CMBDetectorLib.reporting.evaluation_plots import (
    froc_plot,
    precision_recall_plot,
    size_plot,
    stratum_plot,
)

_MOST_CLASSES_IN_A_PLOT = 24
_MEASURES = ("precision", "recall", "f1")
_NAMES = {"precision": "precision", "recall": "recall", "f1": "F1"}
_UNITS = {"mm": "mm", "mm3": "mm³", "ms": "ms", "t": "T"}


def detection_section(metrics: Metrics) -> str:
    """Counts pooled over all scans, and the mean of the scans' own figures."""
    pooled = metrics["detection"]["pooled"]
    counts = [
        ("true positives", pooled["true_positives"]),
        ("false positives", pooled["false_positives"]),
        ("of these second hits on a lesion already found", pooled["second_hits"]),
        ("false negatives (missed lesions)", pooled["false_negatives"]),
        ("true lesions too small to count", pooled["ignored_truths"]),
        (
            "predictions left out, being too small or of such a lesion",
            pooled["ignored_predictions"],
        ),
    ]
    figures = [
        ("precision", "precision", WHY_NO_PRECISION, 3),
        ("recall", "recall", WHY_NO_RECALL, 3),
        ("F1", "f1", WHY_NO_F1, 3),
        ("false positives per scan, of all scans", "false_positives_per_scan", WHY_NO_RATE, 2),
        ("false positives per true lesion", "false_positives_per_true_lesion", WHY_NO_RECALL, 3),
    ]
    rows = [
        [
            escaped(name),
            number(pooled[key], digits, why=why),
            interval(pooled["intervals"].get(key), digits),
        ]
        for name, key, why, digits in figures
    ]
    return section(
        "detection",
        "Detection",
        '<div class="figures"><div>',
        table(
            ("pooled over all scans", "lesions"),
            [[escaped(name), number(value)] for name, value in counts],
        ),
        "</div><div>",
        table(("pooled over all scans", "value", LEVEL_TEXT), rows),
        "</div></div>",
        _per_scan(metrics["detection"]["per_scan"]),
    )


def curves_section(metrics: Metrics) -> str:
    """FROC and precision over recall, where the predictions have scores."""
    curves, pooled = metrics["detection"]["curves"], metrics["detection"]["pooled"]
    title = "Curves over the score"
    if curves is None:
        return section(
            "curves",
            title,
            paragraph(
                "No curve is drawn and there is no average precision: the predictions have no "
                "score for each lesion. Label maps can be given a map of probabilities or a table "
                "of scores."
            ),
        )
    if not metrics["cohort"]["true_lesions"] or not curves["thresholds"]:
        why = "no lesion was predicted" if not curves["thresholds"] else WHY_NO_RECALL
        return section("curves", title, paragraph(f"No curve is drawn: {why}."))
    froc, note = froc_plot(curves, pooled)
    plots = [
        figure(froc, "FROC: recall over false positives per scan as the threshold falls."),
        figure(precision_recall_plot(curves, pooled), "Precision over recall."),
    ]
    at = curves["recall_at_false_positives_per_scan"]
    not_reached = "the curve does not reach as many false positives"
    names = [f"at {rate} per scan" for rate in at]
    return section(
        "curves",
        title,
        row_of_figures(plots),
        paragraph(note) if note else "",
        table(
            ("", "average precision", *names),
            [
                [
                    "precision over all recalls; recall at a rate of false positives",
                    with_interval(
                        curves["average_precision"], curves["average_precision_interval"]
                    ),
                    *(number(value, why=not_reached) for value in at.values()),
                ]
            ],
        ),
        paragraph(
            "The dot is the prediction as it was given. The curves leave out its lesions from the "
            "lowest score up; a recall beyond the dot would need predictions below the method's "
            "own threshold. A dash says that the curve ends before that rate.",
            "muted",
        ),
    )


def sizes_section(outcomes: Sequence[ScanOutcome]) -> str:
    """Sizes of found and missed lesions, and of true and false positives."""
    found, missed = _diameters(outcomes, "found"), _diameters(outcomes, "missed")
    true, false = _diameters(outcomes, "true"), _diameters(outcomes, "false", "second hit")
    title = "Size"
    if not (found or missed or true or false):
        return section(
            "sizes",
            title,
            paragraph("No sizes are shown: there are no lesions with a mask, points have no size."),
        )
    caption = (
        "Equivalent diameter: of the ball of the same volume. Lesions that are points are left out."
    )
    return section(
        "sizes", title, row_of_figures([figure(size_plot(found, missed, true, false), caption)])
    )


def strata_section(metrics: Metrics) -> str:
    """Recall and false positives by class of lesions and of scans."""
    strata = metrics["strata"]
    if not strata:
        return section(
            "strata",
            "By stratum",
            paragraph("There are no strata: nothing is known about the lesions or the scans."),
        )
    parts = [
        paragraph(
            "Strata of lesions: a true lesion belongs to the class it is of itself, a false "
            "positive to that of the prediction; its false positives per scan are over all scans. "
            "Strata of scans: over the scans of the class."
        )
    ]
    parts += [_stratum(stratum, position) for position, stratum in enumerate(strata)]
    return section("strata", "By stratum", *parts)


def quantity_name(key: str) -> str:
    """A column's name in words: ``slice_thickness_mm`` is "Slice thickness (mm)"."""
    words = key.split("_")
    unit = _UNITS.get(words[-1]) if len(words) > 1 else None
    text = " ".join(words[:-1] if unit else words)
    return text[:1].upper() + text[1:] + (f" ({unit})" if unit else "")


def _per_scan(per_scan: Mapping[str, Any]) -> str:
    rows = []
    for key in _MEASURES:
        cells = [_NAMES[key]]
        for convention in ("undefined_skipped", "zero_filled"):
            values = per_scan[convention][key]
            cells += [
                number(values["mean"], why="it is undefined in every scan"),
                number(values["sd"], why="fewer than two scans define it"),
                number(values["n"]),
            ]
        rows.append(cells)
    headers = ["mean over scans", "mean, undefined skipped", "SD", "scans"]
    headers += ["mean, zero-filled", "SD", "scans"]
    return "<h3>Per scan</h3>" + table(headers, rows) + paragraph(per_scan["explanation"], "muted")


def _diameters(outcomes: Sequence[ScanOutcome], *kinds: Outcome) -> list[float]:
    values = (entry.lesion.equivalent_diameter_mm for scan in outcomes for entry in scan.of(*kinds))
    return [value for value in values if math.isfinite(value)]


def _stratum(stratum: Mapping[str, Any], position: int) -> str:
    classes = stratum["classes"]
    of_scans = stratum["of"] == "scans"
    title = f"<h3>{escaped(quantity_name(stratum['name']))}</h3>"
    parts = [title]
    if len(classes) > _MOST_CLASSES_IN_A_PLOT:
        parts.append(paragraph(f"No plot is drawn of {len(classes)} classes.", "muted"))
    elif len(classes) > 1 and any(_has_values(entry) for entry in classes):
        caption = "With 95 % intervals; n is the number of true lesions."
        parts.append(figure(stratum_plot(stratum, f"stratum-{position + 1}"), caption))
    headers = ["class", *(["scans"] if of_scans else []), "true lesions", "TP", "FP", "FN"]
    headers += ["precision", "recall", "F1", "FP per scan"]
    text = table(headers, [list(_class_cells(entry, of_scans)) for entry in classes], box=False)
    tall = " tall" if len(classes) > _MOST_CLASSES_IN_A_PLOT else ""
    return "\n".join(parts) + f'<div class="scroll{tall}">{text}</div>'


def _has_values(entry: Mapping[str, Any]) -> bool:
    return entry["recall"] is not None or entry["false_positives_per_scan"] is not None


def _class_cells(entry: Mapping[str, Any], of_scans: bool) -> Iterator[str]:
    intervals = entry["intervals"]
    yield escaped(entry["class"])
    if of_scans:
        yield number(entry["scans"]) if entry["scans"] is not None else undefined("not counted")
    for key in ("lesions", "true_positives", "false_positives", "false_negatives"):
        yield number(entry[key])
    for key, why, digits in (
        ("precision", WHY_NO_PRECISION, 3),
        ("recall", "there is no true lesion in this class", 3),
        ("f1", WHY_NO_F1, 3),
        ("false_positives_per_scan", "predictions have no such class", 2),
    ):
        yield with_interval(entry[key], intervals.get(key), digits, why=why)
