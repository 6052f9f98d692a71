"""A segmentation node with one segment per lesion, all in one shared layer.

The value of a voxel in the layer is the id of its lesion. Each segment carries that id as a tag,
so that the tie survives renaming, saving, and a segment editor that moves segments to other layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import slicer
import vtk
from vtk.util.numpy_support import get_vtk_array_type

from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.review.lesions import ReviewedLesion
from CMBDetectorLib.volume import Volume
from CMBDetectorSlicer.terminology import setTerminology, verdictColor
from CMBDetectorSlicer.volumes import (
    imageArray,
    localToWorld,
    toArray,
    toMatrix,
    volumeFromNode,
)

LESION_TAG = "CMBDetector.Lesion"
STRUCTURE_PREFIX = "anatomy_"
_PREFIX = "cmb_"
_SAME_GRID_VOXELS = 1e-3


def segmentIdOf(lesionId: int) -> str:
    """The segment id that a lesion is given."""
    return f"{_PREFIX}{lesionId:04d}"


def lesionIdOf(segmentId: str) -> int | None:
    """The lesion that a segment id was made for; None for any other segment."""
    digits = segmentId.removeprefix(_PREFIX)
    return int(digits) if segmentId.startswith(_PREFIX) and digits.isdecimal() else None


def taggedLesionId(segment: Any) -> int | None:
    """The lesion that a segment is tagged with; None where it bears no such tag."""
    text = textTag(segment, LESION_TAG)
    return int(text) if text.isdecimal() else None


def textTag(segment: Any, name: str) -> str:
    """A segment's tag, empty where it bears none of this name."""
    value = vtk.reference("")
    return str(value) if segment.GetTag(name, value) else ""


def segmentsOfLesions(segmentation: Any) -> dict[int, str]:
    """Segment id by lesion id. Of two segments with the same tag (a copy), the first one counts."""
    found: dict[int, str] = {}
    for segmentId in segmentIds(segmentation):
        lesionId = taggedLesionId(segmentation.GetSegment(segmentId))
        if lesionId is not None:
            found.setdefault(lesionId, segmentId)
    return found


def segmentIds(segmentation: Any) -> tuple[str, ...]:
    """The ids of all segments, in their order."""
    number = segmentation.GetNumberOfSegments()
    return tuple(segmentation.GetNthSegmentID(index) for index in range(number))


def newSegmentation(labelMap: Volume, lesions: Iterable[ReviewedLesion]) -> Any:
    """A vtkSegmentation with a segment per lesion; one layer that holds a copy of the label map."""
    segmentation = slicer.vtkSegmentation()
    segmentation.SetSourceRepresentationName(labelmapName())
    layer = _newLayer(labelMap)
    for lesion in lesions:
        _addSegment(segmentation, lesion, layer)
    return segmentation


def oneSegment(mask: Volume) -> Any:
    """A vtkSegmentation with a single segment: the voxels of a mask (uint8, 0 and 1)."""
    segmentation = slicer.vtkSegmentation()
    segmentation.SetSourceRepresentationName(labelmapName())
    segment = slicer.vtkSegment()
    segment.SetName("Microbleeds")
    segment.SetColor(*verdictColor("unreviewed"))
    setTerminology(segment)
    segment.SetLabelValue(1)
    segment.AddRepresentation(labelmapName(), orientedImage(mask))
    segmentation.AddSegment(segment, "cmb_all")
    return segmentation


def updateSegments(
    segmentation: Any,
    labelMap: Volume,
    lesions: Sequence[ReviewedLesion],
    lesionIds: Iterable[int],
    *,
    voxelsChanged: bool,
) -> None:
    """Bring the segments of these lesions, and the layer if voxels changed, to the session's state.

    Segments stay the same objects, so that a segment editor keeps its selection. Segments that
    belong to no lesion (drawn a moment ago) are left alone, and so are empty ones: whoever has
    erased a lesion may go on drawing in its segment.
    """
    present = {lesion.id: lesion for lesion in lesions}
    segmentOf = segmentsOfLesions(segmentation)
    for lesionId in set(segmentOf) - set(present):
        if hasVoxels(segmentation.GetSegment(segmentOf[lesionId])):
            segmentation.RemoveSegment(segmentOf.pop(lesionId))
    for lesionId in lesionIds:
        if lesionId in present and lesionId in segmentOf:
            _dress(segmentation.GetSegment(segmentOf[lesionId]), present[lesionId])
    missing = [lesion for lesionId, lesion in present.items() if lesionId not in segmentOf]
    if voxelsChanged or missing:
        layer = _writeLayer(segmentation, labelMap, segmentOf)
        for lesion in missing:
            _addSegment(segmentation, lesion, layer)


