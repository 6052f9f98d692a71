"""A result in the scene: one text node that remembers the review and knows its other nodes.

The text node holds the session without its voxels, as JSON. The voxels are those of the
segmentation. Points and table are copies for people and for other modules.
"""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import slicer

from CMBDetectorLib.errors import InputError
from CMBDetectorLib.review.session import ReviewSession
from CMBDetectorSlicer.anatomy_overlay import anatomySegmentation, showAnatomy
from CMBDetectorSlicer.display import copyDisplay, highlight, refreshSurfaces, showByDefault
from CMBDetectorSlicer.lesion_points import fillPoints
from CMBDetectorSlicer.lesion_table_node import fillTable
from CMBDetectorSlicer.moved_image import affineText, followImage
from CMBDetectorSlicer.node_places import placeWith, removeNode
from CMBDetectorSlicer.segments import (
    dropVoxels,
    labelsOnVolume,
    lesionIdOf,
    newSegmentation,
    oneSegment,
    segmentIdOf,
    segmentsOfLesions,
    updateSegments,
)
from CMBDetectorSlicer.surfaces import putBack, surfacesBut
from CMBDetectorSlicer.volumes import requireLinearTransform, volumeFromNode

if TYPE_CHECKING:
    from CMBDetectorLib.review.changes import Effect
    from CMBDetectorLib.volume import Volume

__all__ = ["RESULT_ATTRIBUTE", "ResultNodes", "lesionIdOf", "segmentIdOf"]

RESULT_ATTRIBUTE = "CMBDetector.Result"
_AFFINE_ATTRIBUTE = "CMBDetector.Affine"
_VOLUME, _SEGMENTATION, _POINTS, _TABLE, _COMBINED, _PICTURE, _ANATOMY = (
    f"CMBDetector.{role}"
    for role in ("volume", "segmentation", "points", "table", "combined", "picture", "anatomy")
)
_DERIVED = (_SEGMENTATION, _COMBINED, _POINTS, _TABLE, _PICTURE, _ANATOMY)
_SUFFIX = ": microbleeds"


