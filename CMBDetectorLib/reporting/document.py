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
from CMBDetectorLib.results import (
    RESULT_SCHEMA_VERSION,
    Detection,
    DetectionResult,
    Provenance,
    ResultWarning,
)

SCHEMA = "cmbdetector-result"
INTENDED_USE = "Research use only; not for clinical use."
NOT_ASSESSED_FINDINGS = (
    "hemisphere and region of each lesion",
    "superficial siderosis",
    "macrobleeds",
)


@dataclass(frozen=True)
class ResultDocument:
    """What a document holds of a result: all but the images, which lie beside it.

    ``outputs`` maps what a file is (``labels``, ``table``, ``picture``, ``probability``) to its
    name in the document's own folder.
    """

    detections: tuple[Detection, ...]
    provenance: Provenance
    warnings: tuple[ResultWarning, ...]
    outputs: dict[str, str]


def document(result: DetectionResult, outputs: Mapping[str, str]) -> dict[str, Any]:
    """The document as plain types, in a fixed order; ``outputs`` as in :class:`ResultDocument`."""
    provenance = result.provenance.to_dict()
    settings = provenance.pop("settings")
    return {
        "schema": SCHEMA,
        "schema_version": RESULT_SCHEMA_VERSION,
        "intended_use": INTENDED_USE,
        "summary": summary(result.detections, is_conclusive=result.is_conclusive),
        "lesions": [lesion.to_dict() for lesion in result.detections],
        "not_assessed": list(NOT_ASSESSED_FINDINGS),
        "warnings": [warning.to_dict() for warning in result.warnings],
        "settings": settings,
        "provenance": provenance,
        "outputs": dict(outputs),
    }


def summary(detections: Sequence[Detection], *, is_conclusive: bool = True) -> dict[str, Any]:
    """Counts and volume; the size classes of BOMBS (Cordonnier et al., Stroke 2009) and above.

    Classes go by the maximum diameter: under 5 mm, 5 to 10 mm, over 10 mm.
    """
    diameters_mm = [lesion.max_diameter_mm for lesion in detections]
    under_5 = sum(d < 5 for d in diameters_mm)
    over_10 = sum(d > 10 for d in diameters_mm)
    nothing = "no microbleed found" if is_conclusive else "nothing concluded"
    return {
        "finding": "suspected microbleeds" if detections else nothing,
        "n_lesions": len(detections),
        "n_by_max_diameter": {
            "under 5 mm": under_5,
            "5 to 10 mm": len(diameters_mm) - under_5 - over_10,
            "over 10 mm": over_10,
        },
        "total_volume_mm3": math.fsum(lesion.volume_mm3 for lesion in detections),
    }


def format_document(result: DetectionResult, outputs: Mapping[str, str]) -> str:
    """The document as strict JSON (RFC 8259); numbers that are not finite become null."""
    plain = _strict(document(result, outputs))
    return json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


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
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"the result is incomplete ({type(error).__name__}: {error}); run the detection again"
        ) from error


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
