"""Many scans without a window: the command line's results, and a scene for each case.

The scans are searched by one child process that runs the library's own command line on the files as
they are, so its results are the same to the byte. What is added here is a scene per case.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import slicer

from CMBDetectorLib.errors import CMBDetectorError, InputError, UsageError
from CMBDetectorSlicer.case_scene import writeCaseScene
from CMBDetectorSlicer.job_report import crashMessage
from CMBDetectorSlicer.processes import (
    ProcessRunner,
    PythonProcessRunner,
    Schedule,
    libraryParent,
    slicerPython,
)

USAGE = (
    "--python-script batch_detect.py INPUT... OUTPUT_DIR [MODEL] "
    "[-- --anatomy auto|none|FILE] [--save-anatomy]"
)
GET_PACKAGES = (
    "In 3D Slicer, open CMB Detector and press Detect CMBs once: it offers to install what is "
    "missing. Then start this again."
)
_STEP_S = 0.05


@dataclass(frozen=True)
class BatchRequest:
    """What to search and where to write; ``model`` None is the default one.

    ``anatomy`` is as the command line takes it; with ``savesAnatomy`` its label maps are written
    beside the other results, and into the scenes.
    """

    inputs: tuple[Path, ...]
    outputFolder: Path
    model: str | None = None
    anatomy: str = "auto"
    savesAnatomy: bool = False


def parseArguments(words: Sequence[str]) -> BatchRequest:
    """The request from ``INPUT... OUTPUT_DIR [MODEL] [-- --anatomy auto|none|FILE]``.

    3D Slicer keeps options before ``--`` for itself, so that positions tell what is what: the last
    word before the options is a model if it is the id of an installed one or the folder of a
    bundle, and else the output folder.

    Raises
    ------
    UsageError
        If there are too few words, the last one looks like a misspelled model, or an option is
        none.
    """
    rest, anatomy, savesAnatomy = _withoutOptions(words)
    model = _modelOf(rest[-1]) if len(rest) > 2 else None
    if model is not None:
        rest.pop()
    if len(rest) < 2:
        raise UsageError(f"expected inputs and an output folder, got {len(rest)}: {USAGE}")
    *inputs, output = (Path(word).expanduser().absolute() for word in rest)
    last = inputs[-1]
    if len(inputs) > 1 and not last.exists() and not _isImageName(last):
        raise UsageError(
            f"'{last}' is not there, so '{rest[-1]}' may be meant as a model, and it is neither "
            f"the id of an installed one ({', '.join(_modelIds())}) nor the folder of one: {USAGE}"
        )
    return BatchRequest(tuple(inputs), output, model, anatomy, savesAnatomy)


def runBatch(
    words: Sequence[str], makeRunner: Callable[[Schedule], ProcessRunner] | None = None
) -> int:
    """Do all that the words ask for, tell of it, and return the exit code.

    It is 0 if every case was done, else that of the first failure, as in the command line.
    """
    try:
        request = parseArguments(words)
        loop = StepLoop()
        runner = slicerRunner(loop.schedule) if makeRunner is None else makeRunner(loop.schedule)
        return Batch(request).run(runner, loop)
    except CMBDetectorError as error:
        _complain(str(error))
        return error.exit_code


def slicerRunner(schedule: Schedule) -> ProcessRunner:
    """The module's own runner, on 3D Slicer's Python."""
    return PythonProcessRunner(slicerPython(), libraryParent(), schedule)


class StepLoop:
    """Calls scheduled steps until all are done, and keeps the application alive meanwhile."""

    def __init__(self) -> None:
        self._steps: list[Callable[[], bool]] = []

    def schedule(self, step: Callable[[], bool], _intervalMs: int) -> None:
        self._steps.append(step)

    def run(self) -> None:
        while self._steps:
            self._steps = [step for step in self._steps if step()]
            slicer.app.processEvents()
            time.sleep(_STEP_S)


class Batch:
    """One run over all inputs. A case that fails is told of, and the rest go on."""

    def __init__(self, request: BatchRequest) -> None:
        self._request = request
        self._subfolders: dict[str, Path] = {}
        self._inputs: list[Path] = []
        self._done = self._failed = self._left = 0
        self._exitCode = 0
        self._hasEnded = False
        self._current = ""

    def run(self, runner: ProcessRunner, loop: StepLoop) -> int:
        self._expand()
        if self._inputs:
            process = runner.start(self._command(), self._onLine, self._onFinished)
            self._log = lambda: process.log
            loop.run()
        counts = f"{self._done} done"
        if self._left:
            counts += f", {self._left} were there already"
        _say(f"{counts}, {self._failed} failed")
        return self._exitCode

    def _expand(self) -> None:
        """Know each image's place in the output folder; leave out folders without images."""
        from CMBDetectorLib.cli.inputs import expand_inputs

        for given in self._request.inputs:
            try:
                scans = expand_inputs([given])
            except InputError as error:
                self._fail(str(error), error.exit_code)
                continue
            self._inputs.append(given)
            self._subfolders |= {str(scan.path): scan.subfolder for scan in scans}

    def _command(self) -> list[str]:
        request = self._request
        model = [] if request.model is None else ["--model", request.model]
        # Results that are there stay: a run that was broken off can be started again as it was.
        return [
            *("detect", *map(str, self._inputs), "--output-dir", str(request.outputFolder)),
            *("--progress", "jsonl", "--skip-existing", *model, "--anatomy", request.anatomy),
            *(("--save-anatomy",) if request.savesAnatomy else ()),
            *("--watch-stdin", "--watch-process", str(os.getpid())),
        ]

    def _onLine(self, line: str) -> None:
        try:
            event = json.loads(line)
        except ValueError:
            event = None
        if not isinstance(event, dict):
            _complain(line)
            return
        match event.get("event"):
            case "progress" if event["input"] != self._current:
                self._current = event["input"]
                _say(f"[{event['index']}/{event['count']}] {event['input']}")
            case "warning":
                _say(f"  Warning ({event['code']}): {event['message']}")
            case "result" | "skipped" as kind:
                self._finishCase(Path(event["input"]), isNew=kind == "result")
            case "error":
                self._onError(event)
            case "end":
                self._hasEnded = True

    def _finishCase(self, scanPath: Path, *, isNew: bool) -> None:
        # These need packages that are there, now that a search was possible.
        from CMBDetectorLib.reporting.outputs import output_stem, planned_outputs

        folder = self._request.outputFolder / self._subfolders[str(scanPath)]
        scenePath = folder / f"{output_stem(scanPath)}_cmb.mrb"
        if not isNew and scenePath.exists():
            self._left += 1
            _say(f"{scanPath}: has all its results")
            return
        planned = planned_outputs(
            scanPath,
            folder,
            save_probability=False,
            save_anatomy=self._request.savesAnatomy,
        )
        results = planned.named()
        try:
            finding = writeCaseScene(scanPath, results, scenePath)
        except CMBDetectorError as error:
            self._fail(str(error), error.exit_code)
            return
        self._done += 1
        _say(f"  {finding}: {scenePath}")

    def _onError(self, event: dict[str, Any]) -> None:
        self._fail(event["message"], event["exit_code"], isCase=event["input"] is not None)
        if event["code"] == "missing_dependency":
            _complain(GET_PACKAGES)

    def _onFinished(self, exitCode: int) -> None:
        if not self._hasEnded:
            # It died, or could not even read its options: what it said is on its stderr.
            self._fail(crashMessage(exitCode, self._log()), max(exitCode, 1), isCase=False)

    def _fail(self, message: str, exitCode: int, *, isCase: bool = True) -> None:
        self._failed += isCase
        self._exitCode = self._exitCode or exitCode
        _complain(message)

    @staticmethod
    def _log() -> str:
        return ""


