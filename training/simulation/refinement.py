"""Head label maps at twice their resolution, with smooth borders."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as nnf
from scipy import ndimage

from training.simulation.tissue import OUTER_CSF_LABEL

Int16Array = npt.NDArray[np.int16]
FACTOR = 2
_SOFTENING = (0.1, 0.8, 0.1)
"""Kernel along each axis: rounds the steps of the voxels, and keeps sheets one voxel thick."""
_FLUID_FAVOR = 1.15
"""Factor of the share of outer CSF, whose sheets in the sulci would else be cut into pieces."""
_MARGIN = 2
_SLAB = 64


def refine_labels(labels: Int16Array, device: torch.device | None = None) -> Int16Array:
    """Labels on half the spacing over the same field of view, shape doubled along each axis.

    Every label's share of a voxel is softened and interpolated linearly, and the label with the
    largest share wins, as in the resampling of segmentations by ITK's
    ``LabelImageGaussianInterpolateImageFunction``.
    """
    device = device or torch.device("cpu")
    boxes: list[tuple[slice, ...] | None] = list(ndimage.find_objects(labels.astype(np.int32) + 1))
    result = np.empty([FACTOR * n for n in labels.shape], dtype=np.int16)
    # in slabs along x, so that the shares of the whole head are never in memory at once
    for start in range(0, labels.shape[0], _SLAB):
        stop = min(start + _SLAB, labels.shape[0])
        result[FACTOR * start : FACTOR * stop] = _refine_slab(labels, boxes, start, stop, device)
    return result


def _refine_slab(
    labels: Int16Array,
    boxes: list[tuple[slice, ...] | None],
    start: int,
    stop: int,
    device: torch.device,
) -> Int16Array:
    shape = [FACTOR * n for n in (stop - start, *labels.shape[1:])]
    largest = torch.full(shape, -1.0, device=device)
    winner = torch.zeros(shape, dtype=torch.int16, device=device)
    for value, box in enumerate(boxes):
        if box is None or box[0].start >= stop + _MARGIN or box[0].stop <= start - _MARGIN:
            continue
        low = [max(0, axis.start - _MARGIN) for axis in box]
        high = [min(n, axis.stop + _MARGIN) for axis, n in zip(box, labels.shape, strict=True)]
        # what is asked for, and a margin around it that the kernels look at
        first, last = max(low[0], start), min(high[0], stop)
        low[0], high[0] = max(low[0], start - _MARGIN), min(high[0], stop + _MARGIN)
        cut = labels[low[0] : high[0], low[1] : high[1], low[2] : high[2]] == value
        share = nnf.interpolate(
            _softened(torch.as_tensor(cut, device=device).float())[None, None],
            scale_factor=FACTOR,
            mode="trilinear",
        )[0, 0]
        share = share[FACTOR * (first - low[0]) : FACTOR * (last - low[0])]
        if value == OUTER_CSF_LABEL:
            share = share * _FLUID_FAVOR
        window = (
            slice(FACTOR * (first - start), FACTOR * (last - start)),
            slice(FACTOR * low[1], FACTOR * high[1]),
            slice(FACTOR * low[2], FACTOR * high[2]),
        )
        more = share > largest[window]
        largest[window] = torch.where(more, share, largest[window])
        winner[window] = torch.where(more, torch.tensor(value, dtype=torch.int16), winner[window])
    return np.asarray(winner.cpu().numpy())


def _softened(share: torch.Tensor) -> torch.Tensor:
    side, middle = _SOFTENING[0], _SOFTENING[1]
    for axis in range(3):
        n = share.shape[axis]
        before = torch.cat([share.narrow(axis, 0, 1), share.narrow(axis, 0, n - 1)], axis)
        after = torch.cat([share.narrow(axis, 1, n - 1), share.narrow(axis, n - 1, 1)], axis)
        share = side * (before + after) + middle * share
    return share