def labelsOnVolume(
    segmentationNode: Any, volumeNode: Any, valueOf: Callable[[str], int | None]
) -> Volume:
    """The segments as one label map on the grid and in the own space of a volume.

    Parameters
    ----------
    valueOf
        The value of a segment, by its id; None leaves the segment out. Where segments overlap,
        the later one wins.

    Raises
    ------
    InputError
        If the volume has no voxels, or either node lies under a non-linear transform.
    """
    grid = volumeFromNode(volumeNode).geometry
    toVolume = np.linalg.inv(localToWorld(volumeNode)) @ localToWorld(segmentationNode)
    return labelsOnGrid(segmentationNode.GetSegmentation(), grid, toVolume, valueOf)


def labelsOnGrid(
    segmentation: Any,
    grid: Geometry,
    toGridSpace: npt.NDArray[np.float64],
    valueOf: Callable[[str], int | None],
) -> Volume:
    """The same on any grid; ``toGridSpace`` takes the segmentation's space to the grid's."""
    labels = np.zeros(grid.shape, dtype=np.int32)
    for image, ids in layersOf(segmentation):
        values = {}
        for segmentId in ids:
            value = valueOf(segmentId)
            if value is not None:
                values[segmentation.GetSegment(segmentId).GetLabelValue()] = value
        if values and not isEmpty(image):
            _paint(labels, grid, image, toGridSpace, values)
    return Volume(labels, grid)


def layersOf(segmentation: Any) -> list[tuple[Any, list[str]]]:
    """Each layer's image with the ids of the segments in it, in the order of the segments."""
    layers: list[tuple[Any, list[str]]] = []
    for segmentId in segmentIds(segmentation):
        image = segmentation.GetSegment(segmentId).GetRepresentation(labelmapName())
        for other, ids in layers:
            if other is image:
                ids.append(segmentId)
                break
        else:
            if image is not None:
                layers.append((image, [segmentId]))
    return layers


def dropVoxels(segmentationNode: Any) -> None:
    """Let go of the voxels of a segmentation of a result that is about to be deleted.

    On its own, each of the segments of a shared layer would be wiped out of the whole layer first:
    half a minute for 500 lesions. Other segmentations are left alone.
    """
    segmentation = segmentationNode.GetSegmentation()
    ids = segmentIds(segmentation)
    areStructures = any(segmentId.startswith(STRUCTURE_PREFIX) for segmentId in ids)
    if areStructures or segmentsOfLesions(segmentation):
        for segmentId in ids:
            segmentation.GetSegment(segmentId).RemoveAllRepresentations()


def hasVoxels(segment: Any) -> bool:
    """Whether any voxel belongs to the segment."""
    image = segment.GetRepresentation(labelmapName())
    if image is None or isEmpty(image):
        return False
    return bool((imageArray(image) == segment.GetLabelValue()).any())


def isEmpty(image: Any) -> bool:
    """Whether an image has no voxels, as that of a segment in which nothing was drawn yet."""
    return image.GetPointData().GetScalars() is None or image.GetNumberOfPoints() == 0


def orientedImage(volume: Volume) -> Any:
    """A copy of a volume as the kind of image that segments hold."""
    image = slicer.vtkOrientedImageData()
    image.SetDimensions(*volume.geometry.shape)
    scalarType = get_vtk_array_type(volume.array.dtype)
    image.AllocateScalars(scalarType, 1)
    imageArray(image)[...] = volume.array
    image.SetGeometryFromImageToWorldMatrix(toMatrix(volume.geometry.affine))
    return image


def labelmapName() -> str:
    """Slicer's name of the representation by voxels."""
    return str(slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName())


def surfaceName() -> str:
    """Slicer's name of the representation by surfaces."""
    return str(slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName())


def _addSegment(segmentation: Any, lesion: ReviewedLesion, layer: Any) -> None:
    segment = slicer.vtkSegment()
    segment.SetLabelValue(lesion.id)
    segment.SetTag(LESION_TAG, str(lesion.id))
    setTerminology(segment)
    _dress(segment, lesion)
    segment.AddRepresentation(labelmapName(), layer)
    segmentation.AddSegment(segment, segmentIdOf(lesion.id))


def _dress(segment: Any, lesion: ReviewedLesion) -> None:
    segment.SetName(f"CMB {lesion.id}")
    segment.SetColor(*verdictColor(lesion.verdict))


def _writeLayer(segmentation: Any, labelMap: Volume, segmentOf: dict[int, str]) -> Any:
    """Put the label map into the one layer of all lesions; make one where there is none."""
    layer = _ownLayer(segmentation, labelMap, segmentOf)
    if layer is not None:
        if not np.array_equal(imageArray(layer), labelMap.array):
            imageArray(layer)[...] = labelMap.array
            layer.Modified()
        return layer
    layer = _newLayer(labelMap)
    for lesionId, segmentId in segmentOf.items():
        segment = segmentation.GetSegment(segmentId)
        # The value first: the other way round the segment would for a moment be another lesion.
        segment.SetLabelValue(lesionId)
        segment.AddRepresentation(labelmapName(), layer)
    return layer


