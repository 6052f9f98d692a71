"""What stripping tools leave."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from training.simulation.command import read_protocol
from training.simulation.protocol import STRIPPINGS
from training.simulation.stripping import signed_depth_mm, stripped

PROTOCOLS = Path(__file__).parents[3] / "training" / "configs" / "protocols"
PROTOCOL = replace(
    read_protocol(PROTOCOLS / "sample_t2star.json"),
    acquired_in_plane_mm=1.0,
    in_plane_mm=1.0,
    slice_thickness_mm=3.0,
    slice_spacing_mm=3.0,
)
X, Y, Z = np.indices((150, 170, 48))
RADIUS_MM = np.sqrt((X - 75) ** 2 + (0.85 * (Y - 85)) ** 2 + (3 * (Z - 24)) ** 2)
BRAIN = RADIUS_MM < 60
IMAGE = np.where(RADIUS_MM < 72, 100.0, 0.0).astype(np.float32)
IMAGE[74:77, 20:40] = 5  # a vessel from the surface inwards
IMAGE[74:77, 80:90, 20:28] = 5  # something dark deep inside


def kept_by(stripping: str, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return stripped(IMAGE, BRAIN, replace(PROTOCOL, stripping=stripping), rng)


@pytest.mark.parametrize("stripping", STRIPPINGS)
def test_every_kind_keeps_most_of_the_brain(stripping: str) -> None:
    for seed in range(4):
        kept = kept_by(stripping, seed)
        assert kept[BRAIN].mean() > 0.85
        assert kept[RADIUS_MM > 72].mean() < 0.12
        assert kept[:, :, 24].any()


def test_kinds_differ_in_size() -> None:
    sizes = {
        kind: np.mean([kept_by(kind, seed).sum() for seed in range(3)]) / BRAIN.sum()
        for kind in ("tight", "good", "loose")
    }
    assert sizes["tight"] < 1 < sizes["good"] < sizes["loose"]


def test_holes_are_dark_and_near_the_surface() -> None:
    kept = kept_by("holes", 1)
    assert not kept[75, 24, 24]
    assert kept[75, 85, 24]
    assert kept_by("fair", 1)[75, 24, 24]


def test_a_bite_is_at_the_base_and_in_front() -> None:
    for seed in range(5):
        lost = BRAIN & ~kept_by("bite", seed) & (RADIUS_MM < 56)
        assert lost.any()
        _, y, z = np.argwhere(lost).mean(axis=0)
        assert y > 85
        assert z < 24


def test_remnants_lie_outside() -> None:
    left = sum((kept_by("remnants", seed) & (RADIUS_MM > 68)).any() for seed in range(6))
    assert left >= 3


def test_depth_is_the_distance_to_the_surface() -> None:
    depth = signed_depth_mm(BRAIN, np.array([1.0, 1.0, 3.0]))
    assert depth[75, 85, 24] == pytest.approx(60, abs=1.5)
    assert depth[75 + 65, 85, 24] == pytest.approx(-5, abs=1)
