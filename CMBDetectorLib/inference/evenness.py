"""Take the receive profile of coils out of an image, as far as a mean of what is about does."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as nnf
from torch import Tensor

REACH_MM = 30.0
"""Standard deviation of the mean's weights: wider than structures, narrower than profiles."""
_GRID_MM = 12.0
_DARK = 0.3
"""Of the mean: what is darker, such as air, does not count."""
_TINY = 1e-6


def evened(image: Tensor, spacing_mm: float) -> Tensor:
    """Each voxel relative to the mean of what is bright about it; 0 stays 0.

    ``image`` is (x, y, z), not negative, of isotropic voxels.
    """
    step = max(1, round(_GRID_MM / spacing_mm))
    bright = (image > _DARK * image.mean()).to(image.dtype)
    sigma = REACH_MM / (step * spacing_mm)
    level = _smooth(_sums(image * bright, step), sigma)
    share = _smooth(_sums(bright, step), sigma)
    around = nnf.interpolate(
        level / share.clamp(min=_TINY), scale_factor=step, mode="trilinear", align_corners=False
    )
    i, j, k = image.shape
    return image / around[0, 0, :i, :j, :k].clamp(min=_TINY)


def _sums(image: Tensor, step: int) -> Tensor:
    """Of ``step`` voxels along each axis, over their number, (1, 1, x, y, z)."""
    missing = [end for length in reversed(image.shape) for end in (0, -length % step)]
    return nnf.avg_pool3d(nnf.pad(image[None, None], missing), step)


def _smooth(image: Tensor, sigma: float) -> Tensor:
    """With normally distributed weights; zeros beyond the edge."""
    reach = math.ceil(3 * sigma)
    place = torch.arange(-reach, reach + 1, device=image.device, dtype=image.dtype)
    weights = torch.exp(-0.5 * (place / sigma).square())
    for axis in range(3):
        shape = [1, 1, 1, 1, 1]
        shape[2 + axis] = -1
        padding = [0, 0, 0]
        padding[axis] = reach
        image = nnf.conv3d(image, weights.view(shape), padding=padding)
    return image
