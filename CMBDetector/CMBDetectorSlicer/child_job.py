"""What a search and a check have in common: a scan on disk, a child process, and an end."""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from CMBDetectorLib.errors import CMBDetectorError, MissingDependencyError, UsageError
from CMBDetectorLib.volume import Volume
from CMBDetectorSlicer.job_report import (
    CRASH,
    JobError,
    RunRecord,
    crashMessage,
    makeReport,
    withoutFolders,
)
from CMBDetectorSlicer.run_folder import makeRunFolder, removeRunFolder

if TYPE_CHECKING:
    from CMBDetectorSlicer.anatomy_input import AnatomyInput
    from CMBDetectorSlicer.processes import ProcessRunner, RunningProcess

SCAN_NAME = "scan.nii"
MASK_NAME = "mask.nii"
ANATOMY_NAME = "anatomy.nii"
CANCELLED = "cancelled"


class ChildJob(ABC):
    """A scan in a run folder, a child process that works on it, and the folder gone at the end.

    Of ``onDone``, ``onFailed`` and ``onCancelled`` exactly one is called, last.
    """

    def __init__(
        self,
        runner: ProcessRunner,
        image: Volume,
        mask: Volume | None,
        anatomy: AnatomyInput,
        *,
        onFailed: Callable[[JobError], None],
        onCancelled: Callable[[], None],
        onLog: Callable[[str], None],
    ) -> None:
        self._runner, self._image, self._mask, self._anatomy = runner, image, mask, anatomy
        self._onFailed, self._onCancelled, self._onLog = onFailed, onCancelled, onLog
        self._process: RunningProcess | None = None
        self._folder: Path | None = None
        self._arguments: tuple[str, ...] = ()
        self._events: list[dict[str, Any]] = []
        self._toldLog = 0
        self._isCancelled = False
        self._isOver = False

    @property
    def isRunning(self) -> bool:
        return self._process is not None and not self._isOver

    def start(self) -> None:
        """Write the scan and start the child; what cannot be done is told to ``onFailed``.

        Raises
        ------
        UsageError
            If it was started before.
        """
        if self._folder is not None:
            raise UsageError("a job is started once; make a new one")
        try:
            self._folder = makeRunFolder()
            self._writeInputs(self._folder)
            self._arguments = (*self._command(self._folder), "--watch-stdin")
            self._arguments += ("--watch-process", str(os.getpid()))
            process = self._runner.start(self._arguments, self._onLine, self._onFinished)
        except CMBDetectorError as error:
            self._fail(error.code, str(error), None)
            return
        self._process = process

    def cancel(self) -> None:
        """Stop; ``onCancelled`` is called once the child is gone, within two seconds."""
        if self._process is not None and not self._isOver:
            self._isCancelled = True
            self._process.cancel()

    # What the two jobs do in their own way

    @abstractmethod
    def _command(self, folder: Path) -> tuple[str, ...]:
        """The command line's words for the scan in this folder."""

    @abstractmethod
    def _onEvent(self, event: dict[str, Any]) -> None:
        """Take note of a line that the child wrote."""

    @abstractmethod
    def _takeResult(self, folder: Path) -> Callable[[], None] | None:
        """Read what the child left, before the folder is removed; what to call then, if anything.

        None means that the child did not finish its work.
        """

    @abstractmethod
    def _errorEvent(self) -> tuple[str, str] | None:
        """Code and message of the error the child told of."""

    # What they share

    def _writeInputs(self, folder: Path) -> None:
        from CMBDetectorLib.io.writing import write_nifti

        try:
            write_nifti(self._image, folder / SCAN_NAME)
            if self._mask is not None:
                write_nifti(self._mask, folder / MASK_NAME)
            if isinstance(self._anatomy, Volume):
                write_nifti(self._anatomy, folder / ANATOMY_NAME)
        except ImportError as error:
            package = (error.name or str(error)).partition(".")[0]
            raise MissingDependencyError(
                f"the Python package {package} is needed and cannot be imported; "
                "Detect CMBs offers to install what is missing"
            ) from error

    def _inputArguments(self, folder: Path) -> tuple[str, ...]:
        mask = () if self._mask is None else ("--brain-mask", str(folder / MASK_NAME))
        given = self._anatomy
        anatomy = folder / ANATOMY_NAME if isinstance(given, Volume) else given
        return (str(folder / SCAN_NAME), *mask, "--anatomy", str(anatomy))

    def _onLine(self, line: str) -> None:
        self._tellLog()
        try:
            event = json.loads(line)
        except ValueError:
            self._onLog(self._plain(line))
            return
        if not isinstance(event, dict):
            self._onLog(self._plain(line))
            return
        self._remember(event)
        self._onEvent(event)

    def _remember(self, event: dict[str, Any]) -> None:
        """Keep the event for the report; of the progress within a stage only the last."""
        last = self._events[-1] if self._events else {}
        isSameStage = all(last.get(key) == event.get(key) for key in ("event", "stage"))
        if event.get("event") == "progress" and isSameStage:
            self._events[-1] = event
        else:
            self._events.append(event)

    def _onFinished(self, exitCode: int) -> None:
        self._tellLog(isLast=True)
        if self._isCancelled:
            self._end()
            self._onCancelled()
            return
        assert self._folder is not None
        try:
            done = self._takeResult(self._folder) if exitCode == 0 else None
        except CMBDetectorError as error:
            self._fail(error.code, str(error), exitCode)
            return
        if done is not None:
            self._end()
            done()
            return
        told = self._errorEvent()
        if told is None:
            log = "" if self._process is None else self._process.log
            told = (CRASH, crashMessage(exitCode, log))
        elif told[0] == CANCELLED:
            told = (CANCELLED, "the search was stopped from outside 3D Slicer; start it again")
        self._fail(*told, exitCode)

    def _fail(self, code: str, message: str, exitCode: int | None) -> None:
        log = "" if self._process is None else self._process.log
        message = self._plain(message)
        record = RunRecord(self._arguments, self._image.geometry, self._events, log, exitCode)
        report = makeReport(code, message, record, self._folderNames())
        self._end()
        self._onFailed(JobError(code, message, report))

    def _end(self) -> None:
        self._isOver = True
        if self._folder is not None:
            removeRunFolder(self._folder)

    def _tellLog(self, isLast: bool = False) -> None:
        """Pass on the lines of stderr that are new and whole."""
        if self._process is None:
            return
        log = self._process.log
        end = len(log) if isLast else log.rfind("\n") + 1
        new, self._toldLog = log[self._toldLog : end], max(end, self._toldLog)
        for line in new.splitlines():
            self._onLog(self._plain(line))

    def _plain(self, text: str) -> str:
        """The text without the temporary paths, which mean nothing to a reader."""
        if self._folder is not None:
            text = text.replace(str(self._folder / SCAN_NAME), "the scan")
            text = text.replace(str(self._folder / MASK_NAME), "the brain mask")
            text = text.replace(str(self._folder / ANATOMY_NAME), "the anatomy")
        text = withoutFolders(text, self._folderNames())
        # What names the file and speaks of it.
        for name in ("the anatomy file", "the anatomy"):
            text = text.replace(f"{name}: the anatomy file", "the anatomy file")
        return text.removeprefix("the scan: ")

    def _folderNames(self) -> dict[Path, str]:
        names = {} if self._folder is None else {self._folder: "(temporary folder)"}
        # A file of the user's own may be named after a patient.
        if isinstance(self._anatomy, Path):
            names |= {self._anatomy: "the anatomy file"}
        return names
