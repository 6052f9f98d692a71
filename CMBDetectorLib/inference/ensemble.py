"""The mean probability of an ensemble of networks over the tiles of an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from CMBDetectorLib.errors import DeviceError
from CMBDetectorLib.inference.backends import Network, input_dtype, on_backend
from CMBDetectorLib.inference.candidate_classifier import load_classifiers
from CMBDetectorLib.inference.device import ComputeDevice, is_out_of_memory
from CMBDetectorLib.inference.second_stage import judge_candidates
from CMBDetectorLib.inference.tiles import (
    BoolArray,
    FloatArray,
    Shape,
    Tile,
    add_tile,
    cut_tile,
    importance_map,
    plan_tiles,
)
from CMBDetectorLib.models.bundle import ModelBundle
from CMBDetectorLib.models.networks import load_members
from CMBDetectorLib.models.strides import total_strides
from CMBDetectorLib.progress import StageReporter
from CMBDetectorLib.results import ResultWarning
from CMBDetectorLib.settings import TilingSettings
from CMBDetectorLib.volume import Volume

# Tiles are halved in multiples of this, which every network's strides divide.
TILE_UNIT = 16
MIN_TILE_LENGTH = 32


@dataclass(frozen=True)
class Prediction:
    """What the networks say about an image.

    ``probability`` is float32 on the image's grid and 0 outside the mask. ``statistics`` holds
    plain values for the record of the run: tiles, their shape, batch size, members.
    """

    probability: Volume
    warnings: tuple[ResultWarning, ...]
    statistics: dict[str, Any]


def predict(
    image: Volume,
    mask: Volume,
    bundle: ModelBundle,
    compute: ComputeDevice,
    reporter: StageReporter,
) -> Prediction:
    """Probability of a microbleed in each voxel of the mask, after the second stage if any.

    Parameters
    ----------
    image
        Prepared image on the model's grid, float32, slices along the last axis.
    mask
        Bool, same grid; only tiles that hold some of it are computed.

    Raises
    ------
    ModelError
        If the weights do not fit the network.
    DeviceError
        If memory does not suffice for the smallest tile, or the result is not finite.
    Cancelled
        On request, between two runs of a network on a batch of tiles.
    """
    try:
        members = load_members(bundle, compute.device)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise DeviceError(
            f"{compute.name}: not enough memory to load the model; free some or use another device"
        ) from error
    prediction = run_ensemble(
        image,
        mask,
        members,
        tiling=bundle.tiling,
        channel=bundle.probability_channel,
        compute=compute,
        reporter=reporter,
        strides=total_strides(bundle.network_def),
    )
    if bundle.second_stage is None:
        return prediction
    judged = judge_candidates(
        image,
        prediction.probability,
        load_classifiers(bundle, compute.device),
        bundle.second_stage,
        device=compute.device,
        reporter=reporter,
    )
    statistics = prediction.statistics | {"second_stage": judged.statistics}
    return replace(prediction, probability=judged.probability, statistics=statistics)


def run_ensemble(
    image: Volume,
    mask: Volume,
    members: Sequence[nn.Module],
    *,
    tiling: TilingSettings,
    channel: int,
    compute: ComputeDevice,
    reporter: StageReporter,
    strides: Shape = (1, 1, 1),
) -> Prediction:
    """As :func:`predict`, with networks that are loaded already, and where tiles may begin.

    The networks take (batch, 1, i, j, k) and give logits (batch, channels, i, j, k); they are
    converted to the precision of ``compute``. When memory runs out, the batch is halved, then the
    tile, and the run starts again with a warning.
    """
    networks = [on_backend(member, compute) for member in members]
    pixels = np.ascontiguousarray(image.array, dtype=np.float32)
    inside = np.asarray(mask.array, dtype=bool)
    warnings: list[ResultWarning] = []
    current = tiling
    while True:
        try:
            probability, n_tiles = _run(
                networks,
                pixels,
                inside,
                current,
                channel=channel,
                strides=strides,
                compute=compute,
                reporter=reporter,
            )
            break
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            smaller = shrink(current)
            if smaller is None:
                raise DeviceError(
                    f"{compute.name}: out of memory even with tiles of "
                    f"{_spelled(current.tile_shape)} one at a time; free memory or use another "
                    "device"
                ) from error
        current = smaller
        if torch.device(compute.device).type == "cuda":
            torch.cuda.empty_cache()
    if current != tiling:
        warnings.append(_shrunk_warning(tiling, current))
    if not np.isfinite(probability).all():
        raise DeviceError(
            f"{compute.name}: the networks gave values that are not finite in "
            f"{compute.precision}; use --precision fp32"
        )
    statistics = {
        "tiles": n_tiles,
        "tile_shape": list(current.tile_shape),
        "batch_size": current.batch_size,
        "overlap": current.overlap,
        "members": len(networks),
    }
    return Prediction(image.with_array(probability), tuple(warnings), statistics)


def shrink(tiling: TilingSettings) -> TilingSettings | None:
    """The next smaller way to tile: half the batch, then half the tile; None at the end."""
    if tiling.batch_size > 1:
        return replace(tiling, batch_size=tiling.batch_size // 2)
    i, j, k = (_halved(length) for length in tiling.tile_shape)
    if (i, j, k) == tiling.tile_shape:
        return None
    return replace(tiling, tile_shape=(i, j, k))


def _halved(length: int) -> int:
    if length <= MIN_TILE_LENGTH:
        return length
    return max(MIN_TILE_LENGTH, length // 2 // TILE_UNIT * TILE_UNIT)


def _run(
    networks: Sequence[Network],
    pixels: FloatArray,
    inside: BoolArray,
    tiling: TilingSettings,
    *,
    channel: int,
    strides: Shape,
    compute: ComputeDevice,
    reporter: StageReporter,
) -> tuple[FloatArray, int]:
    """Weighted mean over tiles of the mean over networks; also the number of tiles."""
    tiles = plan_tiles(inside, tiling.tile_shape, tiling.overlap, strides)
    importance = importance_map(tiling.tile_shape)
    weighted = np.zeros(pixels.shape, dtype=np.float32)
    weights = np.zeros(pixels.shape, dtype=np.float32)
    for first in range(0, len(tiles), tiling.batch_size):
        reporter.update(first / len(tiles), f"tile {first + 1} of {len(tiles)}")
        batch = tiles[first : first + tiling.batch_size]
        stack = _stack(pixels, batch, tiling.tile_shape, compute)
        for tile, values in zip(batch, _mean(networks, stack, channel, reporter), strict=True):
            add_tile(weighted, tile, values * importance)
            add_tile(weights, tile, importance)
    np.divide(weighted, weights, out=weighted, where=inside)
    weighted[~inside] = 0.0
    return weighted, len(tiles)


def _stack(
    pixels: FloatArray, batch: Sequence[Tile], tile_shape: Shape, compute: ComputeDevice
) -> torch.Tensor:
    stack = np.stack([cut_tile(pixels, tile, tile_shape) for tile in batch])[:, None]
    return torch.from_numpy(stack).to(compute.device, input_dtype(compute))


def _mean(
    networks: Sequence[Network], stack: torch.Tensor, channel: int, reporter: StageReporter
) -> npt.NDArray[np.float32]:
    """Mean probability over the networks, (batch, i, j, k)."""
    with torch.inference_mode():
        total = torch.zeros(stack[:, 0].shape, device=stack.device)
        for network in networks:
            reporter.raise_if_cancelled()
            total += torch.sigmoid(network(stack)[:, channel].float())
        return np.asarray((total / len(networks)).cpu().numpy(), dtype=np.float32)


def _shrunk_warning(wanted: TilingSettings, used: TilingSettings) -> ResultWarning:
    return ResultWarning(
        "memory-reduced",
        f"memory ran out with {wanted.batch_size} tiles of {_spelled(wanted.tile_shape)} at a "
        f"time; {used.batch_size} of {_spelled(used.tile_shape)} were used"
        + (
            ", which can change probabilities near the borders of tiles"
            if used.tile_shape != wanted.tile_shape
            else ""
        ),
    )


def _spelled(shape: Shape) -> str:
    return "x".join(str(n) for n in shape)
