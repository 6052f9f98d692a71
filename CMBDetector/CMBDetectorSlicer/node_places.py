"""Where nodes lie, in space and in the subject hierarchy, and how they leave the scene."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import slicer


def placeWith(volumeNode: Any, nodes: Iterable[Any]) -> None:
    """Put nodes under a volume's transform, and beside it in the subject hierarchy."""
    transformId = volumeNode.GetTransformNodeID()
    hierarchy = _hierarchy()
    volumeItem = hierarchy.GetItemByDataNode(volumeNode)
    if volumeItem == hierarchy.GetInvalidItemID():
        volumeItem = hierarchy.CreateItem(hierarchy.GetSceneItemID(), volumeNode)
    parent = hierarchy.GetItemParent(volumeItem)
    for node in nodes:
        if node.IsA("vtkMRMLTransformableNode") and node.GetTransformNodeID() != transformId:
            node.SetAndObserveTransformNodeID(transformId)
        item = hierarchy.GetItemByDataNode(node)
        if item == hierarchy.GetInvalidItemID():
            hierarchy.CreateItem(parent, node)
        elif hierarchy.GetItemParent(item) != parent:
            hierarchy.SetItemParent(item, parent)


def _hierarchy() -> Any:
    # Not the scene's own getter: this one also puts together what an imported scene brings along.
    return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)


def removeNode(node: Any) -> None:
    """Take a node out of the scene, and with it what only serves it."""
    serving = [node.GetNthStorageNode(n) for n in range(node.GetNumberOfStorageNodes())]
    if node.IsA("vtkMRMLDisplayableNode"):
        serving += [node.GetNthDisplayNode(n) for n in range(node.GetNumberOfDisplayNodes())]
    hierarchy = _hierarchy()
    item = hierarchy.GetItemByDataNode(node)
    if item != hierarchy.GetInvalidItemID():
        hierarchy.RemoveItem(item)  # the node goes with it
    for each in [node, *serving]:
        if each is not None and each.GetScene() is not None:
            slicer.mrmlScene.RemoveNode(each)
