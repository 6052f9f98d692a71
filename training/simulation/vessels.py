"""Veins as trees of thin tubes, and what else is tubular: perforators and perivascular spaces.

Radii and courses after Rhoton 2002 and Okudera et al. 1999: pial veins .3-1.2 mm on the surface
and in the sulci, medullary veins .1-.35 mm straight towards the ventricle, subependymal and
internal cerebral veins .4-1 mm, superior sagittal sinus 2-4 mm, lenticulostriate vessels .1-.35 mm.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from training.simulation.anatomy import Anatomy
from training.simulation.tissue import (
    LATERAL_VENTRICLE_LABELS,
    PALLIDUM_LABELS,
    PUTAMEN_LABELS,
    WHITE_MATTER_LABELS,
)

FloatArray = npt.NDArray[np.float64]
STEP_MM = 0.35


@dataclass(frozen=True)
class Tube:
    """A curve, shape (n, 3), in mm from the first voxel's center of the fine grid, and radii."""

    points_mm: FloatArray
    radius_mm: FloatArray


def draw_veins(anatomy: Anatomy, rng: np.random.Generator) -> list[Tube]:
    """All veins of one head."""
    density = float(rng.uniform(0.6, 1.4))
    tubes = list(_pial_veins(anatomy, rng, int(260 * density)))
    tubes += _medullary_veins(anatomy, rng, int(220 * density * rng.uniform(0.3, 1.3)))
    tubes += _subependymal_veins(anatomy, rng, int(10 * density))
    tubes += _sagittal_sinus(anatomy, rng)
    return tubes


def draw_perforators(anatomy: Anatomy, rng: np.random.Generator) -> list[Tube]:
    """Short, mostly vertical vessels through putamen and pallidum."""
    starts = _random_points(
        anatomy, PUTAMEN_LABELS + PALLIDUM_LABELS, int(rng.integers(6, 28)), rng
    )
    return [_straight(p, (0.15, 0.1, 1.0), (6, 18), (0.1, 0.35), rng) for p in starts]


def draw_perivascular_spaces(anatomy: Anatomy, rng: np.random.Generator) -> list[Tube]:
    """Fluid-filled spaces in white matter and basal ganglia."""
    white = _random_points(anatomy, WHITE_MATTER_LABELS, int(rng.integers(5, 70)), rng)
    deep = _random_points(anatomy, PUTAMEN_LABELS, int(rng.integers(2, 25)), rng)
    tubes = [_straight(p, rng.normal(size=3), (3, 14), (0.2, 0.6), rng) for p in white]
    return tubes + [_straight(p, (0.2, 0.2, 1.0), (3, 12), (0.2, 0.8), rng) for p in deep]