def _ownLayer(segmentation: Any, labelMap: Volume, segmentOf: dict[int, str]) -> Any | None:
    """The layer if all lesions, and nothing else, are in one on the label map's grid."""
    layers = layersOf(segmentation)
    if len(layers) != 1 or not segmentOf:
        return None
    layer, ids = layers[0]
    ours = {segmentId: lesionId for lesionId, segmentId in segmentOf.items()}
    values = {segmentId: segmentation.GetSegment(segmentId).GetLabelValue() for segmentId in ids}
    if values != ours or isEmpty(layer):
        return None
    extentStart = layer.GetExtent()[::2]
    if extentStart != (0, 0, 0) or layer.GetDimensions() != labelMap.geometry.shape:
        return None
    geometry = Geometry(layer.GetDimensions(), imageToLocal(layer))
    fits = np.can_cast(_smallestType(labelMap), imageArray(layer).dtype)
    same = geometry.is_close(labelMap.geometry, tolerance_voxels=_SAME_GRID_VOXELS)
    return layer if fits and same else None


def _newLayer(labelMap: Volume) -> Any:
    return orientedImage(labelMap.with_array(labelMap.array.astype(_smallestType(labelMap))))


def _smallestType(labelMap: Volume) -> npt.DTypeLike:
    """int16, which every program reads, or int32 where a lesion's number needs it."""
    largest = int(labelMap.array.max(initial=0))
    return np.int16 if largest <= np.iinfo(np.int16).max else np.int32


def imageToLocal(image: Any) -> npt.NDArray[np.float64]:
    """4×4 matrix from an oriented image's voxel indices to RAS mm."""
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    return toArray(matrix)


def _paint(
    labels: npt.NDArray[np.int32],
    grid: Geometry,
    image: Any,
    toVolume: npt.NDArray[np.float64],
    values: dict[int, int],
) -> None:
    """Write the voxels of a layer that have one of the values into the grid."""
    array = imageArray(image)
    start = np.array(image.GetExtent()[::2])
    table = np.zeros(max(int(array.max()), *values) + 1, dtype=np.int32)
    for value, label in values.items():
        table[value] = label
    layerToGrid = np.linalg.inv(grid.affine) @ toVolume @ imageToLocal(image)
    stop = start + array.shape
    corners = np.array(np.meshgrid(*zip(start, stop, strict=True), indexing="ij")).reshape(3, -1).T
    drift = _through(layerToGrid, corners) - corners
    if np.abs(drift).max() <= _SAME_GRID_VOXELS:
        inGrid = np.maximum(start, 0), np.minimum(stop, grid.shape)
        if (inGrid[0] >= inGrid[1]).any():
            return
        target = labels[tuple(map(slice, *inGrid))]
        source = table[array[tuple(map(slice, inGrid[0] - start, inGrid[1] - start))]]
        np.copyto(target, source, where=source > 0)
        return
    # Another grid: each voxel of the volume takes the value at its center. Only the box that
    # the layer's labelled voxels reach is looked at.
    labelled = table[array] > 0
    if not labelled.any():
        return
    others = ((1, 2), (0, 2), (0, 1))
    along = [np.flatnonzero(labelled.any(axis=axes)) for axes in others]
    low = np.array([int(one[0]) for one in along]) + start - 1
    high = np.array([int(one[-1]) for one in along]) + start + 1
    box = np.array(np.meshgrid(*zip(low, high, strict=True), indexing="ij")).reshape(3, -1).T
    reached = _through(layerToGrid, box)
    first = np.maximum(np.floor(reached.min(axis=0)).astype(int), 0)
    last = np.minimum(np.ceil(reached.max(axis=0)).astype(int) + 1, grid.shape)
    if (first >= last).any():
        return
    gridToLayer = np.linalg.inv(layerToGrid)
    for k in range(first[2], last[2]):
        plane = np.stack(
            np.meshgrid(np.arange(first[0], last[0]), np.arange(first[1], last[1]), [k]), axis=-1
        ).reshape(-1, 3)
        index = np.rint(_through(gridToLayer, plane)).astype(int) - start
        inside = ((index >= 0) & (index < array.shape)).all(axis=1)
        plane, index = plane[inside], index[inside]
        found = table[array[tuple(index.T)]]
        labels[tuple(plane[found > 0].T)] = found[found > 0]


def _through(matrix: npt.NDArray[np.float64], points: npt.ArrayLike) -> npt.NDArray[np.float64]:
    return np.asarray(points, dtype=np.float64) @ matrix[:3, :3].T + matrix[:3, 3]
