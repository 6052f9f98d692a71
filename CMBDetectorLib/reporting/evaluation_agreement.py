"""Segmentation, classification of scans, and agreement of counts in an evaluation report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from CMBDetectorLib.evaluation.outcomes import ScanOutcome
from CMBDetectorLib.reporting.evaluation_count_plots import bland_altman_plot, counts_plot
from CMBDetectorLib.reporting.evaluation_html import (
    LEVEL_TEXT,
    escaped,
    figure,
    interval,
    number,
    paragraph,
    plural,
    row_of_figures,
    section,
    signed,
    table,
    with_interval,
)
from CMBDetectorLib.reporting.evaluation_overview import Metrics
from CMBDetectorLib.reporting.evaluation_plots import dice_plot

_SEGMENTATION_NAMES = (
    ("dice", "Dice of matched lesions", "pairs", 3),
    ("volume_error_mm3", "volume error, predicted minus true (mm³)", "pairs", 2),
    ("absolute_volume_error_mm3", "absolute volume error (mm³)", "pairs", 2),
    ("surface_distance_mm", "average symmetric surface distance (mm)", "pairs", 2),
    ("hausdorff_95_mm", "95th percentile Hausdorff distance (mm)", "pairs", 2),
    ("whole_mask_dice", "Dice of the whole masks", "scans", 3),
    ("absolute_count_difference", "absolute difference of counts", "scans", 2),
)
_RATES = (
    ("sensitivity", "no scan has as many true lesions"),
    ("specificity", "every scan has as many true lesions"),
    ("positive_predictive_value", "no scan has as many predicted lesions"),
    ("negative_predictive_value", "every scan has as many predicted lesions"),
)


def segmentation_section(metrics: Metrics, outcomes: Sequence[ScanOutcome]) -> str:
    """How well matched lesions overlap, and the challenge's other measures."""
    title = "Segmentation"
    measures = metrics["segmentation"]
    no_masks = "a side has points and no masks"
    if measures is None:
        return section(
            "segmentation", title, paragraph(f"There is nothing to measure: {no_masks}.")
        )
    rows = []
    for key, name, of, digits in _SEGMENTATION_NAMES:
        values = measures.get(key)
        if values is None:
            continue
        why = "no matched pair" if of == "pairs" else "no scan defines it"
        cells = [number(values[part], digits, why=why) for part in ("mean", "sd")]
        cells.insert(1, interval(values["interval"], digits))
        cells += [number(values[part], digits, why=why) for part in ("median", "p25", "p75")]
        rows.append([escaped(name), *cells, f"{number(values['n'])} {of}"])
    headers = ("", "mean", f"{LEVEL_TEXT} of the mean", "SD", "median", "25 %", "75 %", "of")
    dice = [
        entry.dice for scan in outcomes for entry in scan.of("true") if math.isfinite(entry.dice)
    ]
    if dice:
        caption = f"Dice of {plural(len(dice), 'matched pair')}."
        plot = row_of_figures([figure(dice_plot(dice), caption)])
    elif measures["pairs"]:
        plot = ""
    else:
        why = "no pair has a mask on both sides"
        plot = paragraph(f"Overlap and surface distance are not measured: {why}.")
    return section(
        "segmentation",
        title,
        table(headers, rows),
        plot,
        paragraph(
            "VALDO ranks by four measures: F1, absolute difference of counts, Dice of matched "
            "lesions and absolute volume error.",
            "muted",
        ),
    )


def classification_section(metrics: Metrics) -> str:
    """Scans with at least so many lesions: found to be so or not."""
    headers = ["scans with at least", "TP", "FP", "FN", "TN"]
    headers += [key.replace("_", " ") for key, _ in _RATES]
    rows = []
    for entry in metrics["classification"]["at_least"]:
        cells = [escaped(plural(entry["lesions"], "lesion"))]
        for key in ("true_positives", "false_positives", "false_negatives", "true_negatives"):
            cells.append(number(entry[key]))
        for key, why in _RATES:
            cells.append(with_interval(entry[key], entry["intervals"].get(key), why=why))
        rows.append(cells)
    return section(
        "classification",
        "Classification of scans",
        table(headers, rows),
        paragraph(
            "A scan is positive where the truth has at least as many lesions; it is called "
            "positive where the prediction does. Lesions need not match. Predictive values hold "
            "for cohorts with as many positive scans as this one.",
            "muted",
        ),
    )


def counts_section(metrics: Metrics) -> str:
    """Agreement of the number of lesions in each scan."""
    agreement = metrics["classification"]["agreement"]
    counts = metrics["classification"]["counts"]
    limits = agreement["bland_altman"]
    too_few = "too few scans, or all counts alike"
    rows = [
        [
            f"intraclass correlation, {escaped(agreement['icc_kind'])}",
            with_interval(agreement["icc"], agreement["icc_interval"], why=too_few),
        ],
        [
            f"kappa of count classes, {escaped(agreement['weighted_kappa_kind'])}",
            with_interval(
                agreement["weighted_kappa"], agreement["weighted_kappa_interval"], why=too_few
            ),
        ],
        ["bias, predicted minus true (lesions)", signed(limits["bias"], 2, why=too_few)],
        ["standard deviation of the difference", number(limits["sd"], 2, why=too_few)],
        [
            "limits of agreement",
            f"{signed(limits['lower'], 2, why=too_few)} to "
            f"{signed(limits['upper'], 2, why=too_few)}",
        ],
    ]
    plots = []
    if counts["true"]:
        plots = [
            figure(
                counts_plot(counts["true"], counts["predicted"]),
                "Each dot is a scan, larger dots are several; the line is equality.",
            ),
            figure(
                bland_altman_plot(counts["true"], counts["predicted"], limits),
                "Bland–Altman plot: bias and 95 % limits of agreement (bias ± 1.96 SD).",
            ),
        ]
    return section(
        "counts",
        "Number of lesions in a scan",
        row_of_figures(plots),
        table(("agreement of counts", "value"), rows),
        _confusion(agreement),
    )


def _confusion(agreement: Mapping[str, Any]) -> str:
    classes, confusion = agreement["count_classes"], agreement["confusion"]
    head = "".join(f'<th scope="col">{escaped(name)}</th>' for name in classes)
    body = []
    for name, row in zip(classes, confusion, strict=True):
        whole = max(1, sum(row))
        cells = "".join(
            f'<td style="--share:{value / whole:.3f}">{number(value)}</td>' for value in row
        )
        body.append(f'<tr><th scope="row">{escaped(name)}</th>{cells}</tr>')
    return (
        '<div class="scroll"><table class="confusion"><caption>Scans by number of lesions: truth '
        "downward, prediction across; shaded by share of the row</caption>"
        f'<thead><tr><th scope="col">true \\ predicted</th>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )
