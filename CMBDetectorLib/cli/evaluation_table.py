"""The main figures of an evaluation as lines for a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_POOLED = (
    ("precision", "precision"),
    ("recall", "recall"),
    ("f1", "F1"),
    ("false_positives_per_scan", "false positives per scan"),
    ("false_positives_per_true_lesion", "false positives per true lesion"),
)
_SEGMENTATION = (
    ("dice", "Dice of matched lesions, mean"),
    ("whole_mask_dice", "Dice of the whole mask, mean"),
    ("absolute_count_difference", "absolute count difference, mean"),
)
_UNDEFINED = "-"


def result_lines(metrics: Mapping[str, Any], paths: Mapping[str, Path]) -> list[str]:
    """What was compared, the main figures, what to know about the inputs, and the files."""
    pooled = metrics["detection"]["pooled"]
    lines = [
        _headline(metrics),
        f"  rule: {metrics['rule']['text']}",
        f"  {pooled['true_positives']} found, {pooled['false_negatives']} missed, "
        f"{pooled['false_positives']} false positives ({pooled['second_hits']} second hits)",
        "",
        *(f"  {line}" for line in _aligned([("", "value", "95 % interval"), *_figures(metrics)])),
    ]
    if metrics["comparison"] is not None:
        lines += ["", *(f"  {line}" for line in _comparison(metrics["comparison"]))]
    lines += ["", *(f"  {line}" for line in _issues(metrics))]
    return [*lines, *(f"  {what}: {path}" for what, path in paths.items())]


def _headline(metrics: Mapping[str, Any]) -> str:
    cohort = metrics["cohort"]
    scans = _count(cohort["scans"], "scan")
    line = (
        f"{metrics['inputs']['label']}: {scans}, {cohort['scans_with_lesions']} with lesions; "
        f"{_count(cohort['true_lesions'], 'true lesion')}, {cohort['predicted_lesions']} predicted"
    )
    if cohort["excluded_scans"]:
        line += f"; {_count(cohort['excluded_scans'], 'scan')} NOT EVALUATED"
    return line


def _figures(metrics: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    pooled = metrics["detection"]["pooled"]
    rows = [
        (text, _number(pooled[key]), _interval(pooled["intervals"][key])) for key, text in _POOLED
    ]
    curves = metrics["detection"]["curves"]
    if curves is not None:
        value, interval = curves["average_precision"], curves["average_precision_interval"]
        rows.append(("average precision", _number(value), _interval(interval)))
    for key, text in _SEGMENTATION:
        measure = (metrics["segmentation"] or {}).get(key)
        if measure is not None and measure["n"]:
            rows.append((text, _number(measure["mean"]), _interval(measure["interval"])))
    for entry in metrics["classification"]["at_least"]:
        if entry["lesions"] == 1:
            rows += [
                (f"{key} for scans with lesions", _number(entry[key]), _interval(interval))
                for key in ("sensitivity", "specificity")
                for interval in [entry["intervals"].get(key)]
            ]
    return rows


def _comparison(comparison: Mapping[str, Any]) -> list[str]:
    a, b = comparison["label_a"], comparison["label_b"]
    rows = [
        (
            measure["name"].replace("_", " "),
            _number(measure["a"]),
            _number(measure["b"]),
            _number(measure["difference"]),
            _interval(measure["interval"]),
            _number(measure["p_value"]),
        )
        for measure in comparison["measures"]
    ]
    heading = (f"on {_count(comparison['scans'], 'scan')}", a, b, "difference", "95 %", "p")
    return _aligned([heading, *rows])


def _issues(metrics: Mapping[str, Any]) -> list[str]:
    """Problems and information, counted by code."""
    lines = []
    for severity, title in (("problem", "problems"), ("information", "for information")):
        codes = Counter(i["code"] for i in metrics["issues"] if i["severity"] == severity)
        if codes:
            told = ", ".join(f"{number} {code}" for code, number in sorted(codes.items()))
            lines.append(f"{title}: {told}")
    return lines


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Columns as wide as their widest cell; the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _number(value: float | None) -> str:
    return _UNDEFINED if value is None else f"{value:.3f}"


def _interval(interval: Sequence[float] | None) -> str:
    return _UNDEFINED if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
