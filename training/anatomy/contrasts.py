"""The signal of a part of a head on the 1 mm grid: gradient echo, random contrast, susceptibility.

Random contrasts follow SynthSeg (Billot et al., Medical Image Analysis 86, 2023): a mean and a
standard deviation for every structure, drawn anew for every image.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as nnf
from torch import Tensor

from training.simulation.acquisition import (
    Acquisition,
    complex_signal,
    draw_acquisition,
    spoiled_gre_weight,
)
from training.simulation.anatomy import Anatomy
from training.simulation.subject import SUBJECT_MAPS, Subject, amplitude
from training.simulation.tissue import LABEL_LIMIT, LEFT_RIGHT_LABELS

Window = tuple[slice, slice, slice]
SOFT_TISSUE_LABEL = 507
LARGEST_SPREAD = 0.1
"""Standard deviation within a structure, of a range of means from 0 to 1."""


def draw_protocol(rng: np.random.Generator, spacing_mm: float) -> Acquisition:
    """A T2*-weighted or SWI protocol of the simulator, some with a short echo (T1-weighted).

    In plane as coarse as the grid that patches have; slices of 1 to 6 mm.
    """
    protocol = draw_acquisition(rng)
    thickness_mm = float(rng.uniform(1.0, 6.0 if protocol.sequence != "SWI" else 3.5))
    gap = float(rng.choice([1.0, 1.0, 1.1, 1.2]))
    protocol = replace(
        protocol,
        acquired_in_plane_mm=spacing_mm,
        in_plane_mm=spacing_mm,
        slice_thickness_mm=thickness_mm,
        slice_spacing_mm=thickness_mm * gap,
        snr=float(np.exp(rng.uniform(np.log(12), np.log(120)))),
    )
    if protocol.sequence != "SWI" and rng.random() < 0.2:
        return replace(
            protocol,
            echo_time_s=float(rng.uniform(0.002, 0.006)),
            repetition_time_s=float(rng.uniform(0.008, 0.02)),
            flip_angle_deg=float(rng.uniform(10, 30)),
        )
    return protocol


def part_of(subject: Subject, window: Window) -> Subject:
    """The head within a window, its maps in single precision."""
    anatomy = subject.anatomy
    labels = np.ascontiguousarray(anatomy.labels[window])
    cut = Anatomy(
        labels,
        anatomy.geometry,
        anatomy.brain,
        anatomy.coarse_mm,
        anatomy.depth_in_brain_mm,
        anatomy.distance_to_ventricle_mm,
    )
    return replace(
        subject,
        anatomy=cut,
        **{name: getattr(subject, name)[window].float() for name in SUBJECT_MAPS},
    )


def gradient_echo(part: Subject, protocol: Acquisition) -> Tensor:
    """Complex signal of a gradient echo, as the simulator has it."""
    weight = spoiled_gre_weight(
        part.tissues.t1_s, protocol.repetition_time_s, protocol.flip_angle_deg
    )
    everything = (slice(None), slice(None), slice(None))
    level = amplitude(part, weight, everything)
    return complex_signal(level, part.r2_star_per_s, part.field_ppm, protocol)


def random_contrast(part: Subject, rng: np.random.Generator) -> Tensor:
    """A mean and a spread for every structure, the same on both sides; soft tissue in patches."""
    labels = torch.from_numpy(part.anatomy.labels).long()
    means = rng.uniform(0, 1, LABEL_LIMIT).astype(np.float32)
    spreads = rng.uniform(0, LARGEST_SPREAD, LABEL_LIMIT).astype(np.float32)
    for left, right in LEFT_RIGHT_LABELS:
        means[right], spreads[right] = means[left], spreads[left]
    means[0], spreads[0] = (rng.uniform(0, 0.1), 0.02) if rng.random() < 0.8 else (means[0], 0.05)
    value = torch.from_numpy(means)[labels]
    field = _smooth_noise(labels.shape, float(rng.uniform(4, 20)), rng)
    steps = torch.from_numpy(rng.uniform(-0.4, 0.4, 3).astype(np.float32))
    value += steps[(field > -0.4).long() + (field > 0.4).long()] * (labels == SOFT_TISSUE_LABEL)
    if rng.random() < 0.4:
        value = torch.lerp(value, torch.full_like(value, rng.uniform(0, 1)), part.vein_fraction)
    value += torch.from_numpy(spreads)[labels] * _white_noise(labels.shape, rng)
    value += float(rng.uniform(0, 0.04)) * _smooth_noise(labels.shape, 6.0, rng)
    return value.clamp_(min=0)


def susceptibility(part: Subject, rng: np.random.Generator) -> Tensor:
    """A susceptibility map (ppm), air and bone left at 0; signed."""
    labels = torch.from_numpy(part.anatomy.labels).long()
    chi = part.tissues.chi_ppm[labels]
    chi = torch.where(chi.abs() < 1, chi, torch.zeros_like(chi))
    chi += float(rng.uniform(0.15, 0.4)) * part.vein_fraction
    chi += float(rng.uniform(0.005, 0.03)) * _white_noise(labels.shape, rng)
    chi += float(rng.uniform(0.0, 0.015)) * _smooth_noise(labels.shape, 10.0, rng)
    return chi


def _white_noise(shape: tuple[int, ...], rng: np.random.Generator) -> Tensor:
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    return torch.randn(shape, generator=generator)


def _smooth_noise(shape: tuple[int, ...], knot_mm: float, rng: np.random.Generator) -> Tensor:
    """Of about unit variance, linear between knots."""
    knots = [max(2, round(n / knot_mm)) for n in shape]
    coarse = torch.from_numpy(rng.normal(0, 1.4, knots).astype(np.float32))
    return nnf.interpolate(coarse[None, None], size=shape, mode="trilinear")[0, 0]
