"""Found and missed lesions of simulated scans, counted by the VALDO rule."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from CMBDetectorLib.evaluation.bootstrap import draw_resamples
from CMBDetectorLib.evaluation.classes import DIAMETER_CLASSES_MM, SLICE_CLASSES_MM, NumberClasses
from CMBDetectorLib.evaluation.figures import count_scans, detection_figures, pooled_figures
from CMBDetectorLib.evaluation.lesions import MarkedLesion
from CMBDetectorLib.evaluation.matching import assign, center_candidates, checked_centers
from CMBDetectorLib.evaluation.outcomes import LesionOutcome, Outcome, ScanOutcome
from CMBDetectorLib.evaluation.rule import VALDO_TOLERANCE_MM
from CMBDetectorLib.evaluation.strata import (
    FIGURES,
    counted_lesions,
    lesion_stratum,
    scan_stratum,
)
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.postprocessing.measure import equivalent_diameter_mm
from CMBDetectorLib.results import Detection
from training.cases import Case, visibility

MATCHING_RULE = (
    f"centers of mass at most {VALDO_TOLERANCE_MM:g} mm apart, one to one; a second hit is a false "
    "positive; lesions too faint to count are neither missed nor false"
)
_RESAMPLES = 1000


@dataclass(frozen=True)
class TrueLesion:
    """A lesion of the truth, and whether it can be seen well enough to count."""

    lesion: MarkedLesion
    counts: bool


class _Fate(NamedTuple):
    """What became of a lesion; ``partner`` is a number on the other side."""

    outcome: Outcome
    partner: int | None = None
    distance_mm: float = math.nan


def true_lesions(case: Case, min_contrast_to_noise: float) -> tuple[TrueLesion, ...]:
    """The lesions of a case; those without a voxel in the truth stand at their stated center."""
    array, geometry = case.truth.array, case.truth.geometry
    boxes = ndimage.find_objects(array)
    lesions = []
    for lesion in case.lesions:
        label = int(lesion["label"])
        box = boxes[label - 1] if 0 < label <= len(boxes) else None
        visible = visibility(lesion) >= min_contrast_to_noise
        if box is None:
            x, y, z = (float(c) for c in lesion["center_ras_mm"])
            diameter_mm = float(lesion["diameter_mm"])
            marked = MarkedLesion(label, (x, y, z), equivalent_diameter_mm=diameter_mm)
            lesions.append(TrueLesion(marked, counts=False))
            continue
        ijk = np.argwhere(array[box] == label) + [axis.start for axis in box]
        lesions.append(TrueLesion(marked_lesion(label, ijk, geometry), counts=visible))
    return tuple(lesions)


def marked_lesion(
    number: int, ijk: npt.NDArray[np.integer[Any]], geometry: Geometry
) -> MarkedLesion:
    """Place and size of a lesion of these voxels, shape (n, 3), n at least 1."""
    x, y, z = geometry.ijk_to_ras_mm(ijk.mean(axis=0)).tolist()
    volume_mm3 = len(ijk) * geometry.voxel_volume_mm3
    return MarkedLesion(
        number,
        (x, y, z),
        volume_mm3=volume_mm3,
        n_voxels=len(ijk),
        equivalent_diameter_mm=equivalent_diameter_mm(volume_mm3),
    )


def predicted_lesions(detections: Sequence[Detection]) -> list[MarkedLesion]:
    """What the library has found, to be counted."""
    return [
        MarkedLesion(
            detection.label,
            detection.center_ras_mm,
            score=detection.score,
            volume_mm3=detection.volume_mm3,
            n_voxels=detection.n_voxels,
            equivalent_diameter_mm=detection.equivalent_diameter_mm,
            max_diameter_mm=detection.max_diameter_mm,
            elongation=detection.elongation,
        )
        for detection in detections
    ]


def count_scan(
    case: Case, predicted: Sequence[MarkedLesion], lesions: Sequence[TrueLesion]
) -> ScanOutcome:
    """As :func:`count_lesions`, with what is known about a simulated scan."""
    geometry = case.image.geometry
    attributes: dict[str, float | str] = {
        "head": case.head,
        "sequence": str(case.metadata["sequence"]),
        "slice_thickness_mm": geometry.spacing_mm[geometry.slice_axis],
    }
    return count_lesions(case.case_id, predicted, lesions, attributes)


def count_lesions(
    scan_id: str,
    predicted: Sequence[MarkedLesion],
    lesions: Sequence[TrueLesion],
    attributes: Mapping[str, float | str],
) -> ScanOutcome:
    """Match the centers of predictions with the lesions that count, then with the faint ones.

    Faint lesions, and the predictions on them, are "ignored".
    """
    true = [entry.lesion for entry in lesions]
    counted = [row for row, entry in enumerate(lesions) if entry.counts]
    faint = [row for row, entry in enumerate(lesions) if not entry.counts]
    candidates = center_candidates(
        checked_centers([lesion.center_ras_mm for lesion in predicted], "predicted"),
        checked_centers([lesion.center_ras_mm for lesion in true], "true"),
        VALDO_TOLERANCE_MM,
    )
    match = assign(candidates, range(len(predicted)), counted)
    on_faint = assign(candidates, match.false_positives, faint)

    truths = dict.fromkeys(match.missed, _Fate("missed"))
    truths |= dict.fromkeys(on_faint.missed, _Fate("ignored"))
    found = dict.fromkeys(on_faint.false_positives, _Fate("false"))
    for hit in (*on_faint.second_hits, *match.second_hits):
        found[hit.prediction] = _Fate("second hit", true[hit.truth].number, hit.distance_mm)
    for pair in on_faint.pairs:
        found[pair.prediction] = _Fate("ignored", true[pair.truth].number, pair.distance_mm)
        truths[pair.truth] = _Fate("ignored", predicted[pair.prediction].number, pair.distance_mm)
    for pair in match.pairs:
        found[pair.prediction] = _Fate("true", true[pair.truth].number, pair.distance_mm)
        truths[pair.truth] = _Fate("found", predicted[pair.prediction].number, pair.distance_mm)
    return ScanOutcome(
        scan_id,
        (
            *(LesionOutcome("truth", lesion, *truths[row]) for row, lesion in enumerate(true)),
            *(
                LesionOutcome("prediction", lesion, *found[row])
                for row, lesion in enumerate(predicted)
            ),
        ),
        attributes=dict(attributes),
    )


def summarize(outcomes: Sequence[ScanOutcome]) -> dict[str, Any]:
    """Pooled figures as plain JSON; None where there is nothing to divide by.

    ``false_positives_per_scan`` is over all scans, also those without a lesion. Each of
    precision, recall, F1 and false positives per scan has a 95 % interval from a bootstrap over
    scans.

    Raises
    ------
    UsageError
        If there is no scan.
    """
    bootstrap = draw_resamples(len(outcomes), resamples=_RESAMPLES, seed=0)
    counts = count_scans(outcomes)
    pooled = pooled_figures(counts, bootstrap)
    summary: dict[str, Any] = {
        "rule": MATCHING_RULE,
        "scans": counts.n_scans,
        "true_positives": pooled["true_positives"],
        "false_positives": pooled["false_positives"],
        "false_negatives": pooled["false_negatives"],
        "on_faint_lesions": pooled["ignored_predictions"],
    }
    for name in FIGURES:
        summary[name] = _rounded(pooled[name])
        ends = pooled["intervals"][name] or (None, None)
        summary[f"{name}_95"] = [_rounded(end) for end in ends]
    lesions = counted_lesions(outcomes)
    by_diameter = lesion_stratum(lesions, "equivalent_diameter_mm", bootstrap)
    by_slice = scan_stratum(outcomes, counts, "slice_thickness_mm", bootstrap)
    by_sequence = scan_stratum(outcomes, counts, "sequence", bootstrap)
    summary["recall_by_diameter_mm"] = _recalls(by_diameter, DIAMETER_CLASSES_MM)
    summary["recall_by_slice_mm"] = _recalls(by_slice, SLICE_CLASSES_MM)
    summary["by_slice_mm"] = _by_class(by_slice)
    summary["by_sequence"] = _by_class(by_sequence)
    return summary


def scan_row(outcome: ScanOutcome) -> dict[str, Any]:
    """One scan as plain JSON; ``found`` says of each diameter (mm) whether it was detected.

    ``n_uncounted`` predictions lie on lesions that are too faint to count.
    """
    ignored = outcome.of("ignored")
    return {
        "case_id": outcome.scan_id,
        "head": outcome.attributes["head"],
        "sequence": outcome.attributes["sequence"],
        "slice_spacing_mm": outcome.attributes["slice_thickness_mm"],
        "n_true_positive": outcome.n_true_positive,
        "n_false_positive": outcome.n_false_positive,
        "n_false_negative": outcome.n_false_negative,
        "n_uncounted": sum(entry.side == "prediction" for entry in ignored),
        "found": [
            [entry.lesion.equivalent_diameter_mm, entry.outcome == "found"]
            for entry in outcome.of("found", "missed")
        ],
    }


def f1_score(outcomes: Sequence[ScanOutcome]) -> float:
    """Pooled F1, to rank operating points by; 0 where there is neither lesion nor prediction."""
    totals = count_scans(outcomes).detection_table.sum(axis=0)
    return float(np.nan_to_num(detection_figures(totals, len(outcomes))["f1"]))


def _recalls(stratum: Mapping[str, Any], classes: NumberClasses) -> dict[str, dict[str, Any]]:
    recalls: dict[str, dict[str, Any]] = {
        name: {"lesions": 0, "recall": None} for name in classes.names
    }
    for entry in stratum["classes"]:
        if entry["lesions"]:
            recall = _rounded(entry["recall"])
            recalls[entry["class"]] = {"lesions": entry["lesions"], "recall": recall}
    return recalls


def _by_class(stratum: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        entry["class"]: {"scans": entry["scans"]}
        | {name: _rounded(entry[name]) for name in FIGURES}
        for entry in stratum["classes"]
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
