"""How a result is shown: overlay, surfaces, and a frame around the lesion that is looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import slicer

from CMBDetectorSlicer.surfaces import addSurfaces, removeSurfaces
from CMBDetectorSlicer.volumes import FloatArray, ijkToLocal, toMatrix

if TYPE_CHECKING:
    from CMBDetectorSlicer.result_nodes import ResultNodes

Overlay = Literal["filled", "outline", "hidden"]

HIGHLIGHT_ATTRIBUTE = "CMBDetector.Highlight"
_HIGHLIGHT_COLOR = (0.2, 0.9, 1.0)
_FRAME_MM = 14.0
_FILL_OPACITY = 0.5


def setOverlay(nodes: ResultNodes, mode: Overlay) -> None:
    """Fill or outline the lesions in slice views, or hide everything that gives them away."""
    for node in _segmentations(nodes):
        display = node.GetDisplayNode()
        wasModifying = display.StartModify()
        if mode != "hidden":
            display.SetVisibility2DFill(mode == "filled")
        display.SetVisibility(mode != "hidden" and node is _shown(nodes))
        display.EndModify(wasModifying)
    for node in (nodes.pointsNode, _highlightNode()):
        if node is not None and node.GetDisplayNode() is not None:
            node.GetDisplayNode().SetVisibility(mode != "hidden")


def overlay(nodes: ResultNodes) -> Overlay:
    """What :func:`setOverlay` was last told."""
    display = _shown(nodes).GetDisplayNode()
    if not display.GetVisibility():
        return "hidden"
    return "filled" if display.GetVisibility2DFill() else "outline"


def setShow3D(nodes: ResultNodes, on: bool) -> None:
    """Show the lesions as surfaces in 3D views, or end that."""
    for node in _segmentations(nodes):
        node.GetDisplayNode().SetVisibility3D(on)
    refreshSurfaces(nodes)


def show3D(nodes: ResultNodes) -> bool:
    """Whether surfaces are shown in 3D views."""
    return bool(_shown(nodes).GetDisplayNode().GetVisibility3D())


def refreshSurfaces(nodes: ResultNodes) -> None:
    """Make the surfaces that are to be shown and are not there; they go whenever voxels change."""
    for node in _segmentations(nodes):
        if node is _shown(nodes) and node.GetDisplayNode().GetVisibility3D():
            addSurfaces(node.GetSegmentation())
        else:
            removeSurfaces(node.GetSegmentation())


def highlight(nodes: ResultNodes, lesionId: int | None) -> None:
    """Draw a frame around one lesion, in slice and 3D views; None takes it away.

    The frame belongs to the moment: it is not saved with the scene and not listed anywhere.
    """
    frame = _highlightNode()
    center = None if lesionId is None else _center(nodes, lesionId)
    if center is None:
        if frame is not None:
            slicer.mrmlScene.RemoveNode(frame.GetDisplayNode())
            slicer.mrmlScene.RemoveNode(frame)
        return
    if frame is None:
        frame = _newHighlightNode()
    wasModifying = frame.StartModify()
    frame.SetAndObserveTransformNodeID(nodes.volumeNode.GetTransformNodeID())
    place = np.eye(4)
    place[:3, :3] = _axes(ijkToLocal(nodes.volumeNode))
    place[:3, 3] = center
    frame.SetAndObserveObjectToNodeMatrix(toMatrix(place))
    frame.SetSize(_FRAME_MM, _FRAME_MM, _FRAME_MM)
    # The point in the middle would cover the lesion.
    for index in range(frame.GetNumberOfControlPoints()):
        frame.SetNthControlPointVisibility(index, False)
    frame.EndModify(wasModifying)
    frame.GetDisplayNode().SetVisibility(overlay(nodes) != "hidden")


def showByDefault(node: Any) -> None:
    """The first look of a new node of a result."""
    display = node.GetDisplayNode()
    if display is None:
        return
    if node.IsA("vtkMRMLSegmentationNode"):
        display.SetVisibility2DFill(True)
        display.SetVisibility2DOutline(True)
        display.SetOpacity2DFill(_FILL_OPACITY)
        display.SetVisibility3D(False)
    else:
        # In slice views a point would cover the very lesion it marks.
        display.SetVisibility2D(False)
        display.SetVisibility3D(False)
        display.SetSelectedColor(*_HIGHLIGHT_COLOR)


def copyDisplay(source: Any, target: Any) -> None:
    """Let another segmentation take over how one is shown."""
    shown, taking = source.GetDisplayNode(), target.GetDisplayNode()
    wasModifying = taking.StartModify()
    taking.SetVisibility2DFill(shown.GetVisibility2DFill())
    taking.SetVisibility2DOutline(shown.GetVisibility2DOutline())
    taking.SetVisibility3D(shown.GetVisibility3D())
    taking.SetVisibility(shown.GetVisibility())
    taking.EndModify(wasModifying)
    shown.SetVisibility(False)


def _segmentations(nodes: ResultNodes) -> list[Any]:
    return [node for node in (nodes.segmentationNode, nodes.combinedNode) if node is not None]


def _shown(nodes: ResultNodes) -> Any:
    """The one segmentation of the two that is looked at."""
    return nodes.segmentationNode if nodes.combinedNode is None else nodes.combinedNode


def _center(nodes: ResultNodes, lesionId: int) -> tuple[float, float, float] | None:
    points = nodes.pointsNode
    index = points.GetControlPointIndexByLabel(f"CMB {lesionId}")
    return None if index < 0 else tuple(points.GetNthControlPointPosition(index))


def _axes(affine: FloatArray) -> FloatArray:
    """Right-handed unit vectors along the image's axes, closest to them where they are sheared."""
    left, _, right = np.linalg.svd(affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0))
    axes = left @ right
    axes[:, 2] *= np.linalg.det(axes)
    return axes


def _highlightNode() -> Any | None:
    for node in slicer.util.getNodesByClass("vtkMRMLMarkupsROINode"):
        if node.GetAttribute(HIGHLIGHT_ATTRIBUTE) is not None:
            return node
    return None


def _newHighlightNode() -> Any:
    # A box, because the flat shapes that points can have are filled and would hide the lesion.
    node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLMarkupsROINode")
    node.UnRegister(None)
    node.SetName("CMBDetector: the lesion looked at")
    node.SetAttribute(HIGHLIGHT_ATTRIBUTE, "1")
    node.SetSaveWithScene(False)
    node.SetHideFromEditors(True)
    node.SetLocked(True)
    slicer.mrmlScene.AddNode(node)
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    display.SetSaveWithScene(False)
    display.SetFillVisibility(False)
    display.SetHandlesInteractive(False)
    display.SetPropertiesLabelVisibility(False)
    display.SetPointLabelsVisibility(False)
    display.SetSelectedColor(*_HIGHLIGHT_COLOR)
    display.SetColor(*_HIGHLIGHT_COLOR)
    return node
