"""What is wrong or remarkable about the inputs of an evaluation, one entry for each file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from CMBDetectorLib.errors import InputError

Severity = Literal["problem", "information"]

EXCLUDING = {
    "missing-prediction": "no prediction for a scan of the truth",
    "missing-truth": "no truth for a scan of the prediction",
    "duplicate-name": "several files of one side for one scan",
    "unreadable": "a file that is damaged or of another kind",
    "not-a-mask": "values that are no labels, such as probabilities",
    "different-space": "truth and prediction lie in different places",
    "no-grid": "points in voxels without an image to place them",
}
"""Codes of problems that keep a scan out of the figures, and what they mean."""

DOUBTFUL = {
    "float-mask": "a mask stored as fractions, whole numbers all the same",
    "no-orientation": "a header that does not say left from right",
    "no-scores": "a prediction without a score for each lesion",
    "no-regions": "no usable file of brain regions for a scan",
    "not-in-scan-table": "a scan that the scan table does not have",
}
"""Codes of problems whose scans are evaluated all the same."""

INFORMATION = {
    "empty-mask": "a truth or prediction without a lesion",
    "different-grid": "truth and prediction on different grids, compared in space",
    "nan-background": "NaN voxels, taken for background",
    "qform-sform-disagree": "two positions in one header; sform is used",
    "no-image": "no usable image to show errors in",
    "only-in-scan-table": "a scan of the scan table that neither side has",
    "left-out": "files of a folder that were not taken for lesions",
}
"""Codes that say something without being a problem."""

CODES = EXCLUDING | DOUBTFUL | INFORMATION
_NAMED = 10


@dataclass(frozen=True)
class Issue:
    """Something about one file or scan.

    Attributes
    ----------
    scan_id, file
        None where it concerns no scan or no file in particular.
    code
        One of :data:`CODES`; stable.
    message
        For people: what was got, what was expected, what to do.
    """

    scan_id: str | None
    file: str | None
    code: str
    message: str

    @property
    def severity(self) -> Severity:
        """``problem`` is an error under --strict; ``information`` never is."""
        return "information" if self.code in INFORMATION else "problem"

    def to_dict(self) -> dict[str, str | None]:
        """Plain types for JSON."""
        return dict(vars(self))


def count_by_code(issues: Iterable[Issue]) -> dict[str, int]:
    """How many there are of each code, in the order of :data:`CODES`."""
    found = [issue.code for issue in issues]
    return {code: found.count(code) for code in CODES if code in found}


def refuse_problems(issues: Sequence[Issue]) -> None:
    """Raise InputError that names the files of all problems, if there is one."""
    problems = [issue for issue in issues if issue.severity == "problem"]
    if not problems:
        return
    named = [f"{issue.code}: {_where(issue)}" for issue in problems[:_NAMED]]
    if len(problems) > _NAMED:
        named.append(f"and {len(problems) - _NAMED} more")
    number = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    raise InputError(
        f"{number} with the inputs ({'; '.join(named)}); repair them, or leave out --strict to "
        "have them counted and listed"
    )


def _where(issue: Issue) -> str:
    return issue.file or issue.scan_id or issue.message
