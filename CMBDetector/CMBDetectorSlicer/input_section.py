"""The panel's first section: which scan, and what was recognized in it before anything is run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import qt
import slicer

from CMBDetectorLib.errors import InputError, UsageError
from CMBDetectorSlicer.banners import showHtml, showText, warningsHtml
from CMBDetectorSlicer.jobs import CheckJob, JobError, ScanCheck
from CMBDetectorSlicer.processes import ProcessRunner
from CMBDetectorSlicer.scan import Scan, isSequence
from CMBDetectorSlicer.volumes import frameCount

if TYPE_CHECKING:
    from CMBDetectorLib.geometry import Geometry
    from CMBDetectorSlicer.anatomy_input import AnatomyChoice, AnatomyInput

NO_VOLUME = "No volume in the scene yet: load a scan (Add data), or try the sample data."
CHOOSE_VOLUME = "Select the scan to search."
CHECKING = "Looking for the brain and at the image's quality…"
UNCHECKED = "The brain is looked for once the needed Python packages are there (Detect CMBs asks)."


class InputSection:
    """Selectors, facts and warnings.

    ``runner`` runs the check in a child process, for the model whose id ``modelId`` gives and the
    anatomy that ``anatomyChoice`` gives;
    ``onScanChanged`` is told of every change of what is selected and of whether it can be searched.
    """

    def __init__(
        self,
        ui: Any,
        runner: ProcessRunner,
        modelId: Callable[[], str | None],
        anatomyChoice: Callable[[], AnatomyChoice],
        onScanChanged: Callable[[], None],
    ) -> None:
        self._ui, self._runner, self._modelId = ui, runner, modelId
        self._anatomyChoice = anatomyChoice
        self._onScanChanged = onScanChanged
        self._job: CheckJob | None = None
        self._checked: tuple[Any, ...] | None = None
        self._isActive = False
        self._problem = ""
        self._facts = ""
        self._observed: tuple[Any, int] | None = None
        ui.inputVolumeSelector.connect("currentNodeChanged(vtkMRMLNode*)", self._onVolumeChanged)
        ui.maskSelector.connect("currentNodeChanged(vtkMRMLNode*)", self._onVolumeChanged)
        ui.frameSpinBox.connect("valueChanged(int)", self._onVolumeChanged)
        self.refresh()

    def scan(self) -> Scan | None:
        """What is selected now."""
        node = self._ui.inputVolumeSelector.currentNode()
        if node is None:
            return None
        frame = int(self._ui.frameSpinBox.value) if isSequence(node) else None
        return Scan(node, frame, self._ui.maskSelector.currentNode(), self._anatomyChoice())

    @property
    def problem(self) -> str:
        """Why the selection cannot be searched, empty if it can."""
        return self._problem

    def setActive(self, isActive: bool) -> None:
        """Check scans only while the user looks at the panel."""
        self._isActive = isActive
        if isActive:
            self._observe(self._ui.inputVolumeSelector.currentNode())
            self.refresh()
        else:
            self._observe(None)
            self.stop()

    def stop(self) -> None:
        """End a check that is running."""
        self._checked = None
        if self._job is not None:
            job, self._job = self._job, None
            job.cancel()

    def refresh(self) -> None:
        """Show the selection, and check it anew if it is another one or was changed."""
        scan = self.scan()
        self._showFrames(scan)
        key = (self._modelId(), *_stateOf(scan)) if scan is not None else None
        if key is not None and key == self._checked:
            return
        self.stop()
        self._problem = ""
        if scan is None:
            hasVolumes = self._ui.inputVolumeSelector.nodeCount() > 0
            showText(self._ui.inputFactsLabel, "plain", CHOOSE_VOLUME if hasVolumes else NO_VOLUME)
            showHtml(self._ui.inputWarningsLabel, "warning", "")
            self._onScanChanged()
            return
        try:
            volume, mask, anatomy = scan.volume(), scan.mask(), scan.anatomy()
        except (InputError, UsageError) as error:
            self._showProblem(str(error))
        else:
            self._facts = factsOf(volume.geometry)
            self._showFacts(self._facts, CHECKING if self._isActive else "")
            showHtml(self._ui.inputWarningsLabel, "warning", "")
            if self._isActive:
                self._startCheck(volume, mask, anatomy, key)
        self._onScanChanged()

    def _onVolumeChanged(self, *_: Any) -> None:
        if self._isActive:
            self._observe(self._ui.inputVolumeSelector.currentNode())
        self.refresh()

    def _observe(self, node: Any) -> None:
        """Voxels can come after the node, and be replaced."""
        if self._observed is not None:
            self._observed[0].RemoveObserver(self._observed[1])
            self._observed = None
        if node is not None and node.IsA("vtkMRMLVolumeNode"):
            event = slicer.vtkMRMLVolumeNode.ImageDataModifiedEvent
            self._observed = (node, node.AddObserver(event, self._onVoxelsChanged))

    def _onVoxelsChanged(self, _caller: Any, _event: Any) -> None:
        # Once all that belongs to the change is done; several changes make one check.
        qt.QTimer.singleShot(0, lambda: self.refresh() if self._isActive else None)

    def _showFrames(self, scan: Scan | None) -> None:
        isVisible = scan is not None and scan.frame is not None
        self._ui.frameLabel.visible = isVisible
        self._ui.frameSpinBox.visible = isVisible
        if scan is not None and isVisible:
            number = max(frameCount(scan.node), 1)
            self._ui.frameSpinBox.maximum = number
            self._ui.frameSpinBox.suffix = f" of {number}"

    # The check in a child process

    def _startCheck(
        self, volume: Any, mask: Any, anatomy: AnatomyInput, key: tuple[Any, ...] | None
    ) -> None:
        self._checked = key

        def ifCurrent(step: Callable[[Any], None]) -> Callable[[Any], None]:
            return lambda outcome: step(outcome) if self._checked == key else None

        self._job = CheckJob(
            self._runner,
            volume,
            mask,
            anatomy=anatomy,
            model=self._modelId(),
            onDone=ifCurrent(self._onChecked),
            onFailed=ifCurrent(self._onCheckFailed),
        )
        self._job.start()

    def _onChecked(self, check: ScanCheck) -> None:
        self._job = None
        self._showFacts(*factsOfCheck(check))
        showHtml(self._ui.inputWarningsLabel, "warning", warningsHtml(check.warnings))
        self._onScanChanged()

    def _onCheckFailed(self, error: JobError) -> None:
        self._job = None
        if error.code == "missing_dependency":
            self._showFacts(self._facts, UNCHECKED)
        else:
            self._showProblem(error.message)
        self._onScanChanged()

    def _showFacts(self, headline: str, *lines: str) -> None:
        showText(self._ui.inputFactsLabel, "note", headline, [line for line in lines if line])

    def _showProblem(self, problem: str) -> None:
        self._problem = problem
        showHtml(self._ui.inputFactsLabel, "note", "")
        showText(self._ui.inputWarningsLabel, "error", "This volume cannot be searched", [problem])


def factsOf(geometry: Geometry) -> str:
    """Size and spacing in one line."""
    return _sizeText(geometry.shape, geometry.spacing_mm)


def factsOfCheck(check: ScanCheck) -> tuple[str, str]:
    """What the child process found out."""
    brain = f"brain of {check.brainVolumeMl:,.0f} ml found" if check.hasBrain else "no brain found"
    return _sizeText(
        check.shape, check.spacingMm
    ), f"Slices every {check.sliceSpacingMm:.1f} mm, {brain}."


def _sizeText(shape: Sequence[int], spacingMm: Sequence[float]) -> str:
    size = " × ".join(str(number) for number in shape)
    return f"{size} voxels of {' × '.join(f'{value:.2f}' for value in spacingMm)} mm"


def _stateOf(scan: Scan) -> tuple[Any, ...]:
    """Equal for equal voxels in equal places: identity and modification time of all that counts."""
    image = scan.node.GetImageData() if scan.node.IsA("vtkMRMLVolumeNode") else None
    voxels = image.GetMTime() if image is not None else 0
    places = ((node.GetID(), node.GetMTime()) for node in scan.nodes())
    return (scan.frame, voxels, scan.anatomyChoice.mode, scan.anatomyChoice.file, *places)
