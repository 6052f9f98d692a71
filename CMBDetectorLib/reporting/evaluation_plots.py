"""The plots of an evaluation report, each an ``svg`` element for the page.

Every function is called within :func:`CMBDetectorLib.reporting.evaluation_svg.plot_style`, with
data that is there: what a plot needs and lacks is said by the page in words.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from CMBDetectorLib.geometry import FloatArray
from CMBDetectorLib.reporting.evaluation_svg import (
    FALSE,
    FOUND,
    INK,
    MISSED,
    PAPER,
    Plot,
    new_figure,
    plot_label,
    to_plot,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LARGEST_FP_PER_SCAN = 8.0
_CURVE_STEP = 2e-4
_SIZE_BIN_MM = 0.5
_MOST_SIZE_BINS = 24


def froc_plot(
    curves: Mapping[str, Any], pooled: Mapping[str, Any], name: str = "froc"
) -> tuple[Plot, str | None]:
    """Recall over false positives per scan, and a note where the curve goes on beyond the plot."""
    figure, (axes,) = new_figure(5.2, 3.7)
    x = np.array(curves["false_positives_per_scan"], dtype=float)
    y = np.array(curves["recall"], dtype=float)
    order = np.lexsort((y, x))
    x, y = _thinned(x[order], y[order])
    point = curves["operating_point"]
    point_x = point["false_positives_per_scan"]
    x_interval = pooled["intervals"].get("false_positives_per_scan")
    limit = min(float(x.max(initial=0.0)), max(_LARGEST_FP_PER_SCAN, 2 * (point_x or 0.0)))
    limit = max(limit * 1.06, x_interval[1] * 1.03 if x_interval else 0.0, 0.5)
    axes.plot(x, y, drawstyle="steps-post", color=FOUND, linewidth=1.8, clip_on=True)
    _draw_point(
        axes,
        point_x,
        point["recall"],
        x_interval,
        pooled["intervals"].get("recall"),
    )
    axes.set(
        xlim=(-0.015 * limit, limit),
        ylim=(0, 1.03),
        xlabel="false positives per scan",
        ylabel="recall",
    )
    axes.legend(loc="lower right")
    beyond = float(x.max(initial=0.0)) > limit
    note = (
        f"The curve goes on to {x.max():.3g} false positives per scan and a recall of "
        f"{y.max():.3f}, beyond the plot."
        if beyond
        else None
    )
    return to_plot(figure, name, "FROC curve: recall over false positives per scan"), note


def precision_recall_plot(
    curves: Mapping[str, Any], pooled: Mapping[str, Any], name: str = "precision-recall"
) -> Plot:
    """Precision over recall."""
    figure, (axes,) = new_figure(5.2, 3.7)
    defined = [
        (recall, precision)
        for recall, precision in zip(curves["recall"], curves["precision"], strict=True)
        if recall is not None and precision is not None
    ]
    x, y = np.array(defined, dtype=float).reshape(-1, 2).T
    x, y = _thinned(x, y)
    axes.plot(x, y, color=FOUND, linewidth=1.8)
    point, intervals = curves["operating_point"], pooled["intervals"]
    _draw_point(
        axes, point["recall"], point["precision"], intervals["recall"], intervals["precision"]
    )
    axes.set(xlim=(0, 1.02), ylim=(0, 1.03), xlabel="recall", ylabel="precision")
    axes.legend(loc="lower left")
    return to_plot(figure, name, "Precision over recall")


def size_plot(
    found_mm: Sequence[float],
    missed_mm: Sequence[float],
    true_mm: Sequence[float],
    false_mm: Sequence[float],
    *,
    name: str = "sizes",
) -> Plot:
    """Equivalent diameters of the true lesions, found and missed, and of the predictions."""
    shown = [
        part
        for part in (
            ("true lesions", (found_mm, missed_mm), ("found", "missed"), MISSED),
            ("predictions", (true_mm, false_mm), ("true positive", "false positive"), FALSE),
        )
        if any(part[1])
    ]
    figure, all_axes = new_figure(5.2 * len(shown) * 0.92, 3.1, len(shown))
    largest = max((value for part in shown for group in part[1] for value in group), default=1.0)
    edges = _size_edges(largest)
    for axes, (title, groups, labels, color) in zip(all_axes, shown, strict=True):
        _stacked_histogram(axes, groups, labels, (FOUND, color), edges)
        axes.set(title=title, xlabel="equivalent diameter (mm)", ylabel="lesions")
        axes.set_xlim(0, edges[-1])
        axes.legend(loc="upper right")
    return to_plot(figure, name, "Sizes of found and missed lesions and of predictions")


def dice_plot(dice: Sequence[float], name: str = "dice") -> Plot:
    """Distribution of the Dice coefficient over matched lesions."""
    figure, (axes,) = new_figure(5.2, 2.9)
    edges = np.linspace(0, 1, 21)
    _stacked_histogram(axes, (dice,), ("matched lesions",), (FOUND,), edges)
    median = float(np.median(dice))
    axes.axvline(median, color=INK, linewidth=1.2, linestyle=(0, (4, 2)))
    axes.plot([], [], color=INK, linestyle=(0, (4, 2)), label=f"median {median:.2f}")
    axes.set(xlim=(0, 1), xlabel="Dice of a matched pair", ylabel="pairs")
    axes.legend(loc="upper left")
    return to_plot(figure, name, "Distribution of Dice over matched lesions")


def stratum_plot(stratum: Mapping[str, Any], name: str) -> Plot:
    """Recall and false positives per scan of each class, with intervals; classes downward."""
    classes = stratum["classes"]
    measures = [
        ("recall", "recall", FOUND),
        ("false_positives_per_scan", "false positives per scan", FALSE),
    ]
    measures = [m for m in measures if any(entry.get(m[0]) is not None for entry in classes)]
    figure, all_axes = new_figure(
        7.6 if len(measures) > 1 else 5.2,
        0.95 + 0.3 * len(classes),
        max(1, len(measures)),
        sharey=True,
    )
    for axes, (key, label, color) in zip(all_axes, measures, strict=False):
        for row, entry in enumerate(classes):
            value = entry.get(key)
            if value is None:
                axes.text(0.02, row, "–", transform=axes.get_yaxis_transform(), va="center")
                continue
            interval = entry["intervals"].get(key)
            if interval is not None:
                axes.plot(
                    interval, (row, row), color=color, linewidth=1.6, alpha=0.75, clip_on=False
                )
            axes.plot(value, row, "o", color=color, markersize=6, clip_on=False, zorder=4)
        axes.set(xlabel=label, ylim=(len(classes) - 0.5, -0.5))
        axes.grid(visible=False, axis="y")
        if key == "recall":
            axes.set_xlim(-0.02, 1.02)
        else:
            axes.set_xlim(left=0)
            axes.margins(x=0.08)
    for axes in all_axes[1:]:
        axes.tick_params(axis="y", length=0)
    labels = [f"{plot_label(entry['class'])}  (n={entry['lesions']})" for entry in classes]
    all_axes[0].set_yticks(range(len(classes)), labels)
    return to_plot(figure, name, f"Recall and false positives by {stratum['name']}")


def _thinned(x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Without the points that no eye could tell from the one before."""
    if len(x) < 2:
        return x, y
    scale = max(float(x.max()), 1e-9)
    grid = np.stack([np.round(x / scale / _CURVE_STEP), np.round(y / _CURVE_STEP)], axis=1)
    keep = np.ones(len(x), dtype=bool)
    keep[1:-1] = (np.diff(grid, axis=0)[:-1] != 0).any(axis=1)
    return x[keep], y[keep]


