"""Numbers on the command line: each says in a word what it has to be."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from CMBDetectorLib.settings import ANATOMY_CHOICES, AnatomyChoice


def probability(text: str) -> float:
    """Above 0 and up to 1."""
    value = _number(text)
    if not 0.0 < value <= 1.0:
        raise argparse.ArgumentTypeError(f"must be above 0 and up to 1, got {text}")
    return value


def not_negative(text: str) -> float:
    """A finite number from 0 on: a length, a volume."""
    value = _number(text)
    if not 0.0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"must be 0 or more, got {text}")
    return value


def whole_number(text: str) -> int:
    """From 0 on."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a whole number from 0, got {text!r}")
    return int(text)


def positive_number(text: str) -> int:
    """A whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1, got {text!r}")
    return int(text)


def anatomy(text: str) -> AnatomyChoice | Path:
    """One of the words, or a file; ``./none`` is a file of that name."""
    return next((choice for choice in ANATOMY_CHOICES if choice == text), Path(text))


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number, got {text!r}") from None
