from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data.utils import compute_importance_map

from CMBDetectorLib.inference.tiles import (
    Tile,
    add_tile,
    cut_tile,
    importance_map,
    plan_tiles,
)

lengths = st.integers(1, 40)
shapes = st.tuples(lengths, lengths, lengths)


strides_and_tiles = st.tuples(*[st.sampled_from([1, 2, 4])] * 3).flatmap(
    lambda strides: st.tuples(
        st.just(strides),
        st.tuples(*(st.integers(1, 16 // s).map(lambda n, s=s: n * s) for s in strides)),
    )
)


def coverage(
    mask: np.ndarray, tile_shape: tuple[int, int, int], tiles: tuple[Tile, ...]
) -> np.ndarray:
    counts = np.zeros(mask.shape, dtype=np.float32)
    for tile in tiles:
        add_tile(counts, tile, np.ones(tile_shape, dtype=np.float32))
    return counts


@settings(max_examples=300, deadline=None)
@given(
    shape=shapes,
    strides_and_tile=strides_and_tiles,
    overlap=st.sampled_from([0.0, 0.25, 0.5, 0.9]),
    density=st.sampled_from([0.0005, 0.02, 0.5]),
    seed=st.integers(0, 2**32 - 1),
)
def test_tiles_begin_at_strides_and_cover_the_mask(
    shape: tuple[int, int, int],
    strides_and_tile: tuple[tuple[int, int, int], tuple[int, int, int]],
    overlap: float,
    density: float,
    seed: int,
) -> None:
    strides, tile_shape = strides_and_tile
    mask = np.random.default_rng(seed).random(shape) < density
    tiles = plan_tiles(mask, tile_shape, overlap, strides)
    assert (coverage(mask, tile_shape, tiles)[mask] >= 1).all()
    assert len(set(tiles)) == len(tiles)
    for tile in tiles:
        assert cut_tile(mask.astype(np.float32), tile, tile_shape).any()
        for start, size, length, stride in zip(tile.start, shape, tile_shape, strides, strict=True):
            assert start % stride == 0
            assert size <= length or 0 <= start < size - length + stride


def test_neighbors_share_the_overlap_in_strides() -> None:
    mask = np.zeros((301, 8, 8), dtype=bool)
    mask[3:299] = True
    tiles = plan_tiles(mask, (96, 8, 8), 0.25, (8, 8, 2))
    assert [tile.start[0] for tile in tiles] == [0, 72, 136, 208]


def test_neighbors_share_the_overlap() -> None:
    mask = np.ones((50, 8, 8), dtype=bool)
    starts = sorted(tile.start[0] for tile in plan_tiles(mask, (16, 8, 8), 0.25))
    assert starts[0] == 0
    assert starts[-1] == 50 - 16
    assert max(np.diff(starts)) <= 12
    assert len(starts) == 4


def test_tiles_follow_the_outline() -> None:
    grid = np.indices((80, 80, 80)) - 39.5
    ball = (grid**2).sum(axis=0) < 40**2
    box = np.ones_like(ball)
    tile_shape = (16, 16, 16)
    assert len(plan_tiles(ball, tile_shape, 0.25)) < 0.75 * len(plan_tiles(box, tile_shape, 0.25))


def test_empty_mask_needs_no_tile() -> None:
    assert plan_tiles(np.zeros((20, 20, 20), dtype=bool), (8, 8, 8), 0.25) == ()


def test_importance_is_that_of_monai() -> None:
    theirs = compute_importance_map((24, 16, 9), mode="gaussian", sigma_scale=0.125)
    np.testing.assert_allclose(
        importance_map((24, 16, 9)), np.maximum(theirs.numpy(), 1e-3), rtol=1e-5
    )


def test_tile_beyond_the_volume_is_padded_with_zeros_and_added_back() -> None:
    image = np.arange(1, 25, dtype=np.float32).reshape(2, 3, 4)
    tile = Tile((-1, 0, 2))
    cut = cut_tile(image, tile, (4, 3, 4))
    np.testing.assert_array_equal(cut[1:3, :, :2], image[:, :, 2:])
    assert cut.sum() == image[:, :, 2:].sum()
    target = np.zeros_like(image)
    add_tile(target, tile, np.ones((4, 3, 4), dtype=np.float32))
    np.testing.assert_array_equal(target[:, :, 2:], 1)
    np.testing.assert_array_equal(target[:, :, :2], 0)