def _draw_point(
    axes: Axes,
    x: float | None,
    y: float | None,
    x_interval: Sequence[float] | None,
    y_interval: Sequence[float] | None,
) -> None:
    if x is None or y is None:
        return
    if x_interval is not None:
        axes.plot(x_interval, (y, y), color=INK, linewidth=1.1, alpha=0.7)
    if y_interval is not None:
        axes.plot((x, x), y_interval, color=INK, linewidth=1.1, alpha=0.7)
    axes.plot(
        x,
        y,
        "o",
        color=INK,
        markersize=7,
        markeredgecolor=PAPER,
        label="as given, with 95 % intervals" if x_interval or y_interval else "as given",
    )


def _size_edges(largest_mm: float) -> FloatArray:
    step = _SIZE_BIN_MM * max(1, math.ceil(largest_mm / _SIZE_BIN_MM / _MOST_SIZE_BINS))
    return np.arange(math.ceil(largest_mm / step + 1e-9) + 1, dtype=np.float64) * step


def _stacked_histogram(
    axes: Axes,
    groups: Sequence[Sequence[float]],
    labels: Sequence[str],
    colors: Sequence[str],
    edges: FloatArray,
) -> None:
    from matplotlib.ticker import MaxNLocator

    below = np.zeros(len(edges) - 1)
    for values, label, color in zip(groups, labels, colors, strict=True):
        counts, _ = np.histogram(np.array(values, dtype=float), edges)
        width = np.diff(edges) * 0.9
        axes.bar(
            edges[:-1] + np.diff(edges) / 2,
            counts,
            width,
            bottom=below,
            color=color,
            label=f"{label} ({len(values)})",
        )
        below += counts
    axes.grid(visible=False, axis="x")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axes.set_ylim(0, max(1.0, float(below.max(initial=0.0))) * 1.22)
