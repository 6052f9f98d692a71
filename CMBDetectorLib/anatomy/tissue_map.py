"""An anatomical label map made ready for questions: what lies at a point, and how far is what."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from CMBDetectorLib.anatomy.label_values import (
    BRAIN,
    PARENCHYMA,
    Kind,
    Lobe,
    Side,
    Structure,
    structures_in,
)
from CMBDetectorLib.anatomy.map_values import (
    LARGEST_VALUE,
    known_values,
    some_of,
    whole_numbers,
)
from CMBDetectorLib.anatomy.surfaces import outermost, surroundings
from CMBDetectorLib.errors import InputError
from CMBDetectorLib.geometry import FloatArray, Geometry
from CMBDetectorLib.volume import Volume

BoolArray = npt.NDArray[np.bool_]
CodeArray = npt.NDArray[np.uint8]
IntArray = npt.NDArray[np.int64]

# A point never lies exactly between two voxels then, where the order of the axes would choose.
_OFF_GRID_MM = np.array([1.3e-4, 1.7e-4, 1.1e-4])


@dataclass(frozen=True, eq=False)
class Cloud:
    """Voxels as points, for the nearest of them; distances are to the voxels' centers.

    ``points_ras_mm`` is (n, 3), ``codes`` says which structure each voxel is.
    """

    points_ras_mm: FloatArray
    codes: CodeArray
    tree: Any

    @property
    def is_empty(self) -> bool:
        """Whether the map has no such voxel."""
        return len(self.points_ras_mm) == 0

    def nearest(
        self, points_ras_mm: FloatArray, within_mm: float = np.inf
    ) -> tuple[FloatArray, IntArray]:
        """Distance in mm and row of the nearest voxel; infinite and 0 where none is within."""
        if self.is_empty or len(points_ras_mm) == 0:
            n = len(points_ras_mm)
            return np.full(n, np.inf), np.zeros(n, dtype=np.int64)
        # The tree leaves out what is exactly at its bound.
        bound = np.nextafter(within_mm, np.inf)
        distance, row = self.tree.query(points_ras_mm, distance_upper_bound=bound)
        return distance, np.where(np.isfinite(distance), row, 0).astype(np.int64)


@dataclass(eq=False)
class TissueMap:
    """A label map in canonical axes, its known structures and clouds of them, made when asked for.

    Attributes
    ----------
    volume
        The map with axes closest to right, anterior, superior; whole numbers.
    structures
        What is in the map; a code is a position in this list. Code 0 is what is outside of it.
    codes
        Of every voxel in the brain's box (with a voxel around), on ``geometry``.
    """

    volume: Volume
    structures: tuple[Structure, ...]
    code_of_value: CodeArray
    codes: CodeArray
    geometry: Geometry
    _clouds: dict[object, Cloud] = field(default_factory=dict)
    _centers: dict[tuple[str, Side], tuple[FloatArray, int]] = field(default_factory=dict)

    @property
    def largest_spacing_mm(self) -> float:
        """Of the map's voxels."""
        return max(self.geometry.spacing_mm)

    def has(self, *kinds: Kind, side: Side | None = None) -> bool:
        """Whether the map has voxels of one of these kinds (on this side)."""
        return bool(self._codes_of(kinds, side, None).size)

    def codes_at(self, points_ras_mm: FloatArray) -> tuple[CodeArray, BoolArray]:
        """The structure's code at each point, and whether the point is in the map at all."""
        geometry = self.volume.geometry
        index = np.rint(geometry.ras_mm_to_ijk(points_ras_mm + _OFF_GRID_MM)).astype(np.int64)
        inside = np.asarray(((index >= 0) & (index < np.array(geometry.shape))).all(axis=-1))
        codes: CodeArray = np.zeros(len(points_ras_mm), dtype=np.uint8)
        values = self.volume.array[tuple(index[inside].T)]
        codes[inside] = self.code_of_value[values.astype(np.int64)]
        return codes, inside

    def of_kind(self, *kinds: Kind) -> BoolArray:
        """For every code whether its structure is of one of these kinds."""
        return np.array([structure.kind in kinds for structure in self.structures])

    def cloud(
        self,
        *kinds: Kind,
        side: Side | None = None,
        with_lobe: bool | None = None,
        named: tuple[str, ...] = (),
    ) -> Cloud:
        """Outermost voxels of these kinds, or of names (without side); of a side; with a lobe.

        Only outermost voxels can be the nearest to a point outside of them.
        """
        key = (kinds, side, with_lobe, named)
        if key not in self._clouds:
            codes = self._codes_of(kinds, side, with_lobe, named)
            if codes.size:
                inside = np.isin(np.arange(256), codes)[self.codes]
                self._clouds[key] = self.cloud_of(outermost(inside))
            else:
                self._clouds[key] = self.cloud_of(np.zeros((1, 1, 1), dtype=np.bool_))
        return self._clouds[key]

    def outside_cloud(self) -> Cloud:
        """Voxels just outside the brain; fluid and gaps enclosed by the brain are no surface."""
        key = "outside"
        if key not in self._clouds:
            inside = np.isin(np.arange(256), self._codes_of(BRAIN, None, None))[self.codes]
            self._clouds[key] = self.cloud_of(surroundings(inside))
        return self._clouds[key]

    def cloud_of(self, mask: BoolArray) -> Cloud:
        """The voxels of a mask on the brain's box."""
        index = np.argwhere(mask)
        points = self.geometry.ijk_to_ras_mm(index).reshape(-1, 3)
        tree = cKDTree(points, balanced_tree=False, compact_nodes=False) if len(points) else None
        codes = self.codes[tuple(index.T)] if len(points) else np.zeros(0, dtype=np.uint8)
        return Cloud(points, codes, tree)

    def centers_of_mass(self) -> dict[tuple[str, Side], tuple[FloatArray, int]]:
        """Of every parenchymal structure by name without side, and side: RAS mm, voxels."""
        if self._centers:
            return self._centers
        n = np.bincount(self.codes.ravel(), minlength=len(self.structures))
        sums = np.zeros((len(self.structures), 3))
        for axis, length in enumerate(self.codes.shape):
            for position in range(length):
                plane = np.take(self.codes, position, axis=axis)
                sums[:, axis] += position * np.bincount(
                    plane.ravel(), minlength=len(self.structures)
                )
        for code, structure in enumerate(self.structures):
            if structure.kind in PARENCHYMA and n[code]:
                center = self.geometry.ijk_to_ras_mm(sums[code] / n[code])
                self._centers[_without_side(structure), structure.side] = center, int(n[code])
        return self._centers

    def _codes_of(
        self,
        kinds: Collection[Kind],
        side: Side | None,
        with_lobe: bool | None,
        named: tuple[str, ...] = (),
    ) -> IntArray:
        return np.array(
            [
                code
                for code, structure in enumerate(self.structures)
                if (structure.kind in kinds or _without_side(structure) in named)
                and side in (None, structure.side)
                and (with_lobe is None or bool(structure.lobe) == with_lobe)
            ],
            dtype=np.int64,
        )

    def lobes(self) -> tuple[Lobe, ...]:
        """For every code the lobe that its value names."""
        return tuple(structure.lobe for structure in self.structures)


