"""What slice views look at: where, how much, and how thick."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import slicer
from CMBDetectorSlicer import display, views
from CMBDetectorSlicer.picking import worldFromPixel
from CMBDetectorSlicer.volumes import localToWorld, worldFromLocal
from rendering import SliceViews, canRender
from sessions import addResult, addTransform, makeGeometry, tilt

SIZES = {"Red": (400, 300), "Yellow": (200, 340), "Green": (256, 256)}


@pytest.fixture
def shown(scene: Any) -> Iterator[tuple[Any, Any, SliceViews]]:
    if not canRender():
        pytest.skip("VTK cannot draw on this computer")
    nodes, session = addResult(makeGeometry((80, 80, 30)), [(40, 40, 15), (45, 43, 19)], 2.2)
    addTransform(tilt(20, 2), nodes.volumeNode)
    nodes.refresh(session, None)
    slices = SliceViews(slicer.mrmlScene, slicer.app.applicationLogic())
    slices.show(nodes.volumeNode)
    for name, size in SIZES.items():
        slices.resize(name, size)
    yield nodes, session, slices
    slices.close()


@pytest.mark.parametrize("name", SIZES)
def testAJumpPutsThePointIntoTheMiddleAtAFixedFieldOfView(shown: Any, name: str) -> None:
    nodes, session, slices = shown
    node = slices.view(name).node
    node.SetXYZOrigin(12.0, -7.0, 0.0)
    point = worldFromLocal(nodes.volumeNode, session.lesion(2).detection.center_ras_mm)

    views.jumpTo(point, 30.0)

    width, height = SIZES[name]
    np.testing.assert_allclose(worldFromPixel(node, (width / 2, height / 2)), point, atol=0.2)
    assert min(node.GetFieldOfView()[:2]) == pytest.approx(30.0)
    ratio = node.GetFieldOfView()[0] / node.GetFieldOfView()[1]
    assert ratio == pytest.approx(width / height)


def testAJumpMayLeaveTheZoom(shown: Any) -> None:
    _, _, slices = shown
    before = {name: slices.view(name).node.GetFieldOfView() for name in SIZES}

    views.jumpTo((1.0, 2.0, 3.0))

    assert {name: slices.view(name).node.GetFieldOfView() for name in SIZES} == before


def testViewsLieInTheImagesOwnPlanes(shown: Any) -> None:
    nodes, session, slices = shown
    views.showVolume(nodes.volumeNode)

    axes = (localToWorld(nodes.volumeNode) @ session.label_map.geometry.affine)[:3, :3]
    axes = axes / np.linalg.norm(axes, axis=0)
    matrix = slices.view("Red").node.GetSliceToRAS()
    normal = [matrix.GetElement(row, 2) for row in range(3)]
    assert abs(np.dot(normal, axes[:, 2])) == pytest.approx(1.0, abs=1e-4)
    composite = slices.view("Green").logic.GetSliceCompositeNode()
    assert composite.GetBackgroundVolumeID() == nodes.volumeNode.GetID()


def testASlabShowsTheDarkestOfItsThickness(shown: Any) -> None:
    nodes, session, slices = shown
    display.setOverlay(nodes, "hidden")
    views.showVolume(nodes.volumeNode)
    window = nodes.volumeNode.GetDisplayNode()
    window.AutoWindowLevelOff()
    window.SetWindowLevel(160, 60)
    center = session.lesion(1).detection.center_ras_mm
    views.jumpTo(worldFromLocal(nodes.volumeNode, center), 30.0)
    plain = slices.render("Red").astype(int)[..., 0]

    views.setMinimumIntensity(True, 14.0)
    slab = slices.render("Red").astype(int)[..., 0]

    # The other lesion lies four slices (6.4 mm) above: only the slab shows it.
    # Its samples lie elsewhere between two slices than the plain slice's: edges differ a little.
    assert (slab <= plain + 1).mean() > 0.95
    assert (slab < 100).sum() > 1.05 * (plain < 100).sum()

    views.setMinimumIntensity(False, 14.0)
    np.testing.assert_array_equal(slices.render("Red").astype(int)[..., 0], plain)


def testAViewThatWasNeverShownIsLeftAlone(scene: Any) -> None:
    node = scene.AddNewNodeByClass("vtkMRMLSliceNode")
    node.SetDimensions(0, 0, 1)

    views.jumpTo((1.0, 2.0, 3.0), 30.0)

    assert all(np.isfinite(node.GetFieldOfView()))
