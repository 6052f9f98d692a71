"""The same figures for kinds of lesions and kinds of scans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from CMBDetectorLib.anatomy.schemes import HEMISPHERES, REGIONS, ZONES
from CMBDetectorLib.errors import UsageError
from CMBDetectorLib.evaluation.bootstrap import ScanBootstrap, interval
from CMBDetectorLib.evaluation.classes import (
    DIAMETER_CLASSES_MM,
    ECHO_TIME_CLASSES_MS,
    ELONGATION_CLASSES,
    IN_PLANE_CLASSES_MM,
    SLICE_CLASSES_MM,
    UNKNOWN,
    NumberClasses,
    classify,
)
from CMBDetectorLib.evaluation.figures import ScanCounts, detection_figures, plain_figures
from CMBDetectorLib.evaluation.lesions import IntArray, MarkedLesion
from CMBDetectorLib.evaluation.outcomes import ScanOutcome
from CMBDetectorLib.geometry import FloatArray

LESION_STRATA: Mapping[str, NumberClasses | tuple[str, ...]] = {
    "equivalent_diameter_mm": DIAMETER_CLASSES_MM,
    "elongation": ELONGATION_CLASSES,
    "zone": tuple(ZONES),
    "region": tuple(region for regions in REGIONS.values() for region in regions),
    "hemisphere": HEMISPHERES,
}
SCAN_STRATA: Mapping[str, NumberClasses | tuple[str, ...]] = {
    "slice_thickness_mm": SLICE_CLASSES_MM,
    "in_plane_mm": IN_PLANE_CLASSES_MM,
    "field_strength_t": (),
    "echo_time_ms": ECHO_TIME_CLASSES_MS,
    "sequence": (),
    "center": (),
}
MAX_CLASSES = 50
FIGURES = ("precision", "recall", "f1", "false_positives_per_scan")


@dataclass(frozen=True, eq=False)
class CountedLesions:
    """The lesions that the figures of a cohort are made of.

    Attributes
    ----------
    scans
        Row of each lesion's scan in the cohort, shape (n,).
    columns
        0 for a true lesion that was found, 1 for a false positive, 2 for a missed lesion.
    lesions
        As the truth has them where they are true, else as the prediction.
    """

    scans: IntArray
    columns: IntArray
    lesions: tuple[MarkedLesion, ...]


def summarize_strata(
    outcomes: Sequence[ScanOutcome],
    counts: ScanCounts,
    bootstrap: ScanBootstrap,
    names: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """All strata of lesions and of scans about which something is known, as plain JSON.

    Those asked for are there in any case, if need be with the one class "unknown".

    Parameters
    ----------
    names
        Attributes of the scans to form strata of, beside the usual ones.

    Raises
    ------
    UsageError
        If no scan has such an attribute, or it has too many classes to be a stratum.
    """
    known = {name for outcome in outcomes for name in outcome.attributes}
    for name in names:
        if name not in known | set(LESION_STRATA) | set(SCAN_STRATA):
            there = ", ".join(sorted(known)) or "nothing"
            raise UsageError(
                f"no scan has a column {name!r} to form strata of; known of the scans: {there}"
            )
    of_scans = dict.fromkeys([*SCAN_STRATA, *names])
    lesions = counted_lesions(outcomes)
    strata = [lesion_stratum(lesions, name, bootstrap) for name in LESION_STRATA]
    strata += [
        scan_stratum(outcomes, counts, name, bootstrap)
        for name in of_scans
        if name not in LESION_STRATA
    ]
    return [stratum for stratum in strata if stratum["name"] in names or _is_known(stratum)]


def counted_lesions(outcomes: Sequence[ScanOutcome]) -> CountedLesions:
    """True lesions that were found, false positives and missed lesions of a cohort."""
    column_of = {"found": 0, "false": 1, "second hit": 1, "missed": 2}
    scans, columns, lesions = [], [], []
    for row, outcome in enumerate(outcomes):
        for entry in outcome.lesions:
            column = column_of.get(entry.outcome)
            if column is not None:
                scans.append(row)
                columns.append(column)
                lesions.append(entry.lesion)
    return CountedLesions(
        np.array(scans, dtype=np.int64), np.array(columns, dtype=np.int64), tuple(lesions)
    )


def lesion_stratum(counted: CountedLesions, name: str, bootstrap: ScanBootstrap) -> dict[str, Any]:
    """Figures by a feature of the lesions, as plain JSON.

    True lesions, found or missed, go by the truth's feature, false positives by the prediction's.
    False positives per scan are over all scans. Where one side knows the feature of none of its
    lesions (points have no size), precision and F1 would put unlike things together and are None.

    Parameters
    ----------
    name
        A field of :class:`CMBDetectorLib.evaluation.lesions.MarkedLesion`.
    """
    values = [getattr(lesion, name) for lesion in counted.lesions]
    classified = classify(values, LESION_STRATA.get(name, ()))
    table = np.zeros((bootstrap.n_scans, len(classified.names), 3))
    np.add.at(table, (counted.scans, classified.rows, counted.columns), 1)
    figures = _tabulate(table, np.ones(table.shape[:2]), bootstrap)
    totals = table.sum(axis=0)
    unknown = np.array([name == UNKNOWN for name in classified.names], dtype=np.bool_)
    sides = totals[:, [0, 2]].sum(axis=1), totals[:, 1]
    one_side_unknown = any(side.sum() and not side[~unknown].sum() for side in sides)
    for row_figures in figures if one_side_unknown else ():
        for measure in ("precision", "f1"):
            row_figures[measure] = row_figures["intervals"][measure] = None
    classes = [
        {"class": label, "scans": None} | entry
        for label, entry in zip(classified.names, figures, strict=True)
    ]
    return {"name": name, "of": "lesions", "classes": classes}


def scan_stratum(
    outcomes: Sequence[ScanOutcome], counts: ScanCounts, name: str, bootstrap: ScanBootstrap
) -> dict[str, Any]:
    """Figures by an attribute of the scans, as plain JSON.

    Each resample of the bootstrap draws from all scans; those without a scan of a class are left
    out of that class's intervals.

    Raises
    ------
    UsageError
        If the attribute has more than 50 classes.
    """
    classified = classify(
        [outcome.attributes.get(name) for outcome in outcomes], SCAN_STRATA.get(name, ())
    )
    n_classes = len(classified.names)
    if n_classes > MAX_CLASSES:
        raise UsageError(
            f"{name!r} has {n_classes} different values, at most {MAX_CLASSES} can be strata; "
            "name a column with fewer"
        )
    is_of = np.zeros((len(outcomes), n_classes))
    is_of[np.arange(len(outcomes)), classified.rows] = 1
    table = is_of[:, :, None] * counts.detection_table[:, None, :]
    classes = [
        {"class": label, "scans": n} | entry
        for label, n, entry in zip(
            classified.names,
            is_of.sum(axis=0).astype(int).tolist(),
            _tabulate(table, is_of, bootstrap),
            strict=True,
        )
    ]
    return {"name": name, "of": "scans", "classes": classes}


def _tabulate(
    table: FloatArray, is_of: FloatArray, bootstrap: ScanBootstrap
) -> list[dict[str, Any]]:
    """Counts and figures per class, of what each scan adds to each class (scans, classes, 3)."""
    n_classes = table.shape[1]
    sums = bootstrap.totals(table.reshape(len(table), 3 * n_classes))
    drawn = sums.reshape(len(sums), n_classes, 3)
    resampled = detection_figures(drawn, bootstrap.totals(is_of))
    figures = detection_figures(table.sum(axis=0), is_of.sum(axis=0))
    rows = []
    for number, (tp, fp, fn) in enumerate(table.sum(axis=0).astype(int).tolist()):
        rows.append(
            {
                "lesions": tp + fn,
                "true_positives": tp,
                "false_positives": fp,
                "false_negatives": fn,
                **plain_figures({name: figures[name][number] for name in FIGURES}),
                "intervals": {name: interval(resampled[name][:, number]) for name in FIGURES},
            }
        )
    return rows


def _is_known(stratum: Mapping[str, Any]) -> bool:
    return any(entry["class"] != UNKNOWN for entry in stratum["classes"])
