"""Plots of distributions for the page.

Called within :func:`CMBDetectorLib.reporting.evaluation_svg.plot_style`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from CMBDetectorLib.geometry import FloatArray
from CMBDetectorLib.reporting.evaluation_svg import (
    FALSE,
    FOUND,
    INK,
    MISSED,
    MUTED,
    PAPER,
    Plot,
    new_figure,
    plot_label,
    to_plot,
)
from training.analysis.columns import Column
from training.analysis.distributions import ComparedFeature
from training.analysis.reference import REAL_LESIONS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

REFERENCE_COLOR = MISSED
COLORS = (FOUND, FALSE, "#a0559b", "#7f8a2c", MUTED)
_STYLES = ("-", "-", "-", "-", (0, (5, 1.5)), (0, (3, 1, 1, 1)))
_FEWEST_BINS, _MOST_BINS = 8, 24
_MOST_WHOLE_BINS = 30
_FEWEST_FOR_BARS = 20
_TAIL = 0.5
_MANY = 200
_MOST_STEPS = 400
_FEWEST_TICKS = 3
_WHOLE = ("n_voxels", "n_slices", "n_lesions")


def dataset_colors(datasets: Sequence[str], reference: str | None) -> dict[str, str]:
    """A color for each dataset, the same in all plots; the reference has its own."""
    others = [name for name in datasets if name != reference]
    colors = {name: COLORS[row % len(COLORS)] for row, name in enumerate(others)}
    return colors | ({reference: REFERENCE_COLOR} if reference is not None else {})


def distribution_plot(feature: ComparedFeature, colors: Mapping[str, str], name: str) -> Plot:
    """A feature's histogram and cumulative share, all datasets over each other.

    The histogram has no bars of a dataset with fewer than 20 values but a mark for each value.
    Of 200 values or more the outermost half percent at either end may lie outside of the plot.
    Published percentiles are dots on the right side, a published average a line.
    """
    column = feature.column
    figure, (left, right) = new_figure(8.6, 2.75, 2)
    # The same places in all plots, which stand below each other.
    figure.set_layout_engine(None)
    figure.subplots_adjust(left=0.075, right=0.985, bottom=0.19, top=0.97, wspace=0.2)
    is_logarithmic = column.is_logarithmic and _range(feature)[0] > 0
    edges = _edges(feature, is_logarithmic=is_logarithmic)
    for row, (dataset, color) in enumerate(colors.items()):
        values = feature.values[dataset]
        if len(values) == 0:
            continue
        label = f"{plot_label(dataset)} ({len(values)})"
        style = _STYLES[row % len(_STYLES)]
        _draw_shares(left, values, edges, color)
        x, percent = _cumulative(values, edges)
        right.step(
            x, percent, where="post", color=color, linestyle=style, linewidth=1.8, label=label
        )
    _draw_published(right, column)
    for axes in (left, right):
        axes.set_xlabel(column.label)
        if is_logarithmic:
            axes.set_xscale("log")
        axes.set_xlim(edges[0], edges[-1])
    if is_logarithmic:
        _plain_log_ticks((left, right), edges)
    left.set(ylabel="share (%)")
    left.set_ylim(bottom=0)
    right.set(ylabel="share up to a value (%)", ylim=(0, 102))
    right.legend(loc="best", fontsize=8)
    title = f"Histogram and cumulative distribution: {column.label}"
    return to_plot(figure, name, title)


def _range(feature: ComparedFeature) -> tuple[float, float]:
    """The values that the plot has to show; of many in a dataset, the outermost are not."""
    ends: list[float] = list(REAL_LESIONS.percentiles.get(feature.column.name, {}).values())
    for values in feature.values.values():
        if len(values) >= _MANY:
            ends += np.percentile(values, [_TAIL, 100 - _TAIL]).tolist()
        elif len(values):
            ends += [float(values.min()), float(values.max())]
    return min(ends), max(ends)


def _edges(feature: ComparedFeature, *, is_logarithmic: bool) -> FloatArray:
    """Bins for all datasets together."""
    column = feature.column
    parts = [values for values in feature.values.values() if len(values)]
    n_bins = round(math.sqrt(2 * max(map(len, parts))))
    n_bins = min(max(n_bins, _FEWEST_BINS), _MOST_BINS)
    low, high = _range(feature)
    if column.name in _WHOLE and high - low < _MOST_WHOLE_BINS:
        return np.arange(math.floor(low), math.ceil(high) + 2, dtype=np.float64) - 0.5
    if is_logarithmic:
        low, high = (low / 1.05, high * 1.05) if high > 1.05 * low else (low / 1.5, low * 1.5)
        return np.asarray(np.geomspace(low, high, n_bins + 1), dtype=np.float64)
    reach = max(high - low, 0.05 * abs(high), 1e-6)
    if high - low < reach:
        low, high = low - reach / 2, low + reach / 2
    else:
        high += 0.02 * reach
    if 0 <= low < 0.3 * high:
        low = 0.0
    return np.linspace(low, high, n_bins + 1, dtype=np.float64)


def _draw_shares(axes: Axes, values: FloatArray, edges: FloatArray, color: str) -> None:
    if len(values) < _FEWEST_FOR_BARS:
        axes.plot(
            values,
            np.full(len(values), 0.03),
            "|",
            color=color,
            markersize=11,
            markeredgewidth=1.8,
            transform=axes.get_xaxis_transform(),
        )
        return
    counts, _ = np.histogram(values, edges)
    x, percent = np.repeat(edges, 2), np.pad(np.repeat(100 * counts / len(values), 2), 1)
    axes.fill_between(x, percent, color=color, alpha=0.22, linewidth=0)
    axes.plot(x, percent, color=color, linewidth=1.4)


def _cumulative(values: FloatArray, edges: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Steps of the cumulative share in percent within the plot, no more than an eye can tell."""
    ordered = np.sort(values)
    rank = np.arange(1, len(ordered) + 1)
    low, high = edges[0], edges[-1]
    shown = np.flatnonzero((ordered >= low) & (ordered <= high))
    if len(shown) > _MOST_STEPS:
        shown = shown[np.linspace(0, len(shown) - 1, _MOST_STEPS).astype(int)]
    below, within = np.count_nonzero(ordered < low), np.count_nonzero(ordered <= high)
    x = np.concatenate(([low], ordered[shown], [high]))
    return x, 100 * np.concatenate(([below], rank[shown], [within])) / len(ordered)


