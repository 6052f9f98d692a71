"""A result in a scene that is saved and read again by 3D Slicer's own code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
import slicer.util
from CMBDetectorSlicer.anatomy_overlay import isAnatomyShown
from CMBDetectorSlicer.result_nodes import ResultNodes
from CMBDetectorSlicer.segments import segmentIdOf
from CMBDetectorSlicer.volumes import volumeFromNode, worldFromLocal
from sessions import addResult, addTransform, ball, makeAnatomy, makeGeometry
from sessions import tilt as turn

CENTERS = [(8, 9, 4), (30, 12, 7), (20, 33, 14), (34, 36, 5)]
MOVE = turn(25, 0) @ turn(-40, 2)
MOVE[:3, 3] = (-7.0, 3.5, 60.0)


@pytest.mark.parametrize("form", ["mrb", "mrml"])
@pytest.mark.parametrize("isMoved", [False, True], ids=["as it is", "under a transform"])
def testASavedSceneIsAliveAgain(
    scene: Any, tmp_path: Path, reopen: Callable[[Path], None], form: str, isMoved: bool
) -> None:
    nodes, session = addResult(makeGeometry(), CENTERS, anatomy=makeAnatomy(makeGeometry()))
    structures = anatomyCenters(nodes)
    if isMoved:
        addTransform(MOVE, nodes.volumeNode)
        structures = {
            name: MOVE[:3, :3] @ center + MOVE[:3, 3] for name, center in structures.items()
        }
    session.set_verdict([1], "accepted")
    session.set_verdict([4], "rejected")
    session.set_comment(2, 'ein Gefäß?; "so" & <so>')
    newId, _ = session.add(ball(session.label_map.geometry, (12, 34, 10), 2.0))
    session.merge([2, 3])
    nodes.refresh(session, None)
    before = session.to_dict()
    centers = [
        worldFromLocal(nodes.volumeNode, le.detection.center_ras_mm) for le in session.lesions
    ]

    path = tmp_path / f"case.{form}"
    save(scene, path)
    reopen(path)

    (again,) = ResultNodes.all(scene)
    loaded = again.loadSession()
    after = loaded.to_dict()
    # The volume is left-handed: 3D Slicer reads what it has saved with its slices reversed.
    assert volumeFromNode(again.volumeNode).geometry.axis_codes == "LAI"
    for key in set(before) - {"lesions", "former_lesions", "model_lesions"}:
        assert after[key] == before[key], key
    assert [(le.id, le.verdict, le.comment, le.origin, le.parents) for le in loaded.lesions] == [
        (le.id, le.verdict, le.comment, le.origin, le.parents) for le in session.lesions
    ]
    np.testing.assert_array_equal(loaded.label_map.array, session.label_map.array[:, :, ::-1])
    for lesion, center in zip(loaded.lesions, centers, strict=True):
        found = worldFromLocal(again.volumeNode, lesion.detection.center_ras_mm)
        np.testing.assert_allclose(found, center, atol=0.01)
        voxels = np.argwhere(loaded.label_map.array == lesion.id)
        np.testing.assert_allclose(lesion.detection.center_ijk, voxels.mean(axis=0), atol=1e-6)
        assert lesion.detection.axial_slice == int(lesion.detection.center_ijk[2] + 0.5) + 1
    assert not again.segmentationNode.GetDisplayNode().GetSegmentVisibility(segmentIdOf(4))

    found = anatomyCenters(again)
    assert set(found) == set(structures)
    for name, center in structures.items():
        np.testing.assert_allclose(found[name], center, atol=0.01)
    assert not isAnatomyShown(again.anatomyNode)

    # Alive: it can be changed and saved on.
    again.refresh(loaded, loaded.set_verdict([newId], "uncertain"))
    assert again.tableNode.GetNumberOfRows() == len(loaded.lesions)
    assert again.loadSession().lesion(newId).verdict == "uncertain"
    assert again.segmentationNode.GetSegmentation().GetNumberOfLayers() == 1


def anatomyCenters(nodes: ResultNodes) -> dict[str, np.ndarray]:
    """In the world, as Slicer itself computes it."""
    node = nodes.anatomyNode
    segmentation = node.GetSegmentation()
    return {
        segmentation.GetSegment(segmentId).GetName(): np.array(node.GetSegmentCenterRAS(segmentId))
        for segmentId in segmentation.GetSegmentIDs()
    }


def save(scene: Any, path: Path) -> None:
    if path.suffix == ".mrb":
        assert scene.WriteToMRB(str(path))
        return
    # What Slicer's save dialog does: every node into a file of its own, then the scene.
    scene.SetRootDirectory(str(path.parent))
    for node in slicer.util.getNodesByClass("vtkMRMLStorableNode"):
        if node.GetHideFromEditors() or not node.GetSaveWithScene() or node.IsA("vtkMRMLColorNode"):
            continue
        node.AddDefaultStorageNode()
        storage = node.GetStorageNode()
        if storage is not None:
            name = node.GetName().replace(":", "").replace(" ", "_")
            suffix = storage.GetDefaultWriteFileExtension()
            storage.SetFileName(str(path.parent / f"{name}.{suffix}"))
            assert storage.WriteData(node)
    scene.SetURL(str(path))
    assert scene.Commit()


@pytest.fixture
def reopen(scene: Any) -> Callable[[Path], None]:
    """Reads a scene file into the emptied scene."""

    def read(path: Path) -> None:
        scene.Clear(False)
        assert ResultNodes.all(scene) == []
        if path.suffix == ".mrb":
            assert scene.ReadFromMRB(str(path))
        else:
            scene.SetURL(str(path))
            assert scene.Connect()

    return read
