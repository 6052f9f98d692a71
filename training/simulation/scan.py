"""Scan a subject with and without lesions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from training.simulation import tissue
from training.simulation.acquisition import (
    Acquisition,
    Sampling,
    along,
    complex_signal,
    downsample,
    shares,
    spoiled_gre_weight,
)
from training.simulation.distortion import distorted
from training.simulation.flow import shown_beside
from training.simulation.lesions import Lesion, lesion_patch
from training.simulation.subject import ARTERY_R2_STAR_PER_S, Subject, amplitude
from training.simulation.tubes import rasterize

SLAB = 16
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
        level = _level(subject, weight, window, protocol)
        before = distorted(
            complex_signal(level, r2_star, field, protocol), field, protocol, fine_mm
        )
        saved.append((window, field.clone(), r2_star.clone()))
        field += patch.field_ppm
        r2_star += lesion.r2_star_per_s * patch.fraction
        after = complex_signal(level * (1 - 0.5 * patch.fraction), r2_star, field, protocol)
        after = distorted(after, field, protocol, fine_mm)
        _add_near(with_lesions, after - before, window, sampling, lesion)
    for window, field, r2_star in reversed(saved):
        subject.field_ppm[window] = field
        subject.r2_star_per_s[window] = r2_star
    return ScanPair(without, with_lesions)


def mimic_map(subject: Subject, sampling: Sampling) -> npt.NDArray[np.uint8]:
    """What is no microbleed: 1 vessel, 2 calcification, by share of the scan's voxel."""
    vessels = subject.vein_fraction + subject.artery_fraction + subject.void_fraction
    result = (shares(vessels, sampling) > 0.15).to(torch.uint8)
    result[shares(subject.mimic_fraction, sampling) > 0.15] = 2
    return np.asarray(result.cpu().numpy())


def _scan_head(
    subject: Subject, weight: torch.Tensor, protocol: Acquisition, sampling: Sampling
) -> torch.Tensor:
    """The head without lesions, slab by slab along the phase axis so that memory stays bounded."""
    shape = list(subject.field_ppm.shape)
    moved_blood = _moved_blood(subject, weight, protocol)
    fine_mm = subject.anatomy.geometry.spacing_mm[0]
    phase_axis, readout_axis = protocol.phase_axis, 1 - protocol.phase_axis
    matrices = (sampling.x, sampling.y)
    n = shape[phase_axis]
    shape[readout_axis], shape[2] = len(matrices[readout_axis]), len(sampling.z)
    lines = torch.empty(shape, dtype=torch.complex64, device=subject.field_ppm.device)
    for start in range(0, n, SLAB):
        stop = min(start + SLAB, n)
        low, high = max(0, start - 1), min(n, stop + 1)
        window = [slice(None)] * 3
        window[phase_axis] = slice(low, high)
        at = (window[0], window[1], window[2])
        field = subject.field_ppm[at]
        level = _level(subject, weight, at, protocol)
        signal = complex_signal(level, subject.r2_star_per_s[at], field, protocol)
        if moved_blood is not None:
            blood = moved_blood[at].float()
            signal += complex_signal(
                blood, torch.full_like(blood, ARTERY_R2_STAR_PER_S), field, protocol
            )
        inner = (phase_axis, start - low, stop - start)
        signal = distorted(signal.narrow(*inner), field.narrow(*inner), protocol, fine_mm)
        measured = along(along(signal, sampling.z, 2), matrices[readout_axis], readout_axis)
        lines.narrow(phase_axis, start, stop - start).copy_(measured)
    return along(lines, matrices[phase_axis], phase_axis)


def _level(
    subject: Subject,
    weight: torch.Tensor,
    window: tuple[slice, slice, slice],
    protocol: Acquisition,
) -> torch.Tensor:
    """Signal amplitude as the protocol treats flow and fat, less the blood shown elsewhere."""
    return amplitude(
        subject,
        weight,
        window,
        artery_signal=0.0 if _blood_moves(subject, protocol) else protocol.artery_signal,
        fat_signal=protocol.fat_signal,
    )


def _moved_blood(
    subject: Subject, weight: torch.Tensor, protocol: Acquisition
) -> torch.Tensor | None:
    """Amplitude of arterial blood where it is shown, if that is not in its vessels; float16."""
    if not _blood_moves(subject, protocol):
        return None
    white = tissue.WHITE_MATTER_LABELS[0]
    level = float(subject.tissues.proton_density[white] * weight[white]) * protocol.artery_signal
    fine_mm = subject.anatomy.geometry.spacing_mm[0]
    blood = rasterize(
        shown_beside(subject.arteries, protocol), tuple(subject.field_ppm.shape), fine_mm
    )
    return torch.as_tensor(blood * np.float32(level), device=subject.field_ppm.device).half()


def _blood_moves(subject: Subject, protocol: Acquisition) -> bool:
    """Whether arterial blood is shown elsewhere; of a stored head the courses are not known."""
    return protocol.flow_delay_s > 0 and len(subject.arteries) > 0


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