def _without_side(structure: Structure) -> str:
    name = structure.name.removeprefix("Left-").removeprefix("Right-")
    return name.replace("-lh-", "-").replace("-rh-", "-")


def read_tissue_map(anatomy: Volume) -> TissueMap:
    """Check the values and make the map ready.

    Raises
    ------
    InputError
        If the map has values that are not known or not whole numbers, or no brain.
    """
    stored = whole_numbers(anatomy.array)
    values = known_values(stored)
    volume = anatomy.with_array(stored).canonical()
    labels = volume.array
    structures = structures_in(values)
    if not any(structure.kind in PARENCHYMA for structure in structures.values()):
        raise InputError(
            f"the anatomy file has no brain in it (values {some_of(values)}); expected a label map "
            "in FreeSurfer's values, such as aseg, aparc+aseg or one of SynthSeg or FastSurfer"
        )
    listed = (Structure("Unknown", "outside"), *(structures[v] for v in values if v))
    code_of_value = np.zeros(LARGEST_VALUE + 1, dtype=np.uint8)
    code_of_value[[v for v in values if v]] = np.arange(1, len(listed))
    is_brain = np.array([structure.kind in BRAIN for structure in listed])[code_of_value]
    start, stop = _box_of(labels, is_brain)
    box = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    codes = np.ascontiguousarray(code_of_value[labels[box]])
    geometry = volume.geometry.cropped(start, stop)
    return TissueMap(volume, listed, code_of_value, codes, geometry)


def _box_of(
    labels: npt.NDArray[Any], is_wanted: BoolArray
) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Start and stop of the box of these values with a voxel around it, within the map."""
    seen = [np.zeros(n, dtype=np.bool_) for n in labels.shape]
    for k in range(labels.shape[2]):
        wanted = is_wanted[labels[:, :, k]]
        seen[0] |= wanted.any(axis=1)
        seen[1] |= wanted.any(axis=0)
        seen[2][k] = wanted.any()
    low = [max(int(np.flatnonzero(one)[0]) - 1, 0) for one in seen]
    high = [min(int(np.flatnonzero(one)[-1]) + 2, len(one)) for one in seen]
    return (low[0], low[1], low[2]), (high[0], high[1], high[2])
