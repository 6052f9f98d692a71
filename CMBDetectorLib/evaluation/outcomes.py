"""What became of every lesion of a scan: all that the figures of a cohort are computed from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from CMBDetectorLib.evaluation.lesions import MarkedLesion

Side = Literal["truth", "prediction"]
Outcome = Literal["found", "missed", "true", "false", "second hit", "ignored"]


@dataclass(frozen=True)
class LesionOutcome:
    """One lesion of the truth or of the prediction, and what became of it.

    Attributes
    ----------
    side
        ``truth`` or ``prediction``.
    outcome
        Of the truth: ``found`` (has a true positive) or ``missed`` (false negative). Of the
        prediction: ``true`` (true positive), ``false`` (false positive), or ``second hit``, which
        is a false positive too: it matches a truth that another prediction was given. Of both:
        ``ignored``, below the smallest volume that counts.
    partner
        Number of the lesion on the other side it was matched with (of a second hit, that it also
        matches); None without.
    distance_mm
        Between the centers of the two; NaN without a partner.
    dice, volume_error_mm3, surface_distance_mm, hausdorff_95_mm
        Of a matched pair where both sides have masks, on both lesions alike; else NaN. The volume
        error is predicted minus true; the surface distance is the average symmetric one.
    """

    side: Side
    lesion: MarkedLesion
    outcome: Outcome
    partner: int | None = None
    distance_mm: float = math.nan
    dice: float = math.nan
    volume_error_mm3: float = math.nan
    surface_distance_mm: float = math.nan
    hausdorff_95_mm: float = math.nan


@dataclass(frozen=True)
class ScanOutcome:
    """A scan with the outcome of all its lesions; small, whatever the size of the images.

    Attributes
    ----------
    scan_id
        Unique in the cohort.
    lesions
        Those of the truth first, each side in rising order of the numbers.
    whole_mask_dice
        Of all voxels of the truth and of the prediction together, without predictions below the
        smallest volume that counts; 1 where both are empty, NaN where a side has no mask.
    true_volume_mm3, predicted_volume_mm3
        Of all lesions together, without such predictions; NaN where a side has no mask.
    has_scores
        Whether the predictions have scores; True also where there is none to have one and the
        source gives scores.
    attributes
        What is known about the scan, such as ``slice_thickness_mm`` or ``center``: numbers or
        words. Strata are formed from it.
    """

    scan_id: str
    lesions: tuple[LesionOutcome, ...]
    whole_mask_dice: float = math.nan
    true_volume_mm3: float = math.nan
    predicted_volume_mm3: float = math.nan
    has_scores: bool = False
    attributes: Mapping[str, float | str] = field(default_factory=dict)

    def of(self, *outcomes: Outcome) -> tuple[LesionOutcome, ...]:
        """The lesions with one of these outcomes."""
        return tuple(entry for entry in self.lesions if entry.outcome in outcomes)

    @property
    def n_true_positive(self) -> int:
        """Matched predictions."""
        return len(self.of("true"))

    @property
    def n_false_positive(self) -> int:
        """Predictions without a truth of their own, second hits included."""
        return len(self.of("false", "second hit"))

    @property
    def n_false_negative(self) -> int:
        """Missed lesions."""
        return len(self.of("missed"))

    @property
    def n_true(self) -> int:
        """Lesions of the truth that count."""
        return len(self.of("found", "missed"))

    @property
    def n_predicted(self) -> int:
        """Predictions that count."""
        return len(self.of("true", "false", "second hit"))
