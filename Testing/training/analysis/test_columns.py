"""The columns of the tables and the page that explains them."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from training.analysis import command
from training.analysis.columns import BY_NAME, LESION_COLUMNS, SCAN_COLUMNS
from training.analysis.tables import DISTRIBUTION_COLUMNS

PAGE = Path(__file__).resolve().parents[3] / "docs" / "lesion_features.md"


def told() -> set[str]:
    return set(re.findall(r"`([^`\n]+)`", PAGE.read_text(encoding="utf-8")))


def test_every_column_is_explained() -> None:
    missing = [name for name in BY_NAME if name not in told()]
    assert missing == []
    assert {"ks_statistic", "ks_p", "standardized_difference", "wasserstein"} <= told()
    assert {"ks_statistic", "ks_p", "standardized_difference", "wasserstein"} <= set(
        DISTRIBUTION_COLUMNS
    )


def test_what_the_page_names_exists() -> None:
    named = {name for name in told() if name.startswith("original_") and name != "original_"}
    assert named <= set(BY_NAME)
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    options = {option for action in parser._actions for option in action.option_strings}
    shown = {word for text in told() for word in re.findall(r"(?<!\S)--[a-z-]+", text)}
    assert shown <= options
    assert options - {"-h", "--help", "-o", "--output"} <= shown
    assert set(command.FILES.values()) <= told()


def test_names_are_unique_and_what_is_drawn_is_compared() -> None:
    for columns in (LESION_COLUMNS, SCAN_COLUMNS):
        names = [column.name for column in columns]
        assert len(names) == len(set(names))
        assert all(column.is_compared for column in columns if column.is_drawn)
