"""Bend the atlas to the head in an image, by the likelihood of its intensities.

An affine map leaves structures some millimeters off, since no head has the proportions of the
average. The atlas is displaced at knots such that what it expects explains the intensities best,
smoothly (as in Ashburner and Friston, NeuroImage 26, 2005, and Puonti et al., NeuroImage 143,
2016). Nothing is trained, and nothing known of the contrast.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as nnf
from torch import Tensor

from CMBDetectorLib.anatomy.alignment import ATLAS_SHAPE, ATLAS_SPACING_MM
from CMBDetectorLib.anatomy.parcellation import class_number
from CMBDetectorLib.inference.atlas_lookup import (
    LookupTable,
    displaced,
    look_up,
    with_background,
)
from CMBDetectorLib.inference.likelihood import log_likelihoods
from CMBDetectorLib.inference.stripped import closed_brain, log_agreement

FRAME_MM = torch.tensor([ATLAS_SPACING_MM * n for n in ATLAS_SHAPE])
"""Size of the box that displacements are given for, centered on the frame's origin."""
Levels = Sequence[tuple[float, int]]
"""Distance of the knots in mm, and steps; coarse ones first."""
LikelihoodOf = Callable[[Tensor], Tensor]
"""From what is expected of the cells, (classes, cells), to how well each class explains what was
found in their voxels, (classes, voxels, cells)."""
_LEVELS: Levels = ((24.0, 10), (12.0, 15))
_STEPS_PER_CONTRAST = 5
"""So often what is bright is looked up anew."""
_STEP_MM = 1.0
_STIFFNESS = 10.0
_FLOOR = 1e-3
_OUTLINE = 0.5
"""What the edge of a skull-stripped brain counts beside the intensities."""
_LARGEST_SAMPLE = 30_000
_FIRST_INSIDE = class_number("cerebrospinal fluid")
_NEAR_VOXELS, _NEAR = 7, 0.02


def bend_atlas(bins: Tensor, place_mm: Tensor, atlas: Tensor, seen: Tensor | None = None) -> Tensor:
    """Displacement in mm at knots of the box ``FRAME_MM``, (3, x, y, z).

    Parameters
    ----------
    bins
        Of some voxels of cells of the image, see
        :func:`~CMBDetectorLib.inference.likelihood.intensity_bins`, (voxels, cells). Those that
        the atlas has in the brain or close to it count; of more than 30,000 every n-th.
    place_mm
        Where the cells lie in the atlas's frame, (3, cells).
    atlas
        Probability of each class, (classes, x, y, z), float32.
    seen
        Of an image with nothing but the brain: share of each cell that is not exactly 0, (cells,).
        The edge of the atlas's brain is drawn to the image's.
    """
    chosen = cells_near_brain(place_mm, atlas, _LARGEST_SAMPLE)
    bins = bins[:, chosen]
    if seen is not None:
        seen = seen[chosen]

    def likelihood_of(expected: Tensor) -> Tensor:
        return log_likelihoods(bins, expected)[0].exp()[:, bins]

    return fit_displacement(place_mm[:, chosen], atlas, likelihood_of, _LEVELS, seen)


def cells_near_brain(place_mm: Tensor, atlas: Tensor, largest: int) -> Tensor:
    """Numbers of the cells in the brain or close to it, of more than ``largest`` every n-th."""
    near = (look_up(_near_brain(atlas), place_mm)[0] > _NEAR).nonzero()[:, 0]
    return near[:: 1 + len(near) // largest]


def fit_displacement(
    place_mm: Tensor,
    atlas: Tensor,
    likelihood_of: LikelihoodOf,
    levels: Levels,
    seen: Tensor | None = None,
) -> Tensor:
    """The smooth displacement under which the atlas explains best what was found.

    Parameters
    ----------
    place_mm
        Where cells lie in the atlas's frame, (3, cells).
    seen
        See :func:`bend_atlas`.

    Returns
    -------
    Tensor
        In mm, at knots of the box ``FRAME_MM``, (3, x, y, z).
    """
    frame_mm = FRAME_MM.to(atlas.device)
    field = torch.zeros(1, 3, *_knots(levels[0][0]), device=atlas.device)
    if not place_mm.numel():
        return field[0]
    table = LookupTable.of(atlas)
    brain = None if seen is None else LookupTable.of(closed_brain(atlas))
    with torch.enable_grad():
        for distance_mm, n_steps in levels:
            size = _knots(distance_mm)
            field = nnf.interpolate(field, size=size, mode="trilinear", align_corners=True)
            field = field.detach()
            field.requires_grad = True
            optimizer = torch.optim.Adam([field], lr=_STEP_MM, betas=(0.8, 0.95))
            for number in range(n_steps):
                moved_mm = displaced(place_mm, field[0], frame_mm)
                expected = with_background(table.at(moved_mm))
                if number % _STEPS_PER_CONTRAST == 0:
                    with torch.no_grad():
                        likelihood = likelihood_of(expected)
                explained = (expected[:, None] * likelihood).sum(dim=0)
                score = (explained + _FLOOR).log().mean() - _STIFFNESS * _strain(field, distance_mm)
                if brain is not None and seen is not None:
                    score = score + _OUTLINE * log_agreement(brain.at(moved_mm)[0], seen)
                optimizer.param_groups[0]["lr"] = _STEP_MM * (1.1 - number / n_steps)
                optimizer.zero_grad()
                (-score).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
    return field.detach()[0]


def _near_brain(atlas: Tensor) -> Tensor:
    """More than 0 in the brain and some 12 mm about it, (1, x, y, z)."""
    inside = atlas[_FIRST_INSIDE:].sum(dim=0, keepdim=True)
    return nnf.avg_pool3d(inside, _NEAR_VOXELS, stride=1, padding=_NEAR_VOXELS // 2)


def _knots(distance_mm: float) -> tuple[int, ...]:
    return tuple(math.ceil(n * ATLAS_SPACING_MM / distance_mm) + 1 for n in ATLAS_SHAPE)


def _strain(field: Tensor, distance_mm: float) -> Tensor:
    """Mean square change of the displacement per mm, summed over axes."""
    total = torch.zeros((), device=field.device)
    for axis in (2, 3, 4):
        total = total + (field.diff(dim=axis) / distance_mm).square().mean()
    return total
