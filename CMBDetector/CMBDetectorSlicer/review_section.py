"""Verdicts: the buttons and keys with which a reader works through the list.

Every verdict is saved as it is given and goes on to the next lesion without one, so that a list
takes one key per lesion.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import ctk

from CMBDetectorLib.anatomy.schemes import HEMISPHERES, REGIONS
from CMBDetectorLib.results import NOT_ASSESSED
from CMBDetectorSlicer.lesion_rows import chosenPlaces, ownReadPlace
from CMBDetectorSlicer.review_host import ReviewHost
from CMBDetectorSlicer.shortcuts import keepKeysActing

if TYPE_CHECKING:
    from CMBDetectorLib.review.changes import Effect
    from CMBDetectorLib.review.session import ReviewSession
    from CMBDetectorSlicer.result_nodes import ResultNodes

KEYS_TEXT = (
    "Keys: Y accept, N reject, U uncertain, Space next without verdict, C comment, "
    "Ctrl+Z undo, Ctrl+Y redo, A add a missed one, H hide overlay, M thick slab"
)


class ReviewSection:
    """Verdicts, places and undo on the open result of ``host``."""

    def __init__(self, ui: Any, host: ReviewHost) -> None:
        self._ui = ui
        self._host = host
        _fillSelectors(ui)
        ui.keysLabel.text = KEYS_TEXT
        for button, action in (
            (ui.acceptButton, self.accept),
            (ui.rejectButton, self.reject),
            (ui.uncertainButton, self.markUncertain),
            (ui.nextButton, self.goToNext),
            (ui.undoButton, self.undo),
            (ui.redoButton, self.redo),
        ):
            button.connect("clicked(bool)", lambda _checked=False, act=action: act())
        ui.readerLineEdit.connect("editingFinished()", self._onReaderTyped)
        # Back to where the keys act.
        ui.readerLineEdit.connect("returnPressed()", ui.lesionTable.setFocus)
        # "activated" comes from the reader's hand only, not from updateWidgets.
        keepKeysActing(ui.hemisphereSelector)
        keepKeysActing(ui.regionSelector)
        ui.hemisphereSelector.connect("activated(int)", self._onSideChosen)
        ui.regionSelector.connect("activated(int)", self._onRegionChosen)

    def setResult(self, nodes: ResultNodes | None, session: ReviewSession | None) -> None:
        """A result was opened, or closed (None)."""
        if nodes is not None and session is not None:
            typed = self._ui.readerLineEdit.text.strip()
            if typed:
                session.reader = typed
            else:
                self._ui.readerLineEdit.text = session.reader
        self.updateWidgets()

    def accept(self) -> None:
        self.giveVerdict("accepted")

    def reject(self) -> None:
        self.giveVerdict("rejected")

    def markUncertain(self) -> None:
        self.giveVerdict("uncertain")

    def giveVerdict(self, verdict: str) -> None:
        """The verdict on what is selected, saved at once; then on to the next one without any."""
        session, ids = self._host.session, self._host.selectedIds()
        if session is None:
            return
        if not ids:
            self._host.tell("No lesion is selected. Press Space to go to the next one.")
            return
        if self._host.attempt(lambda: session.set_verdict(ids, verdict)):
            self._goOn(session, after=ids[-1])

    def goToNext(self) -> None:
        """Select the next lesion without a verdict, in the order of the table."""
        session = self._host.session
        if session is not None:
            ids = self._host.selectedIds()
            self._goOn(session, after=ids[-1] if ids else None)

    def undo(self) -> None:
        """Take the last change back."""
        session = self._host.session
        if session is not None and session.can_undo:
            self._travel(session, session.undo)

    def redo(self) -> None:
        """Do again what was taken back."""
        session = self._host.session
        if session is not None and session.can_redo:
            self._travel(session, session.redo)

    def updateWidgets(self) -> None:
        """Enable what can be used, and show where the selected lesions lie."""
        ui, session = self._ui, self._host.session
        ids = () if session is None else self._host.selectedIds()
        for widget in (
            ui.acceptButton,
            ui.rejectButton,
            ui.uncertainButton,
            ui.removeButton,
            ui.hemisphereSelector,
            ui.regionSelector,
        ):
            widget.enabled = bool(ids)
        ui.splitButton.enabled = len(ids) == 1
        # The Segment Editor lists every segment: it would give the model's findings away.
        ui.editButton.enabled = len(ids) == 1 and not self._host.isOwnRead
        ui.mergeButton.enabled = len(ids) > 1
        ui.addButton.enabled = ui.nextButton.enabled = session is not None
        ui.undoButton.enabled = session is not None and session.can_undo
        ui.redoButton.enabled = session is not None and session.can_redo
        # What would be undone bears a lesion's number, and that tells how many the model has found.
        told = None if self._host.isOwnRead else session
        ui.undoButton.toolTip = _hint("Undo", "" if told is None else told.undo_text)
        ui.redoButton.toolTip = _hint("Redo", "" if told is None else told.redo_text)
        places = [] if session is None else [session.lesion(i).detection for i in ids]
        if session is not None and self._host.isOwnRead:
            # Where the software has it would tell that the model has found it too.
            chosen = chosenPlaces(session.changes)
            places = [ownReadPlace(place, chosen) for place in places]
        _showCommon(ui.hemisphereSelector, {place.hemisphere for place in places})
        _showCommon(ui.regionSelector, {place.region for place in places})

    def _goOn(self, session: ReviewSession, after: int | None) -> None:
        following = session.next_unreviewed(after, self._host.visibleOrder())
        if following is not None:
            self._host.selectLesion(following)
        elif self._host.isOwnRead:
            self._host.tell("Press Reveal when you have read the scan.")
        elif session.is_complete:
            self._host.tell("Every lesion has a verdict.")
        else:
            reviewed, number = session.progress
            self._host.tell(
                f"Every listed lesion has a verdict; {number - reviewed} without one are not "
                "listed. Change the filter to see them."
            )

    def _travel(self, session: ReviewSession, go: Callable[[], Effect]) -> None:
        effects: list[Effect] = []

        def action() -> Effect:
            effects.append(go())
            return effects[0]

        if self._host.attempt(action):
            # The reader sees what has changed, also after having gone on to another lesion.
            present = {lesion.id for lesion in session.lesions}
            concerned = sorted(effects[0].lesion_ids & present)
            if concerned:
                self._host.selectLesion(concerned[0])

    def _onReaderTyped(self) -> None:
        if self._host.session is not None:
            self._host.session.reader = self._ui.readerLineEdit.text.strip()

    def _onSideChosen(self, index: int) -> None:
        session, ids = self._host.session, self._host.selectedIds()
        if session is not None and ids:
            side = self._ui.hemisphereSelector.itemData(index)
            self._host.attempt(lambda: session.set_hemisphere(ids, side))

    def _onRegionChosen(self, index: int) -> None:
        session, ids = self._host.session, self._host.selectedIds()
        if session is not None and ids:
            region = self._ui.regionSelector.itemData(index)
            self._host.attempt(lambda: session.set_region(ids, region))


def _fillSelectors(ui: Any) -> None:
    # Whoever scrolls the panel must not change where a lesion is said to lie.
    for selector in (ui.hemisphereSelector, ui.regionSelector):
        selector.setScrollWheelEffect(ctk.ctkComboBox.NeverScroll)
        selector.clear()
        # The empty text takes a place back.
        selector.addItem(NOT_ASSESSED, "")
    for side in HEMISPHERES:
        ui.hemisphereSelector.addItem(side, side)
    for zone, regions in REGIONS.items():
        for region in regions:
            ui.regionSelector.addItem(f"{zone}: {region}", region)


def _showCommon(combo: Any, values: set[str]) -> None:
    told = {"" if value == NOT_ASSESSED else value for value in values}
    combo.currentIndex = combo.findData(told.pop()) if len(told) == 1 else -1


def _hint(verb: str, what: str) -> str:
    return f"{verb}: {what}" if what else verb
