"""The files of an evaluation: all figures as JSON, and tables of scans and lesions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from CMBDetectorLib.evaluation.figures import ratio
from CMBDetectorLib.evaluation.issues import Issue
from CMBDetectorLib.evaluation.outcomes import LesionOutcome, ScanOutcome
from CMBDetectorLib.evaluation.rule import MatchingRule
from CMBDetectorLib.reporting.document import INTENDED_USE, format_json
from CMBDetectorLib.reporting.rows import format_rows
from CMBDetectorLib.version import __version__

SCHEMA = "cmbdetector-evaluation"
SCHEMA_VERSION = 1
INTERVAL_LEVEL = 0.95

SCAN_COLUMNS = (
    "scan_id",
    "method",
    "n_true",
    "n_predicted",
    "true_positives",
    "false_positives",
    "false_negatives",
    "second_hits",
    "ignored_truths",
    "ignored_predictions",
    "precision",
    "recall",
    "f1",
    "count_difference",
    "absolute_count_difference",
    "whole_mask_dice",
    "true_volume_mm3",
    "predicted_volume_mm3",
)
"""Columns of ``per_scan.csv``; the attributes of the scans follow."""

LESION_COLUMNS = (
    "scan_id",
    "method",
    "side",
    "lesion",
    "outcome",
    "partner",
    "distance_mm",
    "score",
    "x_ras_mm",
    "y_ras_mm",
    "z_ras_mm",
    "volume_mm3",
    "n_voxels",
    "equivalent_diameter_mm",
    "max_diameter_mm",
    "elongation",
    "dice",
    "volume_error_mm3",
    "surface_distance_mm",
    "hausdorff_95_mm",
    "hemisphere",
    "zone",
    "region",
)
"""Columns of ``per_lesion.csv``."""


def build_metrics(
    summary: Mapping[str, Any],
    *,
    inputs: Mapping[str, str | None],
    rule: MatchingRule,
    resamples: int,
    seed: int,
    missing_predictions: str,
    excluded_scans: Sequence[str],
    issues: Iterable[Issue],
    comparison: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Everything in ``metrics.json``, as plain types in a fixed order.

    Parameters
    ----------
    summary
        As :func:`CMBDetectorLib.evaluation.summary.summarize_cohort` gives it.
    inputs
        Paths and names as they were given: ``truth``, ``prediction``, ``compare_with``,
        ``images``, ``regions``, ``scan_table``, ``label``, ``compare_label``.
    comparison
        As :func:`CMBDetectorLib.evaluation.comparison.compare_cohorts` gives it.
    """
    cohort = dict(summary["cohort"]) | {
        "excluded_scans": len(excluded_scans),
        "excluded_scan_ids": list(excluded_scans),
    }
    return {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "intended_use": INTENDED_USE,
        "software_version": __version__,
        "created_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "inputs": dict(inputs),
        "rule": rule.to_dict(),
        "bootstrap": {"resamples": resamples, "seed": seed, "level": INTERVAL_LEVEL},
        "missing_predictions": missing_predictions,
        **summary,
        "cohort": cohort,
        "comparison": None if comparison is None else dict(comparison),
        "issues": [issue.to_dict() | {"severity": issue.severity} for issue in issues],
    }


def format_metrics(metrics: Mapping[str, Any]) -> str:
    """Strict JSON (RFC 8259); what is undefined is null."""
    return format_json(metrics)


def format_scans(methods: Mapping[str, Sequence[ScanOutcome]]) -> str:
    """One row per scan and method, as CSV of RFC 4180; what is undefined is empty.

    Parameters
    ----------
    methods
        The outcomes of each method by its name.
    """
    known = [name for outcomes in methods.values() for o in outcomes for name in o.attributes]
    attributes = sorted(set(known) - set(SCAN_COLUMNS))
    rows = [
        [*_scan_cells(outcome, method), *(_cell(outcome.attributes.get(n)) for n in attributes)]
        for method, outcomes in methods.items()
        for outcome in outcomes
    ]
    return format_rows((*SCAN_COLUMNS, *attributes), rows)


def format_lesions(methods: Mapping[str, Sequence[ScanOutcome]]) -> str:
    """One row per lesion of either side and method, as CSV of RFC 4180; unknown is empty.

    Parameters
    ----------
    methods
        The outcomes of each method by its name.
    """
    rows = (
        _lesion_cells(outcome.scan_id, method, entry)
        for method, outcomes in methods.items()
        for outcome in outcomes
        for entry in outcome.lesions
    )
    return format_rows(LESION_COLUMNS, rows)


def _scan_cells(outcome: ScanOutcome, method: str) -> list[object]:
    found, false = outcome.n_true_positive, outcome.n_false_positive
    missed = outcome.n_false_negative
    ignored = outcome.of("ignored")
    difference = outcome.n_predicted - outcome.n_true
    has_f1 = found + false > 0 and found + missed > 0
    return [
        outcome.scan_id,
        method,
        outcome.n_true,
        outcome.n_predicted,
        found,
        false,
        missed,
        len(outcome.of("second hit")),
        sum(entry.side == "truth" for entry in ignored),
        sum(entry.side == "prediction" for entry in ignored),
        _cell(float(ratio(found, found + false))),
        _cell(float(ratio(found, found + missed))),
        _cell(float(ratio(2 * found, 2 * found + false + missed)) if has_f1 else math.nan),
        difference,
        abs(difference),
        _cell(outcome.whole_mask_dice),
        _cell(outcome.true_volume_mm3),
        _cell(outcome.predicted_volume_mm3),
    ]


def _lesion_cells(scan_id: str, method: str, entry: LesionOutcome) -> list[object]:
    lesion = entry.lesion
    return [
        scan_id,
        method,
        entry.side,
        lesion.number,
        entry.outcome,
        "" if entry.partner is None else entry.partner,
        _cell(entry.distance_mm),
        _cell(lesion.score),
        *(_cell(value) for value in lesion.center_ras_mm),
        _cell(lesion.volume_mm3),
        lesion.n_voxels or "",
        _cell(lesion.equivalent_diameter_mm),
        _cell(lesion.max_diameter_mm),
        _cell(lesion.elongation),
        _cell(entry.dice),
        _cell(entry.volume_error_mm3),
        _cell(entry.surface_distance_mm),
        _cell(entry.hausdorff_95_mm),
        lesion.hemisphere,
        lesion.zone,
        lesion.region,
    ]


def _cell(value: float | str | None) -> str:
    """Six digits, without trailing zeros; empty where it is undefined or unknown."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    # Rounded first, so that -0.0 is 0.
    return f"{round(value, 6) + 0.0:.10g}" if math.isfinite(value) else ""
