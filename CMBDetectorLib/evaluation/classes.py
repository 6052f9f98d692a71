"""Classes of a quantity or a word, by which lesions and scans are put together."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from CMBDetectorLib.evaluation.lesions import IntArray
from CMBDetectorLib.results import NOT_ASSESSED

UNKNOWN = "unknown"
MAX_DISTINCT_NUMBERS = 8
_NO_WORD = ("", "n/a", NOT_ASSESSED, UNKNOWN)


@dataclass(frozen=True)
class NumberClasses:
    """Ranges of a number; each holds its upper end, the first all below, the last all above.

    Attributes
    ----------
    names
        From the lowest range to the highest.
    upper_ends
        Of all ranges but the last, rising.
    """

    names: tuple[str, ...]
    upper_ends: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Classified:
    """Values put into classes: ``names`` in their order, and of each value the row in it."""

    names: tuple[str, ...]
    rows: IntArray


def number_classes(*edges: float) -> NumberClasses:
    """Ranges between these numbers; the last may be infinite.

    >>> number_classes(0, 2, 3, math.inf).names
    ('0 to 2', '2 to 3', 'over 3')
    """
    names = tuple(
        f"over {low:g}" if math.isinf(high) else f"{low:g} to {high:g}"
        for low, high in itertools.pairwise(edges)
    )
    return NumberClasses(names, tuple(edges[1:-1]))


DIAMETER_CLASSES_MM = number_classes(0, 2, 3, 5, math.inf)
ELONGATION_CLASSES = number_classes(0, 0.5, 0.75, 1)
SLICE_CLASSES_MM = number_classes(0, 1.5, 3, math.inf)
IN_PLANE_CLASSES_MM = number_classes(0, 0.6, 0.9, math.inf)
# 20 ms, which many protocols have, belongs to the middle.
ECHO_TIME_CLASSES_MS = NumberClasses(
    ("under 20", "20 to 30", "over 30"), (math.nextafter(20, 0), 30)
)


def classify(
    values: Sequence[float | str | None], kind: NumberClasses | Sequence[str] = ()
) -> Classified:
    """Put values into classes; those with no value come last, as "unknown".

    Parameters
    ----------
    values
        Numbers or words; None, NaN, an empty word, "n/a" and "not assessed" are no value.
    kind
        Ranges for values that are all numbers, or the order of words that are expected. Without
        ranges, up to 8 distinct numbers are a class each and more are cut at their quartiles;
        words are a class each, those not expected in alphabetical order.

    Returns
    -------
    Classified
        With those classes only that hold a value.
    """
    known = [value for value in set(values) if value is not None and not _is_missing(value)]
    numbers = [float(value) for value in known if isinstance(value, int | float)]
    if known and len(numbers) == len(known):
        ranges = kind if isinstance(kind, NumberClasses) else _ranges_of(values)
        rows_of_known = np.searchsorted(ranges.upper_ends, numbers).tolist()
        name_of = {v: ranges.names[row] for v, row in zip(known, rows_of_known, strict=True)}
        order: Sequence[str] = ranges.names
    else:
        name_of = {v: v.strip() if isinstance(v, str) else f"{v:g}" for v in known}
        expected = () if isinstance(kind, NumberClasses) else tuple(kind)
        order = (*expected, *sorted(set(name_of.values()) - set(expected)))
    of_each = [UNKNOWN if value is None else name_of.get(value, UNKNOWN) for value in values]
    held = set(of_each)
    names = tuple(name for name in dict.fromkeys((*order, UNKNOWN)) if name in held)
    place = {name: row for row, name in enumerate(names)}
    return Classified(names, np.array([place[name] for name in of_each], dtype=np.int64))


def _is_missing(value: float | str) -> bool:
    if isinstance(value, str):
        return value.strip().lower() in _NO_WORD
    return math.isnan(value)


def _ranges_of(values: Sequence[float | str | None]) -> NumberClasses:
    numbers = [float(v) for v in values if isinstance(v, int | float) and not math.isnan(v)]
    distinct = sorted(set(numbers))
    if len(distinct) <= MAX_DISTINCT_NUMBERS:
        return NumberClasses(tuple(f"{number:g}" for number in distinct), tuple(distinct[:-1]))
    cuts = sorted({float(cut) for cut in np.quantile(numbers, [0.25, 0.5, 0.75])})
    ends = [distinct[0], *(cut for cut in cuts if distinct[0] <= cut < distinct[-1]), distinct[-1]]
    names = tuple(f"{low:g} to {high:g}" for low, high in itertools.pairwise(ends))
    return NumberClasses(names, tuple(ends[1:-1]))
