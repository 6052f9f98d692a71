"""Numbers of lesions as real scans have them."""

from __future__ import annotations

import numpy as np
import pytest

from CMBDetectorLib.errors import UsageError
from training.simulation.counts import COUNT_CLASSES, COUNT_SHARE, NEGATIVE_SHARE, draw_count


def test_real_counts_are_distributed_as_published() -> None:
    rng = np.random.default_rng(0)
    counts = np.array([draw_count(rng, "real") for _ in range(8000)])
    assert (counts == 0).mean() == pytest.approx(NEGATIVE_SHARE, abs=0.02)
    positive = counts[counts > 0]
    for (low, high), share in zip(COUNT_CLASSES, COUNT_SHARE, strict=True):
        within = (positive >= low) & (positive <= high)
        assert within.mean() == pytest.approx(share, abs=0.02)
        assert {low, high} <= set(positive[within])
    assert positive.max() <= 83


def test_share_of_scans_without_lesions_can_be_set() -> None:
    rng = np.random.default_rng(1)
    assert min(draw_count(rng, "real", negative_share=0.0) for _ in range(200)) == 1
    assert max(draw_count(rng, "real", negative_share=1.0) for _ in range(200)) == 0


def test_a_range_includes_both_ends() -> None:
    rng = np.random.default_rng(2)
    assert {draw_count(rng, (3, 5)) for _ in range(100)} == {3, 4, 5}
    assert draw_count(rng, (0, 0)) == 0


def test_what_is_no_count_is_refused() -> None:
    rng = np.random.default_rng(3)
    with pytest.raises(UsageError, match="expected"):
        draw_count(rng, (5, 2))
    with pytest.raises(UsageError, match="expected"):
        draw_count(rng, (-1, 2))
    with pytest.raises(UsageError, match="a share of"):
        draw_count(rng, "real", negative_share=1.2)
