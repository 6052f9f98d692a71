"""A model of other software, imported by child processes: first its terms, then its files.

3D Slicer's own process reads none of the files, which come from anywhere, and stays responsive.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from CMBDetectorLib.errors import CMBDetectorError
from CMBDetectorSlicer.dependencies import askToInstall, requirementsNamed
from CMBDetectorSlicer.job_report import exitCodeText

if TYPE_CHECKING:
    from CMBDetectorSlicer.logic import Services
    from CMBDetectorSlicer.processes import RunningProcess

CANCELLED = "Cancelled. Nothing was imported."
DECLINED = "Its terms were not accepted. Nothing was imported."
IMPORTING = "Importing this model"
_ERROR_PREFIX = "cmbdetector: error: "
_STEP_PREFIX = "  "


@dataclass(frozen=True)
class ModelTerms:
    """Who made a model, who may use it, and the packages that are missing to convert it."""

    id: str
    name: str
    authors: str
    license: str
    notice: str
    citation: str
    missingPackages: tuple[str, ...]

    @classmethod
    def fromDict(cls, plain: Mapping[str, Any]) -> ModelTerms:
        """What ``models import --show-license`` says; KeyError or TypeError if something else."""
        texts = (plain[key] for key in ("id", "name", "authors", "license", "notice", "citation"))
        return cls(*texts, missingPackages=tuple(plain["missing_packages"]))


class ModelImport:
    """One import; make a new object for the next one.

    ``onStep`` is told what is being done. Of ``onDone``, told the model's terms, ``onFailed``, told
    why, and ``onCancelled``, told what to say, exactly one is called, last.
    """

    def __init__(
        self,
        services: Services,
        path: Path,
        *,
        onStep: Callable[[str], None],
        onDone: Callable[[ModelTerms], None],
        onFailed: Callable[[str], None],
        onCancelled: Callable[[str], None],
    ) -> None:
        self._services, self._path = services, path.absolute()
        self._onStep, self._onDone = onStep, onDone
        self._onFailed, self._onCancelled = onFailed, onCancelled
        self._process: RunningProcess | None = None
        self._lines: list[str] = []
        self._isCancelled = False

    def start(self) -> None:
        """Look at the files, in a child process."""
        self._onStep("looking at the files")
        self._run("--show-license", self._onLooked)

    def cancel(self) -> None:
        """Stop; ``onCancelled`` is called once the child is gone."""
        self._isCancelled = True
        if self._process is not None:
            self._process.cancel()

    def _run(self, option: str, onFinished: Callable[[int], None]) -> None:
        self._lines = []
        words = ("models", "import", str(self._path), option, "--watch-stdin")
        words += ("--watch-process", str(os.getpid()))
        try:
            self._process = self._services.runner.start(words, self._onLine, onFinished)
        except CMBDetectorError as error:
            self._onFailed(str(error))

    def _onLine(self, line: str) -> None:
        self._lines.append(line)
        if line.startswith(_STEP_PREFIX):
            self._onStep(line.strip())

    def _onLooked(self, exitCode: int) -> None:
        terms = self._terms() if exitCode == 0 else None
        if self._isCancelled:
            self._onCancelled(CANCELLED)
        elif terms is None:
            self._onFailed(self._errorText(exitCode))
        else:
            self._askAndConvert(terms)

    def _askAndConvert(self, terms: ModelTerms) -> None:
        isAccepted = self._services.accept(termsText(terms))
        try:
            missing = requirementsNamed(terms.missingPackages) if isAccepted else ()
            if missing and not self._isCancelled:
                askToInstall(missing, self._services.ask, IMPORTING)
                self._onStep("installing Python packages")
                self._services.installer.install(missing)
        except CMBDetectorError as error:
            self._onFailed(str(error))
            return
        # Meanwhile the module may have been closed.
        if self._isCancelled or not isAccepted:
            self._onCancelled(CANCELLED if self._isCancelled else DECLINED)
            return
        self._run("--accept-license", lambda exitCode: self._onConverted(exitCode, terms))

    def _onConverted(self, exitCode: int, terms: ModelTerms) -> None:
        if exitCode == 0:  # also where it was done before it heard of the cancel
            self._onDone(terms)
        elif self._isCancelled:
            self._onCancelled(CANCELLED)
        else:
            self._onFailed(self._errorText(exitCode))

    def _terms(self) -> ModelTerms | None:
        """From the last line; None if it is not what was asked for."""
        try:
            return ModelTerms.fromDict(json.loads(self._lines[-1]))
        except (IndexError, ValueError, KeyError, TypeError):
            return None

    def _errorText(self, exitCode: int) -> str:
        """What the child said at last; how it ended, where it said nothing to the user."""
        log = "" if self._process is None else self._process.log
        lines = [line.strip() for line in log.splitlines() if line.strip()]
        told = [line for line in lines if line.startswith(_ERROR_PREFIX)]
        if told:
            return told[-1].removeprefix(_ERROR_PREFIX)
        said = f" Its last words: {lines[-1][:300]}" if lines else ""
        return f"the import ended without a result ({exitCodeText(exitCode)}); try again.{said}"


def termsText(terms: ModelTerms) -> str:
    """What there is to accept, ending in a question."""
    parts = [
        # A first line without markup, by which Qt takes the rest, which is not ours, as plain text.
        "The model has terms of its own:",
        f"{terms.name}, by {terms.authors}\nLicense: {terms.license}",
        terms.notice,
    ]
    if terms.citation and terms.citation not in terms.notice:
        parts.append(f"Cite: {terms.citation}")
    return "\n\n".join([*parts, "Do you accept these terms?"])
