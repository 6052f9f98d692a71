"""Everything about a run as one JSON document, for programs and for the record."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from CMBDetectorLib.errors import InputError
from CMBDetectorLib.reporting.counts import counts_document
from CMBDetectorLib.results import (
    NOT_ASSESSED,
    RESULT_SCHEMA_VERSION,
    Detection,
    DetectionResult,
    DroppedDetection,
    Provenance,
    ResultWarning,
)
from CMBDetectorLib.review.changes import Change
from CMBDetectorLib.review.lesions import ReviewedLesion, detection_from_dict

SCHEMA = "cmbdetector-result"
INTENDED_USE = "Research use only; not for clinical use."
NEVER_ASSESSED_FINDINGS = ("superficial siderosis", "macrobleeds")
PLACES = "hemisphere and region of each lesion"


@dataclass(frozen=True)
class ReviewRecord:
    """What a document holds of a reader's review.

    ``lesions`` are all that there are, rejected ones included; ``former_lesions`` were removed,
    split or merged; ``model_lesions`` is the model's own list, untouched.
    """

    readers: tuple[str, ...]
    is_complete: bool
    lesions: tuple[ReviewedLesion, ...]
    former_lesions: tuple[ReviewedLesion, ...]
    model_lesions: tuple[Detection, ...]
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class ResultDocument:
    """What a document holds of a result: all but the images, which lie beside it.

    ``outputs`` maps what a file is (``labels``, ``table``, ``summary``, ``picture``,
    ``probability``, ``segmentation``, ``anatomy``) to its name in the document's own folder. Of a
    reviewed result the detections are those that were not rejected, and ``review`` holds the rest.
    """

    detections: tuple[Detection, ...]
    provenance: Provenance
    warnings: tuple[ResultWarning, ...]
    outputs: dict[str, str]
    review: ReviewRecord | None = None
    dropped: tuple[DroppedDetection, ...] = ()


def document(result: DetectionResult, outputs: Mapping[str, str]) -> dict[str, Any]:
    """The document as plain types, in a fixed order; ``outputs`` as in :class:`ResultDocument`."""
    provenance = result.provenance.to_dict()
    settings = provenance.pop("settings")
    return {
        "schema": SCHEMA,
        "schema_version": RESULT_SCHEMA_VERSION,
        "intended_use": INTENDED_USE,
        "summary": {
            **summary(result.detections, is_conclusive=result.is_conclusive),
            "n_dropped": len(result.dropped),
        },
        "lesions": [lesion.to_dict() for lesion in result.detections],
        "dropped": [candidate.to_dict() for candidate in result.dropped],
        "not_assessed": list(not_assessed_findings(result)),
        "warnings": [warning.to_dict() for warning in result.warnings],
        "settings": settings,
        "provenance": provenance,
        "outputs": dict(outputs),
    }


def summary(detections: Sequence[Detection], *, is_conclusive: bool = True) -> dict[str, Any]:
    """Counts and volume; zones and regions by MARS, sizes and regions by tissue by BOMBS.

    Size classes go by the maximum diameter: under 5 mm, 5 to 10 mm, over 10 mm.
    """
    nothing = "no microbleed found" if is_conclusive else "nothing concluded"
    return {
        "finding": "suspected microbleeds" if detections else nothing,
        "n_lesions": len(detections),
        "total_volume_mm3": math.fsum(lesion.volume_mm3 for lesion in detections),
        **counts_document(detections),
    }


def not_assessed_findings(result: DetectionResult) -> tuple[str, ...]:
    """Findings that the run has not looked for, and how many lesions have no place."""
    if not result.has_anatomy:
        return (PLACES, *NEVER_ASSESSED_FINDINGS)
    return (*missing_places(result.detections), *NEVER_ASSESSED_FINDINGS)


def missing_places(detections: Sequence[Detection]) -> tuple[str, ...]:
    """How many lesions have no hemisphere, and how many no region of the scheme."""
    missing = []
    for name, number in (
        ("hemisphere", sum(one.hemisphere == NOT_ASSESSED for one in detections)),
        ("region", sum(one.zone == NOT_ASSESSED for one in detections)),
    ):
        if number:
            missing.append(f"{name} of {number} lesion{'' if number == 1 else 's'}")
    return tuple(missing)


def format_document(result: DetectionResult, outputs: Mapping[str, str]) -> str:
    """The document as strict JSON (RFC 8259); numbers that are not finite become null."""
    return format_json(document(result, outputs))


def format_json(plain: Mapping[str, Any]) -> str:
    """Strict JSON; numbers that are not finite become null."""
    return json.dumps(_strict(plain), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read_document(path: Path) -> ResultDocument:
    """Read a document of this or an earlier version back.

    Raises
    ------
    InputError
        If the file cannot be read, is no such document, or is of a newer version.
    """
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; check the path") from error
    except ValueError as error:
        raise InputError(
            f"{path} is not JSON ({error}); pass a file ending in _cmb.json"
        ) from error
    try:
        return result_from_document(plain)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def result_from_document(plain: Any) -> ResultDocument:
    """The inverse of :func:`document`, apart from the images.

    Raises
    ------
    InputError
        If something is missing or of the wrong kind, or the version is newer than this software.
    """
    if not isinstance(plain, dict) or plain.get("schema") != SCHEMA:
        raise InputError(
            f'this is no result of CMBDetector: its "schema" is not "{SCHEMA}"; '
            "pass a file ending in _cmb.json"
        )
    version = plain.get("schema_version")
    if not isinstance(version, int) or version > RESULT_SCHEMA_VERSION:
        raise InputError(
            f"the result has schema version {version}, this software reads up to "
            f"{RESULT_SCHEMA_VERSION}; update CMBDetector"
        )
    try:
        return ResultDocument(
            detections=tuple(Detection.from_dict(lesion) for lesion in plain["lesions"]),
            provenance=Provenance.from_dict({**plain["provenance"], "settings": plain["settings"]}),
            warnings=tuple(ResultWarning.from_dict(warning) for warning in plain["warnings"]),
            outputs=dict(plain["outputs"]),
            review=_review(plain["review"]) if "review" in plain else None,
            dropped=tuple(map(DroppedDetection.from_dict, plain.get("dropped", ()))),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"the result is incomplete ({type(error).__name__}: {error}); run the detection again"
        ) from error


def _review(plain: dict[str, Any]) -> ReviewRecord:
    readers = plain["readers"]
    if not isinstance(readers, list) or not all(isinstance(name, str) for name in readers):
        raise TypeError(f"the readers are {readers!r:.60}, expected a list of names")
    return ReviewRecord(
        readers=tuple(readers),
        is_complete=plain["complete"],
        lesions=tuple(map(ReviewedLesion.from_dict, plain["lesions"])),
        former_lesions=tuple(map(ReviewedLesion.from_dict, plain["former_lesions"])),
        model_lesions=tuple(map(detection_from_dict, plain["model_lesions"])),
        changes=tuple(map(Change.from_dict, plain["changes"])),
    )


def _strict(value: Any) -> Any:
    """Only what JSON knows: NumPy's types as Python's, NaN and infinity as null, paths as text."""
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _strict(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(item) for item in value]
    if isinstance(value, Path):
        return value.as_posix()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
