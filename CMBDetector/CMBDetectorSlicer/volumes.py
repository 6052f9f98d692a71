"""Volumes of the scene as the library's volumes, and back to where they are in the world.

A volume is always handed over in its own (local) space: what its file says, without the parent
transform. Results are put back under the same transform, so they lie on the image wherever it is
moved to. Positions are mapped through matrices, never by array index: 3D Slicer reverses axes of
some files when it loads them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from CMBDetectorLib.errors import InputError
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.volume import Volume

FloatArray = npt.NDArray[np.float64]


def volumeFromNode(volumeNode: Any) -> Volume:
    """The image of a scalar volume node in the node's own space, indexed (i, j, k).

    The array is a view of the node's voxels: change nothing in it.

    Raises
    ------
    InputError
        If the node holds no voxels, or is not a volume with one value per voxel.
    """
    image = _imageOf(volumeNode)
    if image.GetNumberOfScalarComponents() != 1:
        raise InputError(
            f"'{volumeNode.GetName()}' has {image.GetNumberOfScalarComponents()} values per voxel, "
            "expected one; select a plain (scalar) volume"
        )
    return Volume(imageArray(image), Geometry(image.GetDimensions(), ijkToLocal(volumeNode)))


def maskFromNode(maskNode: Any, volumeNode: Any) -> Volume:
    """A label map or all segments of a segmentation as a mask (bool) in the volume's own space.

    Parent transforms of both are honored. A label map keeps its own grid, which may differ from
    the volume's; a segmentation comes on the volume's grid.

    Raises
    ------
    InputError
        If the mask is empty, or a parent transform is not linear.
    """
    requireLinearTransform(maskNode)
    requireLinearTransform(volumeNode)
    if maskNode.IsA("vtkMRMLSegmentationNode"):
        from CMBDetectorSlicer.segments import labelsOnVolume

        labels = labelsOnVolume(maskNode, volumeNode, lambda _segmentId: 1)
        mask = labels.with_array(labels.array > 0)
    else:
        labels = volumeFromNode(maskNode)
        toVolume = np.linalg.inv(localToWorld(volumeNode)) @ localToWorld(maskNode)
        geometry = Geometry(labels.geometry.shape, toVolume @ labels.geometry.affine)
        mask = Volume(labels.array > 0, geometry)
    if not mask.array.any():
        raise InputError(
            f"the mask '{maskNode.GetName()}' is empty; select one that covers the brain, or none"
        )
    return mask


def requireLinearTransform(node: Any) -> None:
    """Raise InputError where a node lies under a transform that no matrix can describe."""
    parent = node.GetParentTransformNode()
    if parent is not None and not parent.IsTransformToWorldLinear():
        raise InputError(
            f"'{node.GetName()}' lies under the non-linear transform '{parent.GetName()}', "
            "expected a linear one or none; harden the transform in the Transforms module, or "
            "take the volume out of it"
        )


def frameCount(sequenceNode: Any) -> int:
    """How many frames a sequence has."""
    return int(sequenceNode.GetNumberOfDataNodes())


def frameVolumeNode(sequenceNode: Any, index: int) -> Any:
    """One frame of a sequence, from 0, as a new volume node of the scene.

    Raises
    ------
    InputError
        If there is no such frame, or it is not a volume with one value per voxel.
    """
    number = frameCount(sequenceNode)
    if not 0 <= index < number:
        raise InputError(
            f"'{sequenceNode.GetName()}' has {number} frames, got frame {index + 1}; "
            f"choose a frame from 1 to {number}"
        )
    frame = sequenceNode.GetNthDataNode(index)
    if not frame.IsA("vtkMRMLScalarVolumeNode") or frame.IsA("vtkMRMLVectorVolumeNode"):
        raise InputError(
            f"'{sequenceNode.GetName()}' is a sequence of '{frame.GetNodeTagName()}', expected one "
            "of volumes; select a sequence of plain (scalar) volumes"
        )
    _imageOf(frame)
    name = f"{sequenceNode.GetName()}: frame {index + 1}"
    node = slicer.mrmlScene.AddNewNodeByClass(frame.GetClassName(), name)
    node.CopyContent(frame, True)
    node.CreateDefaultDisplayNodes()
    return node


def imageArray(image: Any) -> npt.NDArray[Any]:
    """The voxels of a VTK image, a view indexed (i, j, k)."""
    # The first axis is the fastest in VTK's memory, the last one in numpy's.
    array = vtk_to_numpy(image.GetPointData().GetScalars())
    return array.reshape(tuple(reversed(image.GetDimensions()))).transpose(2, 1, 0)


def ijkToLocal(volumeNode: Any) -> FloatArray:
    """4×4 matrix from voxel centers (i, j, k) to the node's own RAS space, mm."""
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    return toArray(matrix)


def localToWorld(node: Any) -> FloatArray:
    """4×4 matrix from a node's own RAS space to the world's, the identity without a transform.

    Raises
    ------
    InputError
        If a transform above the node is not linear.
    """
    requireLinearTransform(node)
    matrix = vtk.vtkMatrix4x4()
    parent = node.GetParentTransformNode()
    if parent is not None:
        parent.GetMatrixTransformToWorld(matrix)
    return toArray(matrix)


def worldFromLocal(node: Any, ras: npt.ArrayLike) -> FloatArray:
    """Points of a node's own space, shape (..., 3), RAS mm, in world space."""
    return _applied(localToWorld(node), ras)


def localFromWorld(node: Any, ras: npt.ArrayLike) -> FloatArray:
    """World points, shape (..., 3), RAS mm, in the node's own space."""
    return _applied(np.linalg.inv(localToWorld(node)), ras)


def toArray(matrix: Any) -> FloatArray:
    """A vtkMatrix4x4 as a numpy array."""
    rows = [[matrix.GetElement(row, column) for column in range(4)] for row in range(4)]
    return np.array(rows, dtype=np.float64)


def toMatrix(array: npt.ArrayLike) -> Any:
    """A 4×4 array as a vtkMatrix4x4."""
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy([float(value) for value in np.asarray(array, dtype=np.float64).ravel()])
    return matrix


def _applied(matrix: FloatArray, ras: npt.ArrayLike) -> FloatArray:
    return np.asarray(ras, dtype=np.float64) @ matrix[:3, :3].T + matrix[:3, 3]


def _imageOf(volumeNode: Any) -> Any:
    image = volumeNode.GetImageData()
    if image is None or image.GetPointData().GetScalars() is None or not image.GetNumberOfPoints():
        raise InputError(f"'{volumeNode.GetName()}' has no voxels; load or select another volume")
    return image
