"""A label map or segmentation of the scene as an anatomy in the scan's own space."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
from CMBDetectorSlicer import segment_grids
from CMBDetectorSlicer.anatomy_input import AnatomyChoice, anatomyFromNode
from CMBDetectorSlicer.anatomy_overlay import anatomySegmentation
from CMBDetectorSlicer.segments import labelmapName, orientedImage
from CMBDetectorSlicer.volumes import toMatrix, worldFromLocal
from sessions import addTransform, addVolume, makeGeometry, tilt

from CMBDetectorLib.anatomy.label_values import STRUCTURES
from CMBDetectorLib.errors import InputError, UsageError
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.volume import Volume

SHAPE = (9, 11, 8)
# Structures of both sides and a voxel for each, asymmetric.
PLACES = {2: (1, 2, 3), 12: (2, 5, 6), 41: (7, 2, 3), 51: (6, 5, 1), 16: (4, 9, 7), 1035: (1, 8, 2)}
MOVE = tilt(25, 1) @ np.array(
    [[1, 0, 0, 12.0], [0, 1, 0, -7], [0, 0, 1, 4], [0, 0, 0, 1]], dtype=float
)


def labels(affine: np.ndarray) -> Volume:
    array = np.zeros(SHAPE, dtype=np.int16)
    for value, place in PLACES.items():
        array[place] = value
    return Volume(array, Geometry(SHAPE, affine))


def segmentation(volume: Volume) -> Any:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "brain")
    node.SetAndObserveSegmentation(anatomySegmentation(volume))
    return node


def labelMap(volume: Volume) -> Any:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "aseg")
    slicer.util.updateVolumeFromArray(node, np.ascontiguousarray(volume.array.transpose(2, 1, 0)))
    node.SetIJKToRASMatrix(toMatrix(volume.geometry.affine))
    return node


def scan() -> Any:
    return addVolume(Volume(np.zeros((5, 6, 7), np.int16), makeGeometry((5, 6, 7))))


def placesOf(found: Volume) -> dict[int, np.ndarray]:
    """Of every value the one voxel's center in the scan's own space."""
    values = np.unique(found.array[found.array > 0])
    places = {int(value): np.argwhere(found.array == value) for value in values}
    assert all(len(voxels) == 1 for voxels in places.values())
    return {value: found.geometry.ijk_to_ras_mm(voxels[0]) for value, voxels in places.items()}


@pytest.mark.parametrize("make", [segmentation, labelMap])
def testEveryValueStaysWhereItIs(scene: object, axis_order_affine: np.ndarray, make: Any) -> None:
    """All axis orders, the nodes under transforms of their own."""
    image, volume = scan(), labels(axis_order_affine)
    node = make(volume)
    addTransform(MOVE, image)
    addTransform(tilt(40, 0), node)

    found = placesOf(anatomyFromNode(node, image))

    assert set(found) == set(PLACES)
    for value, place in PLACES.items():
        inWorld = tilt(40, 0) @ [*volume.geometry.ijk_to_ras_mm(place), 1]
        np.testing.assert_allclose(worldFromLocal(image, found[value]), inWorld[:3], atol=1e-6)


def addSegment(node: Any, name: str, volume: Volume, terminology: str = "") -> None:
    segment = slicer.vtkSegment()
    segment.SetName(name)
    segment.SetLabelValue(1)
    if terminology:
        segment.SetTag(slicer.vtkSegment.GetTerminologyEntryTagName(), terminology)
    segment.AddRepresentation(labelmapName(), orientedImage(volume))
    node.GetSegmentation().AddSegment(segment)


def marked(place: tuple[int, int, int], shape: tuple[int, int, int], affine: np.ndarray) -> Volume:
    array = np.zeros(shape, dtype=np.uint8)
    array[place] = 1
    return Volume(array, Geometry(shape, affine))


def testLayersOnGridsOfTheirOwnAreJoined(scene: object) -> None:
    """As when a segment editor has made its segments smaller than the image."""
    affine = makeGeometry(SHAPE).affine
    shifted = affine @ np.array([[1, 0, 0, 6], [0, 1, 0, -3], [0, 0, 1, 2], [0, 0, 0, 1.0]])
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "brain")
    addSegment(node, "Left-Putamen", marked((1, 2, 3), (4, 5, 6), affine))
    addSegment(node, "putamen right", marked((3, 1, 2), (5, 4, 4), shifted))
    addSegment(node, "mine", marked((0, 0, 0), (2, 2, 2), affine), "a~b~SCT^1^Brainstem~^^~~^^~^^")

    found = placesOf(anatomyFromNode(node, scan()))

    assert set(found) == {12, 51, 16}
    for value, grid, place in ((12, affine, (1, 2, 3)), (51, shifted, (3, 1, 2))):
        np.testing.assert_allclose(found[value], (grid @ [*place, 1])[:3], atol=1e-6)


def testSegmentsThatAreNotUnderstoodAreNamed(scene: object) -> None:
    node = segmentation(labels(np.eye(4)))
    addSegment(node, "Tumor", marked((0, 0, 0), SHAPE, np.eye(4)))
    addSegment(node, "Putamen", marked((0, 0, 1), SHAPE, np.eye(4)))

    with pytest.raises(InputError, match=r"2 of 8 segments of 'brain'.*'Tumor', 'Putamen'.*Left"):
        anatomyFromNode(node, scan())


def testAnEmptySegmentMayHaveAnyName(scene: object) -> None:
    node = segmentation(labels(np.eye(4)))
    empty = Volume(np.zeros(SHAPE, np.uint8), Geometry(SHAPE, np.eye(4)))
    addSegment(node, "Segment_1", empty)
    bare = slicer.vtkSegment()
    bare.SetName("Segment_2")
    node.GetSegmentation().AddSegment(bare)
    assert set(placesOf(anatomyFromNode(node, scan()))) == set(PLACES)


def testAVeryFineGridGetsLargerVoxels(scene: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment_grids, "_MOST_VOXELS", 3000)
    fine = np.zeros((40, 40, 40), np.int16)
    fine[:20], fine[20:] = 2, 41
    affine = np.diag([0.25, 0.25, 0.25, 1])
    found = anatomyFromNode(segmentation(Volume(fine, Geometry(fine.shape, affine))), scan())
    assert found.geometry.spacing_mm == pytest.approx((1, 1, 1))
    np.testing.assert_array_equal(found.array[:5], 2)
    np.testing.assert_array_equal(found.array[5:], 41)


def testSegmentsThatLieFarApartAreRefused(scene: object) -> None:
    node = segmentation(labels(np.eye(4)))
    away = np.eye(4)
    away[:3, 3] = 3000
    addSegment(node, "Left-Caudate", marked((1, 1, 1), (4, 4, 4), away))
    with pytest.raises(InputError, match=r"reach over 3004 x 3004 x 3004 mm, expected .* one head"):
        anatomyFromNode(node, scan())


def testASegmentationWithoutVoxelsIsRefused(scene: object) -> None:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "outline")
    with pytest.raises(InputError, match="'outline' has no voxels"):
        anatomyFromNode(node, scan())


@pytest.mark.parametrize("make", [segmentation, labelMap])
def testANonLinearTransformIsRefused(scene: object, make: Any) -> None:
    node = make(labels(np.eye(4)))
    warp = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLBSplineTransformNode", "warp")
    node.SetAndObserveTransformNodeID(warp.GetID())
    with pytest.raises(InputError, match="non-linear transform 'warp'"):
        anatomyFromNode(node, scan())


def testChoices(scene: object, tmp_path: Path) -> None:
    image = scan()
    assert AnatomyChoice().inputFor(image) == "auto"
    assert AnatomyChoice("none", labelMap(labels(np.eye(4))), "x").inputFor(image) == "none"
    with pytest.raises(UsageError, match="no segmentation or label map is chosen"):
        AnatomyChoice("node").inputFor(image)
    with pytest.raises(UsageError, match="no file is chosen"):
        AnatomyChoice("file", file=" ").inputFor(image)
    for text in ("aseg.nii.gz", str(tmp_path / "aseg.nii.gz"), str(tmp_path)):
        with pytest.raises(InputError, match="is not there"):
            AnatomyChoice("file", file=text).inputFor(image)
    path = tmp_path / "aseg.nii.gz"
    path.touch()
    assert AnatomyChoice("file", file=str(path)).inputFor(image) == path


def testTheOverlayHasNamesColorsAndOneLayer(scene: object) -> None:
    volume = labels(makeGeometry(SHAPE).affine)
    volume.array[0, 0, 0] = 165  # skull
    made = anatomySegmentation(volume)
    segments = [made.GetNthSegment(index) for index in range(made.GetNumberOfSegments())]
    names = {segment.GetLabelValue(): segment.GetName() for segment in segments}
    assert names == {value: STRUCTURES[value].name for value in PLACES}
    assert len({id(segment.GetRepresentation(labelmapName())) for segment in segments}) == 1
    colors = {segment.GetName(): segment.GetColor() for segment in segments}
    # FreeSurferColorLUT.txt
    assert colors["Left-Putamen"] == pytest.approx((236 / 255, 13 / 255, 176 / 255))
    assert colors["Left-Putamen"] == colors["Right-Putamen"]
    assert len(set(colors.values())) == len(colors) - 2
