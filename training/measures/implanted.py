"""Scans of the healthy head with lesions implanted, and their truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache, partial

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from CMBDetectorLib.evaluation.lesions import MarkedLesion
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.volume import Volume
from training.counting import TrueLesion, marked_lesion
from training.measures.healthy import (
    HealthyHead,
    averaged_slices,
    image_kinds,
    image_of,
    noise_sd,
    scan_name,
)
from training.measures.implants import (
    Implant,
    draw_implants,
    implanted,
    place_maps,
)
from training.measures.scans import MeasuredScan, PlannedScan, slice_class

TRUTH_MIN_DROP, TRUTH_SHARE_OF_PEAK, TRUTH_REACH_MM = 0.12, 0.4, 7.0
_SEED = 20_160_000


def plan_implanted(
    head: HealthyHead, seeds: int, min_contrast_to_noise: float
) -> list[PlannedScan]:
    """Of each seed the head with other lesions, in the same images as without them.

    What is too faint to see in an image (see :func:`implant_truth`) does not count in it.
    """
    places = place_maps(head)

    @lru_cache(maxsize=1)
    def with_lesions(seed: int) -> tuple[list[Implant], npt.NDArray[np.complex64]]:
        implants = draw_implants(head, places, np.random.default_rng(_SEED + seed))
        return implants, implanted(head, implants)

    def load(scan_id: str, seed: int, contrast: str, slices: int, kind: str) -> MeasuredScan:
        implants, signal = with_lesions(seed)
        image = image_of(signal, head.geometry, contrast, slices)
        without = image_of(head.signal, head.geometry, contrast, slices)
        brain, _ = averaged_slices(head.brain.astype(np.float32), head.geometry, slices)
        noise = noise_sd(without.array, brain > 0.999)
        lesions, truth = implant_truth(without, image, implants, noise, min_contrast_to_noise)
        attributes = {"image": kind, "slice_class": slice_class(image)}
        return MeasuredScan(scan_id, image, lesions, attributes, truth)

    planned = []
    for seed in range(seeds):
        for contrast, slices, kind in image_kinds():
            name = scan_name(f"implanted_{seed:02d}", contrast, slices)
            one = partial(load, name, seed, contrast, slices, kind)
            planned.append(PlannedScan("c", name, one))
    return planned


def implant_truth(
    without: Volume,
    with_lesions: Volume,
    implants: Sequence[Implant],
    noise: float,
    min_contrast_to_noise: float,
) -> tuple[tuple[TrueLesion, ...], Volume]:
    """What each lesion took from the image, and the label map of that.

    A voxel belongs to a lesion if it lost at least 12 % of its signal and 40 % of the largest loss
    near the lesion's center (close to half maximum), and hangs together with that: the simulator's
    rule. A lesion without such a voxel, or whose largest loss is below ``min_contrast_to_noise``
    times the noise, is there but does not count. Numbers are places in ``implants``, from 1.
    """
    grid = without.geometry
    labels = np.zeros(grid.shape, dtype=np.int16)
    loss = without.array - with_lesions.array
    share = loss / np.maximum(without.array, 0.05 * np.percentile(without.array, 99))
    lesions = []
    for number, implant in enumerate(implants, start=1):
        ijk = _loss_ijk(share, grid, implant.center_ras_mm)
        if not len(ijk):
            marked = MarkedLesion(number, implant.center_ras_mm, region=implant.place)
            lesions.append(TrueLesion(marked, counts=False))
            continue
        labels[tuple(ijk.T)] = number
        marked = replace(marked_lesion(number, ijk, grid), region=implant.place)
        visible = loss[tuple(ijk.T)].max() >= min_contrast_to_noise * noise
        lesions.append(TrueLesion(marked, counts=bool(visible)))
    return tuple(lesions), without.with_array(labels)


def _loss_ijk(
    share: npt.NDArray[np.floating], grid: Geometry, center_ras_mm: Sequence[float]
) -> npt.NDArray[np.int64]:
    """Voxels of one lesion, (n, 3), from each voxel's lost share of the signal."""
    middle = grid.ras_mm_to_ijk(center_ras_mm)
    reach = np.maximum(TRUTH_REACH_MM / np.array(grid.spacing_mm), 1.0)
    low = np.maximum(0, np.floor(middle - reach)).astype(int)
    high = np.minimum(grid.shape, np.ceil(middle + reach) + 1).astype(int)
    window = share[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    ijk = np.indices(window.shape).reshape(3, -1).T + low
    distance_mm = np.linalg.norm(grid.ijk_to_ras_mm(ijk) - np.array(center_ras_mm), axis=1)
    near = distance_mm <= max(2.5, 0.75 * max(grid.spacing_mm))
    nearby = np.where(near.reshape(window.shape), window, -np.inf)
    peak = float(nearby.max(initial=-np.inf))
    if peak < TRUTH_MIN_DROP:
        return np.zeros((0, 3), dtype=np.int64)
    regions, _ = ndimage.label(window >= max(TRUTH_MIN_DROP, TRUTH_SHARE_OF_PEAK * peak))
    at_peak = regions[np.unravel_index(int(np.argmax(nearby)), window.shape)]
    return np.asarray(np.argwhere(regions == at_peak) + low)
