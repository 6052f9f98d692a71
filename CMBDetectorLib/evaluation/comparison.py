"""Two predictions on the same scans: what differs, and whether chance would do it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from CMBDetectorLib.errors import UsageError
from CMBDetectorLib.evaluation.bootstrap import draw_resamples, interval
from CMBDetectorLib.evaluation.curves import (
    ScoredPredictions,
    average_precisions,
    scored_predictions,
)
from CMBDetectorLib.evaluation.figures import count_scans, detection_figures, plain_number, ratio
from CMBDetectorLib.evaluation.measures import pair_measure
from CMBDetectorLib.evaluation.outcomes import ScanOutcome
from CMBDetectorLib.evaluation.summary import check_scans
from CMBDetectorLib.geometry import FloatArray

EXACT_KIND = "two-sided permutation test, all swaps of the two predictions within scans"
RANDOM_KIND = (
    "two-sided permutation test, random swaps of the two predictions within scans, "
    "(1 + as extreme) / (1 + permutations)"
)
_BLOCK_NUMBERS = 2_000_000
_ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class _Pair:
    """What each scan adds for either method, (scans, 6) each, and the scores of both, if any.

    ``joint`` holds the predictions of both; those of the second are in scans n, n + 1, …
    """

    first: FloatArray
    second: FloatArray
    joint: ScoredPredictions | None
    has_masks: bool

    def figures(self, weights: FloatArray) -> dict[str, FloatArray]:
        """Each figure of many cohorts with ``weights`` (cohorts, 2 scans) of either's scans."""
        totals = weights @ np.concatenate([self.first, self.second])
        per_scan = weights.sum(axis=1)
        figures = detection_figures(totals[:, :3], per_scan)
        del figures["false_positives_per_true_lesion"]
        figures["mean_absolute_count_difference"] = ratio(totals[:, 3], per_scan)
        if self.joint is not None:
            true_lesions = weights @ self.joint.true_lesions
            figures["average_precision"] = average_precisions(self.joint, weights, true_lesions)
        if self.has_masks:
            figures["mean_dice"] = ratio(totals[:, 4], totals[:, 5])
        return figures


