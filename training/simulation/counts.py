"""How many microbleeds a scan holds, as published for real scans."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from CMBDetectorLib.errors import UsageError

NEGATIVE_SHARE = 22 / 72
"""Scans without any: VALDO 2021, training set of the task on microbleeds (50 of 72 have some)."""
COUNT_CLASSES = ((1, 1), (2, 2), (3, 4), (5, 10), (11, 83))
COUNT_SHARE = (0.49, 0.15, 0.13, 0.10, 0.13)
"""Of the scans that have some, over 957 lesions of five sets; the largest count was 83."""

LesionCounts = Literal["real"] | tuple[int, int]


def draw_count(
    rng: np.random.Generator,
    counts: LesionCounts,
    *,
    negative_share: float = NEGATIVE_SHARE,
) -> int:
    """Number of lesions of one scan.

    Parameters
    ----------
    counts
        ``"real"`` for the published statistics, in which a class of counts is log-uniform; or
        the smallest and largest number, both included and all alike.
    negative_share
        Share of real scans without a lesion; a range of counts ignores it.

    Raises
    ------
    UsageError
        If ``counts`` is neither, its numbers are negative or in the wrong order, or the share is
        none.
    """
    if counts == "real":
        if not 0 <= negative_share <= 1:
            raise UsageError(f"got a share of {negative_share}, expected 0 to 1")
        if rng.random() < negative_share:
            return 0
        low, high = COUNT_CLASSES[int(rng.choice(len(COUNT_CLASSES), p=COUNT_SHARE))]
        return min(high, math.floor(math.exp(rng.uniform(math.log(low), math.log(high + 1)))))
    if isinstance(counts, str) or not 0 <= counts[0] <= counts[1]:
        raise UsageError(f'got the counts {counts!r}, expected "real" or a range such as (12, 26)')
    return int(rng.integers(counts[0], counts[1] + 1))
