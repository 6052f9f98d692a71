"""Batches of patches from prepared cases; batch number n is always the same."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from CMBDetectorLib.errors import InputError
from training.configuration import AugmentationSettings, SamplingSettings
from training.prepare import IndexArray, read_prepared

FloatPatch = npt.NDArray[np.float32]
LabelPatch = npt.NDArray[np.uint8]
Made = TypeVar("Made")


@dataclass(frozen=True)
class Batch:
    """Patches, shape (batch, i, j, k): normalised intensities and the bit field of labels."""

    images: FloatPatch
    labels: LabelPatch


@dataclass(frozen=True)
class _Entry:
    folder: Path
    points: dict[str, IndexArray]


class PatchSampler:
    """Draws patches about lesions, about mimics, and anywhere in the brain.

    Parameters
    ----------
    folders
        Prepared cases; each is as likely as another.
    settings, augmentation
        From the configuration; no augmentation and no flips if None.
    clip
        Range of intensities after augmentation.
    seed
        Together with the number of a batch it determines every voxel of it.

    Raises
    ------
    InputError
        If no case has a lesion.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        settings: SamplingSettings,
        augmentation: AugmentationSettings | None,
        clip: tuple[float, float],
        seed: Sequence[int],
    ) -> None:
        self._settings = settings
        self._augmentation = augmentation
        self._clip = clip
        self._seed = tuple(seed)
        self._by_kind: dict[str, list[_Entry]] = {
            "lesion": [],
            "vein": [],
            "mimic": [],
            "brain": [],
        }
        for folder in folders:
            prepared = read_prepared(folder)
            points = {kind: np.array(getattr(prepared, f"{kind}_points")) for kind in self._by_kind}
            entry = _Entry(folder, points)
            for kind, entries in self._by_kind.items():
                if len(points[kind]) > 0:
                    entries.append(entry)
        if not self._by_kind["lesion"]:
            raise InputError(
                f"none of the {len(folders)} prepared cases has a lesion to learn from; "
                "prepare more cases or lower data.min_contrast_to_noise"
            )

    def batch(self, number: int) -> Batch:
        """The batch of this number."""
        rng = np.random.default_rng((*self._seed, number))
        patches = [self._patch(rng) for _ in range(self._settings.batch_size)]
        return Batch(
            images=np.stack([image for image, _ in patches]),
            labels=np.stack([labels for _, labels in patches]),
        )

    def _patch(self, rng: np.random.Generator) -> tuple[FloatPatch, LabelPatch]:
        kind = self._kind(rng)
        entries = self._by_kind[kind]
        entry = entries[rng.integers(len(entries))]
        points = entry.points[kind]
        center = points[rng.integers(len(points))].astype(np.int64)
        shape = np.array(self._settings.patch_shape)
        reach = self._settings.jitter * shape / 2
        start = center - shape // 2 + np.round(rng.uniform(-reach, reach)).astype(np.int64)

        prepared = read_prepared(entry.folder)
        image = _cut(prepared.image, start, shape).astype(np.float32)
        labels = _cut(prepared.labels, start, shape)
        if self._augmentation is not None:
            image, labels = _turned(image, labels, rng)
            image = _augmented(image, self._augmentation, self._clip, rng)
        return np.ascontiguousarray(image), np.ascontiguousarray(labels)

    def _kind(self, rng: np.random.Generator) -> str:
        draw = rng.random()
        if draw < self._settings.lesion_share:
            return "lesion"
        if draw < self._settings.lesion_share + self._settings.mimic_share:
            kind = "vein" if rng.random() < 0.5 else "mimic"
            return kind if self._by_kind[kind] else "brain"
        return "brain"


def prefetched(
    make: Callable[[int], Made], first: int, ahead: int = 3
) -> Generator[Made, None, None]:
    """``make(first)``, ``make(first + 1)`` and so on without end, made ahead in one thread."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        waiting: list[Future[Made]] = [pool.submit(make, first + n) for n in range(ahead)]
        try:
            number = first + ahead
            while True:
                batch = waiting.pop(0).result()
                waiting.append(pool.submit(make, number))
                number += 1
                yield batch
        finally:
            for future in waiting:
                future.cancel()


def _cut(
    array: npt.NDArray[Any], start: npt.NDArray[np.int64], shape: npt.NDArray[np.int64]
) -> npt.NDArray[Any]:
    """A patch, moved into the array where it fits; zeros beyond the array where it does not."""
    n_voxels = np.array(array.shape)
    moved = np.where(n_voxels >= shape, np.clip(start, 0, np.maximum(0, n_voxels - shape)), start)
    low, high = np.maximum(0, moved), np.minimum(n_voxels, moved + shape)
    patch = np.zeros(shape, dtype=array.dtype)
    inside = tuple(slice(a, b) for a, b in zip(low - moved, high - moved, strict=True))
    patch[inside] = array[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    return patch


def _turned(
    image: FloatPatch, labels: LabelPatch, rng: np.random.Generator
) -> tuple[FloatPatch, LabelPatch]:
    """Flipped along each axis, and transposed in plane, each half of the time."""
    flips = tuple(axis for axis in range(3) if rng.random() < 0.5)
    image, labels = np.flip(image, flips), np.flip(labels, flips)
    if rng.random() < 0.5:
        image, labels = image.swapaxes(0, 1), labels.swapaxes(0, 1)
    return image, labels


def _augmented(
    image: FloatPatch,
    settings: AugmentationSettings,
    clip: tuple[float, float],
    rng: np.random.Generator,
) -> FloatPatch:
    """Mild changes of intensity; voxels that are exactly 0 (no signal, padding) stay 0."""
    empty = image == 0
    if rng.random() < settings.blur_share:
        sigma = rng.uniform(0, settings.blur_voxels)
        image = ndimage.gaussian_filter(image, (sigma, sigma, 0), truncate=3)
    image = image ** np.float32(rng.uniform(*settings.gamma))
    image *= np.float32(rng.uniform(*settings.gain)) * _bias_field(image.shape, settings.bias, rng)
    deviation = np.float32(rng.uniform(0, settings.noise))
    image += deviation * rng.standard_normal(image.shape, dtype=np.float32)
    np.abs(image, out=image)
    np.clip(image, *clip, out=image)
    image[empty] = 0
    return image


def _bias_field(
    shape: tuple[int, ...], largest: float, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """A smooth factor around 1: the exponential of a random polynomial of order 2."""
    x, y, z = np.meshgrid(
        *[np.linspace(-1, 1, n, dtype=np.float32) for n in shape], indexing="ij", sparse=True
    )
    c = rng.uniform(-largest, largest, 9).astype(np.float32)
    first = c[0] * x + c[1] * y + c[2] * z
    second = c[3] * x * y + c[4] * x * z + c[5] * y * z
    squares = c[6] * (x * x - 0.5) + c[7] * (y * y - 0.5) + c[8] * (z * z - 0.5)
    return np.asarray(np.exp(first + second + squares), dtype=np.float32)
