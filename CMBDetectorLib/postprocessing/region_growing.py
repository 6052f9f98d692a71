"""From one point on a dark spot to its voxels."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from CMBDetectorLib.errors import InputError, UsageError
from CMBDetectorLib.geometry import FloatArray
from CMBDetectorLib.volume import Volume

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

_SNAP_MM = 1.5
_LEAST_CONTRAST_TO_NOISE = 4.0
_EDGE = 0.5
_OTHER_BASIN_DEPTH = 0.2
_MAD_TO_SIGMA = 1.4826
_FACES = [(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)]


@dataclass(frozen=True, eq=False)
class _Place:
    """What lies around the seed.

    ``values`` in a box of the image that begins at ``start_ijk``; ``usable`` where it is tissue;
    ``darkest`` is the voxel of the box to grow from, ``distance_mm`` that of all others to it.
    """

    start_ijk: IntArray
    values: FloatArray
    usable: BoolArray
    darkest: tuple[int, int, int]
    distance_mm: FloatArray


def grow_from_seed(
    image: Volume, seed_ijk: Sequence[int], *, max_diameter_mm: float = 10.0
) -> IntArray:
    """The dark spot at a seed, as voxels that share faces.

    The seed first moves to the darkest voxel within 1.5 mm. From there the spot grows over all
    voxels up to a tolerance. Its volume, drawn over the tolerance, rises slowly while the spot
    fills and has a knee where it leaks. The tolerance is half of the way to the tissue, where the
    edge of a blurred object lies, unless the knee comes before: where at one step the volume at
    least doubles, over a ridge into a place as dark as a second spot, such as a vein.

    Parameters
    ----------
    image
        Microbleeds dark on bright tissue, in any units. Voxels that are not finite, and large
        areas of the one lowest value (background that was removed), are not entered.
    seed_ijk
        A voxel of the image, from 0.
    max_diameter_mm
        No voxel is farther than half of it from the darkest one.

    Returns
    -------
    voxels_ijk
        Shape (n, 3), at least one, in rising order.

    Raises
    ------
    UsageError
        If the seed is no voxel of the image, or the diameter is no length.
    InputError
        If nothing dark is at the seed.
    """
    if not 0 < max_diameter_mm < math.inf:
        raise UsageError(f"the largest diameter is a length above 0 mm, got {max_diameter_mm}")
    place = _look_around(image, seed_ijk, max_diameter_mm)
    radius_mm = max_diameter_mm / 2
    contrast = _contrast(place, image, radius_mm, seed_ijk)
    level = _flood_level(place, place.distance_mm <= radius_mm)
    top = place.values[place.darkest] + _EDGE * contrast
    tolerated = _before_a_leak(level, place.values, top, _OTHER_BASIN_DEPTH * contrast)
    return np.argwhere(tolerated) + place.start_ijk


def _look_around(image: Volume, seed_ijk: Sequence[int], reach_mm: float) -> _Place:
    """The surroundings of the seed, and the darkest voxel next to it."""
    geometry = image.geometry
    seed = np.asarray(seed_ijk)
    if seed.shape != (3,) or seed.dtype.kind not in "ui":
        raise UsageError(f"a seed is 3 whole numbers, got {seed_ijk!r:.60}")
    if (seed < 0).any() or (seed >= geometry.shape).any():
        raise UsageError(
            f"the seed {seed.tolist()} does not lie within the image of {geometry.shape}; "
            "pick a point of the image"
        )
    matrix = geometry.affine[:3, :3]
    # As far as a ball of the radius reaches along each axis, also where the axes are oblique.
    reach = np.linalg.norm(np.linalg.inv(matrix), axis=1) * (reach_mm + _SNAP_MM)
    start = np.maximum(seed - np.ceil(reach).astype(np.int64), 0)
    stop = np.minimum(seed + np.ceil(reach).astype(np.int64) + 1, geometry.shape)
    box = tuple(slice(a, b) for a, b in zip(start.tolist(), stop.tolist(), strict=True))
    values = image.array[box].astype(np.float64)
    usable = np.isfinite(values)
    usable &= ~_removed_background(values, usable, geometry.voxel_volume_mm3, reach_mm)

    steps = np.indices(values.shape).reshape(3, -1).T
    from_seed_mm = np.linalg.norm((steps - (seed - start)) @ matrix.T, axis=1)
    near = np.flatnonzero((from_seed_mm <= _SNAP_MM) & usable.ravel())
    if len(near) == 0:
        raise InputError(
            f"there is no signal within {_SNAP_MM} mm of voxel {seed.tolist()}; "
            "pick a point in the brain"
        )
    nearest_darkest = near[np.lexsort((from_seed_mm[near], values.ravel()[near]))[0]]
    i, j, k = steps[nearest_darkest].tolist()
    distance_mm = np.linalg.norm((steps - (i, j, k)) @ matrix.T, axis=1).reshape(values.shape)
    return _Place(start, values, usable, (i, j, k), distance_mm)


def _removed_background(
    values: FloatArray, usable: BoolArray, voxel_volume_mm3: float, diameter_mm: float
) -> BoolArray:
    """Areas of exactly the lowest value that are larger than any spot could be.

    Smaller ones may be spots without any signal left.
    """
    if not usable.any():
        return ~usable
    areas, _ = ndimage.label(usable & (values == values[usable].min()))
    largest_spot_voxels = math.pi / 6 * diameter_mm**3 / voxel_volume_mm3
    is_large = np.bincount(areas.ravel()) > largest_spot_voxels
    is_large[0] = False
    return np.asarray(is_large[areas])


def _contrast(place: _Place, image: Volume, radius_mm: float, seed_ijk: Sequence[int]) -> float:
    """How much darker the spot is than the tissue around it; refused where that is only noise."""
    where = [int(index) for index in seed_ijk]
    distance_mm = place.distance_mm
    around = (distance_mm > radius_mm) & (distance_mm <= 2 * radius_mm) & place.usable
    if not around.any():
        raise InputError(
            f"the image has no tissue around voxel {where} to compare it with; "
            "pick a point in the brain, or draw the lesion by hand"
        )
    contrast = float(np.median(place.values[around]) - place.values[place.darkest])
    # Differences of neighbors in the plane hold the noise, and little of the anatomy.
    tissue = np.where(place.usable, place.values, np.nan)
    noise = 0.0
    for axis in sorted(range(3), key=lambda axis: image.geometry.spacing_mm[axis])[:2]:
        differences = np.abs(np.diff(tissue, axis=axis))
        differences = differences[np.isfinite(differences)]
        if len(differences):
            sigma = _MAD_TO_SIGMA * float(np.median(differences)) / math.sqrt(2)
            noise = max(noise, sigma)
    if contrast <= _LEAST_CONTRAST_TO_NOISE * noise:
        raise InputError(
            f"nothing at voxel {where} is darker than the tissue around it by more than "
            "noise; click on the middle of a dark spot, or draw the lesion by hand"
        )
    return contrast


def _flood_level(place: _Place, within: BoolArray) -> FloatArray:
    """How bright one has to go on the darkest way from the start to each voxel, over faces."""
    allowed = place.usable & within
    level: FloatArray = np.full_like(place.values, np.inf)
    # Plain lists: the loop is over single voxels.
    values, open_to = place.values.tolist(), allowed.tolist()
    n_i, n_j, n_k = place.usable.shape
    reached = {place.darkest}
    queue = [(float(place.values[place.darkest]), place.darkest)]
    while queue:
        height, (i, j, k) = heapq.heappop(queue)
        level[i, j, k] = height
        for di, dj, dk in _FACES:
            a, b, c = voxel = (i + di, j + dj, k + dk)
            if not (0 <= a < n_i and 0 <= b < n_j and 0 <= c < n_k):
                continue
            if open_to[a][b][c] and voxel not in reached:
                reached.add(voxel)
                heapq.heappush(queue, (max(height, values[a][b][c]), voxel))
    return level


def _before_a_leak(level: FloatArray, values: FloatArray, top: float, depth: float) -> BoolArray:
    """Voxels up to ``top``, or up to the knee if the flood leaks into another basin before.

    All of another basin is reached at one and the same level, that of the lowest pass to it. It
    counts as one if it has at least as many voxels as the spot, and the pass is ``depth`` above
    both: a lower one lies within a spot that is uneven, or that was entered beside its middle.
    """
    heights, counts = np.unique(level[level <= top], return_counts=True)
    already = np.cumsum(counts) - counts
    is_pass = (counts >= already) & (heights >= heights[0] + depth)
    for height in heights[is_pass]:
        if values[level == height].min() <= height - depth:
            return np.asarray(level < height)
    return np.asarray(level <= top)
