"""Slices, stripping and fields of view."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from training.anatomy.scanner import cut, scan, slice_matrices, stripped_to
from training.simulation.acquisition import draw_acquisition


@pytest.mark.parametrize("slice_mm", [1.0, 1.5, 3.3, 6.0])
def test_slices_and_back_keep_ramps(slice_mm: float) -> None:
    profile, back = slice_matrices(80, 1.5, slice_mm, slice_mm, np.random.default_rng(1))
    there_and_back = (back @ profile).double()
    torch.testing.assert_close(
        there_and_back.sum(dim=1), torch.ones(80).double(), atol=1e-5, rtol=0
    )
    position = torch.arange(80.0).double() * 1.5
    moved = there_and_back @ position - position
    assert float(moved[8:-8].abs().max()) < 0.35


def test_a_thin_thing_is_spread_over_the_slice() -> None:
    line = torch.zeros(60)
    line[30] = 1
    widths = []
    for slice_mm in (1.5, 3.0, 6.0):
        profile, back = slice_matrices(60, 1.5, slice_mm, slice_mm, np.random.default_rng(0))
        widths.append(int((back @ (profile @ line) > 0.02).sum()))
    assert widths[0] < widths[1] < widths[2]


def test_slices_may_lie_along_any_axis() -> None:
    """A plane along the slices is blurred by thick slices, one across them is not."""
    protocol = replace(
        draw_acquisition(np.random.default_rng(0)),
        sequence="T2*",
        slice_thickness_mm=6.0,
        slice_spacing_mm=6.0,
        snr=1e4,
        bias_strength=0.0,
    )
    brain = torch.ones(48, 48, 48, dtype=torch.bool)
    for axis in range(3):
        for wall in range(3):
            signal = torch.ones(48, 48, 48)
            signal.select(wall, 24).zero_()
            image = scan(
                signal,
                brain,
                protocol,
                slice_axis=axis,
                spacing_mm=1.5,
                rng=np.random.default_rng(3),
            )
            middle = float(image.select(wall, 24)[10:-10, 10:-10].mean())
            assert (middle < 0.1) == (wall != axis)


def test_stripping_keeps_the_brain_and_takes_off_the_rest() -> None:
    x, y, z = np.indices((60, 60, 60)) - 30
    distance = np.sqrt(x**2 + y**2 + z**2)
    brain = torch.from_numpy((distance < 20) & ~((np.abs(x) < 1) & (y > 5)))
    clean, sizes = 0, []
    for seed in range(10):
        kept = stripped_to(brain, np.random.default_rng(seed)).numpy()
        assert kept[distance < 12].all()
        assert kept[distance > 27].mean() < 0.05  # some tools leave bits of what is around
        assert kept[30, 40, 30], "the fissure stays within"
        clean += not kept[distance > 27].any()
        sizes.append(kept.sum() / brain.sum().item())
    assert 5 <= clean < 10
    assert min(sizes) < 1 < max(sizes)


def test_a_field_of_view_loses_one_side() -> None:
    for seed in range(20):
        inside = cut((30, 36, 24), np.random.default_rng(seed))
        missing = np.argwhere(~inside)
        extent = missing.max(axis=0) - missing.min(axis=0) + 1
        assert sorted(extent == inside.shape) == [False, True, True]
        assert 0 < (~inside).mean() <= 1 / 3
