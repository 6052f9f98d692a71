from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from training.simulation.anatomy import Anatomy, deform, load_label_map
from training.simulation.membranes import THICKNESS_MM, draw_membranes


def test_falx_lies_between_the_hemispheres(block_head: Anatomy) -> None:
    fraction = draw_membranes(block_head, np.random.default_rng(0))
    places = np.argwhere(fraction[:, :, 90:] > 0.2)
    assert len(places) > 500
    assert np.abs(places[:, 0] - 55.5).max() <= 1.5
    assert set(np.unique(block_head.labels[fraction > 0])) <= {24, 3, 42, 8, 47}
    assert fraction.min() == 0
    assert fraction.max() <= 1


def test_falx_is_a_sickle_above_the_corpus_callosum(block_head: Anatomy) -> None:
    fraction = draw_membranes(block_head, np.random.default_rng(0))
    falx = (fraction[50:62] > 0.2).any(axis=0)
    lowest = [np.flatnonzero(falx[y]).min() for y in (20, 62, 100)]
    assert lowest[0] < lowest[1]  # behind it reaches down to the tentorium
    assert not falx[62:70, 60:90].any()  # nor in the third ventricle, nor in the brain


def test_thickness_is_within_its_range(block_head: Anatomy) -> None:
    for seed in range(3):
        fraction = draw_membranes(block_head, np.random.default_rng(seed))
        across_mm = fraction[:, 40:90, 103].sum(axis=0)
        assert THICKNESS_MM[0] - 0.1 <= np.median(across_mm) <= THICKNESS_MM[1] + 0.1


def test_tentorium_lies_between_cerebrum_and_cerebellum(block_head: Anatomy) -> None:
    fraction = draw_membranes(block_head, np.random.default_rng(0))
    side = fraction[72:90, 14:38]
    height = (side * np.arange(side.shape[2])).sum() / side.sum()
    assert side.sum() > 100
    assert height == pytest.approx(42.5, abs=1.5)  # cerebellum ends at 41, cortex begins at 44


def test_other_grids_and_shifted_heads(head_file: Path) -> None:
    source = load_label_map(head_file)
    for seed in range(2):
        anatomy = deform(source, 1.2, (20.0, -12.0), np.random.default_rng(seed))
        fraction = draw_membranes(anatomy, np.random.default_rng(seed))
        x = np.indices(fraction.shape)[0]
        left = np.isin(anatomy.labels, (2, 3))
        right = np.isin(anatomy.labels, (41, 42))
        assert fraction.sum() > 100
        middle = (x[left].mean() + x[right].mean()) / 2
        assert (fraction * x).sum() / fraction.sum() == pytest.approx(middle, abs=3.0)
