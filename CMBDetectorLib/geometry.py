"""The one owner of image shape and affine."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from CMBDetectorLib.errors import InputError

FloatArray = npt.NDArray[np.float64]

_LARGEST_NUMBER = 1e12


@dataclass(frozen=True, eq=False)
class Geometry:
    """Where the voxels of an image lie in the patient.

    Parameters
    ----------
    shape
        Number of voxels along i, j, k; each at least 1.
    affine
        4×4 matrix from voxel centres (i, j, k) to RAS coordinates in mm (the convention of NIfTI
        and nibabel; ITK's LPS differs in the sign of the first two rows).

    Raises
    ------
    InputError
        If the shape is not three positive integers, or the affine is not a finite, invertible
        4×4 matrix with the last row (0, 0, 0, 1).
    """

    shape: tuple[int, int, int]
    affine: FloatArray

    def __post_init__(self) -> None:
        shape = tuple(int(n) for n in self.shape)
        if len(shape) != 3 or min(shape) < 1:
            raise InputError(f"a volume has 3 dimensions of at least 1 voxel, got shape {shape}")
        affine = np.array(self.affine, dtype=np.float64)
        if affine.shape != (4, 4):
            raise InputError(f"an affine is a 4x4 matrix, got shape {affine.shape}")
        if not np.isfinite(affine).all() or np.abs(affine).max() > _LARGEST_NUMBER:
            raise InputError(
                "the affine holds NaN, infinite or immense values; repair the image's header"
            )
        if not np.allclose(affine[3], (0.0, 0.0, 0.0, 1.0)):
            raise InputError(
                f"the affine's last row is (0, 0, 0, 1), got {affine[3].tolist()}; "
                "repair the image's header"
            )
        columns = np.linalg.norm(affine[:3, :3], axis=0)
        if columns.min() == 0 or abs(np.linalg.det(affine[:3, :3] / columns)) < 1e-6:
            raise InputError(
                "the affine is singular (its voxel axes do not span space); "
                "repair the image's header"
            )
        affine.setflags(write=False)
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "affine", affine)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Geometry):
            return NotImplemented
        return self.shape == other.shape and np.array_equal(self.affine, other.affine)

    def __hash__(self) -> int:
        return hash((self.shape, self.affine.tobytes()))

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between voxel centres along i, j, k in mm."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0).tolist()
        return x, y, z

    @property
    def voxel_volume_mm3(self) -> float:
        """Volume of one voxel in mm³, also where the axes are not perpendicular."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    @property
    def extent_mm(self) -> tuple[float, float, float]:
        """Size of the field of view along i, j, k in mm, from voxel edge to voxel edge."""
        x, y, z = (n * s for n, s in zip(self.shape, self.spacing_mm, strict=True))
        return x, y, z

    @property
    def orientation(self) -> FloatArray:
        """Orientation array of nibabel, shape (3, 2): closest RAS axis and direction per axis.

        Worked out here, because 3D Slicer needs it before nibabel is installed there.
        """
        directions = self.affine[:3, :3] / np.array(self.spacing_mm)
        # The nearest orthogonal matrix: no two axes then compete for one direction by shear.
        left, _, right = np.linalg.svd(directions)
        cosines = left @ right
        orientation = np.zeros((3, 2))
        free = np.ones(3, dtype=bool)
        for axis in np.argsort(-np.abs(cosines).max(axis=0), kind="stable"):
            closest = int(np.argmax(np.where(free, np.abs(cosines[:, axis]), -1.0)))
            orientation[axis] = closest, 1 if cosines[closest, axis] >= 0 else -1
            free[closest] = False
        return orientation

    @property
    def axis_codes(self) -> str:
        """Closest anatomical direction of i, j, k, for example ``"LPS"``."""
        return "".join("LPIRAS"[int(axis) + 3 * (way > 0)] for axis, way in self.orientation)

    @property
    def shear(self) -> float:
        """Largest absolute cosine between two voxel axes; 0 where all are perpendicular."""
        directions = self.affine[:3, :3] / np.linalg.norm(self.affine[:3, :3], axis=0)
        cosines = directions.T @ directions
        return float(np.abs(cosines[np.triu_indices(3, 1)]).max())

    @property
    def obliquity_deg(self) -> float:
        """Largest angle between a voxel axis and its closest anatomical axis, in degrees."""
        directions = self.affine[:3, :3] / np.linalg.norm(self.affine[:3, :3], axis=0)
        cosines = np.clip(np.abs(directions).max(axis=0), 0.0, 1.0)
        return float(np.degrees(np.arccos(cosines.min())))

    @property
    def slice_axis(self) -> int:
        """Voxel axis across the slices.

        The axis whose spacing is larger than each of the two others by more than a fifth (a
        stack of slices), else the one closest to the patient's inferior-superior direction.
        """
        spacing = self.spacing_mm
        widest = int(np.argmax(spacing))
        others = [s for axis, s in enumerate(spacing) if axis != widest]
        if spacing[widest] > 1.2 * max(others):
            return widest
        return int(np.flatnonzero(self.orientation[:, 0] == 2)[0])

    @property
    def center_ras_mm(self) -> FloatArray:
        """Centre of the field of view, shape (3,), RAS mm."""
        return self.ijk_to_ras_mm((np.array(self.shape) - 1) / 2)

    def ijk_to_ras_mm(self, ijk: npt.ArrayLike) -> FloatArray:
        """Voxel coordinates, shape (..., 3), to RAS mm, same shape."""
        return np.asarray(ijk, dtype=np.float64) @ self.affine[:3, :3].T + self.affine[:3, 3]

    def ras_mm_to_ijk(self, ras_mm: npt.ArrayLike) -> FloatArray:
        """RAS mm, shape (..., 3), to continuous voxel coordinates, same shape."""
        offset = np.asarray(ras_mm, dtype=np.float64) - self.affine[:3, 3]
        return offset @ np.linalg.inv(self.affine[:3, :3]).T

    def corners_ras_mm(self) -> FloatArray:
        """The eight outer corners (voxel edges, not centres) of the field of view, (8, 3)."""
        ends = [(-0.5, n - 0.5) for n in self.shape]
        return self.ijk_to_ras_mm(list(itertools.product(*ends)))

    def index_map_from(self, other: Geometry) -> FloatArray:
        """4×4 matrix from voxel indices of ``other`` to voxel indices of this geometry."""
        return np.linalg.inv(self.affine) @ other.affine

    def is_close(self, other: Geometry, *, tolerance_voxels: float = 1e-3) -> bool:
        """Whether both are the same grid: equal shape, and no corner differs by more."""
        if self.shape != other.shape:
            return False
        drift_voxels = self.ras_mm_to_ijk(other.corners_ras_mm()) - self.ras_mm_to_ijk(
            self.corners_ras_mm()
        )
        return bool(np.abs(drift_voxels).max() <= tolerance_voxels)

    def reoriented(self, orientation: npt.ArrayLike) -> Geometry:
        """This grid with its axes permuted and flipped; voxels keep their places in space.

        ``orientation`` is nibabel's (3, 2) array: target axis and direction (±1) of i, j, k.
        """
        shape = [0, 0, 0]
        to_old_ijk = np.zeros((4, 4))
        to_old_ijk[3, 3] = 1
        for source, (target, way) in enumerate(np.asarray(orientation).astype(int).tolist()):
            shape[target] = self.shape[source]
            to_old_ijk[source, target] = way
            to_old_ijk[source, 3] = 0 if way > 0 else self.shape[source] - 1
        return Geometry((shape[0], shape[1], shape[2]), self.affine @ to_old_ijk)

    def cropped(self, start: Sequence[int], stop: Sequence[int]) -> Geometry:
        """The sub-grid of voxels ``start <= index < stop``; may reach beyond this grid."""
        affine = self.affine.copy()
        affine[:3, 3] = self.ijk_to_ras_mm(start)
        shape = [int(b) - int(a) for a, b in zip(start, stop, strict=True)]
        return Geometry((shape[0], shape[1], shape[2]), affine)

    def with_spacing(self, spacing_mm: Sequence[float]) -> Geometry:
        """A grid with other spacing over the same field of view.

        The outer edge of the first voxel stays where it is; the number of voxels is rounded, at
        least 1, so that the far edge moves by at most half a voxel.
        """
        old = np.array(self.spacing_mm)
        new = np.array(spacing_mm, dtype=np.float64)
        shape = np.maximum(1, np.round(np.array(self.shape) * old / new)).astype(int)
        ratio = new / old
        affine = self.affine.copy()
        affine[:3, :3] = self.affine[:3, :3] * ratio
        affine[:3, 3] = self.ijk_to_ras_mm((ratio - 1) / 2)
        return Geometry((int(shape[0]), int(shape[1]), int(shape[2])), affine)
