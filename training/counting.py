"""Found and missed lesions of simulated scans, counted by the VALDO rule."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from CMBDetectorLib.evaluation.matching import VALDO_TOLERANCE_MM, match_centers
from CMBDetectorLib.geometry import FloatArray
from training.cases import Case

DIAMETER_CLASSES_MM = (0.0, 2.0, 3.0, 5.0, math.inf)
SLICE_CLASSES_MM = (0.0, 1.5, 3.0, math.inf)
MATCHING_RULE = (
    f"centers of mass at most {VALDO_TOLERANCE_MM:g} mm apart, one to one; a second hit is a false "
    "positive; lesions too faint to count are neither missed nor false"
)
_RESAMPLES = 1000


@dataclass(frozen=True)
class TrueLesion:
    """A lesion of the truth: centre of mass, diameter of the ball of its volume, visibility."""

    label: int
    center_ras_mm: tuple[float, float, float]
    equivalent_diameter_mm: float
    counts: bool


@dataclass(frozen=True)
class ScanCount:
    """Outcome of one scan; ``found`` says of each diameter (mm) whether it was detected.

    ``n_uncounted`` predictions lie on lesions that are too faint to count.
    """

    case_id: str
    head: str
    sequence: str
    slice_spacing_mm: float
    n_true_positive: int
    n_false_positive: int
    n_false_negative: int
    n_uncounted: int
    found: tuple[tuple[float, bool], ...]


def true_lesions(case: Case, min_contrast_to_noise: float) -> tuple[TrueLesion, ...]:
    """The lesions of a case; those without a voxel in the truth stand at their stated centre."""
    array, geometry = case.truth.array, case.truth.geometry
    boxes = ndimage.find_objects(array)
    lesions = []
    for lesion in case.lesions:
        label = int(lesion["label"])
        box = boxes[label - 1] if 0 < label <= len(boxes) else None
        visible = float(lesion["contrast_to_noise"]) >= min_contrast_to_noise
        if box is None:
            x, y, z = (float(c) for c in lesion["center_ras_mm"])
            lesions.append(TrueLesion(label, (x, y, z), float(lesion["diameter_mm"]), counts=False))
            continue
        ijk = np.argwhere(array[box] == label) + [axis.start for axis in box]
        x, y, z = geometry.ijk_to_ras_mm(ijk.mean(axis=0)).tolist()
        diameter_mm = float(np.cbrt(6 * len(ijk) * geometry.voxel_volume_mm3 / np.pi))
        lesions.append(TrueLesion(label, (x, y, z), diameter_mm, counts=visible))
    return tuple(lesions)


def count_scan(
    case: Case, predicted_ras_mm: Sequence[Sequence[float]], lesions: Sequence[TrueLesion]
) -> ScanCount:
    """Match the centres of predictions with the lesions that count, then with the faint ones."""
    counted = [lesion for lesion in lesions if lesion.counts]
    faint = [lesion for lesion in lesions if not lesion.counts]
    predicted = np.array(predicted_ras_mm, dtype=np.float64).reshape(-1, 3)
    match = match_centers(predicted, [lesion.center_ras_mm for lesion in counted])
    rest = predicted[list(match.false_positives)]
    on_faint = match_centers(rest, [lesion.center_ras_mm for lesion in faint])
    hits = {pair.truth for pair in match.pairs}
    return ScanCount(
        case_id=case.case_id,
        head=case.head,
        sequence=str(case.metadata["sequence"]),
        slice_spacing_mm=case.image.geometry.spacing_mm[case.image.geometry.slice_axis],
        n_true_positive=match.n_true_positive,
        n_false_positive=match.n_false_positive - on_faint.n_true_positive,
        n_false_negative=match.n_false_negative,
        n_uncounted=on_faint.n_true_positive,
        found=tuple((lesion.equivalent_diameter_mm, n in hits) for n, lesion in enumerate(counted)),
    )


def summarize(counts: Sequence[ScanCount]) -> dict[str, Any]:
    """Pooled figures as plain JSON; None where there is nothing to divide by.

    ``false_positives_per_scan`` is over all scans, also those without a lesion. Each of
    precision, recall, F1 and false positives per scan has a 95 % interval from a bootstrap over
    scans.
    """
    table = np.array(
        [(c.n_true_positive, c.n_false_positive, c.n_false_negative) for c in counts], dtype=float
    ).reshape(-1, 3)
    tp, fp, fn = (int(n) for n in table.sum(axis=0))
    figures = _figures(table.sum(axis=0), len(counts))
    rng = np.random.default_rng(0)
    draws = rng.integers(len(counts), size=(_RESAMPLES, len(counts)))
    resampled = [_figures(table[draw].sum(axis=0), len(counts)) for draw in draws]
    summary: dict[str, Any] = {
        "rule": MATCHING_RULE,
        "scans": len(counts),
        "true_positives": tp,
        "false_positives": fp,
        "false_negatives": fn,
        "on_faint_lesions": sum(c.n_uncounted for c in counts),
    }
    for name, value in figures.items():
        spread = np.array([sample[name] for sample in resampled])
        spread = spread[np.isfinite(spread)]
        summary[name] = _rounded(value)
        interval = np.percentile(spread, [2.5, 97.5]).tolist() if spread.size else [math.nan] * 2
        summary[f"{name}_95"] = [_rounded(end) for end in interval]
    by_diameter = [(diameter, found) for c in counts for diameter, found in c.found]
    summary["recall_by_diameter_mm"] = _by_class(by_diameter, DIAMETER_CLASSES_MM)
    by_slice = [(c.slice_spacing_mm, found) for c in counts for _, found in c.found]
    summary["recall_by_slice_mm"] = _by_class(by_slice, SLICE_CLASSES_MM)
    summary["by_slice_mm"] = _per_group(counts, _slice_class)
    summary["by_sequence"] = _per_group(counts, lambda count: count.sequence)
    return summary


def f1_score(counts: Sequence[ScanCount]) -> float:
    """Pooled F1, to rank operating points by; 0 where there is neither lesion nor prediction."""
    tp = sum(c.n_true_positive for c in counts)
    wrong = sum(c.n_false_positive + c.n_false_negative for c in counts)
    return 2 * tp / (2 * tp + wrong) if tp + wrong else 0.0


def _figures(totals: FloatArray, n_scans: int) -> dict[str, float]:
    tp, fp, fn = totals.tolist()
    return {
        "precision": tp / (tp + fp) if tp + fp else math.nan,
        "recall": tp / (tp + fn) if tp + fn else math.nan,
        "f1": 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else math.nan,
        "false_positives_per_scan": fp / n_scans if n_scans else math.nan,
    }


def _per_group(
    counts: Sequence[ScanCount], key: Callable[[ScanCount], str]
) -> dict[str, dict[str, Any]]:
    groups: dict[str, dict[str, Any]] = {}
    for name in sorted({key(count) for count in counts}):
        members = [count for count in counts if key(count) == name]
        totals = np.array(
            [
                sum(c.n_true_positive for c in members),
                sum(c.n_false_positive for c in members),
                sum(c.n_false_negative for c in members),
            ],
            dtype=np.float64,
        )
        figures = _figures(totals, len(members))
        groups[name] = {"scans": len(members)} | {k: _rounded(v) for k, v in figures.items()}
    return groups


def _by_class(
    found: Sequence[tuple[float, bool]], edges: Sequence[float]
) -> dict[str, dict[str, Any]]:
    """Recall of the lesions in each class of a quantity; a class holds its upper end."""
    classes = {}
    for name, (low, high) in _named_classes(edges).items():
        hits = [hit for value, hit in found if low < value <= high]
        recall = sum(hits) / len(hits) if hits else math.nan
        classes[name] = {"lesions": len(hits), "recall": _rounded(recall)}
    return classes


def _named_classes(edges: Sequence[float]) -> dict[str, tuple[float, float]]:
    classes = {}
    for low, high in itertools.pairwise(edges):
        name = f"over {low:g}" if math.isinf(high) else f"{low:g} to {high:g}"
        classes[name] = (low, high)
    return classes


def _slice_class(count: ScanCount) -> str:
    for name, (low, high) in _named_classes(SLICE_CLASSES_MM).items():
        if low < count.slice_spacing_mm <= high:
            return name
    raise ValueError(f"{count.case_id}: slices of {count.slice_spacing_mm} mm")


def _rounded(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None
