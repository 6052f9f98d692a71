from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation

from CMBDetectorLib.errors import UsageError
from CMBDetectorLib.evaluation.label_maps import lesions_from_labels, lesions_from_points
from CMBDetectorLib.evaluation.lesions import LesionSet
from CMBDetectorLib.evaluation.matching import match_centers
from CMBDetectorLib.evaluation.outcomes import ScanOutcome
from CMBDetectorLib.evaluation.rule import MatchingRule
from CMBDetectorLib.evaluation.scan import evaluate_scan
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.volume import Volume

AFFINE = np.diag([-0.8, 0.9, 1.0, 1.0])
LABELS = arrays(np.uint8, (6, 5, 4), elements=st.sampled_from([0, 0, 0, 0, 0, 1, 2, 3]))
RULES = st.builds(
    MatchingRule,
    kind=st.sampled_from(["center", "overlap"]),
    tolerance_mm=st.sampled_from([1.0, 2.0, 5.0]),
    connectivity=st.sampled_from([6, 18, 26]),
    lesions_are=st.sampled_from(["components", "values"]),
)


def lesions(
    array: np.ndarray, rule: MatchingRule | None = None, affine: np.ndarray = AFFINE
) -> LesionSet:
    return lesions_from_labels(
        Volume(array, Geometry(array.shape, affine)), rule or MatchingRule(lesions_are="values")
    )


def line(*runs: tuple[int, int], value_offset: int = 0) -> LesionSet:
    """Lesions along a row of voxels of 1 mm³: (first voxel, number of voxels) of each."""
    array = np.zeros((120, 3, 3), dtype=np.int16)
    for value, (start, length) in enumerate(runs, start=1):
        array[start : start + length, 1, 1] = value + value_offset
    return lesions(array, affine=np.eye(4))


def told(outcome: ScanOutcome, side: str) -> list[tuple[int, str, int | None]]:
    return [
        (entry.lesion.number, entry.outcome, entry.partner)
        for entry in outcome.lesions
        if entry.side == side
    ]


def counts(outcome: ScanOutcome) -> tuple[int, int, int]:
    return outcome.n_true_positive, outcome.n_false_positive, outcome.n_false_negative


def test_every_lesion_is_told_with_its_partner_and_measures() -> None:
    true = line((10, 4), (50, 2), (90, 2))
    predicted = line((12, 4), (16, 1), (70, 1), (91, 2), value_offset=10)
    outcome = evaluate_scan(
        "sub-01", true, predicted, MatchingRule(), attributes={"center": "A", "echo_time_ms": 20.0}
    )
    assert told(outcome, "truth") == [(1, "found", 11), (2, "missed", None), (3, "found", 14)]
    assert told(outcome, "prediction") == [
        (11, "true", 1),
        (12, "second hit", 1),
        (13, "false", None),
        (14, "true", 3),
    ]
    assert counts(outcome) == (2, 2, 1)
    found, missed, _, right, second, _, _ = outcome.lesions
    for entry in (found, right):
        assert entry.distance_mm == pytest.approx(2.0)
        assert entry.dice == pytest.approx(0.5)
        assert entry.volume_error_mm3 == pytest.approx(0.0)
        assert entry.surface_distance_mm == pytest.approx((0 + 0 + 1 + 2) * 2 / 8)
        assert entry.hausdorff_95_mm == pytest.approx(np.percentile([0, 0, 1, 2], 95))
    assert second.distance_mm == pytest.approx(4.5)
    assert math.isnan(second.dice)
    assert math.isnan(missed.distance_mm)
    assert outcome.whole_mask_dice == pytest.approx(2 * 3 / 16)
    assert (outcome.true_volume_mm3, outcome.predicted_volume_mm3) == pytest.approx((8.0, 8.0))
    assert outcome.attributes == {"center": "A", "echo_time_ms": 20.0}
    assert not outcome.has_scores


def test_small_predictions_are_left_out_and_do_not_take_a_truth() -> None:
    """The small one is nearer, but it is as if it had not been made."""
    true, predicted = line((10, 5)), line((12, 1), (14, 5))
    assert told(evaluate_scan("a", true, predicted, MatchingRule()), "prediction") == [
        (1, "true", 1),
        (2, "second hit", 1),
    ]
    outcome = evaluate_scan("a", true, predicted, MatchingRule(min_volume_mm3=2.0))
    assert told(outcome, "prediction") == [(1, "ignored", None), (2, "true", 1)]
    assert outcome.predicted_volume_mm3 == pytest.approx(5.0)
    assert outcome.whole_mask_dice == pytest.approx(2 * 1 / 10)


