"""Changes to the list itself: lesions added, split, merged, removed, drawn by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import slicer

from CMBDetectorSlicer.review_host import ReviewHost, listed
from CMBDetectorSlicer.segments import segmentsOfLesions

if TYPE_CHECKING:
    from CMBDetectorLib.review.changes import Effect
    from CMBDetectorLib.review.session import ReviewSession
    from CMBDetectorSlicer.result_nodes import ResultNodes


class Corrections:
    """The lower buttons of the review section, on the open result of ``host``."""

    def __init__(self, ui: Any, host: ReviewHost) -> None:
        self._ui = ui
        self._host = host
        for button, action in (
            (ui.splitButton, self.split),
            (ui.mergeButton, self.merge),
            (ui.removeButton, self.remove),
            (ui.editButton, self.edit),
        ):
            button.connect("clicked(bool)", lambda _checked=False, act=action: act())
        ui.addButton.connect("clicked(bool)", lambda _checked=False: self._explainAdding())

    def split(self) -> None:
        """Make separate lesions of the selected one."""
        session, ids = self._host.session, self._host.selectedIds()
        if session is None:
            return
        if len(ids) != 1:
            self._host.tell(f"Splitting takes one lesion, {len(ids)} are selected.")
            return
        made: list[int] = []

        def action() -> Effect:
            newIds, effect = session.split(ids[0])
            made.extend(newIds)
            return effect

        if self._host.attempt(action):
            self._host.selectLesion(made[0])
            self._host.tell(f"CMB {ids[0]} is now {listed(tuple(made))}.")

    def merge(self) -> None:
        """Make one lesion of the selected ones."""
        session, ids = self._host.session, self._host.selectedIds()
        if session is None:
            return
        if len(ids) < 2:
            self._host.tell("Merging takes two or more lesions: select them with Ctrl or Shift.")
            return
        made: list[int] = []

        def action() -> Effect:
            newId, effect = session.merge(ids)
            made.append(newId)
            return effect

        if self._host.attempt(action):
            self._host.selectLesion(made[0])
            self._host.tell(f"{listed(ids)} are now CMB {made[0]}.")

    def remove(self) -> None:
        """Take the selected lesions out of the list; undo brings them back."""
        session, ids = self._host.session, self._host.selectedIds()
        if session is None or not ids:
            return
        order = self._host.visibleOrder()
        for lesionId in ids:
            if not self._host.attempt(lambda gone=lesionId: session.remove(gone)):
                return
        place = order.index(ids[0])
        left = [i for i in (*order[place:], *reversed(order[:place])) if i not in ids]
        self._host.selectLesion(left[0] if left else None)
        self._host.tell(f"Removed {listed(ids)}. Ctrl+Z brings them back, one at a time.")

    def edit(self) -> None:
        """Open the Segment Editor on the selected lesion."""
        nodes, ids = self._host.nodes, self._host.selectedIds()
        if nodes is None:
            return
        if len(ids) != 1:
            self._host.tell(f"Select the one lesion to draw; {len(ids)} are selected.")
            return
        self._host.showEachLesion()
        openSegmentEditor(nodes, ids[0])

    # A lesion that was missed

    @property
    def isAdding(self) -> bool:
        """Whether the next click in a slice view adds a lesion."""
        return bool(self._ui.addButton.checked)

    def toggleAdding(self) -> None:
        if self._host.session is not None:
            self._ui.addButton.checked = not self._ui.addButton.checked
            self._explainAdding()

    def stopAdding(self) -> None:
        """The next click in a slice view adds nothing."""
        if self.isAdding:
            self._ui.addButton.checked = False
            self._explainAdding()

    def addAt(self, seedIjk: Sequence[int], image: Any) -> None:
        """Grow a lesion from a voxel of the image and add it.

        During the reader's own read, a place that the model has marked too counts as found by the
        reader: that lesion is accepted, and looks like one that the reader added.
        """
        from CMBDetectorLib.postprocessing.region_growing import grow_from_seed

        session = self._host.session
        self.stopAdding()
        if session is None:
            return
        made: list[int] = []

        def action() -> Effect:
            voxels = grow_from_seed(image, seedIjk)
            holder = _holderOf(session, voxels) if self._host.isOwnRead else None
            if holder is not None:
                made.append(holder)
                return session.set_verdict([holder], "accepted")
            newId, effect = session.add(voxels)
            made.append(newId)
            return effect

        if self._host.attempt(action):
            self._host.selectLesion(made[0], jump=False)
            diameter = session.lesion(made[0]).detection.equivalent_diameter_mm
            # The number would tell how many the model has found.
            name = "a lesion" if self._host.isOwnRead else f"CMB {made[0]}"
            self._host.tell(f"Added {name}, {diameter:.1f} mm. Ctrl+Z takes it back.")

    def _explainAdding(self) -> None:
        if self.isAdding:
            # In a slab a click does not say how deep the lesion lies.
            self._host.showPlainSlices()
        self._host.tell(
            "Click on the microbleed in a slice view. Esc ends this." if self.isAdding else ""
        )


def _holderOf(session: ReviewSession, voxels: Any) -> int | None:
    """The lesion that already has most of what was grown; None where most of it is free."""
    labels = session.label_map.array[tuple(np.asarray(voxels).T)]
    held = labels[labels > 0]
    if 2 * len(held) <= len(labels):
        return None
    return int(np.bincount(held).argmax())


def openSegmentEditor(nodes: ResultNodes, lesionId: int) -> None:
    """Show the Segment Editor with the lesion's segment selected, ready to draw."""
    scene = nodes.segmentationNode.GetScene()
    # The module's own node, which it makes when it is first shown; made before, it finds ours.
    editor = scene.GetSingletonNode("SegmentEditor", "vtkMRMLSegmentEditorNode")
    if editor is None:
        editor = slicer.vtkMRMLSegmentEditorNode()
        editor.SetSingletonTag("SegmentEditor")
        editor = scene.AddNode(editor)
    segmentId = segmentsOfLesions(nodes.segmentationNode.GetSegmentation())[lesionId]
    editor.SetAndObserveSegmentationNode(nodes.segmentationNode)
    editor.SetAndObserveSourceVolumeNode(nodes.volumeNode)
    editor.SetSelectedSegmentID(segmentId)
    slicer.util.selectModule("SegmentEditor")
