from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from CMBDetectorLib.reporting.evaluation_count_plots import bland_altman_plot, counts_plot
from CMBDetectorLib.reporting.evaluation_plots import (
    dice_plot,
    froc_plot,
    precision_recall_plot,
    size_plot,
    stratum_plot,
)
from CMBDetectorLib.reporting.evaluation_svg import (
    COLOR_VARIABLES,
    FOUND,
    plot_label,
    plot_style,
    standalone_svg,
)

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(autouse=True)
def styled():
    with plot_style():
        yield


def texts(plot) -> list[str]:
    return [element.text or "" for element in ET.fromstring(plot.svg).iter(f"{SVG}text")]


def paths(plot, color: str) -> list[np.ndarray]:
    """Points of the lines drawn in a color, in the picture's own units."""
    found = []
    for path in ET.fromstring(standalone_svg(plot)).iter(f"{SVG}path"):
        if f"stroke: {color}" in path.get("style", "") and "fill: none" in path.get("style", ""):
            numbers = re.findall(r"-?[\d.]+", path.get("d", ""))
            found.append(np.array(numbers, dtype=float).reshape(-1, 2))
    return found


def curve(x, y, precision=None) -> dict:
    precision = precision if precision is not None else [0.5] * len(x)
    return {
        "false_positives_per_scan": list(x),
        "recall": list(y),
        "precision": list(precision),
        "operating_point": {
            "false_positives_per_scan": x[-1],
            "recall": y[-1],
            "precision": precision[-1],
        },
    }


NO_INTERVALS = {
    "intervals": dict.fromkeys(("precision", "recall", "false_positives_per_scan"), None)
}


def test_plot_is_xml_with_its_own_ids_and_no_date() -> None:
    plot = counts_plot([0, 1, 2], [0, 2, 2], name="counts")
    root = ET.fromstring(plot.svg)
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(set(ids)) == len(ids) > 10
    assert all(identifier.startswith("counts-") for identifier in ids)
    assert root.get("viewBox")
    assert root.get("width") is None
    assert next(root.iter(f"{SVG}title")).text
    for words in ("metadata", "<style", "<?xml", "DOCTYPE", "Matplotlib v"):
        assert words not in plot.svg
    assert plot.svg == counts_plot([0, 1, 2], [0, 2, 2], name="counts").svg


def test_text_is_text_in_the_page_s_colors() -> None:
    plot = dice_plot([0.2, 0.6, 0.7])
    assert "Dice of a matched pair" in texts(plot)
    assert "median 0.60" in texts(plot)
    assert f"var(--found, {FOUND})" in plot.svg
    alone = standalone_svg(plot)
    assert "var(" not in alone
    used = set(re.findall(r"#[0-9a-f]{6}\b", alone))
    assert used <= set(COLOR_VARIABLES), "a color that does not follow the page"


def test_froc_curve_is_where_the_figures_are() -> None:
    x, y = np.array([0.0, 0.5, 1.0, 2.0]), np.array([0.2, 0.5, 0.5, 0.8])
    plot, note = froc_plot(curve(x, y), NO_INTERVALS)
    assert note is None
    (line,) = paths(plot, FOUND)
    span = line.max(axis=0) - line.min(axis=0)
    shares = (line - line.min(axis=0)) / span
    for share_x, share_y in zip(x / 2, 1 - (y - 0.2) / 0.6, strict=True):
        assert np.abs(shares - (share_x, share_y)).max(axis=1).min() < 0.01
    # Between two points only the recall of the lower one has been reached.
    assert np.abs(shares - (1.0, 0.5)).max(axis=1).min() < 0.01
    assert "as given" in texts(plot)


def test_froc_says_where_it_goes_on() -> None:
    plot, note = froc_plot(
        curve([0.0, 1.0, 60.0], [0.1, 0.6, 0.95])
        | {"operating_point": {"false_positives_per_scan": 1.0, "recall": 0.6, "precision": 0.5}},
        NO_INTERVALS,
    )
    assert note is not None
    assert "60 false positives per scan" in note
    assert "0.950" in note
    assert max(int(t) for t in texts(plot) if t.isdigit()) <= 9


def test_long_curves_are_thinned_but_keep_their_ends() -> None:
    n = 200_000
    x, y = np.linspace(0, 3, n), np.sqrt(np.linspace(0, 1, n)) * 0.9
    plot, _ = froc_plot(curve(x, y), NO_INTERVALS)
    assert len(plot.svg) < 400_000
    flat = precision_recall_plot(curve(x, y, np.linspace(1, 0.4, n)), NO_INTERVALS)
    (line,) = paths(flat, FOUND)
    assert len(line) < 12_000


def test_undefined_precision_leaves_a_gap_and_no_error() -> None:
    plot = precision_recall_plot(
        curve([0.0, 0.5, 1.0], [0.0, 0.5, 0.8], [None, 1.0, 0.7]), NO_INTERVALS
    )
    (line,) = paths(plot, FOUND)
    assert len(line) == 2


def test_size_plot_shows_what_there_is() -> None:
    both = texts(size_plot([2.0, 3.0], [1.5], [2.0], [4.0, 11.0]))
    assert {"found (2)", "missed (1)", "true positive (1)", "false positive (2)"} <= set(both)
    one = texts(size_plot([], [], [2.0], []))
    assert "true positive (1)" in one
    assert not [text for text in one if text.startswith("found")]
    assert len(size_plot([250.0], [1.0], [], []).svg) < 40_000


def test_stratum_labels_are_short_and_safe() -> None:
    entry = {
        "class": "",
        "lesions": 4,
        "recall": 0.5,
        "false_positives_per_scan": None,
        "intervals": {"recall": [0.2, 0.9]},
    }
    names = ["$x_{", "a" * 200, "<b>&", "\x00\udcff line\nfeed", "\N{CJK UNIFIED IDEOGRAPH-4E2D}"]
    stratum = {"name": "<i>$", "classes": [entry | {"class": name} for name in names]}
    plot = stratum_plot(stratum, "stratum-1")
    shown = [text for text in texts(plot) if "(n=4)" in text]
    assert len(shown) == len(names)
    assert max(map(len, shown)) < 45
    assert "$x_{  (n=4)" in shown
    assert "<b>&  (n=4)" in shown
    assert "false positives per scan" not in texts(plot)


@pytest.mark.parametrize("largest", [0, 1, 20, 21, 83, 4000])
def test_counts_of_any_size(largest: int) -> None:
    plot = counts_plot([0, largest, 0], [0, 0, largest])
    ticks = [int(text) for text in texts(plot) if text.isdigit()]
    assert ticks
    assert max(ticks) <= max(1.6 * largest, 2)


def test_bland_altman_names_its_lines() -> None:
    limits = {"bias": -0.5, "sd": 1.0, "lower": -2.46, "upper": 1.46}
    shown = texts(bland_altman_plot([1, 2, 3], [1, 1, 3], limits))
    assert {"bias −0.50", "lower limit −2.46", "upper limit +1.46"} <= set(shown)
    undefined = dict.fromkeys(limits)
    assert not [t for t in texts(bland_altman_plot([1], [1], undefined)) if "limit" in t]


def test_plot_label_is_one_printable_line() -> None:
    assert plot_label("a\tb\n c") == "a b c"
    assert plot_label("x" * 29 + "y") == "x" * 29 + "y"
    assert plot_label("begin" + "x" * 90 + "end", 12) == "beginx…xxend"
