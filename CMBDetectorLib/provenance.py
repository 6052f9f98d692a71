"""Collecting what a run needs to record about itself: versions, platform, input, model, device."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from CMBDetectorLib.results import Provenance
from CMBDetectorLib.searching import Detectors, settings_of
from CMBDetectorLib.settings import DetectionRequest, OperatingPoint
from CMBDetectorLib.version import __version__
from CMBDetectorLib.volume import Volume

if TYPE_CHECKING:
    from CMBDetectorLib.inference.device import ComputeDevice
    from CMBDetectorLib.preprocessing.brain_mask import BrainMask

RECORDED_PACKAGES = (
    "numpy",
    "scipy",
    "scikit-image",
    "nibabel",
    "pynrrd",
    "pillow",
    "torch",
    "monai",
    "safetensors",
    "openvino",
)


@dataclass(frozen=True)
class InputRecord:
    """Which image was searched; ``sha256`` is of the file's bytes, or of the array's."""

    name: str
    sha256: str
    volume_index: int | None = None


@dataclass(frozen=True)
class AnatomyRecord:
    """Which anatomical label map was used; see :class:`~CMBDetectorLib.results.Provenance`."""

    source: str = "none"
    name: str = ""
    model_sha256: Mapping[str, str] = field(default_factory=dict)
    file_sha256: str = ""


def array_sha256(array: npt.NDArray[Any]) -> str:
    """Hash of an array's bytes in C order."""
    return hashlib.sha256(np.ascontiguousarray(array).ravel().data).hexdigest()


def library_versions() -> dict[str, str]:
    """Versions of the packages that can change a result; those not installed are left out."""
    versions = {}
    for package in RECORDED_PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def platform_description() -> str:
    """Python, operating system and processor architecture; never the machine's name."""
    return (
        f"Python {platform.python_version()}, {platform.system()} {platform.release()}, "
        f"{platform.machine()}"
    )


def timestamp() -> str:
    """The time now in UTC, ISO 8601, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def brain_volume_ml(mask: Volume) -> float:
    """Volume of a bool mask in milliliters."""
    return float(np.count_nonzero(mask.array) * mask.geometry.voxel_volume_mm3 / 1000.0)


def describe_run(
    *,
    request: DetectionRequest,
    record: InputRecord,
    volume: Volume,
    brain: BrainMask,
    anatomy: AnatomyRecord,
    detectors: Detectors,
    compute: ComputeDevice,
    precision: str,
    operating_point: OperatingPoint,
    started_at: str,
    statistics: dict[str, object],
    stage_seconds: dict[str, float],
) -> Provenance:
    """Everything needed to repeat a run and to explain a difference from an earlier one."""
    geometry = volume.geometry
    return Provenance(
        software_version=__version__,
        library_versions=library_versions(),
        platform=platform_description(),
        started_at=started_at,
        input_name=record.name,
        input_sha256=record.sha256,
        input_shape=geometry.shape,
        input_spacing_mm=geometry.spacing_mm,
        input_axis_codes=geometry.axis_codes,
        input_affine=geometry.affine.tolist(),
        volume_index=record.volume_index,
        model_id=" + ".join(bundle.id for bundle in detectors),
        model_version=" + ".join(bundle.version for bundle in detectors),
        model_sha256=_hashes(detectors),
        device=compute.device,
        device_name=compute.name,
        precision=precision,
        threshold=operating_point.threshold,
        min_volume_mm3=operating_point.min_volume_mm3,
        extent_threshold=operating_point.lowest,
        brain_mask_source=brain.source,
        brain_volume_ml=brain_volume_ml(brain.mask),
        settings={
            "requested_device": request.device,
            "requested_precision": request.precision,
            "backend": compute.backend,
            **settings_of(detectors),
            "inference": statistics,
        },
        stage_seconds=stage_seconds,
        anatomy_source=anatomy.source,
        anatomy_name=anatomy.name,
        anatomy_model_sha256=dict(anatomy.model_sha256),
        anatomy_file_sha256=anatomy.file_sha256,
    )


def _hashes(detectors: Detectors) -> dict[str, str]:
    """Of every file of the models; of several each file's name begins with the model's."""
    if len(detectors) == 1:
        return dict(detectors[0].sha256)
    return {f"{one.id}/{name}": value for one in detectors for name, value in one.sha256.items()}
