"""Two predictions on the same scans, against trying every swap."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from CMBDetectorLib.errors import UsageError
from CMBDetectorLib.evaluation.bootstrap import draw_resamples
from CMBDetectorLib.evaluation.comparison import compare_cohorts
from CMBDetectorLib.evaluation.curves import summarize_curves

MEASURES = (
    "precision",
    "recall",
    "f1",
    "false_positives_per_scan",
    "mean_absolute_count_difference",
    "average_precision",
    "mean_dice",
)


def compare(a, b, **options):
    options = {"permutations": 1000, "resamples": 50} | options
    return compare_cohorts(a, b, label_a="A", label_b="B", **options)


def by_name(result):
    return {measure["name"]: measure for measure in result["measures"]}


def figures(outcomes) -> dict[str, float]:
    """Each figure by its definition, NaN where undefined."""
    tp = sum(outcome.n_true_positive for outcome in outcomes)
    fp = sum(outcome.n_false_positive for outcome in outcomes)
    fn = sum(outcome.n_false_negative for outcome in outcomes)
    dice = [entry.dice for outcome in outcomes for entry in outcome.of("true")]
    differences = [abs(outcome.n_predicted - outcome.n_true) for outcome in outcomes]
    bootstrap = draw_resamples(len(outcomes), resamples=0, seed=0)
    average = summarize_curves(outcomes, bootstrap)["average_precision"]
    return {
        "precision": tp / (tp + fp) if tp + fp else np.nan,
        "recall": tp / (tp + fn) if tp + fn else np.nan,
        "f1": 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else np.nan,
        "false_positives_per_scan": fp / len(outcomes),
        "mean_absolute_count_difference": float(np.mean(differences)),
        "average_precision": np.nan if average is None else average,
        "mean_dice": float(np.mean(dice)) if dice else np.nan,
    }


def random_pair(make_outcome, n: int, seed: int):
    """Two methods on the same random truth."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, 4, n)
    return [
        [
            _random_scan(make_outcome, rng, f"scan-{number}", int(count))
            for number, count in enumerate(true)
        ]
        for _ in range(2)
    ]


def _random_scan(make_outcome, rng, scan_id: str, n_true: int):
    tp, fp = int(rng.integers(0, n_true + 1)), int(rng.integers(0, 3))
    return make_outcome(
        scan_id,
        (tp, fp, n_true - tp),
        scores=np.round(rng.random(tp + fp), 1).tolist(),
        dice=rng.random(tp).tolist(),
        whole_mask_dice=float(rng.random()),
    )


@pytest.mark.parametrize("seed", range(4))
def test_all_swaps(make_outcome, seed: int) -> None:
    a, b = random_pair(make_outcome, 6, seed)
    result = compare(a, b)
    measures = by_name(result)
    assert tuple(measures) == MEASURES
    assert result["permutations"] == 64
    assert "all swaps" in result["p_value_kind"]
    observed_a, observed_b = figures(a), figures(b)
    extreme = dict.fromkeys(MEASURES, 0)
    for swapped in itertools.product((False, True), repeat=6):
        here = [y if swap else x for x, y, swap in zip(a, b, swapped, strict=True)]
        there = [x if swap else y for x, y, swap in zip(a, b, swapped, strict=True)]
        of_here, of_there = figures(here), figures(there)
        for name in MEASURES:
            difference = abs(of_here[name] - of_there[name])
            observed = abs(observed_a[name] - observed_b[name])
            extreme[name] += not difference < observed - 1e-9
    for name, measure in measures.items():
        assert measure["a"] == pytest.approx(observed_a[name])
        assert measure["b"] == pytest.approx(observed_b[name])
        assert measure["difference"] == pytest.approx(observed_a[name] - observed_b[name])
        assert measure["p_value"] == pytest.approx(extreme[name] / 64), name


def test_random_swaps_come_near_all_swaps(make_outcome) -> None:
    a, b = random_pair(make_outcome, 11, 3)
    exact = by_name(compare(a, b, permutations=2048))
    result = compare(a, b, permutations=2000)
    assert result["permutations"] == 2000
    assert "random swaps" in result["p_value_kind"]
    for name, measure in by_name(result).items():
        assert measure["p_value"] == pytest.approx(exact[name]["p_value"], abs=0.05)
        assert measure["p_value"] >= 1 / 2001
        assert measure["p_value"] * 2001 == pytest.approx(round(measure["p_value"] * 2001))


