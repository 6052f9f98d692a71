"""The beginning of an evaluation report: what was compared, the main figures, what is amiss."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any

from CMBDetectorLib.evaluation.issues import CODES, EXCLUDING, INFORMATION
from CMBDetectorLib.reporting.evaluation_html import (
    NO_VALUE,
    escaped,
    interval,
    number,
    paragraph,
    plural,
    table,
)

Metrics = Mapping[str, Any]

WHY_NO_PRECISION = "nothing was predicted"
WHY_NO_RECALL = "there is no true lesion"
WHY_NO_F1 = "there is neither a true nor a predicted lesion"
WHY_NO_RATE = "there is no scan"


def report_title(metrics: Metrics) -> str:
    """Plain text."""
    label = metrics["inputs"]["label"]
    other = metrics["inputs"].get("compare_label")
    return f"Evaluation of {label}" + (f", compared with {other}" if other else "")


def title_block(metrics: Metrics) -> str:
    """Title, research note, and what was compared with what, when, by which version."""
    inputs = metrics["inputs"]
    facts = [
        ("truth", inputs.get("truth")),
        ("prediction", inputs.get("prediction")),
        ("compared with", inputs.get("compare_with")),
        ("images", inputs.get("images")),
        ("brain regions", inputs.get("regions")),
        ("scan table", inputs.get("scan_table")),
        ("made", f"{metrics['created_at']} by CMBDetector {metrics['software_version']}"),
    ]
    lines = "".join(
        f"<dt>{escaped(name)}</dt><dd>{escaped(value)}</dd>" for name, value in facts if value
    )
    return (
        f'<header><span class="research">{escaped(metrics["intended_use"])}</span>'
        f"<h1>{escaped(report_title(metrics))}</h1>"
        f'<p class="muted">Cerebral microbleeds: predicted lesions against the truth.</p>'
        f'<dl class="facts">{lines}</dl></header>\n'
    )


def main_figures(metrics: Metrics) -> str:
    """The figures one looks for first, each with its interval."""
    pooled, cohort = metrics["detection"]["pooled"], metrics["cohort"]
    true_positives, false_positives = pooled["true_positives"], pooled["false_positives"]
    of_predicted = f"{true_positives} of {cohort['predicted_lesions']} predicted"
    of_true = f"{true_positives} of {cohort['true_lesions']} true"
    f1_words = "of precision and recall"
    fp_words = f"{false_positives} in {plural(cohort['scans'], 'scan')}"
    cards = [
        _measure_card(pooled, "precision", "Precision", of_predicted, why=WHY_NO_PRECISION),
        _measure_card(pooled, "recall", "Recall", of_true, why=WHY_NO_RECALL),
        _measure_card(pooled, "f1", "F1", f1_words, why=WHY_NO_F1),
        _measure_card(
            pooled,
            "false_positives_per_scan",
            "False positives per scan",
            fp_words,
            why=WHY_NO_RATE,
            digits=2,
        ),
        _card(
            "Scans",
            number(cohort["scans"]),
            f"{cohort['scans_with_lesions']} with a true lesion",
        ),
        _card(
            "True lesions",
            number(cohort["true_lesions"]),
            f"{cohort['predicted_lesions']} predicted",
        ),
    ]
    return f'<div class="cards">{"".join(cards)}</div>\n'


def rule_text(metrics: Metrics) -> str:
    """The rule, the pooling and the intervals in words."""
    rule, bootstrap = metrics["rule"], metrics["bootstrap"]
    missing = {
        "exclude": "A scan without a prediction is left out.",
        "empty": "A scan without a prediction counts as one in which nothing was found.",
    }.get(metrics["missing_predictions"], "")
    resamples = bootstrap["resamples"]
    intervals = (
        f"Intervals are {bootstrap['level']:.0%} percentile intervals of {resamples} bootstrap "
        f"resamples of the scans (seed {bootstrap['seed']})."
        if resamples
        else "No intervals were asked for."
    )
    return (
        f"<p><strong>A true positive</strong>: {escaped(rule['text'])}. "
        f"Figures above are pooled over all scans. {escaped(missing)} {escaped(intervals)}</p>\n"
    )


def issues_block(metrics: Metrics) -> str:
    """What was left out and what is doubtful, in a box of its own; then the whole list."""
    issues = metrics["issues"]
    excluded = metrics["cohort"].get("excluded_scans", 0)
    if not issues and not excluded:
        return paragraph("Nothing was left out, and nothing about the files was remarkable.")
    excluding = set(EXCLUDING)
    if metrics["missing_predictions"] == "empty":
        excluding.discard("missing-prediction")
    by_code: dict[str, list[Mapping[str, Any]]] = {}
    for issue in issues:
        by_code.setdefault(issue["code"], []).append(issue)
    loud = {code: found for code, found in by_code.items() if code not in INFORMATION}
    quiet = {code: found for code, found in by_code.items() if code in INFORMATION}
    parts = []
    if loud or excluded:
        head = (
            f"<strong>{escaped(plural(excluded, 'scan'))} left out of all figures.</strong>"
            if excluded
            else "<strong>Every scan was evaluated, but:</strong>"
        )
        parts.append(
            f'<div class="note" role="note"><p>{head}</p>{_code_list(loud, excluding)}</div>'
        )
    if quiet:
        parts.append(f"<p>Also noted:</p>{_code_list(quiet, ())}")
    rows = [
        [escaped(issue[key] or NO_VALUE) for key in ("scan_id", "file", "code", "message")]
        for issue in issues
    ]
    if rows:
        listed = table(("scan", "file", "code", "what"), rows, css="words", box=False)
        parts.append(
            f"<details><summary>All {plural(len(rows), 'remark')}</summary>"
            f'<div class="scroll tall">{listed}</div></details>'
        )
    return "\n".join(parts)


def _code_list(
    by_code: Mapping[str, Sequence[Mapping[str, Any]]], excluding: Container[str]
) -> str:
    """How often each kind of remark was made, and what it means."""
    items = []
    for code, found in by_code.items():
        left_out = " – left out" if code in excluding else ""
        meaning = CODES.get(code, found[0]["message"])
        name = escaped(code.replace("-", " "))
        items.append(f"<li>{len(found)} × {name}{left_out}: {escaped(meaning)}</li>")
    return f"<ul>{''.join(items)}</ul>" if items else ""


def _measure_card(
    pooled: Mapping[str, Any], key: str, name: str, words: str, *, why: str, digits: int = 3
) -> str:
    ends = pooled["intervals"].get(key)
    value = pooled[key]
    detail = f"{interval(ends, digits)}<br>" if value is not None and ends is not None else ""
    return _card(name, number(value, digits, why=why), detail + escaped(words), detail_is_html=True)


def _card(name: str, value: str, detail: str, *, detail_is_html: bool = False) -> str:
    shown = detail if detail_is_html else escaped(detail)
    return (
        f'<div class="card"><div class="name">{escaped(name)}</div>'
        f'<div class="value">{value}</div><div class="detail">{shown}</div></div>'
    )
