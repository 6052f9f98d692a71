"""Batches of patches from prepared cases; batch number n is always the same."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from CMBDetectorLib.errors import InputError, UsageError
from training.augmentation import Augmentation
from training.prepared_case import IndexArray, read_image_and_labels, read_prepared
from training.settings import AugmentationSettings, SamplingSettings

FloatPatch = npt.NDArray[np.float32]
LabelPatch = npt.NDArray[np.uint8]
Made = TypeVar("Made")

_STORED_KINDS = ("lesion", "vein", "mimic", "brain")
_KINDS = (*_STORED_KINDS, "hard")


@dataclass(frozen=True)
class Batch:
    """Patches, shape (batch, i, j, k): normalised intensities and the bit field of labels."""

    images: FloatPatch
    labels: LabelPatch


@dataclass(frozen=True)
class _Entry:
    """Places of one kind in one case."""

    folder: Path
    points: IndexArray


class PatchSampler:
    """Draws patches about lesions, mimics and hard negatives, and anywhere in the brain.

    Parameters
    ----------
    folders
        Prepared cases; each is as likely as another.
    settings, augmentation
        From the configuration; no augmentation and no flips if None.
    clip
        Range of intensities after augmentation.
    seed
        Together with the number of a patch it determines every voxel of it.
    part, n_parts
        Which part of each batch this process draws; the parts of all processes are the batch.

    Raises
    ------
    InputError
        If no case has a lesion, or a case cannot be read.
    UsageError
        If the batch cannot be divided among the processes.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        settings: SamplingSettings,
        augmentation: AugmentationSettings | None,
        clip: tuple[float, float],
        seed: Sequence[int],
        *,
        part: int = 0,
        n_parts: int = 1,
    ) -> None:
        if settings.batch_size % n_parts:
            raise UsageError(
                f"sampling.batch_size {settings.batch_size} is not a multiple of the {n_parts} "
                "processes; change one of them"
            )
        self._settings = settings
        self._augment = None if augmentation is None else Augmentation(augmentation, clip)
        self._seed = tuple(seed)
        self._n_own = settings.batch_size // n_parts
        self._first = part * self._n_own
        self._folders = tuple(folders)
        self._by_kind: dict[str, list[_Entry]] = {kind: [] for kind in _KINDS}
        for folder in folders:
            prepared = read_prepared(folder)
            for kind in _STORED_KINDS:
                points = np.array(getattr(prepared, f"{kind}_points"))
                if len(points) > 0:
                    self._by_kind[kind].append(_Entry(folder, points))
        if not self._by_kind["lesion"]:
            raise InputError(
                f"none of the {len(folders)} prepared cases has a lesion to learn from; "
                "prepare more cases or lower data.min_contrast_to_noise"
            )

    def set_hard_negatives(self, points: npt.NDArray[np.integer[Any]]) -> None:
        """Take these instead: rows of the case's number in ``folders`` and its voxel (i, j, k).

        Each place is as likely as another, not each case: scans with much to mistake teach more.
        """
        self._by_kind["hard"] = [
            _Entry(self._folders[place[0]], place[None, 1:].astype(np.int16)) for place in points
        ]

    def batch(self, number: int) -> Batch:
        """This process's part of the batch of this number."""
        first = number * self._settings.batch_size + self._first
        patches = [self._patch(first + n) for n in range(self._n_own)]
        return Batch(
            images=np.stack([image for image, _ in patches]),
            labels=np.stack([labels for _, labels in patches]),
        )

    def _patch(self, number: int) -> tuple[FloatPatch, LabelPatch]:
        rng = np.random.default_rng((*self._seed, number))
        entries = self._by_kind[self._kind(rng)]
        entry = entries[rng.integers(len(entries))]
        center = entry.points[rng.integers(len(entry.points))].astype(np.int64)
        shape = np.array(self._settings.patch_shape)
        reach = self._settings.jitter * shape / 2
        start = center - shape // 2 + np.round(rng.uniform(-reach, reach)).astype(np.int64)

        stored_image, stored_labels = read_image_and_labels(entry.folder)
        image = _cut(stored_image, start, shape).astype(np.float32)
        labels = _cut(stored_labels, start, shape)
        if self._augment is not None:
            image, labels = self._augment(image, labels, rng)
        return np.ascontiguousarray(image), np.ascontiguousarray(labels)

    def _kind(self, rng: np.random.Generator) -> str:
        settings, draw = self._settings, rng.random()
        kind = "brain"
        if draw < settings.lesion_share:
            kind = "lesion"
        elif draw < settings.lesion_share + settings.mimic_share:
            kind = "vein" if rng.random() < 0.5 else "mimic"
        elif draw < settings.lesion_share + settings.mimic_share + settings.hard_negative_share:
            kind = "hard"
        return kind if self._by_kind[kind] else "brain"


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
