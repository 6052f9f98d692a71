"""How the open result is shown, and whether it is shown yet.

A reader who wants to read the scan unprimed ticks "Show overlay after my own read": list, overlay,
counts and the finding stay hidden until Reveal is pressed, apart from what the reader has marked
meanwhile. Which of the two holds is kept with the result, so that a saved scene does not give the
finding away either.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import qt

from CMBDetectorSlicer import display, views
from CMBDetectorSlicer.anatomy_overlay import isAnatomyShown, showAnatomy
from CMBDetectorSlicer.lesion_rows import isOwnMark
from CMBDetectorSlicer.segments import segmentsOfLesions
from CMBDetectorSlicer.shortcuts import keepKeysActing
from CMBDetectorSlicer.volumes import worldFromLocal

if TYPE_CHECKING:
    from CMBDetectorLib.review.session import ReviewSession
    from CMBDetectorSlicer.result_nodes import ResultNodes

OWN_READ_ATTRIBUTE = "CMBDetector.OwnRead"
PENDING = "pending"
OVERLAYS: tuple[display.Overlay, ...] = ("filled", "outline", "hidden")
_SETTINGS = "CMBDetector/"


class DisplaySection:
    """Overlay, surfaces, thick slab, field of view, and the reader's own read before them.

    ``onRevealed`` is called when the reader has asked to see, or again not to see, the result;
    ``tell`` shows a line of text.
    """

    def __init__(
        self, ui: Any, onRevealed: Callable[[], None], tell: Callable[[str], None]
    ) -> None:
        self._ui = ui
        self._onRevealed = onRevealed
        self._tell = tell
        self._nodes: ResultNodes | None = None
        self._session: ReviewSession | None = None
        self._lesionId: int | None = None
        self._lastOverlay = 0
        self._restoreSettings()
        ui.overlayModeSelector.connect("currentIndexChanged(int)", self._onOverlayChanged)
        keepKeysActing(ui.overlayModeSelector)
        ui.show3DCheckBox.connect("toggled(bool)", self._on3DChanged)
        ui.oneSegmentCheckBox.connect("toggled(bool)", self._onOneSegmentChanged)
        ui.showAnatomyCheckBox.connect("toggled(bool)", self._onAnatomyChanged)
        ui.minimumIntensityCheckBox.connect("toggled(bool)", self._onSlabChanged)
        ui.slabSpinBox.connect("valueChanged(double)", self._onSlabChanged)
        ui.fieldOfViewSpinBox.connect("valueChanged(double)", self._onFieldOfViewChanged)
        # "clicked", not "toggled": only the reader's own hand hides or shows a result.
        ui.afterOwnReadCheckBox.connect("clicked(bool)", self._onOwnReadClicked)
        ui.revealButton.connect("clicked(bool)", lambda _checked=False: self.reveal())
        self._updateWidgets()

    @property
    def isOwnRead(self) -> bool:
        """Whether the open result is hidden until the reader has read the scan."""
        return self._nodes is not None and (
            self._nodes.textNode.GetAttribute(OWN_READ_ATTRIBUTE) == PENDING
        )

    def setResult(self, nodes: ResultNodes | None, session: ReviewSession | None) -> None:
        """A result was opened, or closed (None)."""
        self._nodes = self._session = self._lesionId = None
        if nodes is not None:
            mode, is3D = OVERLAYS.index(display.overlay(nodes)), display.show3D(nodes)
            # While nothing is open, the widgets only show, and change nothing in the scene.
            self._ui.overlayModeSelector.currentIndex = mode
            self._ui.show3DCheckBox.checked = is3D
            self._ui.oneSegmentCheckBox.checked = nodes.combinedNode is not None
            self._ui.showAnatomyCheckBox.checked = isAnatomyShown(nodes.anatomyNode)
            self._nodes, self._session = nodes, session
            if nodes.textNode.GetAttribute(OWN_READ_ATTRIBUTE) is None:
                self._setOwnRead(self._ui.afterOwnReadCheckBox.checked)
            self._showWhatMayBeSeen()
            self._apply()
        self._updateWidgets()

    def showLesion(self, lesionId: int | None, jump: bool) -> None:
        """Ring one lesion and, with ``jump``, center the views on it."""
        self._lesionId = lesionId
        if self._nodes is None or self._session is None:
            return
        isHidden = self._overlay() == "hidden"
        display.highlight(self._nodes, None if isHidden else lesionId)
        if lesionId is not None and jump:
            center = self._session.lesion(lesionId).detection.center_ras_mm
            world = worldFromLocal(self._nodes.volumeNode, center)
            views.jumpTo(world, self._ui.fieldOfViewSpinBox.value)

    def suspend(self) -> None:
        """The module is left: the ring goes, as other modules have no use for it."""
        if self._nodes is not None:
            display.highlight(self._nodes, None)

    def refresh(self) -> None:
        """After lesions have changed: new ones are shown as the others are."""
        if self._nodes is not None:
            self._showWhatMayBeSeen()
            self._apply()

    def toggleOverlay(self) -> None:
        """Hide the overlay, or show it as it was before."""
        selector = self._ui.overlayModeSelector
        hidden = OVERLAYS.index("hidden")
        selector.currentIndex = self._lastOverlay if selector.currentIndex == hidden else hidden

    def toggleSlab(self) -> None:
        """Thick slab of minimum intensity on or off."""
        box = self._ui.minimumIntensityCheckBox
        box.checked = not box.checked

    def showPlainSlices(self) -> None:
        """Thick slab off: in a slab a click does not say how deep."""
        self._ui.minimumIntensityCheckBox.checked = False

    def showEachLesion(self) -> None:
        """A segment per lesion, as a segment editor needs it."""
        self._ui.oneSegmentCheckBox.checked = False

    def reveal(self) -> None:
        """The reader has read the scan and asks to see the result."""
        if self.isOwnRead:
            if self._ui.overlayModeSelector.currentIndex == OVERLAYS.index("hidden"):
                self._ui.overlayModeSelector.currentIndex = self._lastOverlay
            self._setOwnRead(False)
            self._changed()

    def _onOwnReadClicked(self, checked: bool) -> None:
        qt.QSettings().setValue(_SETTINGS + "AfterOwnRead", int(checked))
        if self._nodes is None:
            return
        if not checked:
            self.reveal()
        elif any(isOwnMark(lesion) for lesion in self._session.lesions):
            self._updateWidgets()
            self._tell("This list has verdicts already and stays shown. The next one is hidden.")
        else:
            self._setOwnRead(True)
            self._changed()

    def _setOwnRead(self, pending: bool) -> None:
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        value = PENDING if pending else f"revealed {now}"
        self._nodes.textNode.SetAttribute(OWN_READ_ATTRIBUTE, value)

    def _changed(self) -> None:
        self._showWhatMayBeSeen()
        self._apply()
        self._updateWidgets()
        self._onRevealed()

    def _onOverlayChanged(self, index: int) -> None:
        if OVERLAYS[index] != "hidden":
            self._lastOverlay = index
        if self._nodes is not None:
            self._apply()
            self.showLesion(self._lesionId, jump=False)

    def _on3DChanged(self, _checked: bool) -> None:
        if self._nodes is not None:
            self._apply()

    def _onOneSegmentChanged(self, checked: bool) -> None:
        if self._nodes is not None:
            self._nodes.setOneSegment(checked)
            self._apply()

    def _onAnatomyChanged(self, checked: bool) -> None:
        # The anatomy says nothing of lesions, so that it can be looked at in one's own read too.
        if self._nodes is not None and self._nodes.anatomyNode is not None:
            showAnatomy(self._nodes.anatomyNode, checked)

    def _onSlabChanged(self, _value: Any) -> None:
        views.setMinimumIntensity(
            self._ui.minimumIntensityCheckBox.checked, self._ui.slabSpinBox.value
        )
        qt.QSettings().setValue(_SETTINGS + "SlabMm", self._ui.slabSpinBox.value)

    def _onFieldOfViewChanged(self, value: float) -> None:
        qt.QSettings().setValue(_SETTINGS + "FieldOfViewMm", value)
        self.showLesion(self._lesionId, jump=True)

    def _overlay(self) -> display.Overlay:
        return OVERLAYS[self._ui.overlayModeSelector.currentIndex]

    def _apply(self) -> None:
        display.setOverlay(self._nodes, self._overlay())
        display.setShow3D(self._nodes, self._ui.show3DCheckBox.checked)

    def _showWhatMayBeSeen(self) -> None:
        """Rejected lesions are never drawn; during the own read, neither is what is not marked."""
        isOwnRead = self.isOwnRead
        if isOwnRead:
            self._ui.oneSegmentCheckBox.checked = False
        node = self._nodes.segmentationNode
        segmentOf = segmentsOfLesions(node.GetSegmentation())
        shown = node.GetDisplayNode()
        wasModifying = shown.StartModify()
        for lesion in self._session.lesions:
            isShown = lesion.is_counted and (isOwnMark(lesion) or not isOwnRead)
            shown.SetSegmentVisibility(segmentOf[lesion.id], isShown)
        shown.EndModify(wasModifying)

    def _updateWidgets(self) -> None:
        self._ui.overlayModeSelector.enabled = self._nodes is not None
        self._ui.show3DCheckBox.enabled = self._nodes is not None
        self._ui.oneSegmentCheckBox.enabled = self._nodes is not None and not self.isOwnRead
        self._ui.showAnatomyCheckBox.enabled = (
            self._nodes is not None and self._nodes.anatomyNode is not None
        )
        self._ui.revealButton.enabled = self.isOwnRead
        self._ui.revealButton.visible = self.isOwnRead or self._ui.afterOwnReadCheckBox.checked

    def _restoreSettings(self) -> None:
        """What the reader is used to, from the last time Slicer was open."""
        settings = qt.QSettings()
        ui = self._ui
        for key, spin in (("SlabMm", ui.slabSpinBox), ("FieldOfViewMm", ui.fieldOfViewSpinBox)):
            value = settings.value(_SETTINGS + key)
            if value is not None:
                spin.value = float(value)
        ui.afterOwnReadCheckBox.checked = str(settings.value(_SETTINGS + "AfterOwnRead")) == "1"