def rasterize(
    tubes: Iterable[Tube], shape: tuple[int, ...], spacing_mm: float
) -> npt.NDArray[np.float32]:
    """Volume fraction of the tubes in each voxel, shape ``shape``, 0 to 1.

    Tubes thicker than a voxel get a soft edge one voxel wide; thinner ones spread their
    cross-section over the nearest voxels.
    """
    fraction = np.zeros(shape, dtype=np.float32)
    for tube in tubes:
        reach = int(np.ceil(tube.radius_mm.max() / spacing_mm + 0.75))
        offsets = np.stack(np.meshgrid(*[np.arange(-reach, reach + 1)] * 3, indexing="ij"), -1)
        offsets = offsets.reshape(-1, 3)
        for part in np.array_split(np.arange(len(tube.points_mm)), len(tube.points_mm) // 512 + 1):
            point = tube.points_mm[part] / spacing_mm
            radius = tube.radius_mm[part, None] / spacing_mm
            voxel = np.round(point).astype(int)[:, None] + offsets
            distance = np.linalg.norm(voxel - point[:, None], axis=2)
            thick = np.clip(radius - distance + 0.5, 0, 1)
            thin = np.pi * radius**2 * np.clip(1.2 - distance, 0, 1)
            value = np.where(radius >= 0.6, thick, np.minimum(thin, 1)).astype(np.float32)
            keep = (value > 0.01) & (voxel >= 0).all(axis=2) & (voxel < np.array(shape)).all(axis=2)
            np.maximum.at(fraction, tuple(voxel[keep].T), value[keep])
    return fraction


def _random_points(
    anatomy: Anatomy, labels: tuple[int, ...], count: int, rng: np.random.Generator
) -> FloatArray:
    """``count`` random places within some labels, (count, 3), mm from the first voxel."""
    coarse = anatomy.labels[1::4, 1::4, 1::4]
    candidates = np.argwhere(np.isin(coarse, labels))
    if len(candidates) == 0 or count == 0:
        return np.empty((0, 3))
    chosen = candidates[rng.integers(0, len(candidates), count)]
    return np.asarray((chosen + rng.random((count, 3))) * anatomy.coarse_mm)


def _straight(
    start_mm: FloatArray,
    direction: npt.ArrayLike,
    length_mm: tuple[float, float],
    radius_mm: tuple[float, float],
    rng: np.random.Generator,
) -> Tube:
    heading = np.asarray(direction, dtype=float) + rng.normal(0, 0.25, 3)
    heading /= np.linalg.norm(heading)
    length = rng.uniform(*length_mm)
    along = np.arange(0, length, STEP_MM)[:, None]
    bend = rng.normal(0, 0.6, 3) * (along / length) * (1 - along / length) * 2
    radius = rng.uniform(*radius_mm)
    return Tube(start_mm + along * heading + bend, np.full(len(along), radius))


def _walk(
    start_mm: FloatArray,
    heading: FloatArray,
    steer: _Steering,
    *,
    length_mm: float,
    radius_mm: tuple[float, float],
    rng: np.random.Generator,
) -> Tube:
    """A meandering curve that a steering rule keeps on course; radius grows along it."""
    n = max(4, int(length_mm / STEP_MM))
    points = np.empty((n, 3))
    position, heading = start_mm.astype(float), heading / (np.linalg.norm(heading) + 1e-9)
    drift = np.zeros(3)
    for i in range(n):
        points[i] = position
        drift = 0.9 * drift + rng.normal(0, 0.06, 3)
        heading = steer(position, heading + drift)
        heading /= np.linalg.norm(heading) + 1e-9
        position = position + heading * STEP_MM
    return Tube(points, np.linspace(radius_mm[0], radius_mm[1], n))


class _Steering:
    """Keeps a walk at a given value of a scalar map and drawn towards a direction."""

    def __init__(
        self, scalar: npt.NDArray[np.float32], spacing_mm: float, level: float, pull: FloatArray
    ) -> None:
        self._scalar = scalar
        self._gradient = np.stack(list(np.gradient(scalar, spacing_mm)), axis=-1)
        self._spacing_mm = spacing_mm
        self._limit = np.array(scalar.shape) - 1
        self.level = level
        self.pull = pull

    def __call__(self, position_mm: FloatArray, heading: FloatArray) -> FloatArray:
        index = np.clip(np.round(position_mm / self._spacing_mm).astype(int), 0, self._limit)
        i, j, k = index
        normal = self._gradient[i, j, k]
        normal = normal / (np.linalg.norm(normal) + 1e-6)
        error = float(self.level - self._scalar[i, j, k])
        tangent = heading + self.pull - normal * float(normal @ heading)
        return np.asarray(tangent + 0.3 * np.clip(error, -3, 3) * normal)


def _signed_depth(anatomy: Anatomy) -> npt.NDArray[np.float32]:
    """Depth below the brain's surface in mm, negative outside, smooth."""
    outside = ndimage.distance_transform_edt(
        anatomy.depth_in_brain_mm == 0, sampling=anatomy.coarse_mm
    )
    signed = anatomy.depth_in_brain_mm - outside
    return np.asarray(ndimage.gaussian_filter(signed, 0.7), dtype=np.float32)


def _pial_veins(anatomy: Anatomy, rng: np.random.Generator, count: int) -> Iterable[Tube]:
    depth = _signed_depth(anatomy)
    steer = _Steering(depth, anatomy.coarse_mm, 0.0, np.zeros(3))
    surface = np.argwhere(np.abs(depth) < 1.5)
    top = np.array([depth.shape[0] / 2, depth.shape[1] / 2, depth.shape[2]]) * anatomy.coarse_mm
    for start in surface[rng.integers(0, len(surface), count)]:
        start_mm = (start + rng.random(3)) * anatomy.coarse_mm
        steer.level = float(rng.uniform(-1.5, 1.5))
        towards_top = top - start_mm
        steer.pull = 0.05 * towards_top / np.linalg.norm(towards_top)
        small = rng.uniform(0.2, 0.6)
        radii = (small, small * rng.uniform(1.0, 2.0))
        heading, length_mm = rng.normal(size=3), rng.uniform(10, 60)
        yield _walk(start_mm, heading, steer, length_mm=length_mm, radius_mm=radii, rng=rng)


def _medullary_veins(anatomy: Anatomy, rng: np.random.Generator, count: int) -> list[Tube]:
    distance = ndimage.gaussian_filter(anatomy.distance_to_ventricle_mm, 1.0)
    gradient = np.stack(list(np.gradient(distance)), axis=-1)
    tubes = []
    for start_mm in _random_points(anatomy, WHITE_MATTER_LABELS, count, rng):
        index = tuple(
            np.minimum(start_mm / anatomy.coarse_mm, np.array(distance.shape) - 1).astype(int)
        )
        if not 3 < distance[index] < 35:
            continue
        towards = -gradient[index] + rng.normal(0, 0.1, 3)
        length = (0.4 * distance[index], distance[index])
        tubes.append(_straight(start_mm, towards, length, (0.1, 0.35), rng))
    return tubes


def _subependymal_veins(anatomy: Anatomy, rng: np.random.Generator, count: int) -> list[Tube]:
    distance = ndimage.gaussian_filter(anatomy.distance_to_ventricle_mm, 0.7)
    steer = _Steering(distance.astype(np.float32), anatomy.coarse_mm, 1.0, np.zeros(3))
    tubes = []
    for start_mm in _random_points(anatomy, LATERAL_VENTRICLE_LABELS, count, rng):
        radii = (rng.uniform(0.3, 0.5), rng.uniform(0.5, 1.0))
        heading = rng.normal(size=3) * (0.3, 1.0, 0.5)
        length_mm = rng.uniform(15, 50)
        tubes.append(_walk(start_mm, heading, steer, length_mm=length_mm, radius_mm=radii, rng=rng))
    return tubes


def _sagittal_sinus(anatomy: Anatomy, rng: np.random.Generator) -> list[Tube]:
    """Along the top of the midline, from front to back, growing wider."""
    brain: npt.NDArray[np.bool_] = np.asarray(anatomy.depth_in_brain_mm > 0)
    middle = brain.shape[0] // 2
    near_midline = np.any(brain[middle - 6 : middle + 7], axis=0)
    rows = np.flatnonzero(np.any(near_midline, axis=1))
    top = np.array([np.flatnonzero(near_midline[j]).max() for j in rows])
    top = ndimage.gaussian_filter1d(top.astype(float), 3.0)
    points = np.stack([np.full(len(rows), middle), rows, top + 1.5], axis=1) * anatomy.coarse_mm
    fine = np.linspace(0, len(points) - 1, int(len(points) * anatomy.coarse_mm / STEP_MM))
    curve = np.stack([np.interp(fine, np.arange(len(points)), c) for c in points.T], axis=1)
    width = rng.uniform(1.5, 3.0)
    return [Tube(curve, np.linspace(width * 1.3, width * 0.6, len(curve)))]
