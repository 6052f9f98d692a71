"""Volumes of the scene against nibabel: every axis order, oblique, anisotropic, transformed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import slicer
import slicer.util
from CMBDetectorSlicer.volumes import (
    frameCount,
    frameVolumeNode,
    localFromWorld,
    localToWorld,
    maskFromNode,
    requireLinearTransform,
    toMatrix,
    volumeFromNode,
    worldFromLocal,
)
from sessions import addTransform, addVolume, loadNifti, makeGeometry, saveNifti, tilt

from CMBDetectorLib.errors import InputError
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.volume import Volume

SHAPE = (9, 8, 7)
MARKS = np.array([(1, 1, 1), (7, 1, 2), (2, 6, 1), (3, 3, 5), (6, 5, 4)])
MOVE = tilt(20, 1) @ tilt(-35, 2)
MOVE[:3, 3] = (5.5, -12.0, 31.0)


def marked() -> np.ndarray:
    array = np.zeros(SHAPE, dtype=np.int16)
    array[tuple(MARKS.T)] = np.arange(1, len(MARKS) + 1)
    return array


def places(volume: Volume) -> np.ndarray:
    """Where the marks are in the volume's space, in their order."""
    indices = [np.argwhere(volume.array == mark + 1)[0] for mark in range(len(MARKS))]
    return volume.geometry.ijk_to_ras_mm(indices)


def assertWithinATenthOfAVoxel(found: np.ndarray, affine: np.ndarray, move: np.ndarray) -> None:
    wanted = Geometry(SHAPE, move @ affine).ijk_to_ras_mm(MARKS)
    inVoxels = np.linalg.inv((move @ affine)[:3, :3]) @ (found - wanted).T
    assert np.abs(inVoxels).max() < 0.1


@pytest.mark.parametrize("isMoved", [False, True], ids=["as it is", "under a transform"])
@pytest.mark.parametrize("isOblique", [False, True], ids=["straight", "oblique"])
def testEveryAxisOrderLiesWhereNibabelHasIt(
    scene: object,
    tmp_path: Path,
    axis_order_affine: np.ndarray,
    isOblique: bool,
    isMoved: bool,
) -> None:
    affine = tilt(17, 0) @ tilt(9, 1) @ axis_order_affine if isOblique else axis_order_affine
    saveNifti(tmp_path / "scan.nii.gz", marked(), affine)
    node = loadNifti(tmp_path / "scan.nii.gz")
    move = MOVE if isMoved else np.eye(4)
    if isMoved:
        addTransform(move, node)

    local = places(volumeFromNode(node))

    assertWithinATenthOfAVoxel(local, affine, np.eye(4))
    assertWithinATenthOfAVoxel(worldFromLocal(node, local), affine, move)
    np.testing.assert_allclose(localFromWorld(node, worldFromLocal(node, local)), local, atol=1e-9)


def testTheArrayIsAViewOfTheNodesVoxels(scene: object) -> None:
    node = addVolume(Volume(marked(), Geometry(SHAPE, np.eye(4))))

    volume = volumeFromNode(node)

    assert volume.array.shape == SHAPE
    assert np.shares_memory(volume.array, slicer.util.arrayFromVolume(node))


def testAnEmptyVolumeIsRefused(scene: object) -> None:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "hollow")

    with pytest.raises(InputError, match="'hollow' has no voxels"):
        volumeFromNode(node)


def testAColorImageIsRefused(scene: object) -> None:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "colorful")
    slicer.util.updateVolumeFromArray(node, np.zeros((3, 4, 5, 3), dtype=np.uint8))

    with pytest.raises(InputError, match="3 values per voxel"):
        volumeFromNode(node)


def testANonLinearTransformIsRefused(scene: object) -> None:
    node = addVolume(Volume(marked(), Geometry(SHAPE, np.eye(4))))
    requireLinearTransform(node)
    warp = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLBSplineTransformNode", "warp")
    node.SetAndObserveTransformNodeID(warp.GetID())

    for refuse in (requireLinearTransform, localToWorld):
        with pytest.raises(InputError, match=r"non-linear transform 'warp'.*harden"):
            refuse(node)


