"""Random changes of patches, all of them MONAI's; patch number n always changes alike."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from monai.data.meta_obj import get_track_meta, set_track_meta
from monai.transforms.compose import Compose
from monai.transforms.intensity.dictionary import (
    RandAdjustContrastd,
    RandBiasFieldd,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandScaleIntensityd,
)
from monai.transforms.spatial.dictionary import (
    RandAffined,
    RandFlipd,
    RandGridDistortiond,
    RandRotate90d,
    RandSimulateLowResolutiond,
)

from training.settings import AugmentationSettings

_IMAGE, _LABELS = ("image",), ("image", "labels")
_HALF = 0.5
# MONAI's blur takes a standard deviation above 0; this one does nothing.
_NO_BLUR = (1e-3, 1e-3)
# One cell along the slices: those of a thick scan stay evenly spaced.
_DISTORTION_CELLS: Any = (4, 4, 1)


class Augmentation:
    """Flips, quarter turns, turns and distortions in plane, and mild changes of intensity.

    Image and labels move together. Elastic deformation is MONAI's grid distortion: its
    ``Rand3DElasticd`` takes twenty times as long, half as long as a step of training.

    Parameters
    ----------
    settings
        From the configuration.
    clip
        Range of intensities afterwards.
    """

    def __init__(self, settings: AugmentationSettings, clip: tuple[float, float]) -> None:
        self._clip = clip
        moves, intensities = _moves(settings), _intensities(settings)
        self._moves, self._intensities = Compose(moves), Compose(intensities)
        # One state for all, after Compose has given each its own: to seed one for each patch and
        # change takes longer than most of the changes.
        self._state = np.random.RandomState()
        for step in (*moves, *intensities):
            step.set_random_state(state=self._state)

    def __call__(
        self,
        image: npt.NDArray[np.float32],
        labels: npt.NDArray[np.uint8],
        rng: np.random.Generator,
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
        """A changed patch of the same shape; voxels of exactly 0 (no signal, padding) stay 0."""
        self._state.seed(int(rng.integers(2**32)))
        patch: Any = {
            "image": torch.from_numpy(np.ascontiguousarray(image))[None],
            "labels": torch.from_numpy(np.ascontiguousarray(labels))[None],
        }
        with _plain_tensors():
            patch = self._moves(patch)
            empty = _array(patch["image"]) == 0
            changed = _array(self._intensities(patch)["image"])
        changed = np.clip(np.abs(changed), *self._clip).astype(np.float32, copy=False)
        changed[empty] = 0
        return changed, _array(patch["labels"]).astype(np.uint8, copy=False)


@contextmanager
def _plain_tensors() -> Iterator[None]:
    """MONAI's record of what was done to a tensor takes a quarter of the time; nobody reads it."""
    before = get_track_meta()
    set_track_meta(False)
    try:
        yield
    finally:
        set_track_meta(before)


def _moves(settings: AugmentationSettings) -> list[Any]:
    turn = math.radians(settings.rotation_degrees)
    sampled: dict[str, Any] = {"mode": ("bilinear", "nearest"), "padding_mode": "reflection"}
    return [
        *(RandFlipd(_LABELS, prob=_HALF, spatial_axis=axis) for axis in range(3)),
        RandRotate90d(_LABELS, prob=_HALF, spatial_axes=(0, 1)),
        RandAffined(
            _LABELS, prob=settings.rotation_share, rotate_range=(0.0, 0.0, turn), **sampled
        ),
        RandGridDistortiond(
            _LABELS,
            num_cells=_DISTORTION_CELLS,
            prob=settings.distortion_share,
            distort_limit=(-settings.distortion, settings.distortion),
            **sampled,
        ),
    ]


def _intensities(settings: AugmentationSettings) -> list[Any]:
    blur = (_NO_BLUR[0], max(_NO_BLUR[1], settings.blur_voxels))
    gain_low, gain_high = settings.gain
    return [
        RandGaussianSmoothd(
            _IMAGE, prob=settings.blur_share, sigma_x=blur, sigma_y=blur, sigma_z=_NO_BLUR
        ),
        RandSimulateLowResolutiond(
            _IMAGE, prob=settings.low_resolution_share, zoom_range=(settings.low_resolution, 1.0)
        ),
        RandAdjustContrastd(_IMAGE, prob=1.0, gamma=settings.gamma),
        RandScaleIntensityd(_IMAGE, prob=1.0, factors=(gain_low - 1, gain_high - 1)),
        RandBiasFieldd(_IMAGE, prob=_HALF, degree=2, coeff_range=(-settings.bias, settings.bias)),
        RandGaussianNoised(_IMAGE, prob=_HALF, std=settings.noise, sample_std=True),
    ]


def _array(tensor: Any) -> npt.NDArray[Any]:
    return np.ascontiguousarray(tensor.detach().numpy()[0])
