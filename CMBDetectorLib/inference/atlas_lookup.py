"""What the atlas has at places of its frame."""

from __future__ import annotations

import torch
import torch.nn.functional as nnf
from torch import Tensor

from CMBDetectorLib.anatomy.alignment import ATLAS_SPACING_MM


def look_up(maps: Tensor, place_mm: Tensor) -> Tensor:
    """Values of maps of the atlas's frame, linear between voxels, 0 beyond the outermost.

    Parameters
    ----------
    maps
        On the grid of :mod:`CMBDetectorLib.anatomy.alignment`, (n, x, y, z), floating point.
    place_mm
        (3, ...).

    Returns
    -------
    Tensor
        (n, ...).
    """
    size_mm = ATLAS_SPACING_MM * torch.tensor(maps.shape[1:], device=maps.device, dtype=maps.dtype)
    return _sampled(maps, place_mm, size_mm, is_beyond_zero=True)


def displaced(place_mm: Tensor, displacement_mm: Tensor, size_mm: Tensor) -> Tensor:
    """Places (3, ...) moved as a field says.

    Parameters
    ----------
    displacement_mm
        At knots, (3, x, y, z), the outermost on the faces of a box about the origin; linear
        between knots.
    size_mm
        Of that box, (3,).
    """
    moved = _sampled(displacement_mm, place_mm, size_mm, is_beyond_zero=False)
    return place_mm + moved


def with_background(found: Tensor) -> Tensor:
    """Probabilities (classes, ...) that add up to 1: the rest is the first class, background."""
    rest = (1 - found.sum(dim=0, keepdim=True)).clamp(min=0)
    return torch.cat([found[:1] + rest, found[1:]])


def places(shape: tuple[int, ...], to_atlas_mm: Tensor) -> Tensor:
    """Where the voxels of an image lie in the atlas's frame, (3, x, y, z)."""
    matrix = to_atlas_mm.float()
    result = matrix[:3, 3].view(3, 1, 1, 1)
    for axis in range(3):
        number = torch.arange(shape[axis], device=matrix.device, dtype=matrix.dtype)
        along = [1, 1, 1]
        along[axis] = -1
        result = result + matrix[:3, axis].view(3, 1, 1, 1) * number.view(1, *along)
    return result


def _sampled(maps: Tensor, place_mm: Tensor, size_mm: Tensor, *, is_beyond_zero: bool) -> Tensor:
    """Maps (n, x, y, z) of a box about the origin at places (3, ...)."""
    relative = 2 * place_mm.flatten(1).T / size_mm
    found = nnf.grid_sample(
        maps[None],
        relative.flip(-1)[None, None, None],
        mode="bilinear",
        padding_mode="zeros" if is_beyond_zero else "border",
        align_corners=not is_beyond_zero,
    )
    return found[0, :, 0, 0].reshape(-1, *place_mm.shape[1:])
