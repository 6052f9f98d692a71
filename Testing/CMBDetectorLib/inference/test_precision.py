"""Reduced precision must not change what a reader is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from CMBDetectorLib.evaluation.matching import match_centers
from CMBDetectorLib.inference.device import cpu_has_fast_bf16, list_devices
from CMBDetectorLib.io.reading import read_image
from CMBDetectorLib.models.library import find_bundle
from CMBDetectorLib.pipeline import detect_volume
from CMBDetectorLib.results import DetectionResult
from CMBDetectorLib.settings import Precision

SAME_PLACE_MM = 0.5
# A processor without bf16 arithmetic emulates it, a hundred times as slowly.
EMULATED = () if cpu_has_fast_bf16() else pytest.mark.slow
REDUCED = [pytest.param("cpu", "bf16", marks=EMULATED)] + [
    pytest.param(report.device, precision)
    for report in list_devices()
    if report.problem is None and report.device != "cpu"
    for precision in ("bf16", "fp16")
]


def centers(result: DetectionResult) -> list[tuple[float, float, float]]:
    return [detection.center_ras_mm for detection in result.detections]


@pytest.mark.parametrize(("device", "precision"), REDUCED)
def test_lesion_list_is_that_of_fp32(device: str, precision: Precision, sample_scan: Path) -> None:
    bundle = find_bundle(None)
    volume = read_image(sample_scan).volume
    options = {"anatomy": "none", "keep_probability": True}
    full = detect_volume(volume, bundle, device="cpu", precision="fp32", **options)
    reduced = detect_volume(volume, bundle, device=device, precision=precision, **options)
    assert len(full.detections) > 0
    match = match_centers(centers(reduced), centers(full), tolerance_mm=SAME_PLACE_MM)
    assert match.n_false_positive == match.n_false_negative == 0
    for pair in match.pairs:
        found = reduced.detections[pair.prediction]
        expected = full.detections[pair.truth]
        assert found.volume_mm3 == pytest.approx(expected.volume_mm3, rel=0.15)
        assert found.peak_probability == pytest.approx(expected.peak_probability, abs=0.05)
    assert full.probability is not None
    assert reduced.probability is not None
    difference = np.abs(full.probability.array - reduced.probability.array)
    assert np.percentile(difference, 99.9) < 0.02
