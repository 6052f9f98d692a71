"""The figures of each measure, beside what is aimed for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from CMBDetectorLib.evaluation.bootstrap import draw_resamples, interval
from CMBDetectorLib.evaluation.figures import count_scans, detection_figures, pooled_figures
from CMBDetectorLib.evaluation.lesions import MarkedLesion
from CMBDetectorLib.evaluation.outcomes import ScanOutcome
from CMBDetectorLib.evaluation.strata import counted_lesions, lesion_stratum, scan_stratum
from training.measures.scans import SLICE_CLASSES

RESAMPLES = 1000
LARGE_MM = 2.5
LEAST_F1_BY_SLICES = dict(zip(SLICE_CLASSES, (0.90, 0.80, 0.65), strict=True))
MOST_FALSE = {"a": 0.5, "b": 1.0, "d": 2.0}
LEAST_RECALL_LARGE = 0.85
LEAST_F1_REAL, NEXT_F1_REAL = 0.50, 0.68


@dataclass(frozen=True)
class Figure:
    """One number of a measure.

    Attributes
    ----------
    column
        What it is called in the table over thresholds.
    value, interval
        None where it is undefined, or nothing of the kind was measured.
    aim
        In words; empty where none is set.
    met
        None without an aim or a value.
    basis
        What it was counted on.
    """

    measure: str
    name: str
    column: str
    value: float | None
    interval: list[float] | None
    basis: str
    aim: str = ""
    met: bool | None = None


def measure_figures(measure: str, outcomes: Sequence[ScanOutcome]) -> list[Figure]:
    """The figures of one measure at one threshold."""
    return _FIGURES[measure](outcomes)


def summarize_measure(outcomes: Sequence[ScanOutcome]) -> dict[str, Any]:
    """All counts and classes of a measure as plain JSON; intervals by drawing scans."""
    bootstrap = draw_resamples(len(outcomes), resamples=RESAMPLES, seed=0)
    counts = count_scans(outcomes)
    lesions = counted_lesions(outcomes)
    return {
        "scans": len(outcomes),
        **pooled_figures(counts, bootstrap),
        "by_lesion": {
            name: lesion_stratum(lesions, name, bootstrap)["classes"]
            for name in ("equivalent_diameter_mm", "region")
        },
        "by_scan": {
            name: scan_stratum(outcomes, counts, name, bootstrap)["classes"]
            for name in ("slice_class", "image")
        },
        "rows": [_row(outcome) for outcome in outcomes],
    }


def _row(outcome: ScanOutcome) -> dict[str, Any]:
    false = outcome.of("false", "second hit")
    return {
        "scan": outcome.scan_id,
        **outcome.attributes,
        "true_positives": outcome.n_true_positive,
        "false_positives": outcome.n_false_positive,
        "false_negatives": outcome.n_false_negative,
        "invisible": sum(
            entry.side == "truth" and entry.outcome == "ignored" for entry in outcome.lesions
        ),
        "false": [
            {
                "center_ras_mm": [round(c, 1) for c in entry.lesion.center_ras_mm],
                "score": round(entry.lesion.score, 3),
                "diameter_mm": round(entry.lesion.equivalent_diameter_mm, 2),
            }
            for entry in false
        ],
    }


def _simulated(outcomes: Sequence[ScanOutcome]) -> list[Figure]:
    figures = []
    for name, least in LEAST_F1_BY_SLICES.items():
        some = _where(outcomes, "slice_class", name)
        f1 = _pooled("a", f"F1, slices {name}", f"a F1 {_short(name)}", "f1", some)
        rate = _value("false_positives_per_scan", some)
        aim = f">= {least:.2f} at <= {MOST_FALSE['a']:g} FP/scan"
        met = None if f1.value is None else f1.value >= least and rate <= MOST_FALSE["a"]
        figures += [
            _aimed(f1, aim, met),
            _pooled(
                "a",
                f"FP/scan, slices {name}",
                f"a FP {_short(name)}",
                "false_positives_per_scan",
                some,
            ),
        ]
    figures += [
        _pooled("a", f"{title}, all slices", f"a {column}", name, outcomes)
        for title, column, name in _POOLED
    ]
    return [*figures, _drawn_volume("a", outcomes)]


def _healthy(outcomes: Sequence[ScanOutcome]) -> list[Figure]:
    figures = []
    for kind in _kinds(outcomes):
        some = _where(outcomes, "image", kind)
        one = _pooled("b", f"FP, {kind}", f"b {_short(kind)}", "false_positives_per_scan", some)
        if "thick" not in kind and one.value is not None:
            one = _aimed(one, f"<= {MOST_FALSE['b']:g}", one.value <= MOST_FALSE["b"])
        figures.append(one)
    return figures


def _implanted(outcomes: Sequence[ScanOutcome]) -> list[Figure]:
    native = [one for one in outcomes if "thick" not in str(one.attributes["image"])]
    large = _recall(f"recall over {LARGE_MM} mm", f"c >{LARGE_MM}", native, _is_large)
    met = None if large.value is None else large.value >= LEAST_RECALL_LARGE
    figures = [
        _aimed(large, f">= {LEAST_RECALL_LARGE:.2f}", met),
        _recall("recall, all sizes", "c all", native),
    ]
    for kind in _kinds(outcomes):
        some = _where(outcomes, "image", kind)
        column = f"c {_short(kind)}"
        figures.append(
            _recall(f"recall over {LARGE_MM} mm, {kind}", f"{column} >{LARGE_MM}", some, _is_large)
        )
        figures.append(_recall(f"recall, all sizes, {kind}", column, some))
    figures.append(
        _pooled("c", "FP/scan, all images", "c FP", "false_positives_per_scan", outcomes)
    )
    return [*figures, _drawn_volume("c", outcomes)]


def _annotated(outcomes: Sequence[ScanOutcome]) -> list[Figure]:
    figures = [
        _pooled("d", title, f"d {column}", name, outcomes) for title, column, name in _POOLED
    ]
    f1, rate = figures[0].value, _value("false_positives_per_scan", outcomes)
    aim = f">= {LEAST_F1_REAL:.2f} at <= {MOST_FALSE['d']:g} FP/scan, then {NEXT_F1_REAL:.2f}"
    met = None if f1 is None else f1 >= LEAST_F1_REAL and rate <= MOST_FALSE["d"]
    return [_aimed(figures[0], aim, met), *figures[1:]]


_POOLED = (
    ("F1", "F1", "f1"),
    ("precision", "P", "precision"),
    ("recall", "R", "recall"),
    ("FP/scan", "FP", "false_positives_per_scan"),
)
_FIGURES: dict[str, Callable[[Sequence[ScanOutcome]], list[Figure]]] = {
    "a": _simulated,
    "b": _healthy,
    "c": _implanted,
    "d": _annotated,
}


def _aimed(figure: Figure, aim: str, met: bool | None) -> Figure:
    return Figure(**(vars(figure) | {"aim": aim, "met": met}))


def _pooled(
    measure: str, name: str, column: str, figure: str, outcomes: Sequence[ScanOutcome]
) -> Figure:
    if not outcomes:
        return Figure(measure, name, column, None, None, "no scan")
    bootstrap = draw_resamples(len(outcomes), resamples=RESAMPLES, seed=0)
    pooled = pooled_figures(count_scans(outcomes), bootstrap)
    basis = (
        f"{pooled['true_positives']} TP, {pooled['false_positives']} FP, "
        f"{pooled['false_negatives']} FN, {_scans(len(outcomes))}"
    )
    # One scan drawn again and again has no spread, which is not what an interval would say.
    ends = pooled["intervals"][figure] if len(outcomes) > 1 else None
    return Figure(measure, name, column, pooled[figure], ends, basis)


def _recall(
    name: str,
    column: str,
    outcomes: Sequence[ScanOutcome],
    keep: Callable[[MarkedLesion], bool] = lambda _: True,
) -> Figure:
    """Recall of some of the lesions that count."""
    if not outcomes:
        return Figure("c", name, column, None, None, "no scan")
    counted = counted_lesions(outcomes)
    table = np.zeros((len(outcomes), 3))
    kept = np.array([keep(lesion) for lesion in counted.lesions], dtype=np.bool_)
    np.add.at(table, (counted.scans[kept], counted.columns[kept]), 1)
    bootstrap = draw_resamples(len(outcomes), resamples=RESAMPLES, seed=0)
    recall = float(detection_figures(table.sum(axis=0), len(outcomes))["recall"])
    resampled = detection_figures(bootstrap.totals(table), len(outcomes))["recall"]
    found, _, missed = table.sum(axis=0).astype(int).tolist()
    faint = sum(
        entry.side == "truth" and entry.outcome == "ignored"
        for outcome in outcomes
        for entry in outcome.lesions
    )
    return Figure(
        "c",
        name,
        column,
        None if np.isnan(recall) else recall,
        interval(resampled) if len(outcomes) > 1 else None,
        f"{found} of {found + missed} lesions, {_scans(len(outcomes))}, {faint} too faint to count",
    )


def _drawn_volume(measure: str, outcomes: Sequence[ScanOutcome]) -> Figure:
    """How large lesions are drawn: the volume of those found over the true one."""
    ratios = []
    for outcome in outcomes:
        drawn = {e.lesion.number: e.lesion for e in outcome.lesions if e.side == "prediction"}
        ratios += [
            drawn[entry.partner].volume_mm3 / entry.lesion.volume_mm3
            for entry in outcome.of("found")
            if entry.partner is not None
        ]
    ratios = [ratio for ratio in ratios if np.isfinite(ratio)]
    value = float(np.median(ratios)) if ratios else None
    name = "drawn over true volume, median"
    return Figure(measure, name, f"{measure} volume", value, None, f"{len(ratios)} lesions found")


def _is_large(lesion: MarkedLesion) -> bool:
    return lesion.equivalent_diameter_mm > LARGE_MM


def _value(figure: str, outcomes: Sequence[ScanOutcome]) -> float:
    if not outcomes:
        return float("nan")
    table = count_scans(outcomes).detection_table.sum(axis=0)
    return float(detection_figures(table, len(outcomes))[figure])


def _where(outcomes: Sequence[ScanOutcome], name: str, value: str) -> list[ScanOutcome]:
    return [outcome for outcome in outcomes if outcome.attributes[name] == value]


def _kinds(outcomes: Sequence[ScanOutcome]) -> list[str]:
    return list(dict.fromkeys(str(outcome.attributes["image"]) for outcome in outcomes))


def _scans(number: int) -> str:
    return "1 scan" if number == 1 else f"{number} scans"


_SHORT = {
    "up to 2 mm": "<=2",
    "2 to 3.5 mm": "2-3.5",
    "over 3.5 mm": ">3.5",
    "magnitude": "mag",
    "magnitude, thick slices": "mag thick",
    "SWI, thick slices": "SWI thick",
}


def _short(name: str) -> str:
    return _SHORT.get(name, name)
