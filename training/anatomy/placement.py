"""Where the voxels of a patch lie in a head: turned, scaled, warped, perhaps mirrored."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as nnf
from torch import Tensor

from training.anatomy.contrasts import Window
from training.simulation.anatomy import random_turn

KNOT_VOXELS = 16
LARGEST_WARP_MM = 2.5
TURN_SD_DEG = 8.0
_ANYWHERE_SHARE = 0.15
_BRAIN_INSET_MM = 45.0


@dataclass(frozen=True)
class Placement:
    """``position`` (3, x, y, z) holds each patch voxel's indices in the head's part ``window``.

    ``to_head`` (4, 4) is the linear part of it: from voxels of the patch to voxels of the head.
    """

    position: Tensor
    window: Window
    is_mirrored: bool
    to_head: npt.NDArray[np.float64]


def draw_placement(
    brain_box: npt.NDArray[np.float64],
    head_shape: tuple[int, ...],
    patch_shape: tuple[int, int, int],
    spacing_mm: float,
    rng: np.random.Generator,
) -> Placement:
    """A patch of voxels of ``spacing_mm`` in a head of 1 mm voxels.

    ``brain_box`` is the lowest and the highest index of the brain, (2, 3). Most patches have their
    center well within it.
    """
    inset = np.minimum(_BRAIN_INSET_MM, (brain_box[1] - brain_box[0]) / 2)
    low, high = brain_box[0] + inset, brain_box[1] - inset
    if rng.random() < _ANYWHERE_SHARE:
        low, high = brain_box
    center = rng.uniform(low, high)
    scale = rng.uniform(0.9, 1.12) * rng.uniform(0.95, 1.05, 3)
    matrix = random_turn(rng, TURN_SD_DEG) @ np.diag(spacing_mm / scale)
    is_mirrored = bool(rng.random() < 0.5)
    if is_mirrored:
        matrix[:, 0] *= -1
    coarse_shape = [n // KNOT_VOXELS + 3 for n in patch_shape]
    warp = rng.normal(0, rng.uniform(0, LARGEST_WARP_MM), (1, 3, *coarse_shape))
    bent = nnf.interpolate(
        torch.from_numpy(warp.astype(np.float32)), size=patch_shape, mode="trilinear"
    )[0]
    axes = [torch.arange(n, dtype=torch.float32) - (n - 1) / 2 for n in patch_shape]
    linear = torch.from_numpy(matrix.astype(np.float32))
    position = bent + torch.from_numpy(center.astype(np.float32)).view(3, 1, 1, 1)
    for axis in range(3):
        shape = [1, 1, 1]
        shape[axis] = -1
        position += linear[:, axis].view(3, 1, 1, 1) * axes[axis].view(1, *shape)
    window = []
    for axis in range(3):
        first = int(position[axis].min().floor()) - 2
        last = int(position[axis].max().ceil()) + 3
        first, last = max(0, first), min(head_shape[axis], last)
        window.append(slice(min(first, last - 2), last))
        position[axis] -= window[axis].start
    to_head = np.eye(4)
    to_head[:3, :3] = matrix
    to_head[:3, 3] = center - matrix @ ((np.array(patch_shape) - 1) / 2)
    return Placement(position, (window[0], window[1], window[2]), is_mirrored, to_head)


def sample(part: Tensor, position: Tensor, mode: str) -> Tensor:
    """Values of (c, x, y, z) at indices (3, x', y', z'); beyond the edge the outermost ones."""
    size = torch.tensor(part.shape[1:], dtype=torch.float32).view(3, 1, 1, 1)
    grid = ((2 * position + 1) / size - 1).permute(1, 2, 3, 0).flip(-1)
    return nnf.grid_sample(
        part[None], grid[None], mode=mode, padding_mode="border", align_corners=False
    )[0]
