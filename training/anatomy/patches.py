"""Patches to train on: a head, a contrast, a scanner, and what each voxel is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from CMBDetectorLib.anatomy.parcellation import class_number
from CMBDetectorLib.preprocessing.anatomy_input import scale_intensities
from training.anatomy.atlas import AlignedHead
from training.anatomy.contrasts import (
    draw_protocol,
    gradient_echo,
    part_of,
    random_contrast,
    susceptibility,
)
from training.anatomy.groupwise import mirrored
from training.anatomy.heads import StoredHead, class_of_label, side_of_label
from training.anatomy.misalignment import Misalignment
from training.anatomy.placement import Placement, draw_placement, sample
from training.anatomy.scanner import cut, scan, stripped_to
from training.simulation.acquisition import Acquisition
from training.simulation.anatomy import brain_labels
from training.simulation.subject import Subject

FIRST_BRAIN_CLASS = class_number("cerebral white matter")
_GRADIENT_ECHO_SHARE, _SUSCEPTIBILITY_SHARE = 0.6, 0.06
_BENT_SHARES = (0.4, 1.0)
_STRIPPED_SHARE, _CUT_SHARE, _ZEROED_SHARE = 0.35, 0.2, 0.3
_SLICE_AXES = (0.12, 0.13, 0.75)
_SHAPE_CHANGES = ((0, 0, 0), (16, 16, -32), (-16, 16, 0), (0, 16, -16), (16, -16, 0))
_COARSE_MM = 2.0
"""From this spacing on, a head's maps are taken at every other voxel: an eighth of the work."""


@dataclass(frozen=True)
class Patch:
    """``image`` float32 0 to 1; ``classes`` uint8; ``right`` int8: 1, 0, or -1 for neither side.

    ``to_atlas_mm`` (4, 4), float32, is from its voxels to the atlas's frame, ``displacement_mm``
    (3, x, y, z) what the atlas is bent by; both are a little wrong.
    """

    image: Tensor
    classes: Tensor
    right: Tensor
    to_atlas_mm: Tensor
    displacement_mm: Tensor


def numbered_patch(
    heads: Sequence[AlignedHead],
    number: int,
    *,
    size_voxels: int,
    spacing_mm: float,
    misalignment: Misalignment,
    seed: int,
) -> Patch:
    """Patch ``number`` of a training; the same for the same seed, whatever came before it.

    Of about ``size_voxels`` to the power of three voxels, each side a multiple of 16.
    """
    rng = np.random.default_rng((seed, number))
    head = heads[int(rng.integers(len(heads)))]
    changes = _SHAPE_CHANGES[int(rng.integers(len(_SHAPE_CHANGES)))]
    x, y, z = (max(16, size_voxels + change) for change in changes)
    return draw_patch(head, (x, y, z), spacing_mm, misalignment, rng)


def draw_patch(
    aligned: AlignedHead,
    shape: tuple[int, int, int],
    spacing_mm: float,
    misalignment: Misalignment,
    rng: np.random.Generator,
) -> Patch:
    """One patch of ``shape`` voxels of ``spacing_mm`` from a head of 1 mm voxels."""
    step = 2 if spacing_mm > _COARSE_MM else 1
    subject = aligned.head.subject(step)
    placement = draw_placement(
        _brain_box(aligned.head) / step, subject.anatomy.labels.shape, shape, spacing_mm / step, rng
    )
    part = part_of(subject, placement.window)
    classes, right = _truth(part, placement)
    brain = classes >= FIRST_BRAIN_CLASS
    protocol = draw_protocol(rng, spacing_mm)
    signal, is_signed = _signal(part, protocol, rng)
    channels = torch.stack([signal.real, signal.imag]) if signal.is_complex() else signal[None]
    on_patch = sample(channels, placement.position, "bilinear")
    image = scan(
        torch.complex(on_patch[0], on_patch[1]) if signal.is_complex() else on_patch[0],
        brain,
        protocol,
        slice_axis=int(rng.choice(3, p=_SLICE_AXES)),
        spacing_mm=spacing_mm,
        rng=rng,
    )
    image, classes = _left_out(image, classes, brain, is_signed=is_signed, rng=rng)
    scaled = torch.from_numpy(scale_intensities(image.numpy()))
    if not is_signed and rng.random() < 0.5:
        scaled = scaled ** float(np.exp(rng.normal(0, 0.25)))
    right = torch.where(classes >= FIRST_BRAIN_CLASS, right, torch.full_like(right, -1))
    to_atlas = aligned.to_atlas_mm @ np.diag([step, step, step, 1.0]) @ placement.to_head
    if placement.is_mirrored:
        to_atlas = np.diag([-1.0, 1.0, 1.0, 1.0]) @ to_atlas
    to_atlas = misalignment.draw(rng) @ to_atlas
    bent = _bent(aligned, rng, is_mirrored=placement.is_mirrored)
    return Patch(scaled, classes, right, torch.from_numpy(to_atlas.astype(np.float32)), bent)


def _bent(aligned: AlignedHead, rng: np.random.Generator, *, is_mirrored: bool) -> Tensor:
    """What the atlas is bent by: as where it is used, not all of what the head asks for."""
    field = aligned.displacement_mm * float(rng.uniform(*_BENT_SHARES))
    return mirrored(field) if is_mirrored else field


def _signal(part: Subject, protocol: Acquisition, rng: np.random.Generator) -> tuple[Tensor, bool]:
    """A contrast, and whether it is signed."""
    choice = rng.random()
    if choice < _GRADIENT_ECHO_SHARE:
        return gradient_echo(part, protocol), False
    if choice < _GRADIENT_ECHO_SHARE + _SUSCEPTIBILITY_SHARE:
        return susceptibility(part, rng), True
    return random_contrast(part, rng), False


def _truth(part: Subject, placement: Placement) -> tuple[Tensor, Tensor]:
    """Classes and sides at the voxels of the patch, from the nearest voxels of the head."""
    labels = part.anatomy.labels
    both = np.stack([class_of_label()[labels], side_of_label()[labels]]).astype(np.float32)
    nearest = sample(torch.from_numpy(both), placement.position, "nearest")
    classes, right = nearest[0].to(torch.uint8), nearest[1].to(torch.int8)
    if placement.is_mirrored:
        right = torch.where(right >= 0, 1 - right, right)
    return classes, right


def _left_out(
    image: Tensor, classes: Tensor, brain: Tensor, *, is_signed: bool, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Without scalp, background or a part of the field of view; what is left out is background."""
    kept = torch.ones_like(brain)
    if is_signed or rng.random() < _STRIPPED_SHARE:
        kept = stripped_to(brain, rng)
    elif rng.random() < _ZEROED_SHARE:
        image = torch.where(classes > 0, image, torch.zeros_like(image))
    if rng.random() < _CUT_SHARE:
        kept &= torch.from_numpy(cut(tuple(image.shape), rng))
    image = torch.where(kept, image, torch.zeros_like(image))
    return image, torch.where(kept, classes, torch.zeros_like(classes))


@lru_cache(maxsize=256)
def _brain_box(head: StoredHead) -> npt.NDArray[np.float64]:
    inside = np.argwhere(brain_labels(head.subject().anatomy.labels[::2, ::2, ::2]))
    return np.stack([inside.min(axis=0), inside.max(axis=0)]).astype(float) * 2
