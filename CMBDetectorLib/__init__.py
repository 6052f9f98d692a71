"""Find cerebral microbleeds on brain MRI: the library behind every way of use.

The names below are the public interface. They are imported on first use, so that
``import CMBDetectorLib`` stays fast and needs neither torch nor monai:

>>> from CMBDetectorLib import DetectionRequest, detect  # doctest: +SKIP
>>> result = detect(DetectionRequest(Path("scan.nii.gz"), Path("results")))  # doctest: +SKIP

Research software; not for clinical use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from CMBDetectorLib.version import __version__

if TYPE_CHECKING:
    from CMBDetectorLib.errors import CMBDetectorError
    from CMBDetectorLib.evaluation.cohort import (
        CohortEvaluation,
        EvaluationRequest,
        evaluate_cohort,
    )
    from CMBDetectorLib.evaluation.rule import MatchingRule
    from CMBDetectorLib.evaluation.summary import summarize_cohort
    from CMBDetectorLib.geometry import Geometry
    from CMBDetectorLib.io.reading import read_image, read_mask
    from CMBDetectorLib.io.writing import write_nifti
    from CMBDetectorLib.models.bundle import ModelBundle, load_bundle
    from CMBDetectorLib.models.library import find_bundle, list_bundles
    from CMBDetectorLib.pipeline import detect, detect_volume
    from CMBDetectorLib.progress import CancelToken, ProgressEvent
    from CMBDetectorLib.results import Detection, DetectionResult, Provenance, ResultWarning
    from CMBDetectorLib.settings import DetectionRequest
    from CMBDetectorLib.volume import Volume

__all__ = [
    "CMBDetectorError",
    "CancelToken",
    "CohortEvaluation",
    "Detection",
    "DetectionRequest",
    "DetectionResult",
    "EvaluationRequest",
    "Geometry",
    "MatchingRule",
    "ModelBundle",
    "ProgressEvent",
    "Provenance",
    "ResultWarning",
    "Volume",
    "__version__",
    "detect",
    "detect_volume",
    "evaluate_cohort",
    "find_bundle",
    "list_bundles",
    "load_bundle",
    "read_image",
    "read_mask",
    "summarize_cohort",
    "write_nifti",
]

_HOME = {
    "CMBDetectorError": "errors",
    "CancelToken": "progress",
    "CohortEvaluation": "evaluation.cohort",
    "Detection": "results",
    "DetectionRequest": "settings",
    "DetectionResult": "results",
    "EvaluationRequest": "evaluation.cohort",
    "Geometry": "geometry",
    "MatchingRule": "evaluation.rule",
    "ModelBundle": "models.bundle",
    "ProgressEvent": "progress",
    "Provenance": "results",
    "ResultWarning": "results",
    "Volume": "volume",
    "detect": "pipeline",
    "detect_volume": "pipeline",
    "evaluate_cohort": "evaluation.cohort",
    "find_bundle": "models.library",
    "list_bundles": "models.library",
    "load_bundle": "models.bundle",
    "read_image": "io.reading",
    "read_mask": "io.reading",
    "summarize_cohort": "evaluation.summary",
    "write_nifti": "io.writing",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
