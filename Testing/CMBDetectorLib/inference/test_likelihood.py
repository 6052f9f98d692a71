"""Classes told apart by intensities that nothing is known of beforehand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from CMBDetectorLib.anatomy.parcellation import CLASSES
from CMBDetectorLib.inference.likelihood import N_BINS, intensity_bins, log_likelihoods

NAMES = [one.name for one in CLASSES]
CORTEX, WHITE = NAMES.index("cerebral cortex"), NAMES.index("cerebral white matter")
AMYGDALA, BONE = NAMES.index("amygdala"), NAMES.index("bone")


def expected(shares: dict[int, torch.Tensor], n: int) -> torch.Tensor:
    result = torch.zeros(len(CLASSES), n)
    for number, share in shares.items():
        result[number] = share
    return result


def test_bins_are_equally_full_and_zero_is_apart() -> None:
    values = torch.cat([torch.zeros(500), torch.rand(6400) ** 3])[None]
    bins = intensity_bins(values)
    assert torch.equal(bins == 0, values == 0)
    counts = torch.bincount(bins[bins > 0], minlength=N_BINS)
    assert counts[0] == 0
    np.testing.assert_allclose(counts[1:], 6400 / (N_BINS - 1), rtol=0.2)
    in_order = bins[0][values[0].argsort()]
    assert torch.equal(in_order, in_order.sort().values)


@pytest.mark.parametrize("value", [0.0, 0.7])
def test_one_value_tells_nothing(value: float) -> None:
    bins = intensity_bins(torch.full((2, 300), value))
    assert len(bins.unique()) == 1
    shares = expected({CORTEX: torch.tensor(0.75), WHITE: torch.tensor(0.25)}, 300)
    gain, found = log_likelihoods(bins, shares)
    assert float(gain[[CORTEX, WHITE]][:, bins.unique()].abs().max()) < 0.01
    torch.testing.assert_close(found[CORTEX], shares[CORTEX], atol=0.03, rtol=0)


@pytest.mark.parametrize("is_inverted", [False, True])
def test_a_wrong_atlas_is_corrected_whatever_the_contrast(is_inverted: bool) -> None:
    """The atlas says 4 : 1 on either side, a fifth of the voxels are the other class."""
    rng = np.random.default_rng(3)
    n = 4000
    likely_white = torch.arange(n) < n // 2
    is_white = torch.from_numpy(rng.random(n) < 0.2) ^ likely_white
    values = torch.where(is_white, 0.7, 0.4) + torch.from_numpy(rng.normal(0, 0.05, n)).float()
    if is_inverted:
        values = 1.2 - values
    share = torch.where(likely_white, 0.8, 0.2)
    bins = intensity_bins(values[None])
    gain, found = log_likelihoods(bins, expected({WHITE: share, CORTEX: 1 - share}, n))
    assert float(((found[WHITE] > 0.5) == is_white).float().mean()) > 0.96
    assert gain.shape == (len(CLASSES), N_BINS)
    apart = gain[WHITE, bins[0]] > gain[CORTEX, bins[0]]
    assert float((apart == is_white).float().mean()) > 0.96


def test_a_class_of_few_voxels_looks_like_its_tissue() -> None:
    """The amygdala is gray matter: 20 voxels of it, of which most are bone by mistake."""
    rng = np.random.default_rng(5)
    level = torch.cat([torch.full((2000,), 0.6), torch.full((2000,), 0.2)])
    values = level + torch.from_numpy(rng.normal(0, 0.03, 4000)).float()
    gray = (level > 0.4).float()
    amygdala = torch.zeros(4000)
    amygdala[[*range(4), *range(3984, 4000)]] = 0.5
    shares = expected(
        {CORTEX: gray - amygdala * gray, BONE: (1 - gray) * (1 - amygdala), AMYGDALA: amygdala},
        4000,
    )
    bins = intensity_bins(values[None])
    gain, _ = log_likelihoods(bins, shares)
    of_gray, of_bone = bins[0, :2000].median(), bins[0, 2000:].median()
    assert float(gain[AMYGDALA, of_gray]) > float(gain[AMYGDALA, of_bone])


def test_of_many_cells_a_sample_tells_as_much() -> None:
    """Of 200,000 cells 60,000 are looked at, of a quarter of them all."""
    rng = np.random.default_rng(5)
    n = 50_000
    likely_white = torch.arange(n) < n // 2
    values = torch.where(likely_white, 0.7, 0.5) + torch.from_numpy(rng.normal(0, 0.1, n)).float()
    share = torch.where(likely_white, 0.8, 0.2)
    shares = expected({WHITE: share, CORTEX: 1 - share}, n)
    bins = intensity_bins(values[None])
    few_gain, few_found = log_likelihoods(bins, shares)
    gain, found = log_likelihoods(bins.repeat(1, 4), shares.repeat(1, 4))
    assert found.shape == (len(CLASSES), 4 * n)
    np.testing.assert_allclose(gain[[WHITE, CORTEX]], few_gain[[WHITE, CORTEX]], atol=0.1)
    np.testing.assert_allclose(found[WHITE, -n:], few_found[WHITE], atol=0.03)
