"""The panel as a whole: its sections, the run, and the result that is open."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import slicer

import CMBDetectorLib
from CMBDetectorLib.errors import CMBDetectorError, InputError, UsageError
from CMBDetectorSlicer.anatomy_section import AnatomySection
from CMBDetectorSlicer.banners import Kind, showText
from CMBDetectorSlicer.dependencies import SlicerInstaller
from CMBDetectorSlicer.detect_section import DetectSection
from CMBDetectorSlicer.environment import Environment, EnvironmentProbe
from CMBDetectorSlicer.import_section import ImportSection
from CMBDetectorSlicer.input_section import InputSection
from CMBDetectorSlicer.jobs import JobError, JobResult
from CMBDetectorSlicer.logic import DetectionRun, RunState, Services, jobErrorOf
from CMBDetectorSlicer.model_section import ModelSection
from CMBDetectorSlicer.processes import PythonProcessRunner, qtSchedule, slicerPython
from CMBDetectorSlicer.result_controller import ResultController
from CMBDetectorSlicer.result_nodes import RESULT_ATTRIBUTE, ResultNodes
from CMBDetectorSlicer.segments import dropVoxels

if TYPE_CHECKING:
    from CMBDetectorLib.review.session import ReviewSession
    from CMBDetectorSlicer.parameters import CMBDetectorParameterNode


def slicerServices() -> Services:
    """Processes of 3D Slicer's own Python, its package installer, and question boxes."""
    libraryParent = Path(CMBDetectorLib.__file__).resolve().parent.parent
    return Services(
        runner=PythonProcessRunner(slicerPython(), libraryParent, qtSchedule),
        installer=SlicerInstaller(),
        ask=lambda text: slicer.util.confirmOkCancelDisplay(text, "CMBDetector"),
        accept=lambda text: slicer.util.confirmYesNoDisplay(text, "CMBDetector"),
    )


