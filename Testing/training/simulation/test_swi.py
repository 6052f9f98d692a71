"""Phase filter, masks and projection."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from training.simulation.command import read_protocol
from training.simulation.swi import (
    high_pass_phase_rad,
    low_pass_matrices,
    middle_slices,
    minimum_projection,
    phase_mask,
)

PROTOCOLS = Path(__file__).parents[3] / "training" / "configs" / "protocols"
PROTOCOL = replace(
    read_protocol(PROTOCOLS / "sample_t2star.json"), sequence="SWI", swi_low_pass_mm=12.0
)


def scan_of_phase(phase: np.ndarray) -> torch.Tensor:
    return torch.polar(torch.ones(phase.shape), torch.as_tensor(phase, dtype=torch.float32))


def vein(raised: float) -> np.ndarray:
    """A thin line of raised phase on a steep background that wraps."""
    x, y, _ = np.indices((100, 110, 3))
    phase = 0.15 * x + 0.08 * y
    phase[50, :, :] += raised
    return phase


def test_low_pass_keeps_constants_and_smooths_as_wide_as_asked() -> None:
    for sd in (2.0, 7.3, 15.0):
        down, up = low_pass_matrices(200, sd, torch.device("cpu"))
        whole = up @ down
        torch.testing.assert_close(whole.sum(dim=1), torch.ones(200), atol=1e-5, rtol=0)
        place = torch.arange(200.0)
        spread = (whole[100] * (place - 100) ** 2).sum().sqrt()
        assert float(spread) == pytest.approx(sd, rel=0.06)


def test_the_filter_takes_wraps_away_and_keeps_a_vein() -> None:
    phase = high_pass_phase_rad(scan_of_phase(vein(1.2)), PROTOCOL)[15:-15, 15:-15]
    assert float(phase[35].mean()) == pytest.approx(1.2, abs=0.2)
    assert float(phase[:25].abs().max()) < 0.15


def test_a_narrow_low_pass_takes_more_of_a_broad_object() -> None:
    x, _, _ = np.indices((120, 120, 2))
    broad = np.where(np.abs(x - 60) < 4, 1.0, 0.0)
    kept = [
        float(
            high_pass_phase_rad(scan_of_phase(broad), replace(PROTOCOL, swi_low_pass_mm=w))[
                60
            ].mean()
        )
        for w in (5.0, 20.0)
    ]
    assert kept[0] < 0.7 * kept[1]


@pytest.mark.parametrize("kind", ["linear", "triangular", "sigmoid"])
def test_masks_darken_veins_the_more_the_higher_their_power(kind: str) -> None:
    darkness = []
    for power in (3, 6):
        mask = phase_mask(
            scan_of_phase(vein(1.2)), replace(PROTOCOL, swi_mask=kind, swi_mask_power=power)
        )
        assert float(mask.min()) >= 0
        assert float(mask.max()) <= 1
        darkness.append(float(mask[50, 20:-20].mean()))
        assert float(mask[20:30, 20:-20].mean()) > 0.85
    assert darkness[1] < 0.6 * darkness[0]


def test_masks_differ_in_what_they_do_to_lowered_phase() -> None:
    lowered = scan_of_phase(vein(-1.2))
    levels = {
        kind: float(phase_mask(lowered, replace(PROTOCOL, swi_mask=kind))[50, 20:-20].mean())
        for kind in ("linear", "triangular", "sigmoid")
    }
    assert levels["linear"] == pytest.approx(1, abs=0.02)
    assert levels["triangular"] < 0.5
    assert levels["sigmoid"] > 0.95


def test_a_projection_is_never_brighter_and_spreads_the_dark_over_its_slab() -> None:
    rng = np.random.default_rng(0)
    image = rng.uniform(1, 2, (20, 20, 30)).astype(np.float32)
    image[10, 10, 15] = 0
    projected = minimum_projection(image, 5)
    assert projected.shape == image.shape
    assert (projected <= image).all()
    assert np.flatnonzero(projected[10, 10] == 0).tolist() == [13, 14, 15, 16, 17]
    assert minimum_projection(image, 1) is image


@pytest.mark.parametrize(("n_all", "n_slab"), [(30, 5), (31, 4), (12, 6)])
def test_slabs_do_not_overlap_and_cover_the_slices(n_all: int, n_slab: int) -> None:
    image = np.tile(np.arange(n_all, dtype=np.float32), (1, 1, 1))
    darkest = minimum_projection(image, n_slab)[0, 0, middle_slices(n_all, n_slab)]
    assert darkest.tolist() == [n_slab * k for k in range(n_all // n_slab)]
