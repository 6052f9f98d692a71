"""Where off-resonance puts signal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from training.simulation.command import read_protocol
from training.simulation.distortion import LEAST_SHIFT_VOXELS, distorted

PROTOCOLS = Path(__file__).parents[3] / "training" / "configs" / "protocols"
PROTOCOL = replace(
    read_protocol(PROTOCOLS / "sample_t2star.json"), readout_bandwidth_hz_per_mm=100.0
)
HZ_PER_PPM = 42.577 * PROTOCOL.field_strength_t
FINE_MM = 0.5


@pytest.mark.parametrize("phase_axis", [0, 1])
def test_signal_moves_along_the_readout_and_none_is_lost(phase_axis: int) -> None:
    protocol = replace(PROTOCOL, phase_axis=phase_axis)
    signal = torch.zeros(40, 40, 8, dtype=torch.complex64)
    signal[20, 20, 4] = 2 + 1j
    field = torch.full((40, 40, 8), 3.0)
    moved = distorted(signal, field, protocol, FINE_MM)
    assert complex(moved.sum()) == pytest.approx(2 + 1j, abs=1e-5)
    weight = moved.abs() / moved.abs().sum()
    places = [
        float((weight * torch.arange(n).view(s)).sum())
        for n, s in ((40, (-1, 1, 1)), (40, (1, -1, 1)), (8, (1, 1, -1)))
    ]
    voxels = 3.0 * HZ_PER_PPM / 100.0 / FINE_MM - LEAST_SHIFT_VOXELS
    expected = [20.0, 20.0, 4.0]
    expected[1 - phase_axis] += voxels
    assert places == pytest.approx(expected, abs=0.01)


def test_weak_fields_move_nothing_and_smooth_ones_tear_nothing() -> None:
    signal = torch.ones(200, 4, 4, dtype=torch.complex64)
    weak = torch.full((200, 4, 4), 0.1)
    assert torch.equal(distorted(signal, weak, PROTOCOL, FINE_MM), signal)
    slope = torch.linspace(-2, 2, 200).view(-1, 1, 1).expand(200, 4, 4)
    spread = distorted(signal, slope, PROTOCOL, FINE_MM).abs()[30:-30]
    assert 0.6 < float(spread.min()) <= float(spread.max()) < 1.3


def test_without_a_bandwidth_nothing_moves() -> None:
    signal = torch.ones(8, 8, 8, dtype=torch.complex64)
    still = replace(PROTOCOL, readout_bandwidth_hz_per_mm=0.0)
    assert distorted(signal, torch.full((8, 8, 8), 50.0), still, FINE_MM) is signal
