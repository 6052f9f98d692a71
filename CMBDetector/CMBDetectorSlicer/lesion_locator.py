"""Says where lesions lie that a reader adds, by the anatomy that is in the scene with the result.

That is the map by which the software's own lesions were located. Where it was drawn in, it is what
it is now.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from CMBDetectorLib.errors import InputError
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.volume import Volume
from CMBDetectorSlicer.anatomy_overlay import structureOf
from CMBDetectorSlicer.segment_grids import jointGrid
from CMBDetectorSlicer.segments import isEmpty, labelsOnGrid, layersOf, segmentIds
from CMBDetectorSlicer.volumes import localToWorld, volumeFromNode

if TYPE_CHECKING:
    from CMBDetectorLib.results import Detection
    from CMBDetectorSlicer.result_nodes import ResultNodes
    from CMBDetectorSlicer.volumes import FloatArray


class LesionLocator:
    """To be a review session's ``locate``; remembers the anatomy as long as it stays the same."""

    def __init__(self, nodes: ResultNodes) -> None:
        self._nodes = nodes
        self._key: tuple[Any, ...] | None = None
        self._tissue: Any = None

    def __call__(self, detection: Detection, pointsRasMm: FloatArray) -> Detection:
        """The detection with its place; as it was if the result has no anatomy (any more).

        Points are the centers of its voxels, (n, 3), RAS mm in the volume's own space.

        Raises
        ------
        InputError
            If the volume or the anatomy lies under a non-linear transform.
        """
        from CMBDetectorLib.anatomy.located import located
        from CMBDetectorLib.anatomy.location import locate_lesions

        geometry = volumeFromNode(self._nodes.volumeNode).geometry
        tissue = self._tissueMap(geometry)
        if tissue is None:
            return detection
        slackMm = max(geometry.spacing_mm)
        (location,) = locate_lesions([pointsRasMm], tissue, slack_mm=slackMm)
        return located(detection, location)

    def _tissueMap(self, geometry: Geometry) -> Any:
        """None without an anatomy that has brain in it."""
        node = self._nodes.anatomyNode
        if node is None:
            return None
        toVolume = np.linalg.inv(localToWorld(self._nodes.volumeNode)) @ localToWorld(node)
        images = [image for image, _ids in layersOf(node.GetSegmentation())]
        times = tuple((id(image), image.GetMTime()) for image in images)
        ids = segmentIds(node.GetSegmentation())
        key = (node.GetID(), ids, times, toVolume.tobytes(), geometry.affine.tobytes())
        if key != self._key:
            self._tissue = _read(anatomyOf(node, toVolume, geometry))
            self._key = key
        return self._tissue


def anatomyOf(node: Any, toVolume: FloatArray, geometry: Geometry) -> Volume | None:
    """The structures of a result's anatomy as a label map in the volume's own space.

    On the anatomy's grid, over the whole field of view of the image; None if nothing is left of it.
    Segments that were added to it have no structure, and are left out.

    Parameters
    ----------
    toVolume
        4x4 matrix from the node's own space to the volume's.
    geometry
        Of the volume.
    """
    segmentation = node.GetSegmentation()
    images = [image for image, _ids in layersOf(segmentation) if not isEmpty(image)]
    if not images:
        return None
    fromVolume = np.linalg.inv(toVolume)
    field = geometry.corners_ras_mm() @ fromVolume[:3, :3].T + fromVolume[:3, 3]
    grid = jointGrid(images, field)
    labels = labelsOnGrid(segmentation, grid, np.eye(4), structureOf)
    return Volume(labels.array, Geometry(grid.shape, toVolume @ grid.affine))


def _read(anatomy: Volume | None) -> Any:
    from CMBDetectorLib.anatomy.tissue_map import read_tissue_map

    if anatomy is None:
        return None
    try:
        return read_tissue_map(anatomy)
    except InputError:
        # Of the values that the module itself has set, all are known: no tissue is left in it.
        return None
