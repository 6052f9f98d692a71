"""What becomes of lesions that are redrawn, split and merged."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.results import NOT_ASSESSED, Detection
from CMBDetectorLib.review.lesions import ReviewedLesion, Verdict
from CMBDetectorLib.zones import bombs_region_of

IntArray = npt.NDArray[np.int64]


def measured(label: int, voxels_ijk: IntArray, geometry: Geometry) -> Detection:
    """A detection of these voxels as the pipeline would measure them, probabilities unknown."""
    from CMBDetectorLib.postprocessing.lesions import measure_lesion

    return measure_lesion(label, voxels_ijk, geometry, None)


def added_lesion(label: int, voxels_ijk: IntArray, geometry: Geometry) -> ReviewedLesion:
    """What a reader has drawn: found by the reader and therefore accepted."""
    return ReviewedLesion(
        detection=measured(label, voxels_ijk, geometry), origin="reader", verdict="accepted"
    )


def redrawn_lesion(
    lesion: ReviewedLesion, voxels_ijk: IntArray, geometry: Geometry
) -> ReviewedLesion:
    """The same lesion with other voxels."""
    return replace(lesion, detection=_with_facts_of([lesion], lesion.id, voxels_ijk, geometry))


def split_lesion(
    lesion: ReviewedLesion, label: int, voxels_ijk: IntArray, geometry: Geometry
) -> ReviewedLesion:
    """One part of a lesion; verdict, comment, side and region stay those of the whole."""
    return replace(
        lesion,
        detection=_with_facts_of([lesion], label, voxels_ijk, geometry),
        parents=(lesion.id,),
    )


def merged_lesion(
    lesions: Sequence[ReviewedLesion], label: int, voxels_ijk: IntArray, geometry: Geometry
) -> ReviewedLesion:
    """All of them as one; where they disagree on the verdict, it is to be given again."""
    verdicts: set[Verdict] = {lesion.verdict for lesion in lesions}
    comments = dict.fromkeys(lesion.comment for lesion in lesions if lesion.comment)
    return ReviewedLesion(
        detection=_with_facts_of(lesions, label, voxels_ijk, geometry),
        origin="model" if any(lesion.origin == "model" for lesion in lesions) else "reader",
        verdict=verdicts.pop() if len(verdicts) == 1 else "unreviewed",
        comment="; ".join(comments),
        parents=tuple(lesion.id for lesion in lesions),
    )


def relocated(detection: Detection, key: Literal["region", "hemisphere"], text: str) -> Detection:
    """With the region or side that a reader gives, in place of what the software said.

    A region of MARS brings its region of BOMBS along. The marks for low confidence and for an
    approximate lobe were those of the region before.
    """
    if key == "hemisphere":
        return replace(detection, hemisphere=text)
    return replace(
        detection,
        region=text,
        bombs_region=bombs_region_of(text, detection.bombs_region),
        location_confidence="",
        region_is_approximate=False,
    )


def _with_facts_of(
    lesions: Sequence[ReviewedLesion], label: int, voxels_ijk: IntArray, geometry: Geometry
) -> Detection:
    """New measurements, with what cannot be measured taken over from where they come from.

    Shares of structures and distances were those of the former voxels, and go.
    """
    from CMBDetectorLib.postprocessing.lesions import OVER_10_MM

    detections = [lesion.detection for lesion in lesions]
    known = [d for d in detections if not math.isnan(d.score)]
    n_voxels = sum(d.n_voxels for d in known)
    mean, peak = math.nan, math.nan
    if len(known) == 1:
        mean, peak = known[0].mean_probability, known[0].peak_probability
    elif known:
        mean = math.fsum(d.mean_probability * d.n_voxels for d in known) / n_voxels
        peak = max(d.peak_probability for d in known)
    fresh = measured(label, voxels_ijk, geometry)
    region = _agreed([d.region for d in detections])
    confidence = _agreed([d.location_confidence for d in detections], "")
    kept = dict.fromkeys(flag for d in detections for flag in d.flags if flag != OVER_10_MM)
    return replace(
        fresh,
        mean_probability=min(mean, peak),
        peak_probability=peak,
        hemisphere=_agreed([d.hemisphere for d in detections]),
        region=region,
        bombs_region=_agreed([d.bombs_region for d in detections]),
        location_confidence="" if region == NOT_ASSESSED else confidence,
        region_is_approximate=region != NOT_ASSESSED
        and any(d.region_is_approximate for d in detections),
        flags=(*kept, *fresh.flags),
    )


def _agreed(texts: Sequence[str], otherwise: str = NOT_ASSESSED) -> str:
    return texts[0] if len(set(texts)) == 1 else otherwise
