"""One segment per lesion in one layer, and back to a label map on the image's grid."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import slicer
import slicer.util
import vtk
from CMBDetectorSlicer.segments import (
    dropVoxels,
    hasVoxels,
    labelsOnVolume,
    layersOf,
    lesionIdOf,
    newSegmentation,
    oneSegment,
    orientedImage,
    segmentIdOf,
    segmentsOfLesions,
    taggedLesionId,
)
from CMBDetectorSlicer.terminology import setTerminology, verdictColor
from CMBDetectorSlicer.volumes import imageArray
from sessions import addResult, addTransform, addVolume, imageOf, makeGeometry, makeSession, tilt

from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.reporting.terminology import VERDICT_COLORS, terminology_tag
from CMBDetectorLib.volume import Volume

CENTERS = [(8, 9, 4), (30, 12, 7), (20, 33, 14)]


def testIdsOfSegmentsAndLesions() -> None:
    assert segmentIdOf(7) == "cmb_0007"
    assert lesionIdOf("cmb_0007") == 7
    assert lesionIdOf(segmentIdOf(12345)) == 12345
    for other in ("Segment_1", "cmb_", "cmb_all", "0007", "cmb_-1"):
        assert lesionIdOf(other) is None


def testSegmentsBearIdNameColorAndTerms(scene: Any) -> None:
    session = makeSession(makeGeometry(), CENTERS)
    session.set_verdict([2], "uncertain")

    segmentation = newSegmentation(session.label_map, session.lesions)

    assert segmentsOfLesions(segmentation) == {n: segmentIdOf(n) for n in (1, 2, 3)}
    segment = segmentation.GetSegment(segmentIdOf(2))
    assert segment.GetName() == "CMB 2"
    assert segment.GetLabelValue() == 2
    assert segment.GetColor() == VERDICT_COLORS["uncertain"] == verdictColor("uncertain")
    assert taggedLesionId(segment) == 2
    ((layer, ids),) = layersOf(segmentation)
    assert len(ids) == 3
    np.testing.assert_array_equal(imageArray(layer), session.label_map.array)
    assert imageArray(layer).dtype == np.int16


def testALargeIdNeedsAWiderLayer(scene: Any) -> None:
    session = makeSession(makeGeometry(), CENTERS)
    session.redraw({40_000: np.array([[1, 1, 1]])})

    ((layer, _),) = layersOf(newSegmentation(session.label_map, session.lesions))

    assert imageArray(layer)[1, 1, 1] == 40_000


def testTheLayerIsACopy(scene: Any) -> None:
    session = makeSession(makeGeometry(), CENTERS)
    ((layer, _),) = layersOf(newSegmentation(session.label_map, session.lesions))

    imageArray(layer)[...] = 0

    assert session.label_map.array.any()


def testTerminologyIsATag(scene: Any) -> None:
    segment = slicer.vtkSegment()
    setTerminology(segment)
    text = vtk.reference("")

    assert segment.GetTag("TerminologyEntry", text)
    assert str(text) == terminology_tag()


def testLabelsComeBackOnAnotherGrid(scene: Any) -> None:
    """A finer, turned image shows the lesions where they are, to a fraction of a voxel."""
    session = makeSession(makeGeometry(), CENTERS, radiusMm=3.0)
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    node.SetAndObserveSegmentation(newSegmentation(session.label_map, session.lesions))
    affine = tilt(-25, 1) @ np.diag([0.5, -0.5, 0.5, 1.0])
    affine[:3, 3] = makeGeometry().center_ras_mm - affine[:3, :3] @ (50, 50, 50)
    fine = Geometry((100, 100, 100), affine)
    volume = addVolume(Volume(np.zeros(fine.shape, np.uint8), fine))
    addTransform(tilt(33, 0), volume, node)

    labels = labelsOnVolume(node, volume, lesionIdOf)

    assert labels.geometry.is_close(fine)
    for lesion in session.lesions:
        voxels = np.argwhere(labels.array == lesion.id)
        center = fine.ijk_to_ras_mm(voxels.mean(axis=0))
        np.testing.assert_allclose(center, lesion.detection.center_ras_mm, atol=0.1)
        volumeMm3 = len(voxels) * fine.voxel_volume_mm3
        assert volumeMm3 == pytest.approx(lesion.detection.volume_mm3, rel=0.03)


def testSegmentsBeyondTheImageAreCutOff(scene: Any) -> None:
    session = makeSession(makeGeometry(), CENTERS)
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    node.SetAndObserveSegmentation(newSegmentation(session.label_map, session.lesions))
    part = makeGeometry().cropped((5, 5, 2), (25, 25, 10))
    volume = addVolume(Volume(np.zeros(part.shape, np.uint8), part))

    labels = labelsOnVolume(node, volume, lesionIdOf)

    np.testing.assert_array_equal(labels.array, session.label_map.array[5:25, 5:25, 2:10])
    elsewhere = Geometry((5, 5, 5), np.diag([1.0, 1.0, 1.0, 1.0]) + 1e4 * np.eye(4, k=3))
    far = addVolume(Volume(np.zeros((5, 5, 5), np.uint8), elsewhere))
    assert not labelsOnVolume(node, far, lesionIdOf).array.any()


def testSegmentsCanBeLeftOut(scene: Any) -> None:
    session = makeSession(makeGeometry(), CENTERS)
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    node.SetAndObserveSegmentation(newSegmentation(session.label_map, session.lesions))
    volume = addVolume(imageOf(session))

    labels = labelsOnVolume(node, volume, {segmentIdOf(2): 9}.get)

    np.testing.assert_array_equal(labels.array == 9, session.label_map.array == 2)
    assert set(np.unique(labels.array)) == {0, 9}


def testAnEmptySegmentHasNoVoxels(scene: Any) -> None:
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    segmentId = node.GetSegmentation().AddEmptySegment("", "nothing")
    volume = addVolume(Volume(np.zeros((4, 4, 4), np.uint8), makeGeometry((4, 4, 4))))

    assert not hasVoxels(node.GetSegmentation().GetSegment(segmentId))
    assert not labelsOnVolume(node, volume, lambda _segmentId: 1).array.any()


def testAnOrientedImageLiesWhereItsVolumeDoes(scene: Any, axis_order_affine: np.ndarray) -> None:
    array = np.arange(4 * 3 * 2, dtype=np.int16).reshape(4, 3, 2)
    geometry = Geometry(array.shape, tilt(10, 2) @ axis_order_affine)

    image = orientedImage(Volume(array, geometry))

    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    found = matrix.MultiplyPoint((3, 1, 1, 1))[:3]
    np.testing.assert_allclose(found, geometry.ijk_to_ras_mm((3, 1, 1)), atol=1e-9)
    assert image.GetScalarComponentAsDouble(3, 1, 1, 0) == array[3, 1, 1]


def test_voxels_of_lesions_are_let_go_of_before_their_segments_are(scene):
    """Otherwise each segment would be wiped out of the whole shared layer, one after the other."""
    nodes, _ = addResult(makeGeometry(), [(10, 10, 6), (30, 30, 12)])
    segmentation = nodes.segmentationNode.GetSegmentation()
    nodes.remove()
    for index in range(segmentation.GetNumberOfSegments()):
        assert not hasVoxels(segmentation.GetNthSegment(index))


def test_voxels_of_other_segmentations_are_kept(scene):
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    labels = np.zeros(makeGeometry().shape, dtype=np.uint8)
    labels[10:12, 10:12, 6] = 1
    node.SetAndObserveSegmentation(oneSegment(Volume(labels, makeGeometry())))
    dropVoxels(node)
    assert hasVoxels(node.GetSegmentation().GetNthSegment(0))
