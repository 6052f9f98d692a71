"""Which class a number or a word is in."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from CMBDetectorLib.evaluation.classes import (
    DIAMETER_CLASSES_MM,
    ECHO_TIME_CLASSES_MS,
    ELONGATION_CLASSES,
    IN_PLANE_CLASSES_MM,
    SLICE_CLASSES_MM,
    classify,
    number_classes,
)


def names_of(values, kind=()) -> list[str]:
    classified = classify(values, kind)
    return [classified.names[row] for row in classified.rows]


@pytest.mark.parametrize(
    ("kind", "value", "name"),
    [
        (DIAMETER_CLASSES_MM, 0.4, "0 to 2"),
        (DIAMETER_CLASSES_MM, 2.0, "0 to 2"),
        (DIAMETER_CLASSES_MM, 2.01, "2 to 3"),
        (DIAMETER_CLASSES_MM, 5.0, "3 to 5"),
        (DIAMETER_CLASSES_MM, 9.0, "over 5"),
        (ELONGATION_CLASSES, 0.0, "0 to 0.5"),
        (ELONGATION_CLASSES, 1.0000001, "0.75 to 1"),
        (SLICE_CLASSES_MM, 1.5, "0 to 1.5"),
        (SLICE_CLASSES_MM, 3.0, "1.5 to 3"),
        (SLICE_CLASSES_MM, 7.0, "over 3"),
        (IN_PLANE_CLASSES_MM, 0.94, "over 0.9"),
        (ECHO_TIME_CLASSES_MS, 19.9, "under 20"),
        (ECHO_TIME_CLASSES_MS, 20, "20 to 30"),
        (ECHO_TIME_CLASSES_MS, 30.0, "20 to 30"),
        (ECHO_TIME_CLASSES_MS, 30.1, "over 30"),
    ],
)
def test_ranges_hold_their_upper_end(kind, value: float, name: str) -> None:
    assert names_of([value], kind) == [name]


def test_classes_keep_their_order_and_unknown_is_last() -> None:
    classified = classify([math.nan, 4.0, None, 0.5, "n/a"], DIAMETER_CLASSES_MM)
    assert classified.names == ("0 to 2", "3 to 5", "unknown")
    assert classified.rows.tolist() == [2, 1, 2, 0, 2]


def test_words_expected_first_and_no_value() -> None:
    values = ["deep", "elsewhere", "not assessed", "lobar", " lobar ", "", "Unknown"]
    classified = classify(values, ("lobar", "deep", "infratentorial"))
    assert classified.names == ("lobar", "deep", "elsewhere", "unknown")
    assert classified.rows.tolist() == [1, 2, 3, 0, 0, 3, 3]


def test_few_numbers_are_classes_of_their_own() -> None:
    classified = classify([3, 1.5, 7.0, 3.0, 1.5])
    assert classified.names == ("1.5", "3", "7")
    assert classified.rows.tolist() == [1, 0, 2, 1, 0]


def test_many_numbers_are_cut_at_their_quartiles() -> None:
    classified = classify([float(n) for n in range(1, 101)])
    assert classified.names == ("1 to 25.75", "25.75 to 50.5", "50.5 to 75.25", "75.25 to 100")
    assert [classified.rows.tolist().count(row) for row in range(4)] == [25, 25, 25, 25]


def test_numbers_that_are_mostly_equal() -> None:
    """Three quartiles fall on the same number; nothing is lost and no class is empty."""
    values = [5.0] * 90 + [float(n) for n in range(10)]
    classified = classify(values)
    assert len(set(classified.rows.tolist())) == len(classified.names)
    assert names_of([*values, 5.0])[-1] == classified.names[int(classified.rows[0])]


def test_numbers_that_look_alike_are_one_class() -> None:
    assert classify([2.89362, 2.893620001, 1.5]).names == ("1.5", "2.89362")


def test_numbers_among_words_are_words() -> None:
    assert names_of([3, "1.5 T"], SLICE_CLASSES_MM) == ["3", "1.5 T"]


def test_nothing_to_classify() -> None:
    assert classify([]).names == ()
    assert classify([None, math.nan]).names == ("unknown",)


def test_names_of_ranges() -> None:
    assert number_classes(0, 1.5, math.inf).names == ("0 to 1.5", "over 1.5")


@settings(max_examples=40, deadline=None)
@given(values=st.lists(st.floats(-100, 100), min_size=1, max_size=60))
def test_quartile_classes_are_in_order(values: list[float]) -> None:
    classified = classify(values)
    pairs = sorted(zip(values, classified.rows.tolist(), strict=True))
    rows = [row for _, row in pairs]
    assert rows == sorted(rows)
    assert set(rows) == set(range(len(classified.names)))
