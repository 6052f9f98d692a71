"""Progress events and cancelling, the same for terminal, child process and Slicer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from CMBDetectorLib.errors import Cancelled


@dataclass(frozen=True)
class ProgressEvent:
    """How far a run has come.

    ``fraction`` is of the whole run, 0 to 1 and never falling; ``remaining_s`` is an estimate,
    None while there is nothing to estimate from.
    """

    stage: str
    fraction: float
    message: str
    elapsed_s: float
    remaining_s: float | None


ProgressCallback = Callable[[ProgressEvent], None]


class CancelToken:
    """A flag that any thread may set and that the work looks at between steps."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def cancel(self) -> None:
        """Ask the work to stop at its next step."""
        self._event.set()

    @property
    def is_cancelled(self) -> bool:
        """Whether :meth:`cancel` has been called."""
        return self._event.is_set()

    def raise_if_cancelled(self) -> None:
        """Raise :class:`Cancelled` once :meth:`cancel` has been called."""
        if self._event.is_set():
            raise Cancelled("cancelled on request; nothing was written for this image")


class ProgressReporter:
    """Turns a stage's own progress into progress of the whole run and times each stage.

    Parameters
    ----------
    stage_weights
        Share of the run that each stage is expected to take, in order; any positive scale.
    on_progress
        Called in the working thread with each event.
    cancel
        Looked at on every update.
    """

    def __init__(
        self,
        stage_weights: Mapping[str, float],
        on_progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> None:
        total = sum(stage_weights.values())
        self._share = {name: weight / total for name, weight in stage_weights.items()}
        self._on_progress = on_progress
        self._cancel = cancel or CancelToken()
        self._start_s = time.monotonic()
        self._done = 0.0
        self._stage = ""
        self._fraction = 0.0
        self.stage_seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str, message: str = "") -> Iterator[ProgressReporter]:
        """Enter a stage of the run; its time is kept in :attr:`stage_seconds`."""
        started_s = time.monotonic()
        self._stage = name
        self.update(0.0, message or name)
        try:
            yield self
        finally:
            self.stage_seconds[name] = time.monotonic() - started_s
        # Not update(): what is finished, the results above all, is not undone by a late cancel.
        self._report(1.0, message or name)
        self._done += self._share.get(name, 0.0)

    def update(self, stage_fraction: float, message: str = "") -> None:
        """Report how much of the current stage is done (0 to 1); raises Cancelled if asked to."""
        self._cancel.raise_if_cancelled()
        self._report(stage_fraction, message)

    def _report(self, stage_fraction: float, message: str) -> None:
        share = self._share.get(self._stage, 0.0)
        fraction = min(1.0, self._done + share * min(1.0, max(0.0, stage_fraction)))
        self._fraction = max(self._fraction, fraction)
        if self._on_progress is None:
            return
        elapsed_s = time.monotonic() - self._start_s
        remaining_s = None
        if self._fraction > 0.05:
            remaining_s = elapsed_s * (1.0 - self._fraction) / self._fraction
        self._on_progress(
            ProgressEvent(self._stage, self._fraction, message, elapsed_s, remaining_s)
        )

    def raise_if_cancelled(self) -> None:
        """Raise Cancelled if the run was asked to stop."""
        self._cancel.raise_if_cancelled()


class StageReporter(Protocol):
    """What a stage tells of its own progress."""

    def update(self, stage_fraction: float, message: str = "") -> None:
        """How much of it is done (0 to 1); raises Cancelled if asked to."""

    def raise_if_cancelled(self) -> None:
        """Raise Cancelled if the run was asked to stop."""


@dataclass(frozen=True)
class PartOfStage:
    """One of several equal parts of a stage, each of which reports as if it were all of it."""

    whole: StageReporter
    number: int
    n_parts: int

    def update(self, stage_fraction: float, message: str = "") -> None:
        """How much of the part is done (0 to 1); raises Cancelled if asked to."""
        prefix = f"model {self.number + 1} of {self.n_parts}, " if self.n_parts > 1 else ""
        self.whole.update((self.number + stage_fraction) / self.n_parts, prefix + message)

    def raise_if_cancelled(self) -> None:
        """Raise Cancelled if the run was asked to stop."""
        self.whole.raise_if_cancelled()
