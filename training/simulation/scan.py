"""Scan a subject with and without lesions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from training.simulation.acquisition import (
    Acquisition,
    Sampling,
    complex_signal,
    downsample,
    spoiled_gre_weight,
)
from training.simulation.lesions import Lesion, lesion_patch
from training.simulation.subject import Subject, amplitude

SLAB = 48
NEAR_MM = 14.0


@dataclass(frozen=True)
class ScanPair:
    """Complex noise-free scans (x, y, z) of the same head, without and with its lesions."""

    without_lesions: torch.Tensor
    with_lesions: torch.Tensor


def scan_pair(
    subject: Subject, lesions: list[Lesion], protocol: Acquisition, sampling: Sampling
) -> ScanPair:
    """The head as scanned, then each lesion's difference added where it changes the signal.

    The subject's maps are changed lesion by lesion and put back before returning.
    """
    weight = spoiled_gre_weight(
        subject.tissues.t1_s, protocol.repetition_time_s, protocol.flip_angle_deg
    )
    without = _scan_head(subject, weight, protocol, sampling)
    with_lesions = without.clone()
    b0 = torch.as_tensor(subject.b0_direction, dtype=torch.float32, device=without.device)
    fine_mm = subject.anatomy.geometry.spacing_mm[0]
    saved: list[tuple[tuple[slice, slice, slice], torch.Tensor, torch.Tensor]] = []
    for lesion in lesions:
        patch = lesion_patch(lesion, tuple(subject.field_ppm.shape), fine_mm, b0)
        window = patch.window
        field, r2_star = subject.field_ppm[window], subject.r2_star_per_s[window]
        level = amplitude(subject, weight, window)
        before = complex_signal(level, r2_star, field, protocol)
        saved.append((window, field.clone(), r2_star.clone()))
        field += patch.field_ppm
        r2_star += lesion.r2_star_per_s * patch.fraction
        after = complex_signal(level * (1 - 0.5 * patch.fraction), r2_star, field, protocol)
        _add_near(with_lesions, after - before, window, sampling, lesion)
    for window, field, r2_star in reversed(saved):
        subject.field_ppm[window] = field
        subject.r2_star_per_s[window] = r2_star
    return ScanPair(without, with_lesions)


def vein_map(subject: Subject, sampling: Sampling) -> npt.NDArray[np.uint8]:
    """Mimics on the scan's grid: 1 vein, 2 calcification, by share of the voxel."""
    veins = downsample(subject.vein_fraction, sampling.x, sampling.y, sampling.z)
    stones = downsample(subject.calcification_fraction, sampling.x, sampling.y, sampling.z)
    result = (veins > 0.15).to(torch.uint8)
    result[stones > 0.15] = 2
    return result.cpu().numpy()


def _scan_head(
    subject: Subject, weight: torch.Tensor, protocol: Acquisition, sampling: Sampling
) -> torch.Tensor:
    """The head without lesions, slab by slab so that memory stays bounded."""
    result = torch.zeros(sampling.shape, dtype=torch.complex64, device=subject.field_ppm.device)
    n = subject.field_ppm.shape[2]
    everything = slice(None)
    for start in range(0, n, SLAB):
        stop = min(start + SLAB, n)
        low, high = max(0, start - 1), min(n, stop + 1)
        window = (everything, everything, slice(low, high))
        level = amplitude(subject, weight, window)
        signal = complex_signal(
            level, subject.r2_star_per_s[window], subject.field_ppm[window], protocol
        )
        inner = signal[:, :, start - low : start - low + stop - start]
        touched = sampling.z[:, start:stop].abs().amax(dim=1).nonzero()[:, 0]
        if len(touched) == 0:
            continue
        first, last = int(touched[0]), int(touched[-1]) + 1
        result[:, :, first:last] += downsample(
            inner, sampling.x, sampling.y, sampling.z[first:last, start:stop]
        )
    return result


def _add_near(
    scan: torch.Tensor,
    difference: torch.Tensor,
    window: tuple[slice, slice, slice],
    sampling: Sampling,
    lesion: Lesion,
) -> None:
    """Sample a local change of the fine signal into the scan, around the lesion only."""
    matrices, target = [], []
    for axis, matrix in enumerate((sampling.x, sampling.y, sampling.z)):
        spacing = sampling.spacing_mm[axis]
        middle = (lesion.center_mm[axis] - sampling.first_center_mm[axis]) / spacing
        reach = NEAR_MM / spacing
        low = max(0, int(middle - reach))
        high = min(matrix.shape[0], int(middle + reach) + 2)
        if high <= low:
            return
        matrices.append(matrix[low:high, window[axis]])
        target.append(slice(low, high))
    scan[target[0], target[1], target[2]] += downsample(difference, *matrices)
