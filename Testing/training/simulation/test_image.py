"""From a noisy image to whole numbers, and the brain on a scan's grid."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from training.simulation.acquisition import make_sampling
from training.simulation.command import read_protocol
from training.simulation.image import brain_on_scan, deliver, finish_image

PROTOCOLS = Path(__file__).parents[3] / "training" / "configs" / "protocols"
PROTOCOL = replace(
    read_protocol(PROTOCOLS / "sample_t2star.json"),
    acquired_in_plane_mm=1.0,
    in_plane_mm=1.0,
    zero_background=False,
)
X, Y, Z = np.indices((90, 100, 20))
RADIUS = np.hypot(X - 45, Y - 50)
BRAIN = RADIUS < 35
IMAGE = (np.where(BRAIN, 100.0, 0.0) + np.where(BRAIN & (X > 45), 60.0, 0.0)).astype(np.float32)


@pytest.mark.parametrize("bits", [8, 10, 12])
def test_values_are_whole_and_within_their_bits(bits: int) -> None:
    protocol = replace(PROTOCOL, quantization_bits=bits, intensity_scale=0.9)
    noisy = IMAGE + np.random.default_rng(0).uniform(0, 30, IMAGE.shape).astype(np.float32)
    seen = deliver(noisy, BRAIN, protocol, 1.0, np.random.default_rng(1))
    assert seen.dtype == np.int16
    assert seen.min() >= 0
    assert seen.max() < 2**bits
    assert len(np.unique(seen)) <= 2**bits
    assert np.percentile(seen[BRAIN], 99) == pytest.approx(0.9 * (2**bits - 1), rel=0.02)


def test_clipping_cuts_the_brightest_only() -> None:
    image = IMAGE.copy()
    image[45:50, 45:50, 8:12] = 1000
    kept, cut = (
        deliver(
            image,
            BRAIN,
            replace(PROTOCOL, clip_percentile=p, intensity_scale=0.1),
            1.0,
            np.random.default_rng(1),
        )
        for p in (100.0, 99.0)
    )
    assert kept.max() > 5 * cut.max()
    np.testing.assert_array_equal(kept[30, 20:80], cut[30, 20:80])


def test_a_blanked_background_keeps_what_the_head_surrounds() -> None:
    scalp = (RADIUS > 40) & (RADIUS < 43)
    image = IMAGE + np.where(scalp, 40.0, 0).astype(np.float32)
    protocol = replace(PROTOCOL, zero_background=True, snr=20.0)
    seen = finish_image(image, BRAIN, protocol, 5.0, np.random.default_rng(0))
    bone = (RADIUS > 36) & (RADIUS < 39)
    assert (seen[bone] > 0).mean() > 0.9
    assert (seen[RADIUS > 50] == 0).mean() > 0.97
    noise = finish_image(
        image, BRAIN, replace(protocol, zero_background=False), 5.0, np.random.default_rng(0)
    )
    assert (noise[RADIUS > 50] > 0).mean() > 0.9


def test_a_stripped_image_is_zero_outside_and_same_seed_same_image() -> None:
    protocol = replace(PROTOCOL, skull_stripped=True, stripping="good")
    once, again = (
        finish_image(IMAGE, BRAIN, protocol, 5.0, np.random.default_rng(3)) for _ in range(2)
    )
    np.testing.assert_array_equal(once, again)
    assert (once[RADIUS > 42] == 0).all()
    assert (once[RADIUS < 30] > 0).mean() > 0.99


@pytest.mark.parametrize("in_plane_mm", [0.4, 0.6, 1.0])
def test_the_brain_on_a_scan_has_its_sulci_closed(in_plane_mm: float) -> None:
    x, y, _ = np.indices((160, 160, 40))
    radius_mm = 0.5 * np.hypot(x - 80, y - 80)
    sulcus = (np.abs(x - 80) < 3) & (y > 100)
    brain = torch.as_tensor((radius_mm < 30) & ~sulcus)
    protocol = replace(PROTOCOL, in_plane_mm=in_plane_mm, acquired_in_plane_mm=in_plane_mm)
    device = torch.device("cpu")
    sampling = make_sampling(protocol, brain.shape, 0.5, np.random.default_rng(0), device)
    mask = brain_on_scan(brain, sampling)
    assert mask.shape == sampling.shape
    i, j = np.indices(mask.shape[:2])
    at = [sampling.first_center_mm[k] + n * in_plane_mm - 40 for k, n in enumerate((i, j))]
    distance_mm = np.hypot(*at)
    middle = mask[:, :, mask.shape[2] // 2]
    assert middle[distance_mm < 27].all()
    assert not middle[distance_mm > 31.5].any()
