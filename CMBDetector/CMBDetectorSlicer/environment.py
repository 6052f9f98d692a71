"""What is installed and which devices there are, as a child process finds by really trying.

3D Slicer's own process does not import the packages that compute: a crash in one of them would
take the scene along.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from CMBDetectorLib.errors import CMBDetectorError
from CMBDetectorSlicer.job_report import (
    CRASH,
    JobError,
    RunRecord,
    crashMessage,
    makeReport,
    withoutFolders,
)
from CMBDetectorSlicer.processes import ProcessRunner, RunningProcess

COMMAND = ("info", "--json")


@dataclass(frozen=True)
class PackageState:
    """A package's version, None if it is not installed, and why it cannot be used, else None."""

    version: str | None
    problem: str | None


@dataclass(frozen=True)
class Device:
    """A device to compute on; ``id`` is what ``--device`` takes, ``problem`` why it cannot be."""

    id: str
    name: str
    memoryGib: float | None
    works: bool
    problem: str | None


@dataclass(frozen=True)
class Environment:
    """What a child process found; ``problems`` are lines for people, empty if all is well."""

    software: str
    python: str
    packages: Mapping[str, PackageState]
    devices: tuple[Device, ...]
    problems: tuple[str, ...]

    @classmethod
    def fromDict(cls, plain: Mapping[str, Any]) -> Environment:
        """What ``info --json`` says; KeyError or TypeError if it says something else."""
        packages = {
            name: PackageState(state["version"], state["problem"])
            for name, state in plain["packages"].items()
        }
        devices = tuple(
            Device(
                found["id"], found["name"], found["memory_gib"], found["works"], found["problem"]
            )
            for found in plain["devices"]
        )
        problems = [f"{name}: {state.problem}" for name, state in packages.items() if state.problem]
        if not problems:
            problems += [f"{found.name}: {found.problem}" for found in devices if found.problem]
        return cls(plain["software"], plain["python"], packages, devices, tuple(problems))


class EnvironmentProbe:
    """Asks a child process once."""

    def __init__(self, runner: ProcessRunner) -> None:
        self._runner = runner
        self._process: RunningProcess | None = None
        self._isCancelled = False
        self._lines: list[str] = []

    def start(
        self, onDone: Callable[[Environment], None], onFailed: Callable[[JobError], None]
    ) -> None:
        """Start; one of the two is called later, or before this returns if nothing starts."""
        self._onDone, self._onFailed = onDone, onFailed
        try:
            self._process = self._runner.start(COMMAND, self._lines.append, self._onFinished)
        except CMBDetectorError as error:
            self._fail(str(error), None)

    def cancel(self) -> None:
        """Stop; neither function is called any more."""
        self._isCancelled = True
        if self._process is not None:
            self._process.kill()

    def _onFinished(self, exitCode: int) -> None:
        if self._isCancelled:
            return
        environment = self._environment()
        if environment is not None:
            self._onDone(environment)
        else:
            self._fail(crashMessage(exitCode, self._log()), exitCode)

    def _environment(self) -> Environment | None:
        """From the last line; None if it is not what was asked for."""
        try:
            return Environment.fromDict(json.loads(self._lines[-1]))
        except (IndexError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def _fail(self, message: str, exitCode: int | None) -> None:
        log = "\n".join([*self._lines, self._log()])
        record = RunRecord(COMMAND, None, (), log, exitCode)
        message = withoutFolders(message, {})
        self._onFailed(JobError(CRASH, message, makeReport(CRASH, message, record, {})))

    def _log(self) -> str:
        return "" if self._process is None else self._process.log
