"""The open result: ties the review session, its nodes in the scene, and the panel together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import slicer

from CMBDetectorLib.errors import CMBDetectorError
from CMBDetectorSlicer import views
from CMBDetectorSlicer.corrections import Corrections
from CMBDetectorSlicer.display_section import DisplaySection
from CMBDetectorSlicer.export_section import ExportSection
from CMBDetectorSlicer.finding_banner import showFinding
from CMBDetectorSlicer.lesion_list import LesionList
from CMBDetectorSlicer.lesion_locator import LesionLocator
from CMBDetectorSlicer.lesion_rows import (
    LesionRow,
    chosenPlaces,
    isOwnMark,
    ownReadRow,
    rowOf,
)
from CMBDetectorSlicer.picking import SlicePicker, lesionAt
from CMBDetectorSlicer.review_section import ReviewSection
from CMBDetectorSlicer.segment_edits import SegmentEditObserver
from CMBDetectorSlicer.shortcuts import Shortcuts
from CMBDetectorSlicer.volumes import localFromWorld, volumeFromNode

if TYPE_CHECKING:
    from CMBDetectorLib.review.changes import Effect
    from CMBDetectorLib.review.lesions import ReviewedLesion
    from CMBDetectorLib.review.session import ReviewSession
    from CMBDetectorSlicer.result_nodes import ResultNodes


class ResultController:
    """Opens and closes results; what the sections of the review ask for goes through here.

    Keys and clicks in slice views act between :meth:`enter` and :meth:`exit` only.
    """

    def __init__(self, ui: Any) -> None:
        self._ui = ui
        self.nodes: ResultNodes | None = None
        self.session: ReviewSession | None = None
        self._message = ""
        self._isEntered = False
        self._isListening = False
        self._editObserver: SegmentEditObserver | None = None
        self._picker = SlicePicker(self.onPicked)
        self.list = LesionList(ui, self._onSelected, self._onComment)
        self.display = DisplaySection(ui, self._onRevealed, self.tell)
        self.review = ReviewSection(ui, self)
        self.corrections = Corrections(ui, self)
        self.export = ExportSection(ui, self)
        self._shortcuts = Shortcuts(
            {
                "Y": self.review.accept,
                "N": self.review.reject,
                "U": self.review.markUncertain,
                "Space": self.review.goToNext,
                "Ctrl+Z": self.review.undo,
                "Ctrl+Y": self.review.redo,
                "Ctrl+Shift+Z": self.review.redo,
                "A": self.corrections.toggleAdding,
                "Esc": self.corrections.stopAdding,
                "C": self.list.editComment,
                "H": self.display.toggleOverlay,
                "M": self.display.toggleSlab,
            },
            self._onKeysResting,
        )
        self._showAll()

    # Life

    def open(self, nodes: ResultNodes, session: ReviewSession | None = None) -> None:
        """Show a result and go to its first lesion without a verdict.

        Raises
        ------
        InputError
            If the scene no longer holds all that belongs to the result; nothing is open then.
        """
        self.close()
        opened = nodes.loadSession() if session is None else session
        self.nodes, self.session = nodes, opened
        opened.locate = LesionLocator(nodes)
        self._editObserver = SegmentEditObserver(nodes, opened, self.onSegmentsEdited)
        self._editObserver.start()
        views.showVolume(nodes.volumeNode)
        self._showAll()
        first = opened.next_unreviewed(None, self.list.visibleOrder())
        if first is not None and not self.isOwnRead:
            self.selectLesion(first)
        self._listen()

    def close(self) -> None:
        """Let go of the open result; its nodes stay in the scene."""
        if self._editObserver is not None:
            self._editObserver.stop()
        self._editObserver = None
        self._deafen()
        if self.nodes is not None:
            self.corrections.stopAdding()
            self.display.suspend()
        self.nodes = self.session = None
        self._message = ""
        self._showAll()

    def enter(self) -> None:
        """The module is shown: keys and clicks act, and edits made elsewhere are taken over."""
        self._isEntered = True
        if self._editObserver is not None:
            try:
                self._editObserver.collect()
            except CMBDetectorError as error:
                self.tell(str(error))
            self.display.showLesion(self._onlySelected(), jump=False)
        self._listen()

    def exit(self) -> None:
        """Another module is shown: no key or click is ours any more."""
        self._isEntered = False
        self._deafen()
        if self.nodes is not None:
            self.corrections.stopAdding()
            self.display.suspend()

    # What the sections ask for

    @property
    def isOwnRead(self) -> bool:
        """Whether the result is hidden until the reader has read the scan."""
        return self.display.isOwnRead

    def attempt(self, action: Callable[[], Effect]) -> bool:
        """Change the session, show it and save it; where that is refused, say why."""
        try:
            effect = action()
            # To look for edits in what was just written takes a second in a large scan.
            self._editObserver.stop()
            try:
                self.nodes.refresh(self.session, effect)
            finally:
                self._editObserver.start()
        except CMBDetectorError as error:
            self.tell(str(error))
            return False
        self._message = ""
        self._showEffect(effect)
        return True

    def selectLesion(self, lesionId: int | None, jump: bool = True) -> None:
        """Select a row, whatever the filter says, and ring its lesion."""
        self.list.select(lesionId)
        self.display.showLesion(self._onlySelected(), jump)
        self.review.updateWidgets()

    def selectedIds(self) -> tuple[int, ...]:
        return self.list.selectedIds()

    def visibleOrder(self) -> tuple[int, ...]:
        return self.list.visibleOrder()

    def showPlainSlices(self) -> None:
        self.display.showPlainSlices()

    def showEachLesion(self) -> None:
        self.display.showEachLesion()

    def tell(self, message: str) -> None:
        """A line of text below the table."""
        self._message = message
        self._showProgress()

    # What happens in the scene

    def onPicked(self, pointWorldRas: Sequence[float]) -> None:
        """A click in a slice view, RAS mm: select the lesion there, or add one."""
        if self.nodes is None or self.session is None:
            return
        if self.corrections.isAdding:
            self._addAt(pointWorldRas)
            return
        lesionId = lesionAt(self.nodes, self.session, pointWorldRas)
        if lesionId is not None and self._isListed(self.session.lesion(lesionId)):
            # The other views stay: the reader is looking at the place already.
            self.selectLesion(lesionId, jump=False)

    def onSegmentsEdited(self, effect: Effect) -> None:
        """Lesions were drawn in the Segment Editor; session and nodes know it already."""
        self._showEffect(effect)

    def _addAt(self, pointWorldRas: Sequence[float]) -> None:
        image = volumeFromNode(self.nodes.volumeNode)
        local = localFromWorld(self.nodes.volumeNode, pointWorldRas)
        seed = np.round(image.geometry.ras_mm_to_ijk(local)).astype(int)
        if (seed < 0).any() or (seed >= image.geometry.shape).any():
            self.tell("That place is outside the scan. Click on the microbleed.")
            return
        self.corrections.addAt(tuple(seed.tolist()), image)

    # What the reader does in the table

    def _onSelected(self, ids: tuple[int, ...]) -> None:
        self._message = ""
        self._showProgress()
        # Several selected rows are for merging; the views stay where they are.
        self.display.showLesion(self._onlySelected(), jump=True)
        self.review.updateWidgets()

    def _onComment(self, lesionId: int, text: str) -> None:
        session = self.session
        if session is not None:
            self.attempt(lambda: session.set_comment(lesionId, text))

    def _onRevealed(self) -> None:
        self._message = ""
        self._showAll()
        if self.session is not None and not self.isOwnRead:
            first = self.session.next_unreviewed(None, self.list.visibleOrder())
            if first is not None:
                self.selectLesion(first)

    # How it is shown

    def _isListed(self, lesion: ReviewedLesion) -> bool:
        """During the reader's own read, only what the reader has marked."""
        return not self.isOwnRead or isOwnMark(lesion)

    def _rowOf(self, lesion: ReviewedLesion) -> LesionRow:
        if not self.isOwnRead or self.session is None:
            return rowOf(lesion)
        return ownReadRow(lesion, chosenPlaces(self.session.changes))

    def _showAll(self) -> None:
        self.display.setResult(self.nodes, self.session)
        lesions = () if self.session is None else self.session.lesions
        self.list.show([self._rowOf(lesion) for lesion in lesions if self._isListed(lesion)])
        self.review.setResult(self.nodes, self.session)
        self.display.showLesion(None, jump=False)
        self._showCounts()

    def _showEffect(self, effect: Effect) -> None:
        before = self.list.selectedIds()
        present = {lesion.id: lesion for lesion in self.session.lesions}
        changed = [present[i] for i in sorted(effect.lesion_ids) if i in present]
        listed = [lesion for lesion in changed if self._isListed(lesion)]
        gone = effect.lesion_ids - {lesion.id for lesion in listed}
        self.list.update([self._rowOf(lesion) for lesion in listed], tuple(gone))
        if effect.voxel_ids or self.isOwnRead:
            self.display.refresh()
        if set(before) & (gone | effect.voxel_ids):
            self.display.showLesion(self._onlySelected(), jump=False)
        self.review.updateWidgets()
        self._showCounts()

    def _showCounts(self) -> None:
        showFinding(self._ui.resultFindingLabel, self.session, self.isOwnRead)
        self.export.update()
        self._showProgress()

    def _showProgress(self) -> None:
        if self.session is None:
            progress = ""
        elif self.isOwnRead:
            marked = len(self.list.visibleOrder())
            progress = f"Your own read: {marked} marked. The result is hidden until you reveal it."
        else:
            reviewed, number = self.session.progress
            progress = f"{reviewed} of {number} have a verdict."
        self._ui.reviewProgressLabel.text = " ".join(filter(None, (progress, self._message)))

    def _onlySelected(self) -> int | None:
        ids = self.list.selectedIds()
        return ids[0] if len(ids) == 1 else None

    # When keys and clicks act

    def _listen(self) -> None:
        if self._isEntered and self.nodes is not None and not self._isListening:
            self._shortcuts.install(slicer.util.mainWindow() or self._ui.lesionTable)
            self._picker.start()
            slicer.app.layoutManager().connect("layoutChanged(int)", self._onLayoutChanged)
            self._isListening = True

    def _onKeysResting(self, isResting: bool) -> None:
        self._ui.keysLabel.enabled = not isResting

    def _onLayoutChanged(self, _layout: int) -> None:
        """Another layout may bring other slice views."""
        self._picker.start()

    def _deafen(self) -> None:
        self._shortcuts.remove()
        self._picker.stop()
        if self._isListening:
            slicer.app.layoutManager().disconnect("layoutChanged(int)", self._onLayoutChanged)
            self._isListening = False
