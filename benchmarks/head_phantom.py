"""A head as a scanner would show it on SWI, simple but full-sized: something to run on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
from scipy import ndimage

FloatArray = npt.NDArray[np.float32]
SPACING_MM = (0.45, 0.45, 1.0)
FULL_SHAPE = (512, 512, 150)
QUICK_SHAPE = (200, 220, 48)


@dataclass(frozen=True)
class Head:
    """The file of an image and the centers (n, 3) of its microbleeds in RAS mm."""

    path: Path
    lesions_ras_mm: npt.NDArray[np.float64]


def write_head(path: Path, shape: tuple[int, int, int], n_lesions: int, seed: int = 1) -> Head:
    """Scalp, skull, fluid and brain as nested ellipsoids; dark veins and balls; bias and noise.

    The microbleeds are balls of 1 to 2.2 mm radius whose edges blur over a voxel.
    """
    rng = np.random.default_rng(seed)
    extent_mm = np.array(shape) * SPACING_MM
    half_mm = np.minimum(extent_mm * (0.40, 0.44, 0.50), (72, 90, 80))
    affine = np.diag([-SPACING_MM[0], SPACING_MM[1], SPACING_MM[2], 1.0])
    affine[:3, 3] = extent_mm * (0.5, -0.5, -0.5)
    axes_mm = [
        (np.arange(n, dtype=np.float32) - (n - 1) / 2) * np.float32(s)
        for n, s in zip(shape, SPACING_MM, strict=True)
    ]
    image = _layers(axes_mm, half_mm)
    brain = _radius(axes_mm, half_mm - 11) < 1
    tissue = ndimage.zoom(rng.normal(0, 1, (12, 12, 10)), np.array(shape) / (12, 12, 10), order=1)
    image[brain] += 40 * tissue[brain].astype(np.float32)
    del tissue
    centers_mm = _places(rng, n_lesions, half_mm - 18)
    for _ in range(max(6, n_lesions)):
        _draw_vein(image, brain, rng, half_mm - 14)
    for center_mm in centers_mm:
        _draw_ball(image, center_mm, float(rng.uniform(1.0, 2.2)))
    image *= (1 + 0.12 * axes_mm[0] / half_mm[0]).astype(np.float32)[:, None, None]
    noisy = np.hypot(
        image + rng.normal(0, 18, shape).astype(np.float32),
        rng.normal(0, 18, shape).astype(np.float32),
    )
    header_image = nib.Nifti1Image(np.round(noisy).astype(np.int16), affine)
    header_image.set_sform(affine, code=1)
    header_image.set_qform(affine, code=1)
    nib.save(header_image, path)
    voxels = centers_mm / SPACING_MM + (np.array(shape) - 1) / 2
    return Head(path, voxels @ affine[:3, :3].T + affine[:3, 3])


def _layers(axes_mm: list[FloatArray], half_mm: npt.NDArray[np.float64]) -> FloatArray:
    image = np.zeros(tuple(len(axis) for axis in axes_mm), dtype=np.float32)
    for depth_mm, intensity in ((0, 450), (4, 60), (9, 420), (11, 700)):
        image[_radius(axes_mm, half_mm - depth_mm) < 1] = intensity
    return image


def _radius(axes_mm: list[FloatArray], half_mm: npt.NDArray[np.float64]) -> FloatArray:
    i, j, k = ((axis / np.float32(half)) ** 2 for axis, half in zip(axes_mm, half_mm, strict=True))
    return np.asarray(i[:, None, None] + j[:, None] + k, dtype=np.float32)


def _places(
    rng: np.random.Generator, n: int, half_mm: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Places within an ellipsoid, at least 10 mm apart."""
    places: list[npt.NDArray[np.float64]] = []
    while len(places) < n:
        place = rng.uniform(-1, 1, 3)
        candidate = place * half_mm
        if (place**2).sum() < 1 and all(np.linalg.norm(candidate - p) > 10 for p in places):
            places.append(candidate)
    return np.array(places)


def _draw_vein(
    image: FloatArray,
    brain: npt.NDArray[np.bool_],
    rng: np.random.Generator,
    half_mm: npt.NDArray[np.float64],
) -> None:
    position = rng.uniform(-0.6, 0.6, 3) * half_mm
    direction = rng.normal(0, 1, 3)
    for _ in range(120):
        direction = direction / np.linalg.norm(direction) + rng.normal(0, 0.12, 3)
        position = position + 0.4 * direction
        index = tuple(np.round(position / SPACING_MM + (np.array(image.shape) - 1) / 2).astype(int))
        if min(index) < 0 or (np.array(index) >= image.shape).any() or not brain[index]:
            return
        _draw_ball(image, position, 0.7, depth=0.5)


def _draw_ball(
    image: FloatArray, center_mm: npt.NDArray[np.float64], radius_mm: float, depth: float = 0.93
) -> None:
    spacing = np.array(SPACING_MM)
    center = center_mm / spacing + (np.array(image.shape) - 1) / 2
    reach = np.ceil((radius_mm + 1) / spacing).astype(int)
    start = np.maximum(np.round(center).astype(int) - reach, 0)
    stop = np.minimum(np.round(center).astype(int) + reach + 1, image.shape)
    box = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    grid = np.moveaxis(np.indices(stop - start), 0, -1) + start
    distance_mm = np.linalg.norm((grid - center) * spacing, axis=-1)
    inside = np.clip((radius_mm - distance_mm) / 0.5 + 0.5, 0, 1).astype(np.float32)
    darkest = np.float32(1 - depth)
    image[box] = np.minimum(image[box], image[box] * (1 - inside * (1 - darkest)))