def _draw_published(axes: Axes, column: Column) -> None:
    points = REAL_LESIONS.percentiles.get(column.name)
    if points:
        axes.plot(
            list(points.values()),
            list(points),
            "o",
            color=INK,
            markeredgecolor=PAPER,
            markersize=6.5,
            label=f"{REAL_LESIONS.name} ({REAL_LESIONS.lesions})",
        )
    typical = REAL_LESIONS.typical.get(column.name)
    if typical is not None:
        axes.axvline(
            typical,
            color=INK,
            linewidth=1.2,
            linestyle=(0, (4, 2)),
            label=f"{REAL_LESIONS.name} average {typical:g}",
        )


def _plain_log_ticks(all_axes: Sequence[Axes], edges: FloatArray) -> None:
    """1, 3, 10, 30 and so on instead of powers of ten; closer where that would be too few."""
    low, high = math.floor(math.log10(edges[0])), math.ceil(math.log10(edges[-1]))
    ticks: list[float] = []
    for factors in ((1, 3), (1, 2, 5), range(1, 10)):
        ticks = [factor * 10.0**power for power in range(low, high + 1) for factor in factors]
        ticks = [tick for tick in ticks if edges[0] <= tick <= edges[-1]]
        if len(ticks) >= _FEWEST_TICKS:
            break
    for axes in all_axes:
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