class Panel:
    """Joins sections, run and result; the module's widget tells it what happens around it."""

    def __init__(self, ui: Any, logic: Any, services: Services | None = None) -> None:
        self.ui, self._logic = ui, logic
        self.services = services or slicerServices()
        self._parameters: CMBDetectorParameterNode | None = None
        self._guiTag: Any = None
        self._environment: Environment | None = None
        self._probe: EnvironmentProbe | None = None
        self._isShown = False
        self._isClosing = False
        showText(
            ui.notForClinicalUseLabel,
            "warning",
            "Not for clinical use",
            ["Research software. Check every lesion, and look for those it missed."],
        )
        ui.resultSelector.addAttribute("vtkMRMLTextNode", RESULT_ATTRIBUTE)
        self.detectSection = DetectSection(ui)
        self.run = DetectionRun(self.services, self)
        self.modelSection = ModelSection(ui)
        self.importSection = ImportSection(
            ui, self.services, self.modelSection.showImported, self._updateReady
        )
        self.anatomySection = AnatomySection(ui, self._onAnatomyChanged)
        self.inputSection = InputSection(
            ui,
            self.services.runner,
            self.modelSection.modelId,
            self.anatomySection.choice,
            self._updateReady,
        )
        self.results = ResultController(ui)
        ui.modelSelector.connect("currentIndexChanged(int)", lambda *_: self.inputSection.refresh())
        ui.detectButton.connect("clicked(bool)", lambda *_: self.detect())
        ui.cancelButton.connect("clicked(bool)", lambda *_: self.run.cancel())
        ui.resultSelector.connect("currentNodeChanged(vtkMRMLNode*)", self._onResultSelected)
        # After the controller's own slots, which decide what is hidden.
        ui.afterOwnReadCheckBox.connect("clicked(bool)", lambda *_: self._hideLog())
        ui.revealButton.connect("clicked(bool)", lambda *_: self._hideLog())
        self._closeResult()
        self._updateReady()

    # What happens around the panel

    def enter(self) -> None:
        """The user opens the module."""
        self._isShown = True
        self.openScene()
        self.inputSection.setActive(True)
        self.results.enter()
        if self._environment is None and self._probe is None:
            self._probeDevices()

    def exit(self) -> None:
        """The user goes to another module; a search goes on, keys and checks do not."""
        self._isShown = False
        self.inputSection.setActive(False)
        self.results.exit()

    def openScene(self) -> None:
        """Take up what a new or another scene holds."""
        if self._isClosing:
            return
        self._setParameters(self._logic.getParameterNode())
        self._selectOnlyVolume()
        self.inputSection.refresh()
        self._onResultSelected(self.ui.resultSelector.currentNode())

    def closeScene(self) -> None:
        """The scene is about to be emptied."""
        self.run.cancel("The scene was closed during the search.")
        self.inputSection.stop()
        self._setParameters(None)
        self._closeResult()

    def close(self) -> None:
        """The module is unloaded."""
        self._isClosing = True
        if self._probe is not None:
            self._probe.cancel()
        self.importSection.close()
        self.closeScene()
        self.exit()

    def nodeAdded(self, node: Any) -> None:
        """The first volume ends the hint that there is none."""
        if node.IsA("vtkMRMLScalarVolumeNode") and self._isShown and not self.run.isRunning:
            self._selectOnlyVolume()
            self.inputSection.refresh()

    def nodeAboutToBeRemoved(self, node: Any) -> None:
        """A volume that is searched, or a part of the open result, goes away."""
        if self.run.uses(node):
            self.run.cancel(f"'{node.GetName()}' was removed from the scene during the search.")
        nodes = self.results.nodes
        if nodes is not None and node in (
            nodes.textNode,
            nodes.volumeNode,
            nodes.segmentationNode,
        ):
            self._closeResult()
            problem = f"'{node.GetName()}' was removed from the scene."
            self._tellOfResult("warning", "The result was closed", problem)
        if node.IsA("vtkMRMLSegmentationNode"):
            # Only now, when nobody takes it for an edit.
            dropVoxels(node)

    # The run

    def detect(self) -> None:
        """Search what is selected; a click while a search runs is told so and does no harm."""
        if self.run.isRunning:
            self.addLine("A search is running already: wait for it or cancel it.")
            return
        self.detectSection.begin()
        self.inputSection.refresh()
        try:
            settings = self.modelSection.settings()
            if self.inputSection.problem:
                raise UsageError(self.inputSection.problem)
            scan = self.inputSection.scan()
            self.run.start(scan, settings, self.ui.readerLineEdit.text.strip())
        except CMBDetectorError as error:
            self.onFailed(jobErrorOf(error))

    def onState(self, state: RunState) -> None:
        self.detectSection.showState(state)
        for section in (self.ui.inputCollapsibleButton, self.ui.modelCollapsibleButton):
            section.enabled = state is RunState.IDLE

    def onProgress(
        self, fraction: float, stage: str, message: str, remainingS: float | None
    ) -> None:
        self.detectSection.showProgress(fraction, stage, message, remainingS)

    def onWarning(self, code: str, message: str) -> None:
        self.addLine(f"Warning ({code}): {message}")

    def onLog(self, line: str) -> None:
        self.addLine(line)

    def onEnvironment(self, environment: Environment) -> None:
        self._environment = environment
        self.modelSection.setEnvironment(environment)

    def onDone(self, nodes: ResultNodes, session: ReviewSession, result: JobResult) -> None:
        self.detectSection.showDone(result, session.provenance)
        self._openResult(nodes, session)
        # Room for the list: what was chosen is done with.
        self.ui.inputCollapsibleButton.collapsed = True
        self.ui.modelCollapsibleButton.collapsed = True

    def onFailed(self, error: JobError) -> None:
        self.detectSection.showFailed(error)

    def onCancelled(self, reason: str) -> None:
        self.detectSection.showCancelled(reason)

    def addLine(self, line: str) -> None:
        """One more line of the live log."""
        self.detectSection.addLog(line)

    # The result

    def _onResultSelected(self, node: Any) -> None:
        if node is None:
            if self.results.nodes is not None:
                self._closeResult()
        elif self.results.nodes is None or self.results.nodes.textNode is not node:
            try:
                self._openResult(ResultNodes.fromTextNode(node), None)
            except InputError as error:
                self._closeResult()
                self._tellOfResult("error", "The result cannot be opened", str(error))

    def _openResult(self, nodes: ResultNodes, session: ReviewSession | None) -> None:
        """Show a result; ``session`` None reads it from the nodes."""
        self.results.open(nodes, session)
        self.ui.resultSelector.setCurrentNode(nodes.textNode)
        if self._parameters is not None:
            self._parameters.result = nodes.textNode
        self._showSections(True)

    def _closeResult(self) -> None:
        self.results.close()
        self._showSections(False)

    def _tellOfResult(self, kind: Kind, headline: str, problem: str) -> None:
        showText(self.ui.resultFindingLabel, kind, headline, [problem])
        self.ui.resultCollapsibleButton.collapsed = False

    def _showSections(self, isOpen: bool) -> None:
        for section in (self.ui.reviewCollapsibleButton, self.ui.exportCollapsibleButton):
            section.enabled = isOpen
            section.collapsed = not isOpen
        self.ui.resultCollapsibleButton.collapsed = not isOpen
        self._hideLog()

    def _hideLog(self) -> None:
        """The log tells how many lesions were found."""
        self.ui.logCollapsibleButton.visible = not self.results.isOwnRead

    # What is known

    def _setParameters(self, parameters: CMBDetectorParameterNode | None) -> None:
        if self._parameters is not None and self._guiTag is not None:
            self._parameters.disconnectGui(self._guiTag)
        self._parameters, self._guiTag = parameters, None
        if parameters is not None:
            self._guiTag = parameters.connectGui(self.ui)
            self.ui.resultSelector.setCurrentNode(parameters.result)
        self.modelSection.setParameters(parameters)
        self.anatomySection.setParameters(parameters)

    def _selectOnlyVolume(self) -> None:
        """Where there is no choice, make it."""
        selector = self.ui.inputVolumeSelector
        if selector.currentNode() is None and selector.nodeCount() == 1:
            selector.setCurrentNodeIndex(0)

    def _onAnatomyChanged(self) -> None:
        if hasattr(self, "inputSection"):
            self.inputSection.refresh()

    def _updateReady(self) -> None:
        scan = self.inputSection.scan() if hasattr(self, "inputSection") else None
        problem = "Select a volume first." if scan is None else self.inputSection.problem
        if self.importSection.isRunning:
            problem = "A model is being imported: wait for it or cancel it."
        self.detectSection.setReady(problem)

    def _probeDevices(self) -> None:
        """Which devices are there; a search looks again if this fails, and then says why."""
        if self.services.environment is not None:
            self._onProbed(self.services.environment)
            return
        self._probe = EnvironmentProbe(self.services.runner)
        self._probe.start(self._onProbed, self._onProbeFailed)

    def _onProbed(self, environment: Environment) -> None:
        self._probe = None
        self.run.setEnvironment(environment)
        self.onEnvironment(environment)

    def _onProbeFailed(self, error: JobError) -> None:
        self._probe = None
        self.addLine(f"Devices are not known: {error.message}")
