"""Planes through the patient, sampled from an image on any grid.

A plane follows the image's own slices where these are tilted: cut strictly along the patient's
axes, thick oblique slices would show every lesion as a strip of several slices.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from CMBDetectorLib.geometry import FloatArray, Geometry
from CMBDetectorLib.volume import Volume

# A pixel never lies exactly between two voxels then, where rounding would choose for it.
_OFF_GRID_MM = np.array([1.3e-4, 1.7e-4, 1.1e-4])
_SPLINE_MARGIN_VOXELS = 6


@dataclass(frozen=True)
class PatientPlane:
    """An anatomical plane as radiologists look at it: the patient's right on the left.

    ``across`` and ``down`` are the directions of the picture's right and bottom, in the axes
    (right, anterior, superior) of a frame; the letters name the patient's sides at the edges.
    """

    name: str
    across: tuple[float, float, float]
    down: tuple[float, float, float]
    left_letter: str
    right_letter: str
    top_letter: str
    bottom_letter: str


AXIAL = PatientPlane("axial", (-1, 0, 0), (0, -1, 0), "R", "L", "A", "P")
CORONAL = PatientPlane("coronal", (-1, 0, 0), (0, 0, -1), "R", "L", "S", "I")
SAGITTAL = PatientPlane("sagittal", (0, -1, 0), (0, 0, -1), "A", "P", "S", "I")


def slice_frame(geometry: Geometry) -> FloatArray:
    """The image's right, anterior and superior directions, the columns of a (3, 3) rotation.

    The identity for an image that is not tilted, in any order of its axes; for one whose axes
    are not perpendicular the closest rotation.
    """
    toward_ras = geometry.reoriented(geometry.orientation).affine[:3, :3]
    left, _, right = np.linalg.svd(toward_ras / np.linalg.norm(toward_ras, axis=0))
    return np.asarray(left @ right, dtype=np.float64)


@dataclass(frozen=True, eq=False)
class View:
    """A rectangle of pixels around a point in RAS mm, on a plane of a frame (3, 3)."""

    plane: PatientPlane
    frame: FloatArray
    center_ras_mm: tuple[float, float, float]
    width_px: int
    height_px: int
    mm_per_px: float

    def points_ras_mm(self, oversampling: int = 1) -> FloatArray:
        """Where the pixels' centres are, shape (height, width, 3) times the oversampling."""
        width, height = self.width_px * oversampling, self.height_px * oversampling
        step_mm = self.mm_per_px / oversampling
        across_mm = (np.arange(width) - (width - 1) / 2) * step_mm
        down_mm = (np.arange(height) - (height - 1) / 2) * step_mm
        points: FloatArray = (
            np.array(self.center_ras_mm)
            + self.frame @ _OFF_GRID_MM
            + across_mm[None, :, None] * (self.frame @ self.plane.across)
            + down_mm[:, None, None] * (self.frame @ self.plane.down)
        )
        return points

    def pixel_of(self, ras_mm: npt.ArrayLike) -> tuple[float, float]:
        """Column and row, from 0, of the point's projection onto the plane."""
        offset_mm = np.asarray(ras_mm, dtype=np.float64) - np.array(self.center_ras_mm)
        column = offset_mm @ self.frame @ self.plane.across / self.mm_per_px
        row = offset_mm @ self.frame @ self.plane.down / self.mm_per_px
        return float(column + (self.width_px - 1) / 2), float(row + (self.height_px - 1) / 2)


def sample_image(
    image: Volume, view: View, *, order: Literal[1, 3] = 3, oversampling: int = 1
) -> npt.NDArray[np.float32]:
    """The image on the view's pixels, (height, width); NaN outside the field of view.

    ``order`` is of the spline between the voxels (3 where pixels are finer than voxels, 1 else);
    ``oversampling`` averages that many points squared into a pixel, where pixels are coarser.
    """
    points = image.geometry.ras_mm_to_ijk(view.points_ras_mm(oversampling))
    shape = np.array(image.geometry.shape)
    outside = ((points < -0.5) | (points > shape - 0.5)).any(axis=-1)
    if outside.all():
        return np.full((view.height_px, view.width_px), np.nan, dtype=np.float32)
    margin = _SPLINE_MARGIN_VOXELS
    low = np.clip(np.floor(points.min(axis=(0, 1))) - margin, 0, shape - 1).astype(int)
    high = np.clip(np.ceil(points.max(axis=(0, 1))) + margin + 1, low + 1, shape).astype(int)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    local = np.nan_to_num(image.array[box].astype(np.float32), posinf=0.0, neginf=0.0)
    coordinates = np.moveaxis(points - low, -1, 0)
    values = ndimage.map_coordinates(local, coordinates, order=order, mode="nearest")
    values[outside] = np.nan
    blocks = values.reshape(view.height_px, oversampling, view.width_px, oversampling)
    return np.asarray(blocks.mean(axis=(1, 3)), dtype=np.float32)


def sample_labels(labels: Volume, view: View) -> npt.NDArray[np.int64]:
    """The label of the voxel that each pixel lies in, (height, width); 0 outside."""
    index = np.rint(labels.geometry.ras_mm_to_ijk(view.points_ras_mm())).astype(np.int64)
    shape = np.array(labels.geometry.shape)
    inside = ((index >= 0) & (index < shape)).all(axis=-1)
    values = np.zeros(inside.shape, dtype=np.int64)
    values[inside] = labels.array[tuple(index[inside].T)]
    return values
