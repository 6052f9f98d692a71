"""Tubes, what vessels are made of, and their volume fraction on a grid."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

THICK_VOXELS = 0.56
"""Radius of a tube with a cross-section of one voxel: from here on voxels can be full."""
SAMPLE_VOXELS = 0.4
CHUNK_VALUES = 4_000_000


@dataclass(frozen=True)
class Tube:
    """A curve, shape (n, 3), in mm from the first voxel's center of the fine grid, and radii.

    A single point is a ball. Between its points a tube is straight.
    """

    points_mm: FloatArray
    radius_mm: FloatArray


def rasterize(
    tubes: Iterable[Tube], shape: tuple[int, ...], spacing_mm: float
) -> npt.NDArray[np.float32]:
    """Volume fraction of the tubes in each voxel, shape ``shape``, 0 to 1.

    Tubes thinner than a voxel give their volume to the 8 voxels around each place in proportion to
    closeness; thicker ones get a soft edge one voxel wide. Both keep the volume.
    """
    fraction = np.zeros(shape, dtype=np.float32)
    position, radius, length = _sampled(list(tubes), spacing_mm)
    thin = radius < THICK_VOXELS
    _add_thin(fraction, position[thin], np.pi * radius[thin] ** 2 * length[thin])
    # a ramp one voxel wide at this radius holds as much as a sharp edge at the true one
    radius = np.sqrt(np.maximum(radius**2 - 1 / 12, 0))
    reach = np.ceil(radius + 0.5).astype(int)
    for size in np.unique(reach[~thin]):
        chosen = ~thin & (reach == size)
        _paint_thick(fraction, position[chosen], radius[chosen], int(size))
    return fraction


def bent_tube(
    start_mm: FloatArray, bend_mm: FloatArray, end_mm: FloatArray, radius_mm: tuple[float, float]
) -> Tube:
    """From start to end, setting out towards the bend: a quadratic Bezier curve, points 1 mm apart.

    ``radius_mm`` is that of the start and of the end.
    """
    length_mm = np.linalg.norm(bend_mm - start_mm) + np.linalg.norm(end_mm - bend_mm)
    n = max(3, int(length_mm) + 1)
    t = np.linspace(0, 1, n)[:, None]
    points = (1 - t) ** 2 * start_mm + 2 * t * (1 - t) * bend_mm + t**2 * end_mm
    return Tube(points, np.linspace(radius_mm[0], radius_mm[1], n))


def _sampled(
    tubes: list[Tube], spacing_mm: float
) -> tuple[FloatArray, npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Places along all tubes, their radii and the lengths they stand for; all in voxels."""
    tubes = [tube for tube in tubes if len(tube.points_mm)]
    if not tubes:
        return np.empty((0, 3)), np.empty(0), np.empty(0)
    points = np.concatenate([tube.points_mm for tube in tubes]) / spacing_mm
    radii = np.concatenate([tube.radius_mm for tube in tubes]) / spacing_mm
    sizes = np.array([len(tube.points_mm) for tube in tubes])
    tube_of = np.repeat(np.arange(len(tubes)), sizes)
    first = np.flatnonzero(tube_of[1:] == tube_of[:-1])
    step = points[first + 1] - points[first]
    lengths = np.linalg.norm(step, axis=1)
    dense = np.maximum(SAMPLE_VOXELS, np.minimum(radii[first], radii[first + 1]) / 3)
    parts = np.maximum(1, np.ceil(lengths / dense)).astype(int)
    segment = np.repeat(np.arange(len(first)), parts)
    within = np.arange(len(segment)) - np.repeat(np.cumsum(parts) - parts, parts)
    along = (within + 0.5) / parts[segment]
    position = points[first][segment] + along[:, None] * step[segment]
    radius = radii[first][segment] * (1 - along) + radii[first + 1][segment] * along
    balls = np.flatnonzero((sizes == 1)[tube_of])
    return (
        np.concatenate([position, points[balls]]),
        np.concatenate([radius, radii[balls]]),
        np.concatenate([(lengths / parts)[segment], 4 / 3 * radii[balls]]),
    )


def _add_thin(
    fraction: npt.NDArray[np.float32], position: FloatArray, volume: npt.NDArray[np.float64]
) -> None:
    """Add volumes (voxels) to the 8 voxels around each position, by trilinear weights, up to 1."""
    shape = np.array(fraction.shape)
    flat = fraction.reshape(-1)
    touched = []
    low = np.floor(position).astype(np.int64)
    share = position - low
    for corner in np.ndindex(2, 2, 2):
        voxel = low + corner
        weight = np.prod(np.where(corner, share, 1 - share), axis=1) * volume
        inside = ((voxel >= 0) & (voxel < shape)).all(axis=1)
        index = np.ravel_multi_index(tuple(voxel[inside].T), fraction.shape)
        np.add.at(flat, index, weight[inside].astype(np.float32))
        touched.append(index)
    # only where something was added: the grid is large and mostly empty
    everywhere = np.concatenate(touched)
    flat[everywhere] = np.minimum(flat[everywhere], 1.0)


def _paint_thick(
    fraction: npt.NDArray[np.float32],
    position: FloatArray,
    radius: npt.NDArray[np.float64],
    reach: int,
) -> None:
    """Balls at all positions, each voxel the largest of what they give it."""
    shape = np.array(fraction.shape)
    offsets = np.stack(np.meshgrid(*[np.arange(-reach, reach + 1)] * 3, indexing="ij"), -1)
    offsets = offsets.reshape(-1, 3)
    offsets = offsets[np.linalg.norm(offsets, axis=1) <= reach + 0.9]
    parts = int(len(position) * len(offsets) / CHUNK_VALUES) + 1
    for part in np.array_split(np.arange(len(position)), parts):
        nearest = np.round(position[part]).astype(np.int64)
        rest = (nearest - position[part])[:, None].astype(np.float32)
        distance = np.linalg.norm(rest + offsets.astype(np.float32), axis=2)
        value = np.minimum(radius[part, None].astype(np.float32) + 0.5 - distance, 1.0)
        voxel = nearest[:, None] + offsets
        keep = (value > 0) & ((voxel >= 0) & (voxel < shape)).all(axis=2)
        index = np.ravel_multi_index(tuple(voxel[keep].T), fraction.shape)
        np.maximum.at(fraction.reshape(-1), index, value[keep])
