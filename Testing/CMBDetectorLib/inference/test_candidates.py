"""Which places are candidates, and what of the image is shown around them."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.measure import block_reduce

from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.inference.candidates import (
    DETAIL_SHAPE,
    SURROUNDINGS_SHAPE,
    cut_patches,
    find_peaks,
)
from CMBDetectorLib.volume import Volume


def on_grid(array: np.ndarray, *spacing_mm: float) -> Volume:
    grid = Geometry(array.shape, np.diag([*spacing_mm, 1.0]))
    return Volume(array.astype(np.float32), grid)


def test_peaks_are_two_mm_apart_whatever_the_spacing() -> None:
    values = np.zeros((40, 40, 12))
    values[10, 10, 5], values[14, 10, 5], values[15, 10, 5] = 0.9, 0.8, 0.7
    values[30, 30, 5], values[30, 30, 6], values[30, 30, 7] = 0.5, 0.6, 0.4
    fine = find_peaks(on_grid(values, 0.5, 0.5, 1.0), 0.3)
    # 2 mm are 4 voxels in plane and 2 slices: what is 4 voxels beside a higher one is none.
    assert fine.tolist() == [[10, 10, 5], [30, 30, 6]]
    coarse = find_peaks(on_grid(values, 1.0, 1.0, 4.0), 0.3)
    assert coarse.tolist() == [[10, 10, 5], [14, 10, 5], [30, 30, 6]]
    assert find_peaks(on_grid(values, 1.0, 1.0, 4.0), 0.85).tolist() == [[10, 10, 5]]


def test_no_peak_below_the_threshold() -> None:
    assert find_peaks(on_grid(np.full((8, 8, 8), 0.2), 1, 1, 1), 0.3).shape == (0, 3)


def test_detail_is_centred_on_the_candidate() -> None:
    rng = np.random.default_rng(0)
    image, chance = rng.random((90, 80, 20)), rng.random((90, 80, 20))
    centers = np.array([[45, 40, 10], [30, 28, 4]])
    shown = cut_patches(on_grid(image, 0.5, 0.5, 2), on_grid(chance, 0.5, 0.5, 2), centers, 3)
    assert shown.detail.shape == (2, 46, 46, 7)
    for row, (i, j, k) in enumerate(centers):
        around = (slice(i - 23, i + 23), slice(j - 23, j + 23), slice(k - 3, k + 4))
        np.testing.assert_array_equal(shown.detail[row], image[around].astype(np.float32))
        np.testing.assert_array_equal(shown.probability[row], chance[around].astype(np.float32))
        assert shown.peak[row] == np.float32(chance[i, j, k])
    assert shown.slice_spacing_mm.tolist() == [2.0, 2.0]


def test_a_margin_only_adds_around() -> None:
    image = on_grid(np.random.default_rng(1).random((90, 80, 20)), 0.5, 0.5, 2)
    centers = np.array([[45, 40, 10]])
    wide, plain = cut_patches(image, image, centers, 4), cut_patches(image, image, centers)
    np.testing.assert_array_equal(wide.detail[:, 4:-4, 4:-4], plain.detail)
    np.testing.assert_array_equal(wide.surroundings, plain.surroundings)


def test_beyond_the_image_is_zero() -> None:
    image = on_grid(np.ones((30, 30, 5)), 0.5, 0.5, 3)
    shown = cut_patches(image, image, np.array([[0, 29, 0]]))
    assert shown.detail.shape == (1, *DETAIL_SHAPE)
    # From 20 voxels before to 19 after the candidate, 3 slices to each side.
    expected = np.zeros(DETAIL_SHAPE)
    expected[20:, :21, 3:] = 1
    np.testing.assert_array_equal(shown.detail[0], expected)
    assert shown.surroundings[0].shape == SURROUNDINGS_SHAPE
    assert shown.surroundings.min() == 0


@pytest.mark.parametrize("slices_mm", [1.0, 3.0, 6.0])
def test_surroundings_are_means_and_minima_of_slabs(slices_mm) -> None:
    """Beside scikit-image, on the slices that lie within 1.5 mm of each slab's middle."""
    array = np.random.default_rng(2).random((260, 250, 40)).astype(np.float32)
    image = on_grid(array, 0.5, 0.5, slices_mm)
    i, j, k = 130, 120, 20
    around = cut_patches(image, image, np.array([[i, j, k]])).surroundings[0]
    for number, middle_mm in enumerate((-6, -3, 0, 3, 6)):
        if slices_mm == 1.0:  # three slices; halves are rounded to the even one
            first, end = k + round(middle_mm - 1.5), k + round(middle_mm + 1.5)
        else:
            first = k + round((middle_mm - 1.5) / slices_mm)
            end = max(first + 1, k + round((middle_mm + 1.5) / slices_mm))
        assert abs((first + end - 1) / 2 - k) * slices_mm <= abs(middle_mm) + 1.5 + slices_mm / 2
        slab = array[i - 96 : i + 96, j - 96 : j + 96, first:end]
        block = (4, 4, end - first)
        np.testing.assert_allclose(
            around[2 * number], block_reduce(slab, block, np.mean)[..., 0], atol=1e-6
        )
        np.testing.assert_array_equal(
            around[2 * number + 1], block_reduce(slab, block, np.min)[..., 0]
        )
