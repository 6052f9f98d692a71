"""How a run shows itself to a person: a progress bar, the table of lesions, the files written."""

from __future__ import annotations

import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from CMBDetectorLib.cli import console
from CMBDetectorLib.errors import CMBDetectorError
from CMBDetectorLib.progress import ProgressEvent

if TYPE_CHECKING:
    from CMBDetectorLib.results import DetectionResult

REDRAW_INTERVAL_S = 0.1


@dataclass(frozen=True)
class Job:
    """One input of a run, its place among them from 1, and the files it will write."""

    input_path: Path
    index: int
    count: int
    outputs: dict[str, Path]

    @property
    def output_dir(self) -> Path:
        """The folder of the files it will write."""
        return self.outputs["document"].parent


@dataclass
class Tally:
    """What became of the inputs so far."""

    total: int
    done: int = 0
    failed: int = 0
    skipped: int = 0
    exit_code: int = 0

    def add_failure(self, error: CMBDetectorError) -> None:
        """Count a failure; the first one decides the exit code."""
        self.failed += 1
        self.exit_code = self.exit_code or error.exit_code

    def __str__(self) -> str:
        parts = [f"{self.done} of {self.total} done"]
        for number, name in (
            (self.failed, "failed"),
            (self.skipped, "skipped"),
            (self.total - self.done - self.failed - self.skipped, "not run"),
        ):
            if number:
                parts.append(f"{number} {name}")
        return ", ".join(parts)


class Display(Protocol):
    """Told by the command what happens; a context manager around the whole run."""

    def __enter__(self) -> Display: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...
    def progress(self, job: Job, event: ProgressEvent) -> None:
        """A step of the run."""
        ...

    def result(self, job: Job, result: DetectionResult) -> None:
        """An input is done and its files are written."""
        ...

    def skipped(self, job: Job) -> None:
        """All results of an input exist already."""
        ...

    def failed(self, job: Job | None, error: CMBDetectorError) -> None:
        """An input could not be done; None if it is the whole run that ends."""
        ...

    def end(self) -> None:
        """The run is over."""
        ...


class TerminalDisplay:
    """Results on stdout; errors, warnings and, if wanted, a progress bar on stderr."""

    def __init__(self, tally: Tally, *, bar: bool) -> None:
        self._tally = tally
        self._bar = ProgressBar() if bar else None

    def __enter__(self) -> TerminalDisplay:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._clear_bar()

    def progress(self, job: Job, event: ProgressEvent) -> None:
        """Redraw the bar."""
        if self._bar is not None:
            prefix = f"[{job.index}/{job.count}] " if job.count > 1 else ""
            self._bar.draw(prefix, event)

    def result(self, job: Job, result: DetectionResult) -> None:
        """Print warnings, the table and the paths."""
        from CMBDetectorLib.reporting.tables import headline, lesion_lines, result_lines

        self._clear_bar()
        for warning in result.warnings:
            console.print_warning(f"{job.input_path.name}: {warning.message}")
        lines = [f"{job.input_path.name}: {headline(result)}", f"  {_run_line(result)}"]
        lines += [f"  {line}" for line in lesion_lines(result.detections)]
        lines += [f"  {line}" for line in result_lines(result)]
        lines += [f"  {what}: {path}" for what, path in job.outputs.items()]
        self._print(*lines)

    def skipped(self, job: Job) -> None:
        """Say so on stdout."""
        self._clear_bar()
        self._print(f"{job.input_path.name}: skipped, its results exist")

    def failed(self, job: Job | None, error: CMBDetectorError) -> None:
        """Print the error on one line."""
        self._clear_bar()
        console.print_error(error)

    def end(self) -> None:
        """With several inputs, say how many were done."""
        self._clear_bar()
        if self._tally.total > 1:
            sys.stderr.write(f"{self._tally}\n")
            sys.stderr.flush()

    def _print(self, *lines: str) -> None:
        """Print; the files matter more than a reader that has gone, so the run goes on then."""
        try:
            print("\n".join(console.one_line(line) for line in lines), flush=True)
        except BrokenPipeError:
            console.silence_stdout()

    def _clear_bar(self) -> None:
        if self._bar is not None:
            self._bar.clear()


class ProgressBar:
    """One line on stderr that is redrawn in place: stage, bar, percent, time left."""

    def __init__(self) -> None:
        self._drawn_at_s = 0.0
        self._stage = ""

    def draw(self, prefix: str, event: ProgressEvent) -> None:
        """Show the event, unless the same stage was drawn a moment ago."""
        now_s = time.monotonic()
        if event.stage == self._stage and now_s - self._drawn_at_s < REDRAW_INTERVAL_S:
            return
        self._drawn_at_s, self._stage = now_s, event.stage
        left = "" if event.remaining_s is None else f", {format_duration(event.remaining_s)} left"
        head = f"{prefix}{event.stage:<10} "
        tail = f" {event.fraction:4.0%}{left}"
        room = max(4, min(40, shutil.get_terminal_size().columns - len(head) - len(tail) - 3))
        filled = round(room * event.fraction)
        bar = "#" * filled + "-" * (room - filled)
        sys.stderr.write(f"\r\x1b[K{head}[{bar}]{tail}")
        sys.stderr.flush()

    def clear(self) -> None:
        """Take the bar off the line."""
        if self._stage:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._stage = ""


def format_duration(seconds: float) -> str:
    """Minutes and seconds, as ``1:05``."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"


def _run_line(result: DetectionResult) -> str:
    """Where it ran and how long, and how much to doubt."""
    provenance = result.provenance
    seconds = sum(provenance.stage_seconds.values())
    line = f"{provenance.device}, {provenance.precision}, {seconds:.1f} s"
    if result.warnings:
        plural = "s" if len(result.warnings) > 1 else ""
        line += f"; read with care: {len(result.warnings)} warning{plural}"
    return line
