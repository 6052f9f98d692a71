"""Vessels of a head of ellipsoids, of a head of blocks, and of heads that lack parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from training.simulation.anatomy import Anatomy, brain_labels, deform, load_label_map
from training.simulation.subarachnoid import subarachnoid_space
from training.simulation.tubes import Tube
from training.simulation.vessel_trees import Caliber, grow_trees
from training.simulation.vessels import (
    draw_arteries,
    draw_choroid,
    draw_membranes,
    draw_perforators,
    draw_perivascular_spaces,
    draw_veins,
)

Draw = Callable[[Anatomy, np.random.Generator], list[Tube]]
DRAWS: tuple[Draw, ...] = (
    draw_arteries,
    draw_veins,
    draw_perforators,
    draw_perivascular_spaces,
    draw_choroid,
)


@pytest.fixture(scope="module")
def anatomy(head_file: Path) -> Anatomy:
    return deform(load_label_map(head_file), 1.2, (20.0, -12.0), np.random.default_rng(1))


@pytest.fixture(scope="module")
def arteries(anatomy: Anatomy) -> list[Tube]:
    return draw_arteries(anatomy, np.random.default_rng(3))


@pytest.fixture(scope="module")
def veins(anatomy: Anatomy) -> list[Tube]:
    return draw_veins(anatomy, np.random.default_rng(3))


def _labels_at(anatomy: Anatomy, points_mm: np.ndarray) -> np.ndarray:
    voxels = np.round(points_mm / anatomy.geometry.spacing_mm[0]).astype(int)
    assert (voxels >= 0).all()
    assert (voxels < anatomy.labels.shape).all()
    return anatomy.labels[tuple(voxels.T)]


def _grown(anatomy: Anatomy, seed: int) -> list[Tube]:
    """Trees from one root, nothing else."""
    space = subarachnoid_space(anatomy)
    assert space is not None
    rng = np.random.default_rng(seed)
    cost = space.cost(rng, sulci=1.0, roughness=0.9)
    root = space.rim[:1]
    caliber = Caliber(0.15, 1.2)
    return grow_trees(space.grid, cost, root, space.draw_ends(300, rng), caliber=caliber, rng=rng)


def test_trees_are_connected(anatomy: Anatomy) -> None:
    tubes = _grown(anatomy, 0)
    points = np.concatenate([tube.points_mm for tube in tubes])
    starts = np.array([tube.points_mm[0] for tube in tubes])
    owner = np.repeat(np.arange(len(tubes)), [len(tube.points_mm) for tube in tubes])
    loose = 0
    for index, start in enumerate(starts):
        others = points[owner != index]
        loose += np.linalg.norm(others - start, axis=1).min() > 1e-6
    assert len(tubes) > 200
    assert loose <= 1  # the trunk, unless tubes leave the root itself


def test_vessels_grow_thinner_outwards_and_follow_murray(anatomy: Anatomy) -> None:
    tubes = _grown(anatomy, 1)
    for tube in tubes:
        assert (np.diff(tube.radius_mm) <= 1e-9).all()
    ends = np.array([tube.radius_mm[-1] for tube in tubes])
    trunk = max(tube.radius_mm[0] for tube in tubes)
    assert np.median(ends) == pytest.approx(0.15, rel=0.2)
    assert trunk == pytest.approx(min(1.2, np.cbrt((ends**3).sum())), rel=0.02)


def test_arteries_and_veins_run_in_fluid_and_cortex(
    anatomy: Anatomy, arteries: list[Tube], veins: list[Tube]
) -> None:
    labels = _labels_at(anatomy, np.concatenate([tube.points_mm for tube in arteries]))
    assert np.isin(labels, (24, 3, 42)).mean() > 0.95
    assert np.isin(labels, (24,)).mean() > 0.5
    pial = [tube for tube in veins if np.isin(_labels_at(anatomy, tube.points_mm[:1]), (24,))[0]]
    labels = _labels_at(anatomy, np.concatenate([tube.points_mm for tube in pial]))
    assert len(pial) > 200
    assert np.isin(labels, (24, 3, 42)).mean() > 0.95


def test_medullary_veins_end_at_the_ventricle(anatomy: Anatomy, veins: list[Tube]) -> None:
    inner = [tube for tube in veins if _labels_at(anatomy, tube.points_mm[:1])[0] in (2, 41)]
    ends = np.array([tube.points_mm[-1] for tube in inner])
    coarse = np.round(ends / anatomy.coarse_mm).astype(int)
    distance_mm = anatomy.distance_to_ventricle_mm[tuple(coarse.T)]
    assert len(inner) > 5
    assert np.median(distance_mm) < 2 * anatomy.coarse_mm


@pytest.mark.parametrize("draw", DRAWS)
def test_seeded_runs_repeat(anatomy: Anatomy, draw: Draw) -> None:
    one, same, other = (draw(anatomy, np.random.default_rng(seed)) for seed in (4, 4, 5))
    assert len(one) == len(same)
    for a, b in zip(one, same, strict=True):
        np.testing.assert_array_equal(a.points_mm, b.points_mm)
        np.testing.assert_array_equal(a.radius_mm, b.radius_mm)
    assert [len(t.points_mm) for t in one] != [len(t.points_mm) for t in other]


def test_every_structure_of_a_complete_head_is_drawn(block_head: Anatomy) -> None:
    middle_mm = 55.5
    for draw in DRAWS:
        tubes = draw(block_head, np.random.default_rng(0))
        x = np.array([tube.points_mm[:, 0].mean() for tube in tubes])
        assert (x < middle_mm).any(), draw
        assert (x > middle_mm).any(), draw
        for tube in tubes:
            assert len(tube.points_mm) == len(tube.radius_mm)
            assert (tube.radius_mm > 0).all()
            assert tube.radius_mm.max() < 4


def test_perforators_rise_from_below_the_putamen(block_head: Anatomy) -> None:
    tubes = [
        tube
        for seed in range(5)
        for tube in draw_perforators(block_head, np.random.default_rng(seed))
    ]
    rise = np.array([tube.points_mm[-1, 2] - tube.points_mm[0, 2] for tube in tubes])
    assert len(tubes) > 20
    assert (rise > 0).mean() > 0.95
    for tube in tubes:
        assert tube.radius_mm[-1] < tube.radius_mm[0] <= 0.5


@pytest.mark.parametrize("missing", [(24,), (3, 42, 4, 43, 14, 16, 12, 51)])
def test_heads_may_lack_structures(block_head: Anatomy, missing: tuple[int, ...]) -> None:
    labels = np.where(np.isin(block_head.labels, missing), np.int16(507), block_head.labels)
    poor = replace(block_head, labels=labels, brain=brain_labels(labels))
    for draw in DRAWS:
        for tube in draw(poor, np.random.default_rng(2)):
            assert np.isfinite(tube.points_mm).all()
    assert np.isfinite(draw_membranes(poor, np.random.default_rng(2))).all()


def test_sinuses_of_the_label_map_are_not_drawn_again(block_head: Anatomy) -> None:
    labels = block_head.labels.copy()
    without = draw_veins(block_head, np.random.default_rng(0))
    labels[54:58, 2:126, 106:110] = 514
    labeled = replace(block_head, labels=labels)
    tubes = draw_veins(labeled, np.random.default_rng(0))
    assert max(tube.radius_mm.max() for tube in without) > 2.0
    assert max(tube.radius_mm.max() for tube in tubes) <= 2.0