def testNestedTransformsAreFollowed(scene: object) -> None:
    node = addVolume(Volume(marked(), Geometry(SHAPE, np.eye(4))))
    inner = addTransform(tilt(30, 2), node)
    addTransform(MOVE, inner)

    np.testing.assert_allclose(localToWorld(node), MOVE @ tilt(30, 2), atol=1e-12)


def testALabelMapOnAnotherGridAndUnderAnotherTransform(scene: object) -> None:
    image = addVolume(Volume(np.zeros((4, 4, 4), np.int16), makeGeometry((4, 4, 4))))
    mask = addVolume(Volume(marked(), Geometry(SHAPE, np.diag([2.0, -1.0, 3.0, 1.0]))), "mask")
    addTransform(MOVE, image)
    addTransform(tilt(40, 0), mask)

    found = maskFromNode(mask, image)

    assert found.array.dtype == bool
    assert found.array.sum() == len(MARKS)
    wanted = Geometry(SHAPE, tilt(40, 0) @ np.diag([2.0, -1.0, 3.0, 1.0])).ijk_to_ras_mm(MARKS)
    np.testing.assert_allclose(
        worldFromLocal(image, found.geometry.ijk_to_ras_mm(MARKS)), wanted, atol=1e-9
    )


def testASegmentationAsMask(scene: object, axis_order_affine: np.ndarray) -> None:
    image = addVolume(Volume(np.zeros(SHAPE, np.int16), Geometry(SHAPE, axis_order_affine)))
    labels = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
    slicer.util.updateVolumeFromArray(labels, np.ascontiguousarray(marked().transpose(2, 1, 0)))
    labels.SetIJKToRASMatrix(toMatrix(axis_order_affine))
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    logic = slicer.modules.segmentations.logic()
    logic.ImportLabelmapToSegmentationNode(labels, segmentation)
    addTransform(MOVE, image, segmentation)

    found = maskFromNode(segmentation, image)

    assert found.geometry.is_close(volumeFromNode(image).geometry)
    np.testing.assert_array_equal(found.array, marked() > 0)


def testAnEmptyMaskIsRefused(scene: object) -> None:
    image = addVolume(Volume(marked(), Geometry(SHAPE, np.eye(4))))
    mask = addVolume(Volume(np.zeros(SHAPE, np.uint8), Geometry(SHAPE, np.eye(4))), "nothing")

    with pytest.raises(InputError, match="mask 'nothing' is empty"):
        maskFromNode(mask, image)


def testAFrameOfASequence(scene: object) -> None:
    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "echoes")
    geometry = makeGeometry(SHAPE)
    for number in range(3):
        frame = addVolume(Volume(np.full(SHAPE, number, np.float32), geometry), f"echo {number}")
        sequence.SetDataNodeAtValue(frame, str(number))
        slicer.mrmlScene.RemoveNode(frame)

    assert frameCount(sequence) == 3
    node = frameVolumeNode(sequence, 2)

    assert node.GetScene() is slicer.mrmlScene
    assert node.GetName() == "echoes: frame 3"
    volume = volumeFromNode(node)
    assert (volume.array == 2).all()
    assert volume.geometry.is_close(geometry)


@pytest.mark.parametrize("index", [-1, 1])
def testAFrameThatIsNotThere(scene: object, index: int) -> None:
    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "echoes")
    frame = addVolume(Volume(marked(), Geometry(SHAPE, np.eye(4))))
    sequence.SetDataNodeAtValue(frame, "0")

    with pytest.raises(InputError, match="has 1 frames"):
        frameVolumeNode(sequence, index)


def testASequenceOfSomethingElse(scene: object) -> None:
    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "motion")
    sequence.SetDataNodeAtValue(addTransform(np.eye(4)), "0")

    with pytest.raises(InputError, match="expected one of volumes"):
        frameVolumeNode(sequence, 0)
