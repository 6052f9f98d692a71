from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from CMBDetectorLib.anatomy.surfaces import filled, outermost, surroundings


@pytest.fixture
def mask() -> np.ndarray:
    noise = np.random.default_rng(5).random((24, 20, 22))
    return ndimage.gaussian_filter(noise, 1.2) > 0.5


def test_outermost_voxels_are_what_erosion_removes(mask: np.ndarray) -> None:
    np.testing.assert_array_equal(outermost(mask), mask & ~ndimage.binary_erosion(mask))


def test_enclosed_gaps_are_filled(mask: np.ndarray) -> None:
    mask[2:7, 2:7, 2:7] = True
    mask[4, 4, 4] = False
    np.testing.assert_array_equal(filled(mask), ndimage.binary_fill_holes(mask))
    assert filled(mask)[4, 4, 4]


def test_surroundings_are_what_dilation_adds(mask: np.ndarray) -> None:
    whole = ndimage.binary_fill_holes(mask)
    np.testing.assert_array_equal(surroundings(mask), ndimage.binary_dilation(whole) & ~whole)


def test_an_empty_mask_has_no_surface() -> None:
    empty = np.zeros((4, 5, 6), dtype=bool)
    assert not outermost(empty).any()
    assert not surroundings(empty).any()
