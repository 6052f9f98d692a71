from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import pytest
from skimage.color import rgb2lab

from CMBDetectorLib.reporting.segmentation_nrrd import lesion_segment
from CMBDetectorLib.reporting.terminology import (
    CATEGORY,
    TYPE,
    VERDICT_COLORS,
    segment_id,
    segment_name,
    terminology_tag,
)
from CMBDetectorLib.review.lesions import VERDICTS

# Machado, Oliveira and Fernandes, IEEE TVCG 15, 2009: full severity, on linear RGB.
AS_SEEN_BY = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "tritanopia": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}


def lab(color: tuple[float, float, float], vision: np.ndarray) -> np.ndarray:
    stored = np.array(color)
    linear = np.where(stored <= 0.04045, stored / 12.92, ((stored + 0.055) / 1.055) ** 2.4)
    seen = np.clip(vision @ linear, 0, 1)
    shown = np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)
    return rgb2lab(shown[None, None])[0, 0]


@pytest.mark.parametrize("vision", AS_SEEN_BY)
def test_verdicts_can_be_told_apart_by_color(vision: str) -> None:
    for one, other in itertools.combinations(VERDICT_COLORS.values(), 2):
        difference = lab(one, AS_SEEN_BY[vision]) - lab(other, AS_SEEN_BY[vision])
        # A difference of 2.3 is just noticeable; thin outlines need far more.
        assert np.linalg.norm(difference) > 15, (one, other)


def test_every_verdict_has_a_color() -> None:
    assert set(VERDICT_COLORS) == set(VERDICTS)
    assert all(0 <= part <= 1 for color in VERDICT_COLORS.values() for part in color)


def test_tag_has_the_seven_parts_of_slicer() -> None:
    parts = terminology_tag().split("~")
    assert len(parts) == 7
    assert parts[1].split("^") == list(CATEGORY)
    assert parts[2].split("^") == list(TYPE)
    assert all(
        part.count("^") == 2 for position, part in enumerate(parts) if position not in (0, 4)
    )
    assert "|" not in terminology_tag()


def test_ids_sort_as_their_numbers() -> None:
    assert [segment_id(n) for n in (1, 20, 300)] == ["cmb_0001", "cmb_0020", "cmb_0300"]
    assert segment_id(12345) == "cmb_12345"
    assert segment_name(3) == "CMB 3"
    assert lesion_segment(3, "uncertain").color_rgb == VERDICT_COLORS["uncertain"]


def test_needs_nothing_beyond_python() -> None:
    code = (
        "import sys, CMBDetectorLib.reporting.terminology as t; t.terminology_tag()\n"
        "print(','.join(n for n in ('numpy', 'scipy', 'nibabel', 'nrrd') if n in sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""
