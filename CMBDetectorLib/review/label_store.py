"""The label map of a session, and which voxels each lesion has, without searching the map."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from CMBDetectorLib.errors import InputError, UsageError
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.volume import Volume

IntArray = npt.NDArray[np.int64]
_LARGEST_ID = int(np.iinfo(np.int32).max)


class LabelStore:
    """A working copy of a label map that is written lesion by lesion.

    Lesions are kept as sorted places in the flat map. The map is stored with i running fastest, as
    NIfTI and VTK have it, so that 3D Slicer can take it without a copy in another order.

    Raises
    ------
    InputError
        If the map does not hold whole numbers from 0 on.
    """

    def __init__(self, label_map: Volume) -> None:
        array = label_map.array
        if array.dtype.kind not in "bui":
            raise InputError(f"a label map holds whole numbers, got an array of {array.dtype}")
        if array.size and (array.min() < 0 or array.max() > _LARGEST_ID):
            raise InputError(f"labels are 0 to {_LARGEST_ID}, got {array.min()} to {array.max()}")
        self.geometry: Geometry = label_map.geometry
        self._flat = array.astype(np.int32).ravel(order="F")

    @property
    def volume(self) -> Volume:
        """The live map; read-only, because writing is the session's."""
        array = self._flat.reshape(self.geometry.shape, order="F")
        array.setflags(write=False)
        return Volume(array, self.geometry)

    def voxels_by_label(self) -> dict[int, IntArray]:
        """The flat places of every label but 0."""
        places = np.flatnonzero(self._flat)
        labels = self._flat[places]
        order = np.argsort(labels, kind="stable")
        present, starts = np.unique(labels[order], return_index=True)
        parts = np.split(places[order], starts[1:]) if len(present) else []
        return {
            int(label): frozen(part) for label, part in zip(present.tolist(), parts, strict=True)
        }

    def places(self, voxels_ijk: npt.ArrayLike) -> IntArray:
        """Sorted flat places of voxels (n, 3), each once.

        Raises
        ------
        UsageError
            If they are no voxel indices of this grid.
        """
        ijk = np.asarray(voxels_ijk)
        if ijk.size == 0:
            return frozen(np.empty(0, dtype=np.int64))
        if ijk.ndim != 2 or ijk.shape[1] != 3 or ijk.dtype.kind not in "ui":
            raise UsageError(
                f"voxels are whole numbers of shape (n, 3), got {ijk.dtype} of shape {ijk.shape}"
            )
        if ijk.min() < 0 or (ijk >= self.geometry.shape).any():
            raise UsageError(
                f"voxels from {ijk.min(axis=0).tolist()} to {ijk.max(axis=0).tolist()} do not lie "
                f"within the image of {self.geometry.shape}"
            )
        flat = np.ravel_multi_index(tuple(ijk.T.astype(np.int64)), self.geometry.shape, order="F")
        return frozen(np.unique(flat))

    def voxels_ijk(self, places: IntArray) -> IntArray:
        """Voxel indices (n, 3) of flat places."""
        return np.stack(np.unravel_index(places, self.geometry.shape, order="F"), axis=1)

    def labels_at(self, places: IntArray) -> npt.NDArray[np.int32]:
        """What the map holds there."""
        return self._flat[places]

    def write(self, places: IntArray, label: int) -> None:
        """Set the map there; 0 clears it."""
        self._flat[places] = label


def frozen(places: IntArray) -> IntArray:
    """The same array, read-only: steps of the undo list share it."""
    places.setflags(write=False)
    return places
