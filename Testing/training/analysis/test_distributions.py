"""Differences of distributions with known values."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.analysis.distributions import compare, compare_features, describe
from training.analysis.scan_analysis import ScanRecord

samples = st.lists(st.integers(-50, 50), min_size=5, max_size=30).map(
    lambda values: np.array(values, dtype=float)
)


def test_by_hand() -> None:
    first = np.array([1.0, 2, 3, 4, 5])
    difference = compare(first, first + 2)
    assert difference is not None
    # 1 and 2 lie below all of the second sample: a gap of two fifths.
    assert difference.ks_statistic == pytest.approx(0.4)
    assert difference.wasserstein == pytest.approx(2)
    assert difference.standardized_difference == pytest.approx(-2 / math.sqrt(2.5))
    apart = compare(first, first + 10)
    assert apart is not None
    assert apart.ks_statistic == 1
    # Two of the 252 ways to divide ten values into fives are as far apart.
    assert apart.ks_p == pytest.approx(2 / 252)


@settings(max_examples=40, deadline=None)
@given(first=samples, second=samples, factor=st.sampled_from([0.5, 3.0]))
def test_symmetry_scale_and_bounds(first: np.ndarray, second: np.ndarray, factor: float) -> None:
    there, back = compare(first, second), compare(second, first)
    scaled = compare(first * factor + 7, second * factor + 7)
    assert there is not None
    assert back is not None
    assert scaled is not None
    assert 0 <= there.ks_statistic <= 1
    assert 0 <= there.ks_p <= 1
    assert there.wasserstein >= abs(first.mean() - second.mean()) - 1e-9
    assert back.ks_statistic == pytest.approx(there.ks_statistic)
    assert back.wasserstein == pytest.approx(there.wasserstein)
    assert scaled.ks_statistic == pytest.approx(there.ks_statistic)
    assert scaled.wasserstein == pytest.approx(factor * there.wasserstein, abs=1e-9)
    if not math.isnan(there.standardized_difference):
        assert back.standardized_difference == pytest.approx(-there.standardized_difference)
    # The Wasserstein distance is the area between the two cumulative shares.
    grid = np.unique(np.concatenate((first, second)))
    gap = np.abs(
        np.searchsorted(np.sort(first), grid[:-1], "right") / len(first)
        - np.searchsorted(np.sort(second), grid[:-1], "right") / len(second)
    )
    assert there.wasserstein == pytest.approx(float((gap * np.diff(grid)).sum()), abs=1e-9)
    assert there.ks_statistic == pytest.approx(gap.max(initial=0.0))


def test_the_same_sample_does_not_differ() -> None:
    values = np.random.default_rng(0).normal(size=40)
    difference = compare(values, values)
    assert difference is not None
    assert (difference.ks_statistic, difference.wasserstein) == (0, 0)
    assert difference.ks_p == pytest.approx(1)
    constant = np.full(6, 2.0)
    equal = compare(constant, constant)
    assert equal is not None
    assert equal.standardized_difference == 0
    beyond = compare(constant, constant + 1)
    assert beyond is not None
    assert math.isnan(beyond.standardized_difference)


def test_too_few_values_are_not_compared() -> None:
    assert compare(np.arange(4.0), np.arange(50.0)) is None
    assert compare(np.arange(50.0), np.arange(4.0)) is None


def test_description() -> None:
    part = describe(np.arange(101.0))
    assert part.percentiles == (5, 25, 50, 75, 95)
    assert part.sd == pytest.approx(np.std(np.arange(101), ddof=1))
    assert describe(np.empty(0)).n == 0
    assert math.isnan(describe(np.array([2.0])).sd)


def record(dataset: str, number: int, sizes: list[float]) -> ScanRecord:
    rows = tuple(
        {"equivalent_diameter_mm": size, "zone": "lobar", "noise_sigma": 2.0} for size in sizes
    )
    return ScanRecord(dataset, f"{number}", {"n_lesions": float(len(sizes))}, rows)


def test_features_of_datasets() -> None:
    records = [record("a", n, [2.0 + n, 3.0 + n]) for n in range(4)]
    records += [record("b", n, [2.5 + n, math.nan]) for n in range(6)]
    records += [record("c", 0, [1.0])]
    broken = ScanRecord("a", "bad", {"n_lesions": 1e9}, problem="broken")
    features = {f.column.name: f for f in compare_features([*records, broken], list("abc"), "b")}
    assert set(features) == {"equivalent_diameter_mm", "n_lesions"}
    size = features["equivalent_diameter_mm"]
    assert {name: part.n for name, part in size.distributions.items()} == {"a": 8, "b": 6, "c": 1}
    assert set(size.differences) == {"a"}
    assert features["n_lesions"].distributions["a"].n == 4
    alone = compare_features(records, list("abc"), None)
    assert all(not feature.differences for feature in alone)
