"""From the lesions of a truth and of a prediction to the outcome of a scan."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from CMBDetectorLib.evaluation.lesions import LesionSet, MarkedLesion
from CMBDetectorLib.evaluation.matching import MatchResult, assign, center_candidates
from CMBDetectorLib.evaluation.outcomes import LesionOutcome, Outcome, ScanOutcome, Side
from CMBDetectorLib.evaluation.overlap import overlap_candidates
from CMBDetectorLib.evaluation.rule import MatchingRule
from CMBDetectorLib.evaluation.segmentation import PairMeasures, pair_measures, whole_mask_dice
from CMBDetectorLib.evaluation.shared_grid import on_shared_grid

_NO_ATTRIBUTES: Mapping[str, float | str] = MappingProxyType({})


def evaluate_scan(
    scan_id: str,
    true: LesionSet,
    predicted: LesionSet,
    rule: MatchingRule,
    *,
    has_scores: bool | None = None,
    attributes: Mapping[str, float | str] = _NO_ATTRIBUTES,
) -> ScanOutcome:
    """Match the lesions of a scan and say of each what became of it.

    Predictions below the smallest volume that counts are left out before anything else, as if
    they had not been made. The others are matched with the true lesions that count; those that
    remain, second hits too, are then matched with the true lesions below the smallest volume: one
    to one again, and such a pair is ignored on both sides. A lesion of unknown volume, such as a
    point, counts.

    Parameters
    ----------
    scan_id
        Unique in the cohort.
    true, predicted
        On grids of their own, or points.
    rule
        How to match; the lesions have been formed by it.
    has_scores
        Whether the source of the predictions gives scores; None: whether these here have them.
    attributes
        What is known about the scan.

    Raises
    ------
    UsageError
        If two lists of points are to be matched by overlap.
    """
    kept_rows = _rows_that_count(predicted, rule)
    kept = _only(predicted, kept_rows)
    counted = _rows_that_count(true, rule)
    uncounted = sorted(set(range(len(true.lesions))) - set(counted))
    with_masks = true.has_masks and predicted.has_masks
    both = on_shared_grid(kept, true) if with_masks else None
    if rule.kind == "center":
        centers = kept.centers_ras_mm, true.centers_ras_mm
        candidates = center_candidates(*centers, rule.tolerance_mm)
    else:
        candidates = overlap_candidates(kept, true, both)
    match = assign(candidates, range(len(kept.lesions)), counted)
    rest = assign(candidates, match.false_positives, uncounted)
    pairs = [(pair.prediction, pair.truth) for pair in match.pairs]
    measures = None if both is None else pair_measures(kept, true, pairs, both=both)
    predictions, truths = _fates(match, rest, measures)

    lesions = [
        _outcome("truth", lesion, truths[row], kept) for row, lesion in enumerate(true.lesions)
    ]
    fates = {kept_rows[row]: fate for row, fate in predictions.items()}
    for row, lesion in enumerate(predicted.lesions):
        fate = fates.get(row, _Fate("ignored"))
        lesions.append(_outcome("prediction", lesion, fate, true))
    return ScanOutcome(
        scan_id=scan_id,
        lesions=tuple(lesions),
        whole_mask_dice=whole_mask_dice(true, kept, both=both),
        true_volume_mm3=_volume_mm3(true),
        predicted_volume_mm3=_volume_mm3(kept),
        has_scores=predicted.has_scores if has_scores is None else has_scores,
        attributes=dict(attributes),
    )


@dataclass(frozen=True)
class _Fate:
    """What became of a lesion; ``partner`` is a row of the other side."""

    outcome: Outcome
    partner: int | None = None
    distance_mm: float = math.nan
    measures: PairMeasures | None = None


def _fates(
    match: MatchResult, rest: MatchResult, measures: Sequence[PairMeasures] | None
) -> tuple[dict[int, _Fate], dict[int, _Fate]]:
    """Of the rows of the predictions and of the truths.

    ``match`` is that with the truths that count, ``rest`` that of what remained with the others.
    """
    predictions = dict.fromkeys(rest.false_positives, _Fate("false"))
    truths = dict.fromkeys(match.missed, _Fate("missed"))
    truths |= dict.fromkeys(rest.missed, _Fate("ignored"))
    # A truth that counts comes last, and so before one that does not.
    for hit in (*rest.second_hits, *match.second_hits):
        predictions[hit.prediction] = _Fate("second hit", hit.truth, hit.distance_mm)
    for pair in rest.pairs:
        predictions[pair.prediction] = _Fate("ignored", pair.truth, pair.distance_mm)
        truths[pair.truth] = _Fate("ignored", pair.prediction, pair.distance_mm)
    for number, pair in enumerate(match.pairs):
        measured = None if measures is None else measures[number]
        predictions[pair.prediction] = _Fate("true", pair.truth, pair.distance_mm, measured)
        truths[pair.truth] = _Fate("found", pair.prediction, pair.distance_mm, measured)
    return predictions, truths


def _outcome(side: Side, lesion: MarkedLesion, fate: _Fate, others: LesionSet) -> LesionOutcome:
    partner = None if fate.partner is None else others.lesions[fate.partner].number
    plain = LesionOutcome(side, lesion, fate.outcome, partner, fate.distance_mm)
    return replace(plain, **vars(fate.measures)) if fate.measures else plain


def _rows_that_count(lesions: LesionSet, rule: MatchingRule) -> list[int]:
    # A hair below the limit, so that 5 voxels of 0.4 mm³ are not less than 2 mm³.
    smallest_mm3 = rule.min_volume_mm3 * (1 - 1e-9)
    # The volume of a point is NaN, which is not below anything.
    return [
        row for row, lesion in enumerate(lesions.lesions) if not lesion.volume_mm3 < smallest_mm3
    ]


def _only(lesions: LesionSet, rows: Sequence[int]) -> LesionSet:
    if len(rows) == len(lesions.lesions):
        return lesions
    return replace(
        lesions,
        lesions=tuple(lesions.lesions[row] for row in rows),
        voxels_ijk=tuple(lesions.voxels_ijk[row] for row in rows) if lesions.has_masks else (),
    )


def _volume_mm3(lesions: LesionSet) -> float:
    if not lesions.has_masks:
        return math.nan
    return math.fsum(lesion.volume_mm3 for lesion in lesions.lesions)
