"""Calcifications: on both sides where the body has them on both sides, and always mimics."""

from __future__ import annotations

import numpy as np
import pytest

from training.simulation.anatomy import Anatomy
from training.simulation.calcifications import (
    CALCIUM_CHI_PPM,
    IRON_CHI_PPM,
    SYMMETRIC_SHARE,
    draw_calcifications,
)
from training.simulation.deposits import Deposit

MIDDLE = 55.5
PAIRED = [name for name, _, _ in SYMMETRIC_SHARE]
SHARES = {name: share for name, _, share in SYMMETRIC_SHARE}


@pytest.fixture(scope="module")
def heads(block_head: Anatomy) -> list[list[Deposit]]:
    return [draw_calcifications(block_head, np.random.default_rng(seed)) for seed in range(200)]


def center_of(deposit: Deposit) -> np.ndarray:
    """Center of mass in voxels of the head."""
    start = [axis.start for axis in deposit.window]
    places = np.argwhere(deposit.fraction > 0) + start
    weight = deposit.fraction[deposit.fraction > 0]
    return np.asarray(np.average(places, axis=0, weights=weight))


@pytest.mark.parametrize("name", PAIRED)
def test_paired_structures_mineralize_on_both_sides_alike(
    heads: list[list[Deposit]], name: str
) -> None:
    pairs = [[d for d in head if d.kind == name] for head in heads]
    pairs = [pair for pair in pairs if pair]
    assert len(pairs) / len(heads) == pytest.approx(SHARES[name], abs=0.08)
    apart, ratio = [], []
    for pair in pairs:
        assert len(pair) == 2
        left, right = (center_of(d) for d in pair)
        assert left[0] < MIDDLE < right[0]
        mirrored = np.array([2 * MIDDLE - left[0], left[1], left[2]])
        apart.append(np.linalg.norm(mirrored - right))
        ratio.append(pair[0].fraction.sum() / pair[1].fraction.sum())
        assert pair[0].chi_ppm * pair[1].chi_ppm > 0
    assert np.median(apart) < 4  # places are every 4 mm here
    assert max(apart) < 7
    assert 0.2 < min(ratio) <= max(ratio) < 5


def test_mineralization_is_calcium_or_iron_the_rest_calcium(heads: list[list[Deposit]]) -> None:
    everything = [deposit for head in heads for deposit in head]
    paired = [d.chi_ppm for d in everything if d.kind in PAIRED]
    assert min(paired) < 0 < max(paired)
    assert 0.1 < (np.array(paired) > 0).mean() < 0.7
    for deposit in everything:
        assert CALCIUM_CHI_PPM[0] * 1.26 <= deposit.chi_ppm <= IRON_CHI_PPM[1] * 1.26
        assert deposit.kind in PAIRED or deposit.chi_ppm < 0
        assert deposit.mimic
        assert deposit.signal < 1


def test_plexus_pineal_and_falx_are_where_they_belong(heads: list[list[Deposit]]) -> None:
    places: dict[str, list[np.ndarray]] = {}
    for deposit in (d for head in heads for d in head if d.kind not in PAIRED):
        places.setdefault(deposit.kind, []).append(center_of(deposit))
    assert set(places) == {"choroid plexus", "pineal", "falx"}
    assert (np.abs(np.array(places["falx"])[:, 0] - MIDDLE) < 4).all()
    assert (np.abs(np.array(places["pineal"])[:, 0] - MIDDLE) < 6).all()
    plexus = np.array(places["choroid plexus"])
    assert (plexus[:, 1] < 45).all()  # at the back
    assert 0.4 < (plexus[:, 0] < MIDDLE).mean() < 0.6


def test_a_head_without_the_structures_has_none(block_head: Anatomy) -> None:
    bare = np.where(np.isin(block_head.labels, (2, 41)), block_head.labels, 0).astype(np.int16)
    head = Anatomy(
        bare,
        block_head.geometry,
        bare > 0,
        block_head.coarse_mm,
        block_head.depth_in_brain_mm,
        block_head.distance_to_ventricle_mm,
    )
    for seed in range(20):
        assert draw_calcifications(head, np.random.default_rng(seed)) == []
