"""Where the lesions of a scan lie."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from training.simulation.anatomy import Anatomy
from training.simulation.places import (
    DEEP_PATTERN_LOBAR_SHARE,
    LOBAR_REGIONS,
    PATTERN_SHARE,
    REGION_LABELS,
    REGION_SHARE,
    LesionPlaces,
    pattern_shares,
)
from training.simulation.tissue import CORTEX_LABELS, CSF_LABELS

REGIONS = list(REGION_LABELS)


def test_patterns_average_to_the_published_shares() -> None:
    mean = sum(share * pattern_shares(name) for name, share in PATTERN_SHARE.items())
    assert mean == pytest.approx(np.array(REGION_SHARE))
    lobar = [region in LOBAR_REGIONS for region in REGIONS]
    assert pattern_shares("deep")[lobar].sum() == pytest.approx(DEEP_PATTERN_LOBAR_SHARE)
    assert pattern_shares("lobar")[lobar].sum() > 0.85
    for name in PATTERN_SHARE:
        assert pattern_shares(name).sum() == pytest.approx(1.0)
        assert (pattern_shares(name) > 0).all()


def test_many_scans_have_lesions_where_they_were_published(block_head: Anatomy) -> None:
    drawn: list[str] = []
    for seed in range(250):
        rng = np.random.default_rng(seed)
        drawn += LesionPlaces(block_head, rng).draw_regions(12, rng)
    for region, share in zip(REGIONS, REGION_SHARE, strict=True):
        assert drawn.count(region) / len(drawn) == pytest.approx(share, abs=0.03)


def test_places_are_in_their_region_and_not_in_fluid(block_head: Anatomy) -> None:
    rng = np.random.default_rng(5)
    places = LesionPlaces(block_head, rng)
    for region, labels in REGION_LABELS.items():
        centers = [places.draw_center_mm(region, rng) for _ in range(40)]
        found = [center for center in centers if center is not None]
        assert len(found) >= 3, region
        for center in found:
            x, y, z = np.round(center).astype(int)
            assert block_head.labels[x, y, z] in labels
            around = block_head.labels[x - 1 : x + 2, y - 1 : y + 2, z - 1 : z + 2]
            assert np.isin(around, CSF_LABELS).mean() <= 0.31


def test_white_matter_lesions_gather_at_the_cortex(block_head: Anatomy) -> None:
    rng = np.random.default_rng(6)
    cortex = np.isin(block_head.labels, CORTEX_LABELS)
    to_cortex_mm = ndimage.distance_transform_edt(~cortex)
    deep_share = (to_cortex_mm[np.isin(block_head.labels, (2, 41))] > 12).mean()
    places = LesionPlaces(block_head, rng)
    drawn = [places.draw_center_mm("white matter", rng) for _ in range(300)]
    distance_mm = [to_cortex_mm[tuple(np.round(c).astype(int))] for c in drawn if c is not None]
    assert 0 < (np.array(distance_mm) > 12).mean() < 0.6 * deep_share


def test_some_scans_have_their_lobar_lesions_in_one_lobe(block_head: Anatomy) -> None:
    spread_mm = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        places = LesionPlaces(block_head, rng)
        drawn = [places.draw_center_mm("cortex", rng) for _ in range(25)]
        found = np.array([center for center in drawn if center is not None])
        spread_mm.append(np.median(np.linalg.norm(found - np.median(found, axis=0), axis=1)))
    focused = np.array(spread_mm) < 30
    assert 0.1 < focused.mean() < 0.6


def test_regions_that_a_head_lacks_get_nothing(block_head: Anatomy) -> None:
    bare = np.where(np.isin(block_head.labels, (2, 41)), block_head.labels, 0).astype(np.int16)
    rng = np.random.default_rng(7)
    head = Anatomy(
        bare,
        block_head.geometry,
        bare > 0,
        block_head.coarse_mm,
        block_head.depth_in_brain_mm,
        block_head.distance_to_ventricle_mm,
    )
    assert set(LesionPlaces(head, rng).draw_regions(50, rng)) == {"white matter"}
    empty = Anatomy(
        np.zeros_like(bare),
        block_head.geometry,
        bare < 0,
        block_head.coarse_mm,
        block_head.depth_in_brain_mm,
        block_head.distance_to_ventricle_mm,
    )
    assert LesionPlaces(empty, rng).draw_regions(50, rng) == []