def compare_cohorts(
    a: Sequence[ScanOutcome],
    b: Sequence[ScanOutcome],
    *,
    label_a: str,
    label_b: str,
    permutations: int = 10_000,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Compare two predictions scan by scan, as plain JSON.

    The figures are pooled over the scans that both have; the others are named. The test asks how
    often the difference is at least as large when the two change places in some of the scans, as
    they may where neither is better. All 2^n ways are tried where they are not more than the
    permutations asked for. A permutation in which a figure is undefined counts as extreme, which
    never makes a p-value too small. P-values are not corrected for the number of figures.

    Parameters
    ----------
    a, b
        Outcomes against the same truth.
    permutations, resamples, seed
        Of the test, and of the bootstrap over scans for the interval of the difference.

    Returns
    -------
    dict
        ``label_a``, ``label_b``, ``scans``, ``scans_only_in_a`` and ``scans_only_in_b`` (their
        ids), ``measures`` (``difference`` is a minus b), ``permutations``, ``p_value_kind``.

    Raises
    ------
    UsageError
        If they have no scan in common, or another truth in one of them; if a scan is there twice.

    References
    ----------
    Good, "Permutation, Parametric, and Bootstrap Tests of Hypotheses", Springer, 2005.
    Phipson and Smyth, "Permutation P-values should never be zero", Statistical Applications in
    Genetics and Molecular Biology 9, 2010.
    """
    if permutations < 1:
        raise UsageError(f"the number of permutations is 1 or more, got {permutations}")
    check_scans(a)
    check_scans(b)
    of_b = {outcome.scan_id: outcome for outcome in b}
    in_both = [(outcome, of_b[outcome.scan_id]) for outcome in a if outcome.scan_id in of_b]
    shared = {outcome.scan_id for outcome, _ in in_both}
    _check_same_truth(in_both, label_a, label_b)
    n = len(in_both)
    pair = _pair([first for first, _ in in_both], [second for _, second in in_both])

    once, none = np.ones((1, n)), np.zeros((1, n))
    figures_a, figures_b = (
        {name: float(values[0]) for name, values in pair.figures(weights).items()}
        for weights in (np.hstack([once, none]), np.hstack([none, once]))
    )
    observed = {name: figures_a[name] - figures_b[name] for name in figures_a}
    drawn = draw_resamples(n, resamples=resamples, seed=seed).weights
    differences = _differences(pair, drawn, np.zeros_like(drawn))
    exact = 2**n <= permutations
    extreme = _count_extreme(pair, observed, _swaps(n, permutations, seed))
    tried = 2**n if exact else permutations
    return {
        "label_a": label_a,
        "label_b": label_b,
        "scans": n,
        "scans_only_in_a": [o.scan_id for o in a if o.scan_id not in shared],
        "scans_only_in_b": [o.scan_id for o in b if o.scan_id not in shared],
        "measures": [
            {
                "name": name,
                "a": plain_number(figures_a[name]),
                "b": plain_number(figures_b[name]),
                "difference": plain_number(difference),
                "interval": interval(differences[name]),
                "p_value": None
                if math.isnan(difference)
                else (extreme[name] + (not exact)) / (tried + (not exact)),
            }
            for name, difference in observed.items()
        ],
        "permutations": tried,
        "p_value_kind": EXACT_KIND if exact else RANDOM_KIND,
    }


def _check_same_truth(
    in_both: Sequence[tuple[ScanOutcome, ScanOutcome]], label_a: str, label_b: str
) -> None:
    if not in_both:
        raise UsageError(
            f"{label_a} and {label_b} have no scan in common; check that their files have the "
            "same names"
        )
    for first, second in in_both:
        if first.n_true != second.n_true:
            raise UsageError(
                f"scan {first.scan_id!r} has {first.n_true} true lesions for {label_a} and "
                f"{second.n_true} for {label_b}; compare predictions against one truth by one rule"
            )


def _pair(a: Sequence[ScanOutcome], b: Sequence[ScanOutcome]) -> _Pair:
    scored_a, scored_b = scored_predictions(a), scored_predictions(b)
    joint = None
    if scored_a is not None and scored_b is not None:
        scores = np.concatenate([scored_a.scores, scored_b.scores])
        order = np.argsort(-scores, kind="stable")
        joint = ScoredPredictions(
            scores[order],
            np.concatenate([scored_a.scans, scored_b.scans + len(a)])[order],
            np.concatenate([scored_a.finds, scored_b.finds])[order],
            np.concatenate([scored_a.true_lesions, scored_b.true_lesions]),
        )
    has_masks = all(
        any(math.isfinite(outcome.whole_mask_dice) for outcome in side) for side in (a, b)
    )
    return _Pair(_additions(a), _additions(b), joint, has_masks)


def _additions(outcomes: Sequence[ScanOutcome]) -> FloatArray:
    counts = count_scans(outcomes)
    difference = np.abs(counts.predicted_lesions - counts.true_lesions)
    dice = pair_measure(outcomes, "dice").per_scan(len(outcomes))
    return np.column_stack([counts.detection_table, difference, dice])


def _differences(pair: _Pair, of_first: FloatArray, of_second: FloatArray) -> dict[str, FloatArray]:
    """Of cohorts of ``of_first`` and ``of_second`` scans, minus those of the other method each."""
    here = pair.figures(np.hstack([of_first, of_second]))
    there = pair.figures(np.hstack([of_second, of_first]))
    return {name: here[name] - there[name] for name in here}


def _swaps(n_scans: int, permutations: int, seed: int) -> Iterator[FloatArray]:
    """Which scans are swapped (1), in blocks of rows; all ways, or random ones."""
    block = max(1, _BLOCK_NUMBERS // n_scans)
    exact = 2**n_scans <= permutations
    # Another stream than that of the bootstrap.
    rng = np.random.default_rng((seed, 1))
    total = 2**n_scans if exact else permutations
    for start in range(0, total, block):
        rows = np.arange(start, min(start + block, total))
        if exact:
            swapped = (rows[:, None] >> np.arange(n_scans)) & 1
        else:
            swapped = rng.integers(2, size=(len(rows), n_scans))
        yield swapped.astype(np.float64)


def _count_extreme(
    pair: _Pair, observed: Mapping[str, float], swaps: Iterator[FloatArray]
) -> dict[str, int]:
    extreme = dict.fromkeys(observed, 0)
    for swapped in swaps:
        for name, values in _differences(pair, 1 - swapped, swapped).items():
            smaller = np.abs(values) < abs(observed[name]) - _ROUNDING
            extreme[name] += int(np.count_nonzero(~smaller))
    return extreme
