"""Points and lesions at known places, and how agreement is counted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.volume import Volume
from training.anatomy.measures_location import (
    DIAMETERS_MM,
    agreement,
    locations,
    random_lesions,
    random_points,
)
from training.simulation.anatomy import Anatomy, deform, load_label_map


@pytest.fixture(scope="module")
def anatomy(head_file: Path) -> Anatomy:
    return deform(load_label_map(head_file), 2.0, (10.0, 10.0), np.random.default_rng(0))


def values_at(anatomy: Anatomy, points_ras_mm: np.ndarray) -> np.ndarray:
    voxel = np.rint(anatomy.geometry.ras_mm_to_ijk(points_ras_mm)).astype(int)
    return anatomy.labels[tuple(voxel.T)]


def test_points_lie_in_tissue(anatomy: Anatomy) -> None:
    points = random_points(anatomy, 200, np.random.default_rng(1))
    assert len(points) == 200
    assert {point.shape for point in points} == {(1, 3)}
    assert set(np.unique(values_at(anatomy, np.concatenate(points)))) <= {2, 3, 41, 42, 12, 51}


def test_lesions_are_balls_where_the_simulator_puts_them(anatomy: Anatomy) -> None:
    lesions = random_lesions(anatomy, 12, np.random.default_rng(2))
    assert len(lesions) >= 8
    for ball in lesions:
        radius = np.linalg.norm(ball - ball.mean(axis=0), axis=1).max()
        assert radius <= DIAMETERS_MM[1] / 2 + 0.5
        assert len(ball) * 0.5**3 >= 4 / 3 * np.pi * (DIAMETERS_MM[0] / 2 - 0.25) ** 3
    centers = np.array([ball.mean(axis=0) for ball in lesions])
    assert np.isin(values_at(anatomy, centers), [0, 24], invert=True).mean() > 0.8


def test_agreement_counts_what_is_told_alike(anatomy: Anatomy) -> None:
    labels = Volume(anatomy.labels, anatomy.geometry)
    points = random_points(anatomy, 100, np.random.default_rng(3))
    true = locations(points, labels)
    assert true is not None
    same = agreement(true, true)
    n = same["n"]
    assert n >= 10  # the toy head does not have all that regions are told by
    assert same == dict.fromkeys(("n", "zone", "bombs_region", "mars_region", "hemisphere"), n) | {
        "confused": {}
    }
    known = next(row for row, one in enumerate(true) if one.zone == "deep")
    changed = list(true)
    changed[known] = replace(
        true[known], zone="lobar", region="insula", bombs_region="brainstem", hemisphere="midline"
    )
    other = agreement(changed, true)
    assert [other[key] for key in ("zone", "bombs_region", "mars_region", "hemisphere")] == [
        n - 1
    ] * 4
    assert other["confused"] == {f"{true[known].bombs_region} > brainstem": 1}


def test_a_map_without_a_brain_tells_nothing(anatomy: Anatomy) -> None:
    points = random_points(anatomy, 10, np.random.default_rng(4))
    empty = Volume(np.zeros((8, 8, 8), np.int16), Geometry((8, 8, 8), np.eye(4)))
    assert locations(points, empty) is None
    true = locations(points, Volume(anatomy.labels, anatomy.geometry))
    assert true is not None
    nothing = agreement(None, true)
    assert nothing["zone"] == nothing["bombs_region"] == 0
    assert sum(nothing["confused"].values()) == nothing["n"] > 0
