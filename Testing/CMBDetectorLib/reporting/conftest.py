from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import numpy as np
import pytest

from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.postprocessing.lesions import find_lesions
from CMBDetectorLib.results import DetectionResult, Provenance, ResultWarning
from CMBDetectorLib.review.session import ReviewSession
from CMBDetectorLib.settings import OperatingPoint
from CMBDetectorLib.volume import Volume

MakeResult = Callable[..., tuple[DetectionResult, Volume]]


@pytest.fixture
def provenance() -> Provenance:
    return Provenance(
        software_version="0.1.0",
        library_versions={"numpy": "2.0", "torch": "2.13"},
        platform="Linux",
        started_at="2025-01-02T03:04:05Z",
        input_name="sub-01_T2S.nii.gz",
        input_sha256="ab" * 32,
        input_shape=(60, 70, 40),
        input_spacing_mm=(0.9, 0.9, 1.5),
        input_axis_codes="LAS",
        input_affine=np.diag([-0.9, 0.9, 1.5, 1.0]).tolist(),
        volume_index=None,
        model_id="swi-unet",
        model_version="1.0",
        model_sha256={"models/a.safetensors": "cd" * 32},
        device="cpu",
        device_name="CPU",
        precision="fp32",
        threshold=0.5,
        min_volume_mm3=2.0,
        brain_mask_source="user file",
        brain_volume_ml=1200.5,
        settings={"grid": {"kind": "in_plane", "spacing_mm": 0.5}},
        stage_seconds={"read": 0.1, "inference": 12.5},
    )


@pytest.fixture
def make_result(provenance: Provenance) -> MakeResult:
    """A smooth head with dark lesions of known places, and the result of finding them all."""

    def make(
        centers_ras_mm: list[tuple[float, float, float]],
        *,
        geometry: Geometry | None = None,
        radius_mm: float = 2.5,
        warnings: tuple[str, ...] = (),
        keep_probability: bool = False,
    ) -> tuple[DetectionResult, Volume]:
        if geometry is None:
            affine = np.diag([-0.9, 0.9, 1.5, 1.0])
            affine[:3, 3] = (26.55, -31.05, -29.25)
            geometry = Geometry((60, 70, 40), affine)
        ras_mm = geometry.ijk_to_ras_mm(np.moveaxis(np.indices(geometry.shape), 0, -1))
        mask = ((ras_mm / (24, 28, 26)) ** 2).sum(axis=-1) < 1
        image = np.where(mask, 100.0 + ras_mm[..., 1], 0.0)
        probability = np.zeros(geometry.shape, dtype=np.float32)
        for number, center in enumerate(centers_ras_mm):
            near = np.linalg.norm(ras_mm - center, axis=-1) <= radius_mm
            image[near] = 10.0
            probability[near] = 0.99 - 0.005 * number
        volume = Volume(probability, geometry)
        detections, label_map = find_lesions(volume, OperatingPoint(0.5, 0.0))
        result = DetectionResult(
            detections=detections,
            label_map=label_map,
            brain_mask=Volume(mask, geometry),
            provenance=provenance,
            warnings=tuple(ResultWarning("test", message) for message in warnings),
            probability=volume if keep_probability else None,
        )
        return result, Volume(image.astype(np.float32), geometry)

    return make


@pytest.fixture
def make_session(make_result: MakeResult) -> Callable[..., tuple[ReviewSession, Volume]]:
    """A review of what make_result finds, by "A. Reader" at a known time, and the image."""

    def make(
        centers_ras_mm: list[tuple[float, float, float]], **options: Any
    ) -> tuple[ReviewSession, Volume]:
        result, image = make_result(centers_ras_mm, **options)
        session = ReviewSession.start(
            result.detections,
            result.label_map,
            provenance=result.provenance,
            warnings=result.warnings,
            reader="A. Reader",
            now=lambda: datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc),
        )
        return session, image

    return make