def test_small_truths_are_neither_missed_nor_found() -> None:
    """One of two predictions on it is excused; what counts is matched first."""
    true = line((10, 5), (19, 1), (60, 1))
    predicted = line((11, 5), (16, 5), (22, 5), (100, 5))
    rule = MatchingRule(min_volume_mm3=2.0)
    outcome = evaluate_scan("a", true, predicted, rule)
    assert told(outcome, "truth") == [(1, "found", 1), (2, "ignored", 2), (3, "ignored", None)]
    assert told(outcome, "prediction") == [
        (1, "true", 1),
        (2, "ignored", 2),
        (3, "second hit", 2),
        (4, "false", None),
    ]
    assert counts(outcome) == (1, 2, 0)
    assert (outcome.n_true, outcome.n_predicted) == (1, 3)
    ignored = [entry for entry in outcome.lesions if entry.outcome == "ignored"]
    assert [entry.distance_mm for entry in ignored] == pytest.approx(
        [1.0, math.nan, 1.0], nan_ok=True
    )
    assert all(math.isnan(entry.dice) for entry in ignored)
    assert outcome.true_volume_mm3 == pytest.approx(7.0)


def test_a_lesion_of_exactly_the_smallest_volume_counts() -> None:
    """Ten voxels of 0.72 mm³ are 7.2 mm³, whatever the rounding."""
    array = np.zeros((12, 5, 4), dtype=np.uint8)
    array[1:11, 2, 2] = 1
    one = lesions(array)
    outcome = evaluate_scan("a", one, one, MatchingRule(min_volume_mm3=7.2))
    assert counts(outcome) == (1, 0, 0)
    assert counts(evaluate_scan("a", one, one, MatchingRule(min_volume_mm3=7.3))) == (0, 0, 0)


def test_points_against_masks_have_no_segmentation() -> None:
    true = line((10, 4), (50, 2))
    points = lesions_from_points([[11.5, 1, 2], [90, 1, 1]], scores=[0.9, 0.3])
    for kind in ("center", "overlap"):
        rule = MatchingRule(kind=kind, min_volume_mm3=1.5)
        outcome = evaluate_scan("a", true, points, rule)
        assert counts(outcome) == ((1, 1, 1) if kind == "center" else (0, 2, 2))
        assert math.isnan(outcome.whole_mask_dice)
        assert math.isnan(outcome.predicted_volume_mm3)
        assert all(math.isnan(entry.dice) for entry in outcome.lesions)
        assert outcome.has_scores
    with pytest.raises(UsageError, match="center rule"):
        evaluate_scan("a", points, points, MatchingRule(kind="overlap"))


def test_scans_without_lesions() -> None:
    empty, one = line(), line((10, 4))
    nothing = evaluate_scan("a", empty, empty, MatchingRule(), has_scores=True)
    assert (nothing.lesions, nothing.whole_mask_dice, nothing.has_scores) == ((), 1.0, True)
    assert not evaluate_scan("a", empty, empty, MatchingRule()).has_scores
    for kind in ("center", "overlap"):
        assert counts(evaluate_scan("a", one, empty, MatchingRule(kind=kind))) == (0, 0, 1)
        wrong = evaluate_scan("a", empty, one, MatchingRule(kind=kind))
        assert counts(wrong) == (0, 1, 0)
        assert wrong.whole_mask_dice == 0.0


@settings(max_examples=40, deadline=None)
@given(true=LABELS, predicted=LABELS, rule=RULES)
def test_swapping_the_sides_swaps_misses_and_false_ones(
    true: np.ndarray, predicted: np.ndarray, rule: MatchingRule
) -> None:
    sides = lesions(true, rule), lesions(predicted, rule)
    outcome = evaluate_scan("a", *sides, rule)
    swapped = evaluate_scan("a", *sides[::-1], rule)
    tp, fp, fn = counts(outcome)
    assert counts(swapped) == (tp, fn, fp)
    assert tp + fn == len(sides[0].lesions)
    assert tp + fp == len(sides[1].lesions)
    assert swapped.whole_mask_dice == outcome.whole_mask_dice
    assert 0 <= outcome.whole_mask_dice <= 1
    for entry in outcome.lesions:
        assert math.isnan(entry.dice) == (entry.outcome not in ("found", "true"))
        assert math.isnan(entry.dice) or 0 <= entry.dice <= 1
        assert rule.kind == "center" or entry.outcome != "found" or entry.dice > 0
    perfect = evaluate_scan("a", sides[0], sides[0], rule)
    assert counts(perfect) == (len(sides[0].lesions), 0, 0)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), rule=RULES, angles=st.tuples(*[st.floats(-180, 180)] * 3))