def test_the_interval_is_that_of_a_plain_loop(make_outcome) -> None:
    a, b = random_pair(make_outcome, 9, 1)
    measures = by_name(compare(a, b, resamples=60, seed=7))
    draws = np.random.default_rng(7).integers(9, size=(60, 9))
    naive = {name: [] for name in MEASURES}
    for draw in draws:
        here, there = (figures([cohort[row] for row in draw]) for cohort in (a, b))
        for name in MEASURES:
            naive[name].append(here[name] - there[name])
    for name, values in naive.items():
        expected = np.quantile([v for v in values if np.isfinite(v)], [0.025, 0.975])
        assert measures[name]["interval"] == pytest.approx(expected, abs=1e-9)


def test_a_clear_difference_and_none(make_outcome) -> None:
    good = [make_outcome(str(n), (3, 0, 0)) for n in range(20)]
    bad = [make_outcome(str(n), (1, 2, 2)) for n in range(20)]
    clear = by_name(compare(good, bad))
    assert clear["recall"]["p_value"] == pytest.approx(1 / 1001)
    assert clear["recall"]["difference"] == pytest.approx(2 / 3)
    assert clear["recall"]["interval"] == pytest.approx([2 / 3, 2 / 3])
    assert "average_precision" not in clear
    assert "mean_dice" not in clear
    for measure in compare(good, good)["measures"]:
        assert measure["p_value"] == 1
        assert measure["difference"] == 0


def test_chance_alone_gives_small_p_values_rarely(make_outcome) -> None:
    below = 0
    for seed in range(100):
        a, b = random_pair(make_outcome, 8, 100 + seed)
        measures = by_name(compare(a, b, permutations=256, resamples=0))
        below += measures["f1"]["p_value"] <= 0.1
    assert below <= 20


def test_scans_of_one_side_are_named(make_outcome) -> None:
    a = [make_outcome(name, (1, 0, 0)) for name in ("x", "y", "only-a")]
    b = [make_outcome(name, (1, 1, 0)) for name in ("only-b", "y", "x")]
    result = compare(a, b)
    assert result["scans"] == 2
    assert result["scans_only_in_a"] == ["only-a"]
    assert result["scans_only_in_b"] == ["only-b"]
    assert by_name(result)["precision"]["b"] == 0.5


def test_what_cannot_be_compared(make_outcome) -> None:
    a = [make_outcome("x", (1, 0, 1))]
    with pytest.raises(UsageError, match="no scan in common"):
        compare(a, [make_outcome("y", (1, 0, 1))])
    with pytest.raises(UsageError, match=r"'x' has 2 true lesions for A and 1 for B"):
        compare(a, [make_outcome("x", (1, 0, 0))])
    with pytest.raises(UsageError, match="2 times"):
        compare(a * 2, a)
    with pytest.raises(UsageError, match="permutations"):
        compare(a, a, permutations=0)


def test_a_method_without_predictions(make_outcome) -> None:
    a = [make_outcome(str(n), (1, 1, 1)) for n in range(4)]
    b = [make_outcome(str(n), (0, 0, 2)) for n in range(4)]
    measures = by_name(compare(a, b))
    assert measures["precision"]["b"] is None
    assert measures["precision"]["difference"] is measures["precision"]["p_value"] is None
    assert measures["f1"]["b"] == 0
    assert measures["recall"]["p_value"] == 2 / 16


@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 6), seed=st.integers(0, 1000))
def test_the_other_way_round(make_outcome, n: int, seed: int) -> None:
    a, b = random_pair(make_outcome, n, seed)
    forth, back = compare(a, b, resamples=20), compare(b, a, resamples=20)
    json.dumps(forth, allow_nan=False)
    for here, there in zip(forth["measures"], back["measures"], strict=True):
        assert here["p_value"] == there["p_value"]
        if here["difference"] is None:
            assert here["p_value"] is there["difference"] is None
            continue
        assert 0 < here["p_value"] <= 1
        assert here["difference"] == pytest.approx(-there["difference"])
        low, high = here["interval"]
        assert there["interval"] == pytest.approx([-high, -low])


def test_the_seed_says_everything(make_outcome) -> None:
    a, b = random_pair(make_outcome, 12, 5)
    assert compare(a, b, seed=1) == compare(a, b, seed=1)
    assert compare(a, b, seed=1) != compare(a, b, seed=2)
