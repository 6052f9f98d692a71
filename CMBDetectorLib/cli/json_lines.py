"""How a run shows itself to a parent process: one JSON object per line on stdout, nothing else.

Every line is ASCII, ends with a newline and is flushed; every object has ``event``. A parent
ignores events and keys it does not know. ``input`` is the path as it was given.

=========== ====================================================================================
event       keys
=========== ====================================================================================
start       ``schema`` (1), ``version``, ``inputs`` (list of paths)
progress    ``input``, ``index`` and ``count`` (of the inputs, from 1), ``stage`` (``read``,
            ``anatomy`` where it is sought, ``brain mask``, ``prepare``, ``inference``,
            ``restore``, ``lesions``, ``write``), ``fraction`` (0 to 1, of this input, never
            falling), ``message``, ``elapsed_s``, ``remaining_s`` (an estimate, or null)
warning     ``input``, ``code`` (stable), ``message`` (for people)
result      ``input``, ``count`` (of lesions), ``dropped`` (number of candidates outside of the
            brain), ``paths`` (object: ``labels``, ``table``, ``summary``, ``document``,
            ``picture`` and, if asked for, ``probability``, ``segmentation`` and
            ``anatomy``), ``model_id``, ``anatomy_source``, ``device``, ``precision``,
            ``stage_seconds``
skipped     ``input``: its results exist and ``--skip-existing`` was given
error       ``input`` (null if it concerns the whole run), ``code`` (``usage``, ``input``,
            ``model``, ``missing_dependency``, ``device``, ``cancelled``, ``output``,
            ``defect``), ``message``, ``exit_code``
end         ``done``, ``failed``, ``skipped``, ``exit_code``; the last line of every run
=========== ====================================================================================

A command line that cannot be parsed gives exit code 2 and a line on stderr, and no event. The
process's exit code is the ``exit_code`` of ``end``. Errors are on stderr as well, one line each.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from CMBDetectorLib.cli import console
from CMBDetectorLib.cli.display import Job, Tally
from CMBDetectorLib.errors import Cancelled, CMBDetectorError
from CMBDetectorLib.progress import ProgressEvent
from CMBDetectorLib.version import __version__

if TYPE_CHECKING:
    from CMBDetectorLib.results import DetectionResult

SCHEMA = 1
MIN_INTERVAL_S = 0.05


class JsonLinesDisplay:
    """Writes the events; while it is open, prints of any other code go to stderr instead."""

    def __init__(self, inputs: Sequence[Path], tally: Tally) -> None:
        self._inputs = inputs
        self._tally = tally
        self._stdout = sys.stdout
        self._redirection = contextlib.redirect_stdout(sys.stderr)
        self._lock = threading.Lock()
        self._parent_gone = False
        self._stage: tuple[int, str] = (0, "")
        self._sent_at_s = 0.0

    def __enter__(self) -> JsonLinesDisplay:
        self._redirection.__enter__()
        inputs = [str(path) for path in self._inputs]
        self._send("start", schema=SCHEMA, version=__version__, inputs=inputs)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._redirection.__exit__(kind, error, trace)
        if self._parent_gone:
            console.silence_stdout()
        elif error is not None:
            self._send_error(None, error)
            self._tally.exit_code = _exit_code(error)
            self.end()

    def progress(self, job: Job, event: ProgressEvent) -> None:
        """Send the first event of each stage, the last of all, and between them a few a second."""
        now_s = time.monotonic()
        stage = (job.index, event.stage)
        last = event.fraction >= 1.0
        if stage == self._stage and not last and now_s - self._sent_at_s < MIN_INTERVAL_S:
            return
        self._stage, self._sent_at_s = stage, now_s
        self._send(
            "progress",
            input=str(job.input_path),
            index=job.index,
            count=job.count,
            stage=event.stage,
            fraction=round(event.fraction, 4),
            message=event.message,
            elapsed_s=round(event.elapsed_s, 3),
            remaining_s=None if event.remaining_s is None else round(event.remaining_s, 3),
        )

    def result(self, job: Job, result: DetectionResult) -> None:
        """Send the warnings, then the result."""
        for warning in result.warnings:
            self._send(
                "warning", input=str(job.input_path), code=warning.code, message=warning.message
            )
        self._send(
            "result",
            input=str(job.input_path),
            count=len(result.detections),
            dropped=len(result.dropped),
            paths={what: str(path) for what, path in job.outputs.items()},
            model_id=result.provenance.model_id,
            anatomy_source=result.provenance.anatomy_source,
            device=result.provenance.device,
            precision=result.provenance.precision,
            stage_seconds=result.provenance.stage_seconds,
        )

    def skipped(self, job: Job) -> None:
        """Send it."""
        self._send("skipped", input=str(job.input_path))

    def failed(self, job: Job | None, error: CMBDetectorError) -> None:
        """Send it, and print it on stderr."""
        self._send_error(None if job is None else str(job.input_path), error)
        console.print_error(error)

    def end(self) -> None:
        """Send the last event."""
        self._send(
            "end",
            done=self._tally.done,
            failed=self._tally.failed,
            skipped=self._tally.skipped,
            exit_code=self._tally.exit_code,
        )

    def _send_error(self, input_path: str | None, error: BaseException) -> None:
        self._send(
            "error",
            input=input_path,
            code=error_code(error),
            message=console.error_message(error),
            exit_code=_exit_code(error),
        )

    def _send(self, event: str, **values: Any) -> None:
        line = json.dumps({"event": event, **values}, ensure_ascii=True) + "\n"
        if self._parent_gone:
            return
        try:
            with self._lock:
                self._stdout.write(line)
                self._stdout.flush()
        except OSError as error:  # BrokenPipeError, or EINVAL on Windows
            self._parent_gone = True
            raise Cancelled("the parent process no longer reads the events; stopped") from error


def error_code(error: BaseException) -> str:
    """The stable name of a kind of error."""
    return error.code if isinstance(error, CMBDetectorError) else CMBDetectorError.code


def _exit_code(error: BaseException) -> int:
    return error.exit_code if isinstance(error, CMBDetectorError) else 1
