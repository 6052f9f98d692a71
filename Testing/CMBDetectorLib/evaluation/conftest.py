"""Scans whose outcome is said, not measured; the figures of a cohort need nothing else."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import strategies as st

from CMBDetectorLib.evaluation.lesions import MarkedLesion
from CMBDetectorLib.evaluation.outcomes import LesionOutcome, ScanOutcome

# Tests of this folder share small_scans.
sys.path.append(str(Path(__file__).parent))

MakeOutcome = Callable[..., ScanOutcome]

# The DOU test set as published, per scan: true positives, false positives, false negatives.
DOU_COUNTS = (
    *((1, 0, 0), (1, 0, 0), (4, 0, 0), (0, 0, 1), (1, 2, 0), (1, 0, 0), (0, 0, 1), (1, 0, 0)),
    *((4, 0, 7), (6, 0, 2), (2, 0, 0), (1, 0, 0), (1, 0, 0), (3, 0, 0), (9, 5, 4), (7, 2, 4)),
    *((3, 0, 4), (3, 0, 0), (1, 0, 0), (2, 1, 0)),
)


def _make_outcome(
    scan_id: str,
    counts: Sequence[int],
    *,
    second_hits: Sequence[int] = (),
    ignored: tuple[int, int] = (0, 0),
    scores: Sequence[float] | None = None,
    dice: Sequence[float] = (),
    whole_mask_dice: float = float("nan"),
    features: Mapping[str, Sequence[object]] | None = None,
    attributes: Mapping[str, float | str] | None = None,
) -> ScanOutcome:
    """A scan with (true positives, false positives, false negatives).

    Truths and predictions are numbered from 1, the matched ones first and in the same order.
    ``second_hits`` names the truths that the last false positives hit again; ``ignored`` is the
    number of ignored truths and predictions. ``scores`` and ``dice`` are of the predictions and of
    the pairs in their order. ``features`` maps a field of the lesions to its values: those of the
    found truths, the missed ones and the false positives, in this order.
    """
    tp, fp, fn = counts
    features = features or {}

    def lesion(number: int, place: int | None = None, score: float = float("nan")) -> MarkedLesion:
        named = {} if place is None else {key: values[place] for key, values in features.items()}
        return MarkedLesion(number, (0.0, 0.0, 0.0), score, **named)

    def score_of(number: int) -> float:
        return float("nan") if scores is None else scores[number - 1]

    measured = [{"dice": value} for value in dice] or [{}] * tp
    entries = [
        LesionOutcome("truth", lesion(n, n - 1), "found", n, **measured[n - 1])
        for n in range(1, tp + 1)
    ]
    entries += [LesionOutcome("truth", lesion(tp + n, tp + n - 1), "missed") for n in _from_1(fn)]
    entries += [LesionOutcome("truth", lesion(tp + fn + n), "ignored") for n in _from_1(ignored[0])]
    entries += [
        LesionOutcome("prediction", lesion(n, None, score_of(n)), "true", n, **measured[n - 1])
        for n in _from_1(tp)
    ]
    plain = fp - len(second_hits)
    for n in _from_1(fp):
        marked = lesion(tp + n, tp + fn + n - 1, score_of(tp + n))
        if n <= plain:
            entries.append(LesionOutcome("prediction", marked, "false"))
        else:
            hit = second_hits[n - plain - 1]
            entries.append(LesionOutcome("prediction", marked, "second hit", hit))
    entries += [
        LesionOutcome("prediction", lesion(tp + fp + n), "ignored") for n in _from_1(ignored[1])
    ]
    return ScanOutcome(
        scan_id,
        tuple(entries),
        whole_mask_dice=whole_mask_dice,
        has_scores=scores is not None,
        attributes=attributes or {},
    )


def _from_1(n: int) -> range:
    return range(1, n + 1)


@pytest.fixture(scope="session")
def make_outcome() -> MakeOutcome:
    """See _make_outcome."""
    return _make_outcome


@pytest.fixture(scope="session")
def dou_outcomes() -> tuple[ScanOutcome, ...]:
    """The published fixture, centers at most 5 mm apart."""
    return tuple(
        _make_outcome(f"{number:02d}", counts) for number, counts in enumerate(DOU_COUNTS, start=1)
    )


@st.composite
def _cohorts(draw: st.DrawFn, max_scans: int = 6) -> list[ScanOutcome]:
    """Scored scans with second hits and equal scores, also without any lesion or prediction."""
    outcomes = []
    for number in range(draw(st.integers(1, max_scans))):
        tp, fp, fn = (draw(st.integers(0, 4)) for _ in range(3))
        hits = draw(st.lists(st.integers(1, tp), max_size=fp)) if tp else []
        score = st.sampled_from([0.1, 0.2, 0.3, 0.5, 0.7, 0.9])
        outcomes.append(
            _make_outcome(
                f"scan-{number}",
                (tp, fp, fn),
                second_hits=hits,
                scores=draw(st.lists(score, min_size=tp + fp, max_size=tp + fp)),
                dice=draw(st.lists(st.floats(0.1, 1), min_size=tp, max_size=tp)),
                whole_mask_dice=draw(st.floats(0, 1)),
                attributes={"slice_thickness_mm": draw(st.sampled_from([0.8, 1.5, 4.0]))},
            )
        )
    return outcomes


@pytest.fixture(scope="session")
def any_cohort() -> st.SearchStrategy[list[ScanOutcome]]:
    """See _cohorts."""
    return _cohorts()
