"""What was counted on each scan, kept until all are done, so that a measure can be resumed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from CMBDetectorLib.errors import InputError, UsageError
from CMBDetectorLib.evaluation.lesions import MarkedLesion
from CMBDetectorLib.evaluation.outcomes import LesionOutcome, ScanOutcome
from CMBDetectorLib.io.writing import write_text
from training.measures.scans import PlannedScan

OutcomesOfScan = Mapping[str, Mapping[float, ScanOutcome]]
"""By subset of the ensemble and threshold."""


class StoredOutcomes:
    """The scans that are done, in a file that is rewritten whole after each.

    Parameters
    ----------
    path
        The file; None keeps the outcomes in memory only.
    conditions
        All that the outcomes depend on, plain JSON: model, operating point, data.
    resume
        Go on with the scans in the file, where there is one.

    Raises
    ------
    UsageError
        If there is a file and ``resume`` is not set, or it was begun under other conditions.
    InputError
        If it cannot be read.
    """

    def __init__(
        self, path: Path | None, conditions: Mapping[str, Any], *, resume: bool = False
    ) -> None:
        self._path = path
        self._conditions = json.loads(json.dumps(conditions))
        self._done: dict[str, OutcomesOfScan] = {}
        if path is not None and path.exists():
            if not resume:
                raise UsageError(
                    f"{path} holds the scans of a measure that was not finished; add --resume, "
                    "choose another --output, or remove it"
                )
            self._done = _read(path, self._conditions)

    def get(self, scan: PlannedScan) -> OutcomesOfScan | None:
        """The outcomes of a scan that is done."""
        return self._done.get(_name(scan))

    def add(self, scan: PlannedScan, outcomes: OutcomesOfScan) -> None:
        """Keep those of one more scan.

        Raises
        ------
        OutputError
            If the file cannot be written.
        """
        self._done[_name(scan)] = outcomes
        if self._path is not None:
            document = {
                "conditions": self._conditions,
                "scans": {name: _as_json(one) for name, one in self._done.items()},
            }
            write_text(self._path, json.dumps(document))

    def finish(self) -> None:
        """Remove the file: the figures are written."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)


def _name(scan: PlannedScan) -> str:
    return f"{scan.measure}/{scan.scan_id}"


def _as_json(outcomes: OutcomesOfScan) -> dict[str, Any]:
    return {
        subset: {repr(threshold): asdict(one) for threshold, one in by_threshold.items()}
        for subset, by_threshold in outcomes.items()
    }


def _read(path: Path, conditions: dict[str, Any]) -> dict[str, OutcomesOfScan]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        begun_with = document["conditions"]
        done: dict[str, OutcomesOfScan] = {
            name: {
                subset: {float(threshold): _outcome(one) for threshold, one in some.items()}
                for subset, some in by_subset.items()
            }
            for name, by_subset in document["scans"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} does not hold the scans of a measure to go on with: {error!r}; remove it and "
            "measure anew"
        ) from error
    different = [key for key in conditions if begun_with.get(key) != conditions[key]]
    if different:
        raise UsageError(
            f"{path} was begun with other {', '.join(different)}: {begun_with.get(different[0])} "
            f"instead of {conditions[different[0]]}; choose another --output, or remove it"
        )
    return done


def _outcome(stored: dict[str, Any]) -> ScanOutcome:
    lesions = tuple(
        LesionOutcome(**{**one, "lesion": _lesion(one["lesion"])}) for one in stored["lesions"]
    )
    return ScanOutcome(**{**stored, "lesions": lesions})


def _lesion(stored: dict[str, Any]) -> MarkedLesion:
    x, y, z = stored["center_ras_mm"]
    return MarkedLesion(**{**stored, "center_ras_mm": (x, y, z)})
