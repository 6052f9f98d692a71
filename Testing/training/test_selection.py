"""Some of many, from everywhere."""

from __future__ import annotations

import pytest

from CMBDetectorLib.errors import UsageError
from training.selection import spread


def test_items_come_from_everywhere() -> None:
    assert spread(range(10), 3) == [0, 3, 6]
    assert spread("abc", None) == spread("abc", 3) == spread("abc", 9) == ["a", "b", "c"]


def test_a_limit_below_one_is_refused() -> None:
    with pytest.raises(UsageError, match="--limit"):
        spread("abc", 0)
