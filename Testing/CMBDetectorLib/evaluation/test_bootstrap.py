"""The bootstrap over scans, against drawing scans one by one."""

from __future__ import annotations

import numpy as np
import pytest

from CMBDetectorLib.errors import UsageError
from CMBDetectorLib.evaluation.bootstrap import draw_resamples, interval
from CMBDetectorLib.evaluation.figures import count_scans, pooled_figures


def test_intervals_are_those_of_a_plain_loop(dou_outcomes) -> None:
    """The same draws, each resample a list of scans, figures by their textbook formulas."""
    counts = count_scans(dou_outcomes)
    intervals = pooled_figures(counts, draw_resamples(20, resamples=300, seed=4))["intervals"]
    draws = np.random.default_rng(4).integers(20, size=(300, 20))
    naive = {name: [] for name in ("precision", "recall", "f1", "false_positives_per_scan")}
    for draw in draws:
        scans = [dou_outcomes[row] for row in draw]
        tp = sum(scan.n_true_positive for scan in scans)
        fp = sum(scan.n_false_positive for scan in scans)
        fn = sum(scan.n_false_negative for scan in scans)
        naive["precision"].append(tp / (tp + fp))
        naive["recall"].append(tp / (tp + fn))
        naive["f1"].append(2 * tp / (2 * tp + fp + fn))
        naive["false_positives_per_scan"].append(fp / 20)
    for name, values in naive.items():
        assert intervals[name] == pytest.approx(np.quantile(values, [0.025, 0.975]), abs=1e-12)


def test_resamples_hold_as_many_scans_and_each_as_often() -> None:
    weights = draw_resamples(7, resamples=4000, seed=1).weights
    assert weights.shape == (4000, 7)
    assert (weights.sum(axis=1) == 7).all()
    assert weights.mean(axis=0) == pytest.approx(np.ones(7), abs=0.06)
    # Of one scan: binomial of 7 draws of chance 1/7.
    assert weights.var(axis=0) == pytest.approx(np.full(7, 6 / 7), abs=0.08)


def test_the_seed_says_everything() -> None:
    first = draw_resamples(5, resamples=20, seed=3).weights
    assert (first == draw_resamples(5, resamples=20, seed=3).weights).all()
    assert (first != draw_resamples(5, resamples=20, seed=4).weights).any()
    # More resamples are the same ones and others.
    assert (first == draw_resamples(5, resamples=30, seed=3).weights[:20]).all()


def test_the_interval_covers_the_mean() -> None:
    """95 % of intervals of the mean of 40 values hold the true mean, roughly."""
    rng = np.random.default_rng(8)
    covered = 0
    for seed in range(300):
        values = rng.normal(1.0, 1.0, 40)
        resampled = draw_resamples(40, resamples=300, seed=seed).totals(values) / 40
        low, high = interval(resampled)
        covered += low <= 1.0 <= high
    assert 0.89 <= covered / 300 <= 0.98


def test_undefined_resamples_are_left_out() -> None:
    assert interval(np.array([np.nan, 2.0, np.nan, 2.0])) == [2.0, 2.0]
    assert interval(np.array([np.nan, np.nan])) is None
    assert interval(np.array([])) is None


def test_no_resamples_no_intervals(dou_outcomes) -> None:
    intervals = pooled_figures(count_scans(dou_outcomes), draw_resamples(20, resamples=0, seed=0))[
        "intervals"
    ]
    assert set(intervals.values()) == {None}


@pytest.mark.parametrize(("n_scans", "resamples"), [(0, 10), (3, -1)])
def test_what_cannot_be_drawn(n_scans: int, resamples: int) -> None:
    with pytest.raises(UsageError):
        draw_resamples(n_scans, resamples=resamples, seed=0)
