"""Surfaces of the segments for 3D views.

Slicer's own conversion looks through the whole layer once per segment: seconds for hundreds of
lesions in a large image. Here each lesion is cut out first.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt
import slicer
import vtk

from CMBDetectorSlicer.segments import (
    imageToLocal,
    isEmpty,
    layersOf,
    segmentsOfLesions,
    surfaceName,
)
from CMBDetectorSlicer.volumes import imageArray, toMatrix

_SMOOTHING_STEPS = 15
_PASS_BAND = 0.1


def addSurfaces(segmentation: Any) -> None:
    """Give every segment a surface if one lacks it."""
    from scipy import ndimage

    changed = False
    for image, ids in layersOf(segmentation):
        segments = [segmentation.GetSegment(segmentId) for segmentId in ids]
        missing = [s for s in segments if s.GetRepresentation(surfaceName()) is None]
        if not missing:
            continue
        changed = True
        array = np.zeros((1, 1, 1), dtype=np.int16) if isEmpty(image) else imageArray(image)
        boxes = ndimage.find_objects(array)
        matrix = imageToLocal(image)
        start = np.array(image.GetExtent()[::2])
        for segment in missing:
            value = segment.GetLabelValue()
            box = boxes[value - 1] if 0 < value <= len(boxes) else None
            if box is None:
                surface = vtk.vtkPolyData()
            else:
                corner = start + [part.start for part in box]
                surface = _surface(array[box] == value, corner, matrix)
            segment.AddRepresentation(surfaceName(), surface)
    if changed:
        # Added segment by segment, so the segmentation does not know by itself.
        segmentation.InvokeEvent(slicer.vtkSegmentation.ContainedRepresentationNamesModified)


def surfacesBut(segmentation: Any, lesionIds: Collection[int]) -> dict[str, Any]:
    """The surfaces there are, by segment id, without those of some lesions."""
    return {
        segmentId: surface
        for lesionId, segmentId in segmentsOfLesions(segmentation).items()
        if lesionId not in lesionIds
        and (surface := segmentation.GetSegment(segmentId).GetRepresentation(surfaceName()))
    }


def putBack(segmentation: Any, surfaces: dict[str, Any]) -> None:
    """Give segments that lost their surface the one they had.

    A segmentation drops all surfaces when voxels of its layer change, of whichever lesion.
    """
    for segmentId, surface in surfaces.items():
        segment = segmentation.GetSegment(segmentId)
        if segment is not None and segment.GetRepresentation(surfaceName()) is None:
            segment.AddRepresentation(surfaceName(), surface)


def removeSurfaces(segmentation: Any) -> None:
    """Take all surfaces away."""
    if segmentation.ContainsRepresentation(surfaceName()):
        segmentation.RemoveRepresentation(surfaceName())


def _surface(
    mask: npt.NDArray[np.bool_], corner: npt.NDArray[Any], matrix: npt.NDArray[np.float64]
) -> Any:
    """The smoothed surface of a small mask whose first voxel is ``corner``, in RAS mm."""
    padded = np.pad(mask, 1).astype(np.uint8)
    image = vtk.vtkImageData()
    image.SetDimensions(*padded.shape)
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    imageArray(image)[...] = padded
    edges = vtk.vtkDiscreteFlyingEdges3D()
    edges.SetInputData(image)
    edges.SetValue(0, 1)
    place = np.eye(4)
    place[:3, 3] = corner - 1
    transform = vtk.vtkTransform()
    transform.SetMatrix(toMatrix(matrix @ place))
    placed = vtk.vtkTransformPolyDataFilter()
    placed.SetInputConnection(edges.GetOutputPort())
    placed.SetTransform(transform)
    smooth = vtk.vtkWindowedSincPolyDataFilter()
    smooth.SetInputConnection(placed.GetOutputPort())
    smooth.SetNumberOfIterations(_SMOOTHING_STEPS)
    smooth.SetPassBand(_PASS_BAND)
    smooth.BoundarySmoothingOff()
    smooth.FeatureEdgeSmoothingOff()
    smooth.NonManifoldSmoothingOn()
    smooth.NormalizeCoordinatesOn()
    normals = vtk.vtkPolyDataNormals()
    normals.SetInputConnection(smooth.GetOutputPort())
    # In left-handed voxel axes the faces come out with their inside out.
    normals.ConsistencyOn()
    normals.AutoOrientNormalsOn()
    normals.SplittingOff()
    normals.Update()
    surface = vtk.vtkPolyData()
    surface.DeepCopy(normals.GetOutput())
    return surface
