"""Old bleeds that are no microbleeds: rare, dark where they say, marked as mimics."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import ndimage

from training.simulation.anatomy import Anatomy
from training.simulation.bleeds import (
    CAVERNOMA_SHARE,
    HAEMORRHAGE_SHARE,
    SIDEROSIS_SHARE,
    draw_cavernoma,
    draw_old_haemorrhage,
    draw_other_bleeds,
    draw_siderosis,
)
from training.simulation.deposits import Deposit, add_deposits

Draw = Callable[[Anatomy, np.random.Generator], list[Deposit]]
DRAWS: tuple[Draw, ...] = (draw_cavernoma, draw_old_haemorrhage, draw_siderosis)


def test_most_heads_have_none(block_head: Anatomy) -> None:
    heads = [draw_other_bleeds(block_head, np.random.default_rng(s)) for s in range(400)]
    kinds = [{deposit.kind for deposit in head} for head in heads]
    assert np.mean([not kind for kind in kinds]) > 0.75
    for name, share in (
        ("cavernoma", CAVERNOMA_SHARE),
        ("old haemorrhage", HAEMORRHAGE_SHARE),
        ("siderosis", SIDEROSIS_SHARE),
    ):
        assert np.mean([name in kind for kind in kinds]) == pytest.approx(share, abs=0.035)


@pytest.mark.parametrize("draw", DRAWS)
def test_same_seed_same_bleed(block_head: Anatomy, draw: Draw) -> None:
    first, again = (draw(block_head, np.random.default_rng(8)) for _ in range(2))
    assert len(first) == len(again) > 0
    for one, two in zip(first, again, strict=True):
        assert one.window == two.window
        assert np.array_equal(one.fraction, two.fraction)


@pytest.mark.parametrize("draw", DRAWS)
def test_bleeds_are_dark_paramagnetic_and_mimics(block_head: Anatomy, draw: Draw) -> None:
    shape = block_head.labels.shape
    for seed in range(2):
        deposits = draw(block_head, np.random.default_rng(seed))
        chi, mimic = torch.zeros(shape), torch.zeros(shape)
        r2_star, signal = torch.full(shape, 20.0), torch.ones(shape)
        add_deposits(deposits, chi, r2_star, signal, mimic)
        marked = mimic > 0.5
        assert marked.sum() > 30
        assert chi.min() >= 0
        assert chi[marked].max() > 0.2
        assert r2_star[marked].max() > 60
        # nothing changes elsewhere, nor outside the brain
        assert not ((mimic == 0) & (r2_star != 20)).any()
        assert not ((mimic == 0) & (chi != 0)).any()
        assert not ((mimic > 0) & ~torch.as_tensor(block_head.brain)).any()


def test_cavernomas_have_a_dark_rim_around_mixed_contents(block_head: Anatomy) -> None:
    for seed in range(6):
        *locules, rim = draw_cavernoma(block_head, np.random.default_rng(seed))
        inside = np.sum([locule.fraction for locule in locules], axis=0) > 0.5
        ring = rim.fraction > 0.5
        extent = (np.ptp(np.argwhere(inside | ring), axis=0) + 1).max()
        assert 6 <= extent <= 28
        assert rim.chi_ppm > max(locule.chi_ppm for locule in locules)
        assert len({locule.r2_star_per_s for locule in locules}) == len(locules) >= 4
        # the rim lies around what is within
        near = ndimage.binary_dilation(inside, iterations=4)
        assert (ring & near).sum() > 0.95 * ring.sum()


def test_haemorrhages_are_rims_and_often_slits(block_head: Anatomy) -> None:
    flatness = []
    for seed in range(25):
        _, rim = draw_old_haemorrhage(block_head, np.random.default_rng(seed))
        places = np.argwhere(rim.fraction > 0.2)
        axes = np.sqrt(np.linalg.eigvalsh(np.cov(places.T)))
        flatness.append(axes[0] / axes[2])
        assert (np.ptp(places, axis=0) + 1).max() <= 46
    assert np.median(flatness) < 0.5
    assert max(flatness) > 0.4


def test_siderosis_is_a_thin_layer_of_the_cortex_at_its_fluid(block_head: Anatomy) -> None:
    to_fluid_mm = ndimage.distance_transform_edt(block_head.labels != 24)
    for seed in range(5):
        [line] = draw_siderosis(block_head, np.random.default_rng(seed))
        labels, away = block_head.labels[line.window], to_fluid_mm[line.window]
        marked = line.fraction > 0
        assert np.isin(labels[marked], (3, 42)).all()
        assert away[marked].max() <= 2.3


def test_a_head_without_the_places_has_none(block_head: Anatomy) -> None:
    nothing = np.zeros_like(block_head.labels)
    head = Anatomy(
        nothing,
        block_head.geometry,
        nothing > 0,
        block_head.coarse_mm,
        np.zeros_like(block_head.depth_in_brain_mm),
        block_head.distance_to_ventricle_mm,
    )
    for draw in DRAWS:
        assert draw(head, np.random.default_rng(0)) == []