class ResultNodes:
    """The nodes of one result. Cheap to make: it only holds the text node."""

    def __init__(self, textNode: Any) -> None:
        self.textNode = textNode

    @classmethod
    def create(
        cls,
        volumeNode: Any,
        session: ReviewSession,
        picture: bytes | None = None,
        anatomy: Volume | None = None,
    ) -> ResultNodes:
        """New nodes for a session on this volume, under its transform and beside it.

        ``anatomy`` is a label map in FreeSurfer's values in the volume's own space, on any grid.

        Raises
        ------
        InputError
            If the volume lies under a non-linear transform.
        """
        requireLinearTransform(volumeNode)
        name = slicer.mrmlScene.GenerateUniqueName(f"{volumeNode.GetName()}{_SUFFIX}")
        textNode = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTextNode", name)
        textNode.SetAttribute(RESULT_ATTRIBUTE, "1")
        # Always in a file of its own: attributes of a scene file are a poor place for long text.
        textNode.SetForceCreateStorageNode(True)
        textNode.SetNodeReferenceID(_VOLUME, volumeNode.GetID())
        nodes = cls(textNode)
        if picture is not None:
            nodes._keepPicture(picture)
        if anatomy is not None:
            nodes._keepAnatomy(anatomy)
        nodes.refresh(session, None)
        return nodes

    @classmethod
    def fromTextNode(cls, node: Any) -> ResultNodes:
        """The result that a text node belongs to.

        Raises
        ------
        InputError
            If the node is not a result of this module.
        """
        if node is None or node.GetAttribute(RESULT_ATTRIBUTE) is None:
            name = "nothing" if node is None else f"'{node.GetName()}'"
            raise InputError(f"{name} is no result of CMBDetector; select a result in the list")
        return cls(node)

    @classmethod
    def all(cls, scene: Any) -> list[ResultNodes]:
        """All results of a scene, in the order they were made."""
        found = slicer.util.getNodesByClass("vtkMRMLTextNode", scene)
        return [cls(node) for node in found if node.GetAttribute(RESULT_ATTRIBUTE) is not None]

    @property
    def volumeNode(self) -> Any:
        """The image; None where it was removed from the scene."""
        return self.textNode.GetNodeReference(_VOLUME)

    @property
    def segmentationNode(self) -> Any:
        """A segment per lesion; None where it was removed."""
        return self.textNode.GetNodeReference(_SEGMENTATION)

    @property
    def combinedNode(self) -> Any:
        """One segment of all lesions that count; None where that is switched off."""
        return self.textNode.GetNodeReference(_COMBINED)

    @property
    def pointsNode(self) -> Any:
        """A point per lesion; None where it was removed."""
        return self.textNode.GetNodeReference(_POINTS)

    @property
    def tableNode(self) -> Any:
        """A row per lesion; None where it was removed."""
        return self.textNode.GetNodeReference(_TABLE)

    @property
    def anatomyNode(self) -> Any:
        """The structures of the brain; None without an anatomy, or where it was removed."""
        return self.textNode.GetNodeReference(_ANATOMY)

    @property
    def picture(self) -> bytes | None:
        """The model's own picture (PNG) as it was when the result was made."""
        node = self.textNode.GetNodeReference(_PICTURE)
        return None if node is None else base64.b64decode(node.GetText())

    def loadSession(self) -> ReviewSession:
        """The session as it was left, with the voxels that the segmentation has now.

        Raises
        ------
        InputError
            If the image or the segmentation is gone, or the text is not that of a session.
        """
        self._require(self.volumeNode, "image")
        self._require(self.segmentationNode, "segmentation")
        try:
            plain = json.loads(self.textNode.GetText())
        except ValueError as error:
            raise InputError(
                f"the text of '{self.textNode.GetName()}' is damaged ({error}); load the saved "
                "scene again, or run the detection again"
            ) from error
        lesionOf = {
            segmentId: lesionId
            for lesionId, segmentId in segmentsOfLesions(
                self.segmentationNode.GetSegmentation()
            ).items()
        }
        labels = labelsOnVolume(self.segmentationNode, self.volumeNode, lesionOf.get)
        # Segments may have been edited while no panel looked on; that becomes part of the record.
        affine = self.textNode.GetAttribute(_AFFINE_ATTRIBUTE)
        with contextlib.suppress(KeyError, TypeError):  # from_dict says better what is wrong
            plain = followImage(plain, affine, labels.geometry)
        return ReviewSession.from_dict(plain, labels, accept_edits=True)

    def refresh(self, session: ReviewSession, effect: Effect | None = None) -> None:
        """Bring all nodes to the session's state; nodes that were removed are made anew.

        ``effect`` says what changed since the last time; None brings everything up to date.

        Raises
        ------
        InputError
            If the image is gone, or no longer lies where the session has it.
        """
        self._require(self.volumeNode, "image")
        geometry = volumeFromNode(self.volumeNode).geometry
        if not geometry.is_close(session.label_map.geometry):
            raise InputError(
                f"'{self.volumeNode.GetName()}' is not on the grid of its review any more, as when "
                "a transform is hardened; select the result again"
            )
        self._refreshSegmentation(session, effect)
        if self.combinedNode is not None:
            self._refreshCombined()
        pointsNode = self.pointsNode
        if pointsNode is None:
            pointsNode = self._add("vtkMRMLMarkupsFiducialNode", _POINTS, "points")
        fillPoints(pointsNode, session.lesions)
        tableNode = self.tableNode
        if tableNode is None:
            tableNode = self._add("vtkMRMLTableNode", _TABLE, "table")
        fillTable(tableNode, session.lesions)
        self.textNode.SetText(json.dumps(session.to_dict(), allow_nan=False, ensure_ascii=False))
        self.textNode.SetAttribute(_AFFINE_ATTRIBUTE, affineText(geometry))
        self._placeNodes()
        refreshSurfaces(self)

    def setOneSegment(self, on: bool) -> None:
        """Show all lesions that count as one segment, in a segmentation of its own, or end that.

        The segmentation with a segment per lesion is only hidden, and stays the source.
        """
        if on and self.combinedNode is None:
            self._refreshCombined()
            self._placeNodes()
            copyDisplay(self.segmentationNode, self.combinedNode)
        elif not on and self.combinedNode is not None:
            copyDisplay(self.combinedNode, self.segmentationNode)
            removeNode(self.combinedNode)
        refreshSurfaces(self)

    def remove(self) -> None:
        """Take the result out of the scene; the image stays."""
        highlight(self, None)
        for node in (self.segmentationNode, self.anatomyNode):
            if node is not None:
                dropVoxels(node)
        for node in [*self._derived(), self.textNode]:
            removeNode(node)

    def _refreshSegmentation(self, session: ReviewSession, effect: Effect | None) -> None:
        node = self.segmentationNode
        ids = [lesion.id for lesion in session.lesions]
        if node is None:
            # All segments before the node is in the scene: one event instead of one for each.
            node = self._created("vtkMRMLSegmentationNode", "segments")
            node.SetAndObserveSegmentation(newSegmentation(session.label_map, session.lesions))
            self._enter(node, _SEGMENTATION)
            node.SetReferenceImageGeometryParameterFromVolumeNode(self.volumeNode)
        else:
            segmentation = node.GetSegmentation()
            surfaces = {} if effect is None else surfacesBut(segmentation, effect.voxel_ids)
            updateSegments(
                segmentation,
                session.label_map,
                session.lesions,
                ids if effect is None else effect.lesion_ids,
                voxelsChanged=effect is None or bool(effect.voxel_ids),
            )
            putBack(segmentation, surfaces)
        self._showCounted(node, session, ids if effect is None else effect.lesion_ids)

    @staticmethod
    def _showCounted(node: Any, session: ReviewSession, ids: Iterable[int]) -> None:
        """Rejected lesions leave the overlay."""
        counted = {lesion.id: lesion.is_counted for lesion in session.lesions}
        segmentOf = segmentsOfLesions(node.GetSegmentation())
        display = node.GetDisplayNode()
        wasModifying = display.StartModify()
        for lesionId in ids:
            if lesionId in counted:
                display.SetSegmentVisibility(segmentOf[lesionId], counted[lesionId])
        display.EndModify(wasModifying)

    def _require(self, node: Any, what: str) -> None:
        if node is None:
            raise InputError(
                f"the {what} of '{self.textNode.GetName()}' is no longer in the scene; load the "
                "saved scene again, or run the detection again"
            )

    def _refreshCombined(self) -> None:
        display = self.segmentationNode.GetDisplayNode()
        labels = labelsOnVolume(
            self.segmentationNode,
            self.volumeNode,
            lambda segmentId: 1 if display.GetSegmentVisibility(segmentId) else None,
        )
        segmentation = oneSegment(labels.with_array(labels.array.astype(np.uint8)))
        node = self.combinedNode
        if node is not None:
            node.SetAndObserveSegmentation(segmentation)
            return
        node = self._created("vtkMRMLSegmentationNode", "all lesions")
        node.SetAndObserveSegmentation(segmentation)
        self._enter(node, _COMBINED)

    def _keepPicture(self, picture: bytes) -> None:
        node = self._created("vtkMRMLTextNode", "picture")
        node.SetText(base64.b64encode(picture).decode("ascii"))
        node.SetForceCreateStorageNode(True)
        node.SetHideFromEditors(True)
        self._enter(node, _PICTURE)

    def _keepAnatomy(self, anatomy: Volume) -> None:
        node = self._created("vtkMRMLSegmentationNode", "anatomy")
        node.SetAndObserveSegmentation(anatomySegmentation(anatomy))
        self._enter(node, _ANATOMY)
        showAnatomy(node, False)

    def _add(self, className: str, role: str, suffix: str) -> Any:
        node = self._created(className, suffix)
        self._enter(node, role)
        return node

    def _created(self, className: str, suffix: str) -> Any:
        """A node that is not yet in the scene."""
        node = slicer.mrmlScene.CreateNodeByClass(className)
        node.UnRegister(None)
        # The text node's name is unique already.
        base = self.textNode.GetName().removesuffix(_SUFFIX)
        node.SetName(f"{base}: microbleed {suffix}")
        return node

    def _enter(self, node: Any, role: str) -> None:
        slicer.mrmlScene.AddNode(node)
        self.textNode.SetNodeReferenceID(role, node.GetID())
        if node.IsA("vtkMRMLDisplayableNode"):
            node.CreateDefaultDisplayNodes()
            showByDefault(node)

    def _derived(self) -> list[Any]:
        nodes = (self.textNode.GetNodeReference(role) for role in _DERIVED)
        return [node for node in nodes if node is not None]

    def _placeNodes(self) -> None:
        """Under the image's transform, and beside the image in the subject hierarchy."""
        placeWith(self.volumeNode, [self.textNode, *self._derived()])
