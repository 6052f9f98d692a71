"""Weak outlines in a label map: which voxels are one outline, and what lies beside it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import KDTree
from skimage.measure import label

from CMBDetectorLib.errors import InputError
from CMBDetectorLib.geometry import FloatArray, Geometry
from CMBDetectorLib.volume import Volume

IntArray = npt.NDArray[np.int64]

_FEW_SLICES = 2


def outline_pieces(outlines: Volume) -> list[IntArray]:
    """The voxels (n, 3) of each outline, by value and then from the patient's feet up.

    Voxels of one value that share a face, edge or corner are one outline.

    Raises
    ------
    InputError
        If the label map holds anything but whole numbers from 0 on.
    """
    values = _whole_numbers(outlines.array)
    pieces = label(values, connectivity=3)
    found = []
    for number, box in enumerate(ndimage.find_objects(pieces), start=1):
        ijk = np.argwhere(pieces[box] == number) + np.array([part.start for part in box])
        x, y, z = outlines.geometry.ijk_to_ras_mm(ijk).mean(axis=0).round(3).tolist()
        found.append(((int(values[tuple(ijk[0])]), z, y, x), ijk))
    return [ijk for _, ijk in sorted(found, key=lambda entry: entry[0])]


def beside_mm(voxels_ijk: IntArray, outline_ijk: IntArray, geometry: Geometry) -> FloatArray:
    """Distance (n,) of voxels from an outline, seen along the direction in which it is flat.

    That is across the slices for an outline in one or two of them, else along the voxel axis it
    reaches least far on.
    """
    n_slices = np.ptp(outline_ijk, axis=0) + 1
    axis = geometry.slice_axis
    flat = axis if n_slices[axis] <= _FEW_SLICES else int(n_slices.argmin())
    direction = geometry.affine[:3, flat] / geometry.spacing_mm[flat]
    matrix = geometry.affine[:3, :3]
    in_plane = matrix - np.outer(direction, direction @ matrix)
    distance_mm, _ = KDTree(outline_ijk @ in_plane.T).query(voxels_ijk @ in_plane.T)
    return np.asarray(distance_mm, dtype=np.float64)


def _whole_numbers(array: npt.NDArray[np.generic]) -> npt.NDArray[np.integer]:
    if array.dtype.kind == "b":
        return array.astype(np.uint8)
    if array.dtype.kind == "f":
        if not np.isfinite(array).all() or (array != np.rint(array)).any():
            raise InputError(
                "outlines are whole numbers, 0 where there is none; got fractions or NaN; "
                "pass the label map itself, not a resampled one"
            )
    elif array.dtype.kind not in "ui":
        raise InputError(f"outlines are whole numbers, got values of type {array.dtype}")
    whole = array.astype(np.int64)
    if whole.size and whole.min() < 0:
        raise InputError(f"outlines are numbered from 0 on, got {whole.min()}; pass a label map")
    return whole