def _withoutOptions(words: Sequence[str]) -> tuple[list[str], str, bool]:
    """The words without options, the anatomy, and whether it is saved."""
    rest: list[str] = []
    anatomy, savesAnatomy = "auto", False
    left = iter(words)
    for word in left:
        name, isJoined, value = word.partition("=")
        if name == "--anatomy":
            anatomy = _anatomyOf(value if isJoined else next(left, ""))
        elif word == "--save-anatomy":
            savesAnatomy = True
        elif word.startswith("--") and word != "--":
            raise UsageError(f"'{word}' is no option of this script: {USAGE}")
        elif word != "--":
            rest.append(word)
    return rest, anatomy, savesAnatomy


def _anatomyOf(word: str) -> str:
    """As the command line takes it; the child process has another working folder."""
    if not word:
        raise UsageError(f"--anatomy is followed by auto, none or a file, got nothing: {USAGE}")
    return word if word in ("auto", "none") else str(Path(word).expanduser().absolute())


def _modelOf(word: str) -> str | None:
    """The word as the command line takes a model; None if it is none."""
    from CMBDetectorLib.models.checksums import SUMS_NAME

    if word in _modelIds():
        return word
    folder = Path(word).expanduser().absolute()
    return str(folder) if (folder / SUMS_NAME).is_file() else None


def _modelIds() -> list[str]:
    from CMBDetectorLib.models.library import list_bundles

    return [listing.id for listing in list_bundles() if listing.kind == "detector"]


def _isImageName(path: Path) -> bool:
    from CMBDetectorLib.cli.inputs import IMAGE_SUFFIXES

    return path.name.lower().endswith(IMAGE_SUFFIXES)


def _say(line: str) -> None:
    print(line)


def _complain(line: str) -> None:
    print(line, file=sys.stderr)
