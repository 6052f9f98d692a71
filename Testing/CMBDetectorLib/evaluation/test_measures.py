"""Means of pair and scan measures."""

from __future__ import annotations

import numpy as np
import pytest

from CMBDetectorLib.evaluation.bootstrap import draw_resamples
from CMBDetectorLib.evaluation.figures import count_scans
from CMBDetectorLib.evaluation.measures import PAIR_MEASURES, summarize_segmentation
from CMBDetectorLib.evaluation.outcomes import LesionOutcome, ScanOutcome


def summarize(outcomes, resamples=100):
    bootstrap = draw_resamples(len(outcomes), resamples=resamples, seed=0)
    return summarize_segmentation(outcomes, count_scans(outcomes), bootstrap)


def test_pairs_are_pooled_and_scans_are_not(make_outcome) -> None:
    outcomes = [
        make_outcome("a", (3, 0, 0), dice=[0.2, 0.4, 0.9], whole_mask_dice=0.5),
        make_outcome("b", (1, 2, 0), dice=[0.5], whole_mask_dice=0.1),
        make_outcome("c", (0, 0, 0), whole_mask_dice=1.0),
    ]
    summary = summarize(outcomes)
    assert summary["pairs"] == 4
    dice = summary["dice"]
    assert dice["mean"] == pytest.approx(0.5)
    assert dice["sd"] == pytest.approx(np.std([0.2, 0.4, 0.9, 0.5], ddof=1))
    assert (dice["p25"], dice["median"], dice["p75"]) == pytest.approx((0.35, 0.45, 0.6))
    assert dice["n"] == 4
    assert summary["whole_mask_dice"]["mean"] == pytest.approx(1.6 / 3)
    assert summary["absolute_count_difference"]["mean"] == pytest.approx(2 / 3)
    assert summary["absolute_count_difference"]["n"] == 3
    assert summary["surface_distance_mm"] == dict.fromkeys(dice, None) | {"n": 0}


def test_the_interval_is_that_of_a_plain_loop(make_outcome) -> None:
    rng = np.random.default_rng(1)
    values = [rng.random(n).tolist() for n in (3, 0, 1, 5, 2, 2)]
    outcomes = [
        make_outcome(str(n), (len(dice), 0, 0), dice=dice, whole_mask_dice=0.5)
        for n, dice in enumerate(values)
    ]
    naive = [
        np.mean([value for row in draw for value in values[row]])
        for draw in np.random.default_rng(0).integers(6, size=(100, 6))
    ]
    interval = summarize(outcomes)["dice"]["interval"]
    assert interval == pytest.approx(np.quantile(naive, [0.025, 0.975]))


def test_volume_errors_with_and_without_their_sign(make_outcome) -> None:
    lesion = make_outcome("a", (1, 0, 0)).lesions[0].lesion
    outcomes = [
        ScanOutcome(
            str(error),
            (
                LesionOutcome("truth", lesion, "found", 1, 0.0, 0.5, error, 0.3, 1.0),
                LesionOutcome("prediction", lesion, "true", 1, 0.0, 0.5, error, 0.3, 1.0),
            ),
            whole_mask_dice=0.5,
        )
        for error in (-4.0, 2.0)
    ]
    summary = summarize(outcomes)
    assert summary["volume_error_mm3"]["mean"] == -1
    assert summary["absolute_volume_error_mm3"]["mean"] == 3
    assert summary["surface_distance_mm"]["mean"] == pytest.approx(0.3)
    assert summary["hausdorff_95_mm"]["mean"] == 1
    assert [name for name in summary if name in PAIR_MEASURES] == list(PAIR_MEASURES)


def test_points_have_counts_only(make_outcome) -> None:
    summary = summarize([make_outcome("a", (1, 3, 0)), make_outcome("b", (1, 0, 2))])
    assert set(summary) == {"pairs", "absolute_count_difference"}
    assert summary["pairs"] == 0
    assert summary["absolute_count_difference"]["mean"] == 2.5


def test_masks_without_a_pair(make_outcome) -> None:
    summary = summarize([make_outcome("a", (0, 1, 0), whole_mask_dice=0.0)])
    assert summary["dice"]["mean"] is summary["dice"]["interval"] is None
    assert summary["whole_mask_dice"]["mean"] == 0
