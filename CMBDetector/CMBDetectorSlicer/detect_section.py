"""The panel's third section: the button, how far the search has come, and how it ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import slicer

from CMBDetectorSlicer.banners import showText
from CMBDetectorSlicer.device_names import deviceText
from CMBDetectorSlicer.location_text import anatomyText
from CMBDetectorSlicer.logic import RunState

if TYPE_CHECKING:
    from CMBDetectorLib.results import Provenance
    from CMBDetectorSlicer.jobs import JobError, JobResult

STAGES = {
    "packages": "Python packages",
    "read": "Reading",
    "anatomy": "Finding the anatomy",
    "brain mask": "Finding the brain",
    "prepare": "Preparing",
    "inference": "Searching",
    "restore": "Mapping back to the scan",
    "lesions": "Measuring lesions",
    "write": "Saving",
}
STATE_TEXTS = {
    RunState.CHECKING: "Checking what is installed…",
    RunState.INSTALLING: "Installing. 3D Slicer does not respond until this is done…",
    RunState.SEARCHING: "Starting…",
    RunState.CANCELLING: "Cancelling…",
}
HEADLINES = {
    "missing_dependency": "Could not run: packages are missing",
    "input": "This volume cannot be searched",
    "device": "Could not run on this device",
    "model": "Could not run: the model cannot be used",
    "defect": "Could not run: a defect of this software",
}


class DetectSection:
    """Shows one run; knows nothing of how it is done."""

    def __init__(self, ui: Any) -> None:
        self._ui = ui
        self._report = ""
        self._warnings = 0
        ui.copyReportButton.connect("clicked(bool)", self._onCopyReport)
        self.clear()

    def clear(self) -> None:
        """As before the first run."""
        self._report = ""
        self._ui.logText.clear()
        self.showState(RunState.IDLE)
        showText(self._ui.messageLabel, "plain", "")
        self._ui.copyReportButton.visible = False

    def setReady(self, problem: str) -> None:
        """Whether a search can be started; ``problem`` says why not, as the button's tool tip."""
        self._ui.detectButton.toolTip = problem or "Search the selected volume for microbleeds."
        self._problem = problem
        self._ui.detectButton.enabled = not problem and self._state is RunState.IDLE

    def showState(self, state: RunState) -> None:
        """Buttons and bar for this state."""
        self._state = state
        isIdle = state is RunState.IDLE
        self._ui.detectButton.enabled = isIdle and not getattr(self, "_problem", "")
        self._ui.cancelButton.enabled = state in (RunState.CHECKING, RunState.SEARCHING)
        self._ui.cancelButton.visible = not isIdle
        self._ui.progressBar.visible = not isIdle
        # A bar from 0 to 0 moves to and fro: busy, for as long as there is no fraction.
        self._ui.progressBar.maximum = 0
        showText(self._ui.stageLabel, "plain", STATE_TEXTS.get(state, ""))

    def begin(self) -> None:
        """A new run: nothing of the last one is left."""
        self.clear()
        self._warnings = 0

    def showProgress(
        self, fraction: float, stage: str, message: str, remainingS: float | None
    ) -> None:
        """Where the search is, and about how long it still takes."""
        if self._state is RunState.SEARCHING:
            self._ui.progressBar.maximum = 100
            self._ui.progressBar.value = round(100 * fraction)
        text = STAGES.get(stage, stage.capitalize())
        text += f": {message}" if message else ""
        if remainingS is not None:
            text += f", about {durationText(remainingS)} left"
        showText(self._ui.stageLabel, "plain", text)

    def addLog(self, line: str) -> None:
        """One more line of the live log."""
        self._ui.logText.appendPlainText(line)

    def showDone(self, result: JobResult, made: Provenance) -> None:
        """Time, device, anatomy; the finding itself is in the result section."""
        text = f"Done in {durationText(result.seconds)} on the {deviceText(result.device)}."
        showText(self._ui.messageLabel, "plain", f"{text} {anatomyText(made)}")

    def showFailed(self, error: JobError) -> None:
        """The library's one line, and a report to copy."""
        self._report = error.report
        headline = HEADLINES.get(error.code, "Could not run")
        showText(self._ui.messageLabel, "error", headline, [error.message])
        self._ui.copyReportButton.visible = bool(error.report)

    def showCancelled(self, reason: str) -> None:
        """Not an error: a note."""
        showText(self._ui.messageLabel, "note", "Cancelled", [reason])

    def _onCopyReport(self, *_: Any) -> None:
        slicer.app.clipboard().setText(self._report)
        slicer.util.showStatusMessage("The report is on the clipboard.", 3000)


def durationText(seconds: float) -> str:
    """``8 s``, ``2 min 5 s``; at least one second."""
    whole = max(round(seconds), 1)
    minutes, rest = divmod(whole, 60)
    if not minutes:
        return f"{rest} s"
    return f"{minutes} min {rest} s" if rest else f"{minutes} min"
