"""The second stage: classifiers judge each candidate, and its probability becomes higher or lower.

What comes out is a probability map as before, so that thresholds, lesions, and means over several
models are the same with and without a second stage.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from CMBDetectorLib.inference.candidate_classifier import CandidateClassifier, classify
from CMBDetectorLib.inference.candidates import (
    PEAK_DISTANCE_MM,
    CandidatePatches,
    IntArray,
    cut_patches,
    find_peaks,
)
from CMBDetectorLib.inference.tiles import FloatArray
from CMBDetectorLib.progress import StageReporter
from CMBDetectorLib.settings import SecondStageSettings
from CMBDetectorLib.volume import Volume

BATCH_SIZE = 32
_EVERY_NEIGHBOR = np.ones((3, 3, 3), dtype=bool)


@dataclass(frozen=True)
class Judgement:
    """``probability`` after the second stage, and plain values for the record of the run."""

    probability: Volume
    statistics: dict[str, Any]


def judge_candidates(
    image: Volume,
    probability: Volume,
    classifiers: Sequence[CandidateClassifier],
    settings: SecondStageSettings,
    *,
    device: str | torch.device,
    reporter: StageReporter,
) -> Judgement:
    """Scale the probability of each candidate by what the classifiers say of it.

    A candidate is what hangs together at ``settings.candidate_threshold`` or more, through faces,
    edges or corners. Each of its peaks is shown to the classifiers; a peak's score is the geometric
    mean of both stages' probabilities, and the candidate is scaled so that its highest voxel has
    the highest of these scores. Voxels below the threshold are scaled with a candidate within 2 mm.

    Parameters
    ----------
    image, probability
        Prepared image and the networks' answer, float32, on the model's grid, slices last.

    Raises
    ------
    Cancelled
        On request, between two batches of candidates.
    """
    values = np.asarray(probability.array, dtype=np.float32)
    components, n = ndimage.label(values >= settings.candidate_threshold, _EVERY_NEIGHBOR)
    if n == 0:
        return Judgement(probability, {"candidates": 0})
    places = _places(probability, components, n, settings.candidate_threshold)
    show = partial(cut_patches, image, probability)
    says = _say(show, places, classifiers, device, reporter)
    first = values[tuple(places.T)]
    score = np.sqrt(first * says)
    of = components[tuple(places.T)]
    best, top = np.zeros(n + 1, dtype=np.float32), np.zeros(n + 1, dtype=np.float32)
    np.maximum.at(best, of, score)
    np.maximum.at(top, of, first)
    factors = np.ones(n + 1, dtype=np.float32)
    factors[1:] = best[1:] / top[1:]
    scaled = np.minimum(values * factors[_with_rims(components, probability)], 1)
    return Judgement(probability.with_array(scaled), {"candidates": n, "judged": len(places)})


def _places(
    probability: Volume, components: npt.NDArray[Any], n: int, threshold: float
) -> IntArray:
    """Every peak, and the highest voxel of each candidate beside a higher one; (m, 3)."""
    peaks = find_peaks(probability, threshold)
    without = np.setdiff1d(np.arange(1, n + 1), components[tuple(peaks.T)])
    if len(without) == 0:
        return peaks
    highest = ndimage.maximum_position(probability.array, components, without)
    return np.concatenate([peaks, np.array(highest, dtype=np.int64).reshape(-1, 3)])


def _say(
    show: Callable[[IntArray], CandidatePatches],
    places: IntArray,
    classifiers: Sequence[CandidateClassifier],
    device: str | torch.device,
    reporter: StageReporter,
) -> FloatArray:
    """The classifiers' probability at each place, (m,)."""
    parts = []
    for first in range(0, len(places), BATCH_SIZE):
        reporter.raise_if_cancelled()
        reporter.update(1.0, f"candidate {first + 1} of {len(places)}")
        patches = show(places[first : first + BATCH_SIZE])
        parts.append(classify(classifiers, patches, device))
    return np.concatenate(parts)


def _with_rims(components: npt.NDArray[Any], grid: Volume) -> npt.NDArray[Any]:
    """Components, each with what is within 2 mm of it and in none; of two the later one's."""
    reach = [max(1, round(PEAK_DISTANCE_MM / mm)) for mm in grid.geometry.spacing_mm]
    wide = ndimage.maximum_filter(components, size=[2 * n + 1 for n in reach])
    return np.asarray(np.where(components > 0, components, wide))
