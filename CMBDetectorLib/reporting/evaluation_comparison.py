"""Two predictions on the same scans, and this evaluation beside published results."""

from __future__ import annotations

from CMBDetectorLib.reporting.evaluation_detection import quantity_name
from CMBDetectorLib.reporting.evaluation_html import (
    LEVEL_TEXT,
    escaped,
    interval,
    number,
    paragraph,
    plural,
    section,
    signed,
    table,
    undefined,
)
from CMBDetectorLib.reporting.evaluation_overview import (
    WHY_NO_F1,
    WHY_NO_PRECISION,
    WHY_NO_RATE,
    WHY_NO_RECALL,
    Metrics,
)
from CMBDetectorLib.reporting.published_results import NO_RANKING, PUBLISHED_RESULTS

_NOT_PUBLISHED = "not recorded here"
_SMALLEST_P_SHOWN = 0.001


def comparison_section(metrics: Metrics) -> str:
    """Differences of two predictions with intervals and p values; nothing without a second."""
    comparison = metrics["comparison"]
    if comparison is None:
        return ""
    why = "undefined for one of the two"
    rows = []
    for measure in comparison["measures"]:
        name = "F1" if measure["name"] == "f1" else quantity_name(measure["name"])
        name = name.replace("dice", "Dice")
        rows.append(
            [
                escaped(name),
                number(measure["a"], why=why),
                number(measure["b"], why=why),
                signed(measure["difference"], why=why),
                interval(measure["interval"]),
                _p_value(measure["p_value"], why),
            ]
        )
    label_a, label_b = comparison["label_a"], comparison["label_b"]
    return section(
        "comparison",
        "Comparison on the same scans",
        paragraph(
            f"{label_a} and {label_b} on the {plural(comparison['scans'], 'scan')} that both "
            "have. The difference is the first minus the second."
        ),
        table(
            ("", label_a, label_b, "difference", LEVEL_TEXT, "p"),
            rows,
        ),
        paragraph(
            f"p: {comparison['p_value_kind']}, {plural(comparison['permutations'], 'permutation')}"
            ". Not corrected for the number of measures.",
            "muted",
        ),
    )


def published_section(metrics: Metrics) -> str:
    """This evaluation, then what has been published, in order of publication and not ranked."""
    pooled, cohort = metrics["detection"]["pooled"], metrics["cohort"]
    own = [
        f"{escaped(metrics['inputs']['label'])}, this evaluation, pooled",
        escaped(metrics["inputs"]["truth"]),
        number(cohort["scans"]),
        number(cohort["true_lesions"]),
        escaped(metrics["rule"]["text"]),
        number(pooled["precision"], 2, why=WHY_NO_PRECISION),
        number(pooled["recall"], 2, why=WHY_NO_RECALL),
        number(pooled["f1"], 2, why=WHY_NO_F1),
        number(pooled["false_positives_per_scan"], 2, why=WHY_NO_RATE),
        "",
    ]
    sources = list(dict.fromkeys(result.source for result in PUBLISHED_RESULTS))
    rows = [own]
    for result in PUBLISHED_RESULTS:
        values = (result.precision, result.recall, result.f1, result.false_positives_per_scan)
        counts = (result.scans, result.true_lesions)
        rows.append(
            [
                f"{escaped(f'{result.work} {result.year}')} [{sources.index(result.source) + 1}]",
                escaped(result.cohort),
                *(number(n) if n is not None else undefined(_NOT_PUBLISHED) for n in counts),
                escaped(result.rule),
                *(number(value, 2, why=_NOT_PUBLISHED) for value in values),
                escaped(result.notes),
            ]
        )
    headers = ["work [source]", "scans tested on", "scans", "lesions", "matching rule"]
    headers += ["precision", "recall", "F1", "FP per scan", "notes"]
    css = ["own", *("" for _ in PUBLISHED_RESULTS)]
    listed = "".join(f"<li><cite>{escaped(source)}</cite></li>" for source in sources)
    return section(
        "published",
        "Beside published results",
        paragraph(NO_RANKING),
        table(headers, rows, css="published", row_css=css),
        f'<h3>Sources</h3><ol class="references">{listed}</ol>',
    )


def _p_value(value: float | None, why: str) -> str:
    if value is not None and value < _SMALLEST_P_SHOWN:
        return f'<data value="{value!r}">&lt; {_SMALLEST_P_SHOWN:g}</data>'
    return number(value, why=why)
