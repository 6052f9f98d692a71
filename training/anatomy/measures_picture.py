"""A picture of a parcellation over its image, to be looked at."""

from __future__ import annotations

import colorsys
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from CMBDetectorLib.anatomy.parcellation import CLASSES
from CMBDetectorLib.io.writing import atomic_path
from CMBDetectorLib.preprocessing.resample import resample
from CMBDetectorLib.volume import Volume
from training.anatomy.measures_overlap import OUTSIDE_BRAIN

SPACING_MM = 1.0
_PLANES = {"sagittal": 0, "coronal": 1, "axial": 2}
_OFFSETS_MM = {0: 8.0, 1: -10.0, 2: 5.0}
"""From the middle of the brain: beside the midline, through the deep nuclei."""
_SHARE = 0.45
_GOLDEN = 0.618034

RGB = npt.NDArray[np.uint8]


def write_overlay(image: Volume, labels: Volume, path: Path) -> None:
    """Write a PNG: sagittal, coronal, axial; above the image alone, below with the structures.

    Left of the patient is left in the picture. Colors are of structures, darker on the right side.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    canonical = image.canonical()
    grid = canonical.geometry.with_spacing((SPACING_MM,) * 3)
    gray = _gray(resample(canonical, grid).array)
    values = resample(labels, grid, order=0).array
    colors = _colors()[values]
    shown = values != 0
    blend = np.where(
        shown[..., None], (1 - _SHARE) * gray[..., None] + _SHARE * colors, gray[..., None]
    ).astype(np.uint8)
    plain = np.repeat(gray[..., None], 3, axis=-1)
    middle = _middle(values)
    rows = [_row(volume, middle) for volume in (plain, blend)]
    with atomic_path(path) as temporary:
        Image.fromarray(np.concatenate(rows, axis=0)).save(temporary, format="PNG")


def _row(volume: RGB, middle: npt.NDArray[np.int_]) -> RGB:
    panels = []
    for axis in _PLANES.values():
        place = int(
            np.clip(middle[axis] + _OFFSETS_MM[axis] / SPACING_MM, 0, volume.shape[axis] - 1)
        )
        panels.append(np.take(volume, place, axis=axis).transpose(1, 0, 2)[::-1])
    height = max(panel.shape[0] for panel in panels)
    padded = [np.pad(p, ((0, height - p.shape[0]), (0, 2), (0, 0))) for p in panels]
    return np.concatenate(padded, axis=1)


def _middle(values: npt.NDArray[np.int16]) -> npt.NDArray[np.int_]:
    """Of the bounding box of what is brain; of the whole grid where there is none."""
    brain = [
        v for one in CLASSES[1:] if one.name not in OUTSIDE_BRAIN for v in (one.left, one.right)
    ]
    inside = np.argwhere(np.isin(values, brain))
    if len(inside) == 0:
        return np.array(values.shape) // 2
    return np.asarray((inside.min(axis=0) + inside.max(axis=0)) // 2)


def _gray(array: npt.NDArray[np.float32]) -> RGB:
    used = array[array != 0]
    low, high = np.percentile(used, (0.5, 99.5)) if used.size else (0.0, 1.0)
    scaled = np.clip((array - min(low, 0.0)) / max(high - min(low, 0.0), 1e-9), 0, 1)
    return np.asarray(255 * scaled, dtype=np.uint8)


def _colors() -> RGB:
    """Color by value of the label map."""
    table = np.zeros((1 + max(max(one.left, one.right) for one in CLASSES), 3), dtype=np.uint8)
    for number, one in enumerate(CLASSES[1:]):
        for value, brightness in ((one.left, 1.0), (one.right, 0.7 if one.is_paired else 1.0)):
            rgb = colorsys.hsv_to_rgb((number * _GOLDEN) % 1, 0.85, brightness)
            table[value] = np.round(255 * np.array(rgb))
    return table
