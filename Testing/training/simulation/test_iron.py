"""Normal iron: on both sides, dark, and not marked as a mimic."""

from __future__ import annotations

import numpy as np
import pytest

from training.simulation.anatomy import Anatomy
from training.simulation.iron import BAND_SHARE, LOAD, NUCLEUS_CHI_PPM, draw_iron

MIDDLE = 55.5


def test_iron_is_on_both_sides(block_head: Anatomy) -> None:
    total = np.zeros(block_head.labels.shape)
    for deposit in draw_iron(block_head, np.random.default_rng(0)):
        total[deposit.window] += deposit.chi_ppm * deposit.fraction
    left, right = total[:56].sum(), total[56:].sum()
    assert left > 0
    assert left == pytest.approx(right, rel=0.25)
    for labels in ((28, 60), (7, 46)):
        for label in labels:
            assert total[block_head.labels == label].max() > 0.5 * NUCLEUS_CHI_PPM * LOAD[0]


def test_iron_is_paramagnetic_and_no_mimic(block_head: Anatomy) -> None:
    heads = [draw_iron(block_head, np.random.default_rng(seed)) for seed in range(25)]
    for deposit in (d for head in heads for d in head):
        assert 0 <= deposit.chi_ppm < 0.5
        assert deposit.r2_star_per_s == pytest.approx(123 * deposit.chi_ppm)
        assert not deposit.mimic
        assert deposit.fraction.min() >= 0
        assert deposit.fraction.max() <= 1
    banded = np.mean([any(d.kind == "band" for d in head) for head in heads])
    assert banded == pytest.approx(BAND_SHARE, abs=0.2)


def test_bands_follow_the_border_of_putamen_and_pallidum(block_head: Anatomy) -> None:
    bands = [
        deposit
        for seed in range(8)
        for deposit in draw_iron(block_head, np.random.default_rng(seed))
        if deposit.kind == "band"
    ]
    assert bands
    for band in bands:
        marked = block_head.labels[band.window][band.fraction > 0.3]
        assert set(marked) <= {12, 13} or set(marked) <= {51, 52}
        x = np.argwhere(band.fraction > 0.3)[:, 0] + band.window[0].start
        assert (np.abs(np.abs(x - MIDDLE) - 19.5) < 3).all()  # the blocks meet 20 from the middle