def test_all_is_the_same_for_a_patient_who_lies_otherwise(
    seed: int, rule: MatchingRule, angles: tuple[float, float, float]
) -> None:
    """Moved, in another order of the axes, and with other numbers of the lesions."""
    rng = np.random.default_rng(seed)
    true, predicted = (
        np.where(rng.random((9, 8, 6)) < 0.25, rng.integers(1, 9, (9, 8, 6)), 0).astype(np.uint8)
        for _ in range(2)
    )
    motion = np.eye(4)
    motion[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    motion[:3, 3] = (90.0, -120.0, 33.3)
    # An odd affine, so that no two distances are equal.
    affine = np.array([[0.71, 0.13, 0, 3], [0, -0.93, 0.29, 4], [0.17, 0, 1.37, 5], [0, 0, 0, 1]])
    renumbered = np.concatenate([[0], rng.permutation(np.arange(1, 10))]).astype(np.uint8)
    turned = Volume(renumbered[predicted], Geometry(predicted.shape, affine)).reoriented(
        [[2, -1], [0, 1], [1, -1]]
    )
    outcome = evaluate_scan(
        "a", lesions(true, rule, affine), lesions(predicted, rule, affine), rule
    )
    moved = evaluate_scan(
        "a", lesions(true, rule, motion @ affine), lesions(predicted, rule, motion @ affine), rule
    )
    otherwise = evaluate_scan(
        "a", lesions(true, rule, affine), lesions_from_labels(turned, rule), rule
    )
    for same in (moved, otherwise):
        assert same.whole_mask_dice == pytest.approx(outcome.whole_mask_dice)
        assert Counter(entry.outcome for entry in same.lesions) == Counter(
            entry.outcome for entry in outcome.lesions
        )
        distances = (
            math.fsum(entry.distance_mm for entry in scan.of("true")) for scan in (same, outcome)
        )
        if rule.kind == "center":
            assert next(distances) == pytest.approx(next(distances))


def test_other_grids_count_as_the_same_one_does() -> None:
    """The same lesions in voxels of a third of the size."""
    coarse = np.zeros((20, 20, 10), dtype=np.uint8)
    coarse[3:5, 3:5, 2:4], coarse[12:14, 12, 5], coarse[17, 3, 7] = 1, 2, 3
    fine = coarse.repeat(3, axis=0).repeat(3, axis=1).repeat(3, axis=2)
    fine_affine = AFFINE @ np.diag([1 / 3, 1 / 3, 1 / 3, 1.0])
    fine_affine[:3, 3] = AFFINE[:3, :3] @ np.full(3, -1 / 3)
    for kind in ("center", "overlap"):
        rule = MatchingRule(kind=kind)
        outcome = evaluate_scan("a", lesions(coarse), lesions(fine, affine=fine_affine), rule)
        assert counts(outcome) == (3, 0, 0)
        assert outcome.whole_mask_dice == 1.0
        for entry in outcome.lesions:
            assert (entry.dice, entry.hausdorff_95_mm) == (1.0, 0.0)
            assert entry.partner == entry.lesion.number
            assert entry.distance_mm == pytest.approx(0, abs=1e-9)


def test_the_center_rule_on_points_is_match_centers() -> None:
    rng = np.random.default_rng(4)
    true, predicted = rng.uniform(0, 25, (2, 60, 3))
    outcome = evaluate_scan(
        "a", lesions_from_points(true), lesions_from_points(predicted), MatchingRule()
    )
    match = match_centers(predicted, true)
    assert [
        (entry.lesion.number - 1, entry.partner)
        for entry in outcome.lesions
        if entry.outcome == "true"
    ] == [(pair.prediction, pair.truth + 1) for pair in match.pairs]
    assert len(outcome.of("second hit")) == len(match.second_hits) > 0
