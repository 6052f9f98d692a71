"""Receive profiles of coils are taken out; structures stay."""

from __future__ import annotations

import numpy as np
import torch

from CMBDetectorLib.inference.evenness import evened

SPACING_MM = 3.0
SHAPE = (50, 62, 46)


def stripes() -> np.ndarray:
    """Of 15 mm, a fifth brighter than those between."""
    index = np.indices(SHAPE)
    return np.where((index // 5).sum(axis=0) % 2 == 0, 0.6, 0.5).astype(np.float32)


def test_a_smooth_profile_is_taken_out() -> None:
    image = stripes()
    profile = np.exp(np.linspace(-0.5, 0.5, SHAPE[1]))[None, :, None].astype(np.float32)
    found = evened(torch.from_numpy(image * profile), SPACING_MM).numpy()
    ratio = found / image
    inner = ratio[:, 8:-8]
    before = np.std(np.log(profile[:, 8:-8]))
    assert np.std(np.log(inner)) < before / 4
    bright, dark = found[:, 8:-8][image[:, 8:-8] == 0.6], found[:, 8:-8][image[:, 8:-8] == 0.5]
    assert np.median(bright) / np.median(dark) > 1.15


def test_an_even_image_stays_and_0_stays_0() -> None:
    image = np.zeros(SHAPE, dtype=np.float32)
    image[5:45, 6:50, 4:40] = 0.7
    found = evened(torch.from_numpy(image), SPACING_MM)
    assert torch.equal(found == 0, torch.from_numpy(image == 0))
    np.testing.assert_allclose(found[found > 0], 1, atol=1e-3)
    assert not bool(evened(torch.zeros(SHAPE), SPACING_MM).any())


def test_air_does_not_count() -> None:
    """Next to a face of the head the mean is that of the head."""
    image = np.full(SHAPE, 0.02, dtype=np.float32)
    image[:, :30] = 0.8
    found = evened(torch.from_numpy(image), SPACING_MM)
    np.testing.assert_allclose(found[:, :30], 1, atol=1e-3)


def test_the_grid_hardly_matters() -> None:
    fine = np.kron(stripes(), np.ones((2, 2, 2), dtype=np.float32))
    fine = fine * np.exp(np.linspace(-0.3, 0.4, fine.shape[0]))[:, None, None].astype(np.float32)
    coarse = fine.reshape(50, 2, 62, 2, 46, 2).mean(axis=(1, 3, 5))
    on_fine = evened(torch.from_numpy(fine), SPACING_MM / 2).numpy()
    on_coarse = evened(torch.from_numpy(coarse), SPACING_MM).numpy()
    again = on_fine.reshape(50, 2, 62, 2, 46, 2).mean(axis=(1, 3, 5))
    np.testing.assert_allclose(again, on_coarse, rtol=0.02)
