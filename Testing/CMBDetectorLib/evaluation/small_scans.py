"""Small files of lesions, for tests that evaluate what lies on disk."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

SHAPE = (60, 70, 40)
AFFINE = np.array([[1.0, 0, 0, -30], [0, 1, 0, -35], [0, 0, 1, -20], [0, 0, 0, 1]])


def blocks(corners: list[tuple[int, int, int]]) -> np.ndarray:
    """A label map with a block of 2x2x2 voxels at each corner, numbered from 1."""
    array = np.zeros(SHAPE, np.int16)
    for value, (i, j, k) in enumerate(corners, start=1):
        array[i : i + 2, j : j + 2, k : k + 2] = value
    return array


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine, dtype=array.dtype), path)
    return path


def write(path: Path, header: str, rows: list[tuple[object, ...]]) -> Path:
    """A CSV file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [header, *(",".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
