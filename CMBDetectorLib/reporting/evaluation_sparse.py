"""The lesions of a scan for drawing: many, each of few voxels, never a whole label map."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from CMBDetectorLib.evaluation.lesions import LesionSet
from CMBDetectorLib.geometry import FloatArray, Geometry
from CMBDetectorLib.reporting.planes import View, sample_labels
from CMBDetectorLib.volume import Volume

POINT_REACH_MM = 3.0
"""How far from a plane a point is still drawn on it."""


class SparseLesions:
    """Lesions by row, with the boxes of their voxels, so that a view finds the few it shows."""

    def __init__(self, lesions: LesionSet) -> None:
        self._lesions = lesions
        self._rows = {lesion.number: row for row, lesion in enumerate(lesions.lesions)}
        self._centers_mm = lesions.centers_ras_mm
        filled = [row for row, voxels in enumerate(lesions.voxels_ijk) if len(voxels)]
        self._filled = np.array(filled, dtype=np.int64)
        self._low = np.array([lesions.voxels_ijk[row].min(axis=0) for row in filled])
        self._high = np.array([lesions.voxels_ijk[row].max(axis=0) for row in filled])

    @property
    def geometry(self) -> Geometry | None:
        """Grid of the voxels; None where the lesions are points."""
        return self._lesions.geometry

    def row_of(self, number: int) -> int:
        """Row of the lesion with this number.

        Raises
        ------
        KeyError
            If there is none.
        """
        return self._rows[number]

    def center_ras_mm(self, row: int) -> tuple[float, float, float]:
        """Center of mass, or the point."""
        return self._lesions.lesions[row].center_ras_mm

    def voxels_ras_mm(self, row: int) -> FloatArray:
        """Centers of the lesion's voxels, shape (n, 3); empty of a point."""
        if self.geometry is None or row >= len(self._lesions.voxels_ijk):
            return np.empty((0, 3))
        return self.geometry.ijk_to_ras_mm(self._lesions.voxels_ijk[row]).reshape(-1, 3)

    def sample(self, view: View) -> npt.NDArray[np.int64]:
        """One more than the row of the lesion that each pixel lies in, (height, width); else 0."""
        nothing = np.zeros((view.height_px, view.width_px), dtype=np.int64)
        if self.geometry is None or not len(self._filled):
            return nothing
        ijk = self.geometry.ras_mm_to_ijk(_corners_ras_mm(view))
        low = np.floor(ijk.min(axis=0)).astype(np.int64) - 1
        high = np.ceil(ijk.max(axis=0)).astype(np.int64) + 1
        near = self._filled[((self._low <= high) & (self._high >= low)).all(axis=1)]
        if not len(near):
            return nothing
        labels = np.zeros((high - low + 1).tolist(), dtype=np.int64)
        for row in near.tolist():
            voxels = self._lesions.voxels_ijk[row]
            inside = voxels[((voxels >= low) & (voxels <= high)).all(axis=1)] - low
            labels[tuple(inside.T)] = row + 1
        geometry = self.geometry.cropped(low.tolist(), (high + 1).tolist())
        return sample_labels(Volume(labels, geometry), view)

    def points_near(self, view: View, subject: int | None) -> Iterator[tuple[int, bool]]:
        """Rows of the points to draw on a view, the subject last, and whether it is the subject."""
        if len(self._centers_mm):
            offset_mm = (self._centers_mm - np.array(view.center_ras_mm)) @ view.frame
            across, down = np.array(view.plane.across), np.array(view.plane.down)
            half_mm = np.array([view.width_px, view.height_px]) * view.mm_per_px / 2
            in_plane = np.abs(np.stack([offset_mm @ across, offset_mm @ down], axis=1)) <= half_mm
            depth_mm = np.abs(offset_mm @ np.cross(across, down))
            shown = in_plane.all(axis=1) & (depth_mm <= POINT_REACH_MM)
            for row in np.flatnonzero(shown).tolist():
                if row != subject:
                    yield row, False
        if subject is not None:
            yield subject, True


def _corners_ras_mm(view: View) -> FloatArray:
    """The four corners of a view, shape (4, 3), without all the pixels between."""
    half_mm = np.array([view.width_px, view.height_px]) * view.mm_per_px / 2
    ways = np.array([(-1, -1), (-1, 1), (1, -1), (1, 1)]) * half_mm
    directions = np.array([view.plane.across, view.plane.down], dtype=np.float64)
    corners: FloatArray = np.array(view.center_ras_mm) + ways @ directions @ view.frame.T
    return corners
