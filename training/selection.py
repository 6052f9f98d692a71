"""Some of many, from everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from CMBDetectorLib.errors import UsageError

Item = TypeVar("Item")


def spread(items: Sequence[Item], limit: int | None) -> list[Item]:
    """At most ``limit`` of the items, evenly from the first to the last; all without a limit.

    Raises
    ------
    UsageError
        If the limit is below 1.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"--limit is 1 or more, got {limit}")
    if limit is None or limit >= len(items):
        return list(items)
    return [items[n * len(items) // limit] for n in range(limit)]
