"""Which candidates a step is shown, and how they are changed; step number n is always the same."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from CMBDetectorLib.errors import InputError
from CMBDetectorLib.inference.candidates import DETAIL_SHAPE, SURROUNDINGS_SHAPE, CandidatePatches
from training.second_stage.configuration import SecondStageConfig
from training.second_stage.stored import StoredCandidates

_HALF = 0.5
_LEAST_WEIGHT = 0.05


@dataclass(frozen=True, eq=False)
class Batch:
    """What the classifier is shown in a step, and what it should say, float32 (n,)."""

    shown: CandidatePatches
    target: npt.NDArray[np.float32]


class Batches:
    """Draws the candidates of each step.

    Raises
    ------
    InputError
        If there are no lesions, or nothing else.
    """

    def __init__(self, candidates: StoredCandidates, config: SecondStageConfig) -> None:
        self._candidates, self._config = candidates, config
        self._lesions = np.flatnonzero(candidates.is_lesion)
        self._others = np.flatnonzero(~candidates.is_lesion)
        if not (len(self._lesions) and len(self._others)):
            raise InputError(
                f"{len(self._lesions)} candidates are lesions and {len(self._others)} are not; "
                "expected some of both"
            )
        weights = np.clip(candidates.peak[self._others].astype(np.float64), _LEAST_WEIGHT, 1)
        self._weights = weights / weights.sum()

    def batch(self, number: int) -> Batch:
        """Of a step: lesions first, then others, the surer ones more often; each changed."""
        config = self._config
        rng = np.random.default_rng((config.seed, number))
        rows = np.concatenate(
            [
                rng.choice(self._lesions, config.lesions_per_step),
                rng.choice(self._others, config.others_per_step, p=self._weights),
            ]
        )
        is_lesion = self._candidates.is_lesion[rows]
        smooth = config.label_smoothing / 2
        target = np.where(is_lesion, 1 - smooth, smooth).astype(np.float32)
        changed = [changed_candidate(self._candidates, row, config, rng) for row in rows.tolist()]
        detail, probability, surroundings = (
            np.ascontiguousarray(np.stack(parts), dtype=np.float32)
            for parts in zip(*changed, strict=True)
        )
        shown = CandidatePatches(
            detail,
            probability,
            surroundings,
            self._candidates.peak[rows],
            self._candidates.slice_spacing_mm[rows],
        )
        return Batch(shown, target)


def changed_candidate(
    candidates: StoredCandidates, row: int, config: SecondStageConfig, rng: np.random.Generator
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Detail, probability and surroundings, shifted by up to half the margin, mirrored, turned,
    unevenly bright, blurred and noisy; mirrored along the slices, too; surroundings blank at times.
    """
    margin = config.margin_voxels
    i, j = margin + rng.integers(-(margin // 2), margin // 2 + 1, 2)
    window = (slice(i, i + DETAIL_SHAPE[0]), slice(j, j + DETAIL_SHAPE[1]))
    detail = candidates.detail[row][window].astype(np.float32)
    probability = candidates.probability[row][window].astype(np.float32)
    surroundings = candidates.surroundings[row].astype(np.float32)
    gain, gamma = rng.uniform(*config.gain), rng.uniform(*config.gamma)
    detail = gain * np.maximum(detail, 0) ** gamma
    surroundings = gain * np.maximum(surroundings, 0) ** gamma
    for axis in (0, 1):
        if rng.random() < _HALF:
            detail, probability = np.flip(detail, axis), np.flip(probability, axis)
            surroundings = np.flip(surroundings, axis + 1)
    if rng.random() < _HALF:
        detail, probability = np.swapaxes(detail, 0, 1), np.swapaxes(probability, 0, 1)
        surroundings = np.swapaxes(surroundings, 1, 2)
    if rng.random() < config.no_surroundings_share:
        surroundings = np.zeros_like(surroundings)
    if rng.random() < config.blur_share:
        blur = rng.uniform(*config.blur_voxels)
        detail = ndimage.gaussian_filter(detail, (blur, blur, 0))
    if rng.random() < _HALF:
        detail, probability = np.flip(detail, 2), np.flip(probability, 2)
        by_slab = surroundings.reshape(-1, 2, *SURROUNDINGS_SHAPE[1:])
        surroundings = np.flip(by_slab, 0).reshape(SURROUNDINGS_SHAPE)
    detail = detail + rng.normal(0, rng.uniform(0, config.noise), detail.shape)
    probability = np.clip(probability * rng.uniform(*config.probability_gain), 0, 1)
    return (
        detail.astype(np.float32),
        probability.astype(np.float32),
        surroundings.astype(np.float32),
    )
