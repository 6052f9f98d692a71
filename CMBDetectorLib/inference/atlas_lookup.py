"""What the atlas has at places of its frame."""

from __future__ import annotations

import itertools
import operator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as nnf
from torch import Tensor

from CMBDetectorLib.anatomy.alignment import ATLAS_SPACING_MM

_CORNERS = tuple(itertools.product((0, 1), repeat=3))


@dataclass(frozen=True, eq=False)
class LookupTable:
    """Maps of the atlas's frame, arranged so that all values of a place lie together.

    A place is then a weighted sum of eight rows, ten times as fast on a CPU as sampling the maps
    one by one. ``rows`` is (voxels, n), with a border of zeros about maps of ``shape``.
    """

    rows: Tensor
    shape: tuple[int, ...]

    @classmethod
    def of(cls, maps: Tensor) -> LookupTable:
        """Of maps on the grid of :mod:`CMBDetectorLib.anatomy.alignment`, (n, x, y, z), float."""
        bordered = nnf.pad(maps, [1] * 6)
        return cls(bordered.flatten(1).T.contiguous(), tuple(maps.shape[1:]))

    def at(self, place_mm: Tensor) -> Tensor:
        """Values at places (3, ...), linear between voxels, 0 beyond the outermost: (n, ...)."""
        sizes = torch.tensor(self.shape, device=place_mm.device)[:, None]
        index = place_mm.flatten(1) / ATLAS_SPACING_MM + (sizes + 1) / 2
        index = torch.minimum(index.clamp(min=0), sizes + 1)
        found: Tensor = _Interpolation.apply(  # type: ignore[no-untyped-call]
            index, self.rows, self.shape
        )
        return found.T.reshape(-1, *place_mm.shape[1:])


class _Interpolation(torch.autograd.Function):
    """Weighted sums of rows, and how they change with the index.

    PyTorch's own gradient, by way of the weights, takes longer.
    """

    @staticmethod
    def forward(ctx: Any, index: Tensor, rows: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Of rows (voxels, n) at an index (3, places) within the border: (places, n)."""
        sizes = torch.tensor(shape, device=index.device)[:, None]
        low = torch.minimum(index.floor(), sizes)
        strides = ((shape[1] + 2) * (shape[2] + 2), shape[2] + 2, 1)
        first = sum(along.long() * stride for along, stride in zip(low, strides, strict=True))
        steps = [sum(map(operator.mul, corner, strides)) for corner in _CORNERS]
        places = torch.as_tensor(first)[:, None] + torch.tensor(steps, device=index.device)
        above = index - low
        ctx.save_for_backward(places, above, rows)
        return _summed(rows, places, torch.stack([1 - above, above], dim=1))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        """Towards the index."""
        places, above, rows = ctx.saved_tensors
        shares = torch.stack([1 - above, above], dim=1)
        result = []
        for axis in range(3):
            changes = shares.clone()
            changes[axis, 0], changes[axis, 1] = -1, 1
            result.append((_summed(rows, places, changes) * gradient).sum(dim=1))
        return torch.stack(result), None, None


def _summed(rows: Tensor, places: Tensor, shares: Tensor) -> Tensor:
    """Rows at the corners (places, 8), each times its shares along the axes, (3, 2, places)."""
    x, y, z = shares
    weights = (x[:, None, None] * y[:, None] * z).flatten(0, 2).T.to(rows.dtype)
    return nnf.embedding_bag(places, rows, per_sample_weights=weights.contiguous(), mode="sum")


def look_up(maps: Tensor, place_mm: Tensor) -> Tensor:
    """Values of maps at places, once; see :class:`LookupTable`."""
    return LookupTable.of(maps).at(place_mm)


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
    relative = 2 * place_mm.flatten(1).T / size_mm
    moved = nnf.grid_sample(
        displacement_mm[None],
        relative.flip(-1)[None, None, None],
        mode="bilinear",
        padding_mode="border",
        align_corners=True,
    )
    return place_mm + moved[0, :, 0, 0].reshape(place_mm.shape)


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
