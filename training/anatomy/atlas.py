"""The atlas: what lies where in an average of the heads that are trained on."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor

from CMBDetectorLib.anatomy.alignment import ATLAS_SHAPE, atlas_index_of_mm, fit_affine
from CMBDetectorLib.anatomy.parcellation import CLASSES, class_number
from training.anatomy.heads import StoredHead, class_of_label, side_of_label

FloatArray = npt.NDArray[np.float64]
SMOOTHING_VOXELS = 0.8
_STEP = 2
_FIRST_STRUCTURE = class_number("cerebral white matter")
_FEWEST_VOXELS = 5


@dataclass(frozen=True)
class AlignedHead:
    """A head, and how it lies in the atlas's frame.

    ``to_atlas_mm`` (4, 4) is from its voxel indices to the frame; ``displacement_mm`` what the
    atlas is bent by, see :mod:`training.anatomy.groupwise`; nowhere, unless that was sought.
    """

    head: StoredHead
    to_atlas_mm: FloatArray
    displacement_mm: Tensor = field(default_factory=lambda: torch.zeros(3, 2, 2, 2))


def build_atlas(heads: Sequence[StoredHead]) -> tuple[Tensor, list[AlignedHead]]:
    """The atlas (uint8, classes first) of heads, made symmetric, and how each lies in it.

    Heads are brought to their average by the affine map that fits the centers of their structures
    best.
    """
    centers = [_structure_centers(head) for head in heads]
    known = np.stack([np.isfinite(one).all(axis=1) for one in centers])
    middle = [one[ok].mean(axis=0) for one, ok in zip(centers, known, strict=True)]
    moved = np.stack([one - m for one, m in zip(centers, middle, strict=True)])
    with warnings.catch_warnings():
        # A structure that no head has keeps no place; no head asks for it.
        warnings.filterwarnings("ignore", "Mean of empty slice", RuntimeWarning)
        reference = _symmetric(np.nanmean(moved, axis=0))
    aligned = []
    total = np.zeros((len(CLASSES), *ATLAS_SHAPE), dtype=np.float32)
    for head, points, ok in zip(heads, centers, known, strict=True):
        weights = np.ones(int(ok.sum()))
        matrix = fit_affine(points[ok], reference[ok], weights, stiffness=0.0)
        aligned.append(AlignedHead(head, matrix))
        classes = _classes_on_atlas(head, matrix)
        for number in range(len(CLASSES)):
            total[number] += classes == number
    total += total[:, ::-1]
    total /= 2 * len(heads)
    for number in range(len(CLASSES)):
        total[number] = ndimage.gaussian_filter(total[number], SMOOTHING_VOXELS, mode="nearest")
    total /= total.sum(axis=0, keepdims=True)
    return torch.from_numpy(np.round(total * 255).astype(np.uint8)), aligned


def _structure_centers(head: StoredHead) -> FloatArray:
    """Center of each structure of the brain on either side, (2 n, 3) voxel indices, NaN if none."""
    labels = head.subject().anatomy.labels[::_STEP, ::_STEP, ::_STEP]
    classes, sides = class_of_label()[labels], side_of_label()[labels]
    rows = []
    for number in range(_FIRST_STRUCTURE, len(CLASSES)):
        for side in (0, 1):
            inside = classes == number
            if CLASSES[number].is_paired:
                inside = inside & (sides == side)
            points = np.argwhere(inside)
            few = len(points) < _FEWEST_VOXELS
            rows.append(np.full(3, np.nan) if few else points.mean(axis=0) * _STEP)
    return np.stack(rows)


def _symmetric(points_mm: FloatArray) -> FloatArray:
    """The mean with its mirror image; left and right of a structure follow each other."""
    other = points_mm.reshape(-1, 2, 3)[:, ::-1] * np.array([-1.0, 1.0, 1.0])
    return np.asarray((points_mm + other.reshape(-1, 3)) / 2)


def _classes_on_atlas(head: StoredHead, to_atlas_mm: FloatArray) -> npt.NDArray[np.uint8]:
    labels = head.subject().anatomy.labels
    back = np.linalg.inv(atlas_index_of_mm() @ to_atlas_mm)
    sampled = ndimage.affine_transform(
        np.asarray(labels), back[:3, :3], back[:3, 3], output_shape=ATLAS_SHAPE, order=0, cval=0
    )
    return np.asarray(class_of_label()[sampled])
