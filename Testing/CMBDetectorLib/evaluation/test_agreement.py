"""Agreement of counts, against published worked examples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from CMBDetectorLib.evaluation.agreement import (
    bland_altman,
    count_agreement,
    count_classes,
    intraclass_correlation,
    weighted_kappa,
)
from CMBDetectorLib.evaluation.bootstrap import draw_resamples
from CMBDetectorLib.evaluation.figures import count_scans

# Shrout and Fleiss 1979, table 2: six targets, four judges.
SHROUT_FLEISS = np.array(
    [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], float
)
# Hout et al. 1987, as in Agresti 1990, table 2.8: husbands and wives, four ordered answers.
ANSWERS = np.array([[7, 7, 2, 3], [2, 8, 3, 7], [1, 5, 4, 9], [2, 8, 9, 14]], float)


def icc(ratings) -> float:
    ratings = np.array(ratings, dtype=float)
    return float(intraclass_correlation(ratings, np.ones((1, len(ratings))))[0])


def analysis_of_variance_icc(ratings: np.ndarray) -> float:
    """ICC(2,1) from the mean squares, each as the textbook writes it."""
    n, k = ratings.shape
    mean = ratings.mean()
    rows = k * ((ratings.mean(axis=1) - mean) ** 2).sum() / (n - 1)
    columns = n * ((ratings.mean(axis=0) - mean) ** 2).sum() / (k - 1)
    rest = ratings - ratings.mean(axis=1, keepdims=True) - ratings.mean(axis=0) + mean
    error = (rest**2).sum() / ((n - 1) * (k - 1))
    return (rows - error) / (rows + (k - 1) * error + k * (columns - error) / n)


def agreement(make_outcome, true, predicted, resamples=100):
    """Cohort with these counts, all predictions of a scan right as far as there are truths."""
    outcomes = []
    for number, (t, p) in enumerate(zip(true, predicted, strict=True)):
        tp = min(t, p)
        outcomes.append(make_outcome(str(number), (tp, p - tp, t - tp)))
    bootstrap = draw_resamples(len(outcomes), resamples=resamples, seed=0)
    return count_agreement(count_scans(outcomes), bootstrap)


def test_icc_of_shrout_and_fleiss() -> None:
    assert round(icc(SHROUT_FLEISS), 2) == 0.29


@settings(max_examples=50, deadline=None)
@given(ratings=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=3, max_size=12))
def test_icc_is_that_of_the_analysis_of_variance(ratings) -> None:
    value = icc(ratings)
    if np.isnan(value):
        assert len({truth for truth, _ in ratings}) == len({found for _, found in ratings}) == 1
        return
    assert value == pytest.approx(analysis_of_variance_icc(np.array(ratings, float)), abs=1e-9)
    assert value <= 1
    assert icc([(found, truth) for truth, found in ratings]) == pytest.approx(value)


def test_weights_are_repeated_scans() -> None:
    weights = np.array([[2, 0, 1, 3, 0, 1.0]])
    repeated = np.repeat(SHROUT_FLEISS, weights[0].astype(int), axis=0)
    value = intraclass_correlation(SHROUT_FLEISS, weights)[0]
    assert value == pytest.approx(analysis_of_variance_icc(repeated))


def test_kappa_of_a_published_table() -> None:
    """0.2374 with equal spacing, as the R package vcd prints it for this table."""
    assert round(float(weighted_kappa(ANSWERS)), 4) == 0.2374


def test_kappa_by_hand() -> None:
    """Rows 4, 3, 3 and columns 4, 2, 4 of 10.

    Observed disagreement 2 + 1 = 3 tenths; expected, one class apart 4·2 + 3·4 + 3·4 + 3·2 = 38 and
    two apart 4·4 + 3·4 = 28 twice, so 94 hundredths.
    """
    table = np.array([[3, 0, 1], [1, 2, 0], [0, 0, 3]], float)
    assert float(weighted_kappa(table)) == pytest.approx(1 - 0.3 / 0.94)


def expected_disagreement(table: np.ndarray) -> float:
    n = table.sum()
    return sum(
        abs(row - column) * table[row].sum() * table[:, column].sum() / n**2
        for row in range(len(table))
        for column in range(len(table))
    )


def test_kappa_of_many_tables() -> None:
    tables = np.random.default_rng(3).integers(0, 9, (5, 4, 4)).astype(float)
    alone = [float(weighted_kappa(table)) for table in tables]
    assert weighted_kappa(tables).tolist() == pytest.approx(alone)
    for value, table in zip(alone, tables, strict=True):
        place = np.arange(4)
        observed = (np.abs(place[:, None] - place) * table).sum() / table.sum()
        assert value == pytest.approx(1 - observed / expected_disagreement(table))


def test_bland_altman_by_hand() -> None:
    """Differences 1, -1, 2, 2: mean 1, squares 0 + 4 + 1 + 1, sd the root of 2."""
    limits = bland_altman(np.array([1, -1, 2, 2]))
    assert limits["bias"] == 1
    assert limits["sd"] == pytest.approx(2**0.5)
    assert limits["lower"] == pytest.approx(1 - 1.96 * 2**0.5)
    assert limits["upper"] == pytest.approx(1 + 1.96 * 2**0.5)


def test_classes_of_counts() -> None:
    counts = np.array([0, 1, 2, 3, 4, 5, 10, 11, 83])
    assert count_classes(counts).tolist() == [0, 1, 1, 2, 2, 3, 3, 4, 4]


def test_a_cohort(make_outcome) -> None:
    true, predicted = [0, 0, 1, 3, 7, 20, 2], [0, 1, 1, 2, 9, 12, 0]
    result = agreement(make_outcome, true, predicted)
    pairs = np.array([true, predicted], float).T
    assert result["icc"] == pytest.approx(analysis_of_variance_icc(pairs))
    assert result["bland_altman"]["bias"] == pytest.approx(np.subtract(predicted, true).mean())
    assert result["confusion"] == [
        [1, 1, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [0, 1, 0, 0, 0],
        [0, 0, 0, 1, 0],
        [0, 0, 0, 0, 1],
    ]
    assert result["weighted_kappa"] == pytest.approx(
        1 - 3 / 7 / expected_disagreement(np.array(result["confusion"]))
    )
    low, high = result["icc_interval"]
    assert low <= result["icc"] <= high


def test_the_interval_is_that_of_a_plain_loop(make_outcome) -> None:
    true, predicted = [0, 0, 1, 3, 7, 20, 2, 4], [0, 1, 1, 2, 9, 12, 0, 4]
    result = agreement(make_outcome, true, predicted, resamples=60)
    pairs = np.array([true, predicted], float).T
    draws = np.random.default_rng(0).integers(8, size=(60, 8))
    naive = [analysis_of_variance_icc(pairs[draw]) for draw in draws]
    assert result["icc_interval"] == pytest.approx(np.quantile(naive, [0.025, 0.975]))


@pytest.mark.parametrize(
    ("true", "predicted"), [([2, 2, 2], [2, 2, 2]), ([0, 0], [0, 0]), ([4], [4])]
)
def test_what_says_nothing_about_agreement_is_none(make_outcome, true, predicted) -> None:
    result = agreement(make_outcome, true, predicted)
    assert result["icc"] is result["icc_interval"] is None
    assert result["weighted_kappa"] is result["weighted_kappa_interval"] is None
    assert result["bland_altman"]["bias"] == 0


def test_one_scan_has_no_spread(make_outcome) -> None:
    result = agreement(make_outcome, [4], [2])
    assert result["bland_altman"] == {"bias": -2.0, "sd": None, "lower": None, "upper": None}


def test_counts_that_never_change_are_no_agreement(make_outcome) -> None:
    """The prediction is always one more: neither 1 nor a number at all."""
    assert agreement(make_outcome, [1, 1, 1], [2, 2, 2])["icc"] is None


def test_perfect_and_opposite_agreement(make_outcome) -> None:
    assert agreement(make_outcome, [0, 1, 6], [0, 1, 6])["icc"] == 1
    assert agreement(make_outcome, [0, 1, 6], [0, 1, 6])["weighted_kappa"] == 1
    assert agreement(make_outcome, [0, 12], [12, 0])["weighted_kappa"] == -1
