"""From the click on "Detect CMBs" to a result in the scene, without any widget.

The way is: take the voxels, look at what is installed (in a child process), ask and install what is
missing, search in a child process, put the result into the scene. Every step can end in an error,
and can be cancelled; either leaves no process and no node behind.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

from CMBDetectorLib.errors import (
    CMBDetectorError,
    MissingDependencyError,
    UsageError,
)
from CMBDetectorSlicer.anatomy_input import NODE
from CMBDetectorSlicer.dependencies import (
    Installer,
    askToInstall,
    missingPackages,
    offlineInstructions,
)
from CMBDetectorSlicer.environment import Environment, EnvironmentProbe
from CMBDetectorSlicer.jobs import DetectionJob, DetectionSettings, JobError, JobResult
from CMBDetectorSlicer.location_text import isAnatomyUsed
from CMBDetectorSlicer.processes import ProcessRunner
from CMBDetectorSlicer.result_nodes import ResultNodes
from CMBDetectorSlicer.scan import Scan

if TYPE_CHECKING:
    from CMBDetectorLib.review.session import ReviewSession
    from CMBDetectorSlicer.anatomy_input import AnatomyInput


class RunState(Enum):
    """How far a run has come."""

    IDLE = "idle"
    CHECKING = "checking"
    INSTALLING = "installing"
    SEARCHING = "searching"
    CANCELLING = "cancelling"


@dataclass(frozen=True)
class Services:
    """The world outside: processes, the installer, and questions to the user.

    ``ask`` shows a question and says whether the user agreed; ``accept`` does so with terms to say
    yes or no to. ``environment`` is what is known of the installation already; None to look, in a
    child process.
    """

    runner: ProcessRunner
    installer: Installer
    ask: Callable[[str], bool]
    accept: Callable[[str], bool]
    environment: Environment | None = None


class RunListener(Protocol):
    """What is told of a run, on the main thread."""

    def onState(self, state: RunState) -> None: ...
    def onProgress(
        self, fraction: float, stage: str, message: str, remainingS: float | None
    ) -> None: ...
    def onWarning(self, code: str, message: str) -> None: ...
    def onLog(self, line: str) -> None: ...
    def onEnvironment(self, environment: Environment) -> None: ...
    def onDone(self, nodes: ResultNodes, session: ReviewSession, result: JobResult) -> None: ...
    def onFailed(self, error: JobError) -> None: ...
    def onCancelled(self, reason: str) -> None: ...


class DetectionRun:
    """One search at a time; the same object is used again for the next one."""

    def __init__(self, services: Services, listener: RunListener) -> None:
        self._services = services
        self._listener = listener
        self._state = RunState.IDLE
        self._environment: Environment | None = None
        self._reader = ""
        self._reason = ""
        self._forget()

    @property
    def state(self) -> RunState:
        return self._state

    @property
    def isRunning(self) -> bool:
        return self._state is not RunState.IDLE

    def uses(self, node: Any) -> bool:
        """Whether the run in work needs this node."""
        return self.isRunning and self._scan is not None and self._scan.node is node

    def setEnvironment(self, environment: Environment) -> None:
        """What is known from looking earlier; spares looking again."""
        self._environment = environment

    def start(self, scan: Scan | None, settings: DetectionSettings, reader: str = "") -> None:
        """Begin; all that goes wrong from here on is told to the listener.

        Raises
        ------
        UsageError
            If a search is running already. It goes on.
        """
        if self.isRunning:
            raise UsageError("a search is running already; wait for it or cancel it")
        self._forget()
        self._reader, self._settings = reader, settings
        self._setState(RunState.CHECKING)
        try:
            if scan is None:
                raise UsageError("no volume is selected; load a scan and select it under Input")
            self._scan = scan
            self._image, self._mask, self._anatomy = scan.volume(), scan.mask(), scan.anatomy()
        except CMBDetectorError as error:
            self._fail(jobErrorOf(error, scan))
            return
        if self._environment is not None:
            self._checkPackages(self._environment, mayInstall=True)
        else:
            self._probe(mayInstall=True)

    def cancel(self, reason: str = "Cancelled. Nothing was added to the scene.") -> None:
        """Stop; the listener hears of it once the process is gone. Does nothing when idle."""
        if not self.isRunning or self._state is RunState.CANCELLING:
            return
        self._reason = reason
        self._setState(RunState.CANCELLING)
        if self._job is not None:
            self._job.cancel()
            return
        if self._probing is not None:
            self._probing.cancel()
        self._cancelled()

    # Steps

    def _probe(self, mayInstall: bool) -> None:
        self._listener.onProgress(0.0, "packages", "looking at what is installed", None)
        self._probing = EnvironmentProbe(self._services.runner)
        self._probing.start(lambda found: self._onProbed(found, mayInstall), self._fail)

    def _onProbed(self, environment: Environment, mayInstall: bool) -> None:
        self._environment = environment
        self._listener.onEnvironment(environment)
        self._checkPackages(environment, mayInstall)

    def _checkPackages(self, environment: Environment, mayInstall: bool) -> None:
        missing = missingPackages(environment)
        if not missing:
            self._search()
            return
        self._environment = None
        names = ", ".join(requirement.name for requirement in missing)
        try:
            if not mayInstall:
                raise MissingDependencyError(
                    f"still missing after the installation: {names}; restart 3D Slicer and try "
                    f"again, or install by hand. {offlineInstructions(missing)}"
                )
            askToInstall(missing, self._services.ask)
            self._setState(RunState.INSTALLING)
            self._listener.onProgress(0.0, "packages", f"installing {names}", None)
            self._services.installer.install(missing)
        except CMBDetectorError as error:
            self._fail(jobErrorOf(error))
            return
        self._setState(RunState.CHECKING)
        self._probe(mayInstall=False)

    def _search(self) -> None:
        listener = self._listener
        self._setState(RunState.SEARCHING)
        self._job = DetectionJob(
            self._services.runner,
            self._image,
            self._mask,
            self._settings,
            anatomy=self._anatomy,
            onProgress=listener.onProgress,
            onWarning=listener.onWarning,
            onLog=listener.onLog,
            onDone=self._onFound,
            onFailed=self._onJobFailed,
            onCancelled=self._cancelled,
        )
        self._job.start()

    def _onJobFailed(self, error: JobError) -> None:
        if self._state is RunState.CANCELLING:
            self._cancelled()
        else:
            self._fail(error)

    def _onFound(self, result: JobResult) -> None:
        if self._state is RunState.CANCELLING:
            self._cancelled()
            return
        scan, geometry = self._scan, self._image.geometry
        try:
            if scan is None or not scan.volume().geometry.is_close(geometry):
                raise UsageError("the volume was changed during the search; search again")
            session, nodes = self._place(scan, result)
        except CMBDetectorError as error:
            self._fail(jobErrorOf(error, scan))
            return
        self._finish()
        self._listener.onDone(nodes, session, result)

    def _place(self, scan: Scan, result: JobResult) -> tuple[ReviewSession, ResultNodes]:
        from CMBDetectorLib.review.session import ReviewSession

        document = result.document
        # The child process saw neutral file names; the reader knows the nodes'.
        named = {"input_name": scan.name}
        if scan.anatomyChoice.mode == NODE:
            named["anatomy_name"] = str(scan.anatomyChoice.node.GetName())
        session = ReviewSession.start(
            document.detections,
            result.labelMap,
            provenance=replace(document.provenance, **named),
            warnings=document.warnings,
            dropped=document.dropped,
            reader=self._reader,
        )
        volumeNode = scan.resultVolumeNode()
        anatomy = result.anatomy if isAnatomyUsed(session.provenance) else None
        return session, ResultNodes.create(volumeNode, session, result.picture, anatomy)

    # Ends

    def _fail(self, error: JobError) -> None:
        self._finish()
        self._listener.onFailed(error)

    def _cancelled(self) -> None:
        if self.isRunning:
            self._finish()
            self._listener.onCancelled(self._reason)

    def _finish(self) -> None:
        self._forget()
        self._setState(RunState.IDLE)

    def _forget(self) -> None:
        """Let go of voxels and nodes."""
        self._scan: Scan | None = None
        self._image: Any = None
        self._mask: Any = None
        self._anatomy: AnatomyInput = "auto"
        self._job: DetectionJob | None = None
        self._probing: EnvironmentProbe | None = None

    def _setState(self, state: RunState) -> None:
        self._state = state
        self._listener.onState(state)


def jobErrorOf(error: CMBDetectorError, scan: Scan | None = None) -> JobError:
    """An error from outside the child process, in the form of one from it.

    The report, which people send to others, names no node: names of volumes can be patients'.
    """
    from CMBDetectorLib.version import __version__

    told = str(error)
    if scan is not None:
        names = [*(node.GetName() for node in scan.nodes()), scan.anatomyChoice.file.strip()]
        for name in filter(None, names):
            told = told.replace(name, "(name left out)")
    return JobError(error.code, str(error), f"CMBDetector {__version__}\n{error.code}: {told}\n")
