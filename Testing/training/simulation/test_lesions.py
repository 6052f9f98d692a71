"""Drawn microbleeds: within their limits, repeatable, apart from each other."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from training.simulation.anatomy import Anatomy
from training.simulation.lesions import (
    BLOOM_PHASE_RAD,
    CLOSE_MM,
    DELTA_CHI_PPM,
    LARGE_DIAMETER_MM,
    PATCH_FIELD_PPM,
    REFERENCE_PHASE_PER_PPM_RAD,
    SMALLEST_DIAMETER_MM,
    Lesion,
    draw_lesions,
    lesion_patch,
)


def drawn(head: Anatomy, scans: int, *, large_share: float = 0.0) -> list[Lesion]:
    lesions: list[Lesion] = []
    for seed in range(scans):
        rng = np.random.default_rng(seed)
        lesions += draw_lesions(head, 20, rng, large_share=large_share)
    return lesions


@pytest.fixture(scope="module")
def real_ones(block_head: Anatomy) -> list[Lesion]:
    return drawn(block_head, 30)


def test_same_seed_same_lesions(block_head: Anatomy) -> None:
    first, again, other = (
        draw_lesions(block_head, 10, np.random.default_rng(seed)) for seed in (3, 3, 4)
    )
    assert first == again
    assert first != other
    assert draw_lesions(block_head, 0, np.random.default_rng(3)) == []


def test_lesions_are_within_their_limits(real_ones: list[Lesion]) -> None:
    assert len(real_ones) > 500
    for lesion in real_ones:
        assert SMALLEST_DIAMETER_MM <= lesion.bloom_diameter_mm <= LARGE_DIAMETER_MM[1]
        assert DELTA_CHI_PPM[0] * 0.99 <= lesion.delta_chi_ppm <= DELTA_CHI_PPM[1] * 1.01
        assert 10 < lesion.r2_star_per_s <= 400
        assert 1 <= len(lesion.sphere_radii_mm) == len(lesion.sphere_offsets_mm) <= 8
        assert 0.05 < max(lesion.sphere_radii_mm) < 2.1


def test_bloom_diameter_says_the_moment(real_ones: list[Lesion]) -> None:
    for lesion in real_ones[:50]:
        moment = lesion.delta_chi_ppm * sum(r**3 for r in lesion.sphere_radii_mm)
        radius_mm = lesion.bloom_diameter_mm / 2
        # at the equator of a sphere of this moment the phase is what the diameter is defined by
        phase = REFERENCE_PHASE_PER_PPM_RAD * moment / 3 / radius_mm**3
        assert phase == pytest.approx(BLOOM_PHASE_RAD)


def test_strength_is_continuous_from_specks_to_balls(real_ones: list[Lesion]) -> None:
    diameter = np.array([lesion.bloom_diameter_mm for lesion in real_ones])
    assert np.median(diameter) == pytest.approx(np.exp(0.68), abs=0.15)
    assert 0.02 < (diameter > 4).mean() < 0.12
    assert 0.05 < (diameter < 1.3).mean() < 0.3
    assert np.diff(np.sort(np.log(diameter))[10:-10]).max() < 0.15
    # one moment comes as a dense speck or as a faint ball
    chi = np.array([lesion.delta_chi_ppm for lesion in real_ones])[abs(diameter - 2) < 0.2]
    assert np.quantile(chi, 0.9) > 4 * np.quantile(chi, 0.1)


def test_shapes_are_one_to_four_touching_spheres_around_the_center(
    real_ones: list[Lesion],
) -> None:
    ordinary = [x for x in real_ones if x.bloom_diameter_mm < LARGE_DIAMETER_MM[0]]
    parts = np.array([len(lesion.sphere_radii_mm) for lesion in ordinary])
    assert parts.max() == 4
    assert 0.3 < (parts == 1).mean() < 0.5
    for lesion in ordinary:
        offsets, radii = np.array(lesion.sphere_offsets_mm), np.array(lesion.sphere_radii_mm)
        middle = (radii[:, None] ** 3 * offsets).sum(axis=0) / (radii**3).sum()
        assert middle == pytest.approx(np.zeros(3), abs=1e-6)
        for part in range(1, len(radii)):
            gap = np.linalg.norm(offsets[part] - offsets[:part], axis=1) - radii[:part]
            assert (gap - radii[part]).min() < 0.2 * radii.max()


def test_large_ones_can_be_asked_for(block_head: Anatomy) -> None:
    large = drawn(block_head, 6, large_share=1.0)
    assert len(large) > 30
    assert min(lesion.bloom_diameter_mm for lesion in large) >= LARGE_DIAMETER_MM[0]
    assert min(len(lesion.sphere_radii_mm) for lesion in large) >= 3
    assert max(lesion.bloom_diameter_mm for lesion in large) > 9


def test_lesions_keep_their_distance(block_head: Anatomy) -> None:
    distance_mm = []
    for seed in range(20):
        lesions = draw_lesions(block_head, 40, np.random.default_rng(seed))
        for a, b in itertools.combinations(lesions, 2):
            apart_mm = float(np.linalg.norm(np.subtract(a.center_mm, b.center_mm)))
            assert apart_mm >= (a.bloom_diameter_mm + b.bloom_diameter_mm) / 2 + 2
            distance_mm.append(apart_mm)
    assert CLOSE_MM <= min(distance_mm) < 8
    assert (np.array(distance_mm) < 8).sum() < 0.1 * 20 * 40


def test_a_patch_holds_the_field_of_its_lesion(real_ones: list[Lesion]) -> None:
    shape = (112, 128, 112)
    for lesion in sorted(real_ones, key=lambda x: x.bloom_diameter_mm)[:: len(real_ones) // 3]:
        patch = lesion_patch(lesion, shape, 1.0, torch.tensor([0.0, 0.0, 1.0]))
        faces = (patch.field_ppm[0], patch.field_ppm[-1], patch.field_ppm[:, 0])
        if lesion.patch_radius_mm < 13.9:
            assert max(float(face.abs().max()) for face in faces) < 1.3 * PATCH_FIELD_PPM
        moment = lesion.delta_chi_ppm * sum(r**3 for r in lesion.sphere_radii_mm)
        assert float(patch.field_ppm.abs().max()) > 0.01 * moment
