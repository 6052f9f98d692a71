"""Plots of the number of lesions in a scan: predicted over true, and their difference."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from CMBDetectorLib.reporting.evaluation_svg import (
    FOUND,
    MISSED,
    MUTED,
    PAPER,
    Plot,
    new_figure,
    to_plot,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LINEAR_COUNTS = 20


def counts_plot(true: Sequence[int], predicted: Sequence[int], name: str = "counts") -> Plot:
    """Predicted over true number of lesions; the area of a dot is the number of scans."""
    from matplotlib.ticker import MaxNLocator

    figure, (axes,) = new_figure(4.4, 3.9)
    largest = max([*true, *predicted, 1])
    spread = Counter((float(a), float(b)) for a, b in zip(true, predicted, strict=True))
    axes.plot((0, largest), (0, largest), color=MUTED, linewidth=1, linestyle=(0, (4, 2)))
    _draw_bubbles(axes, spread)
    axes.set(xlabel="true lesions in a scan", ylabel="predicted lesions")
    if largest > _LINEAR_COUNTS:
        for scale in (axes.set_xscale, axes.set_yscale):
            scale("symlog", linthresh=5, linscale=1.0)
        ticks = [n for n in (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if n <= 1.5 * largest]
        axes.set_xticks(ticks, [str(n) for n in ticks])
        axes.set_yticks(ticks, [str(n) for n in ticks])
        axes.minorticks_off()
    else:
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(integer=True))
    limits = (-0.06 * min(largest, _LINEAR_COUNTS) - 0.3, largest * 1.1 + 0.3)
    axes.set(xlim=limits, ylim=limits, aspect="equal")
    return to_plot(figure, name, "Predicted over true number of lesions per scan")


def bland_altman_plot(
    true: Sequence[int],
    predicted: Sequence[int],
    limits: Mapping[str, float | None],
    name: str = "bland-altman",
) -> Plot:
    """Difference over mean of the two counts of a scan, with bias and limits of agreement."""
    figure, (axes,) = new_figure(5.4, 3.9)
    spread = Counter(((a + b) / 2, float(b - a)) for a, b in zip(true, predicted, strict=True))
    axes.axhline(0, color=MUTED, linewidth=0.8)
    for key, words, style in (
        ("upper", "upper limit", (0, (4, 2))),
        ("bias", "bias", "solid"),
        ("lower", "lower limit", (0, (4, 2))),
    ):
        value = limits.get(key)
        if value is not None:
            axes.axhline(value, color=MISSED, linewidth=1.2, linestyle=style)
            axes.annotate(
                f"{words} {value:+.2f}".replace("-", "\N{MINUS SIGN}"),
                (1, value),
                xycoords=("axes fraction", "data"),
                xytext=(0, 2.5),
                textcoords="offset points",
                ha="right",
                va="bottom",
                fontsize=8.5,
                color=MISSED,
            )
    _draw_bubbles(axes, spread)
    axes.set(xlabel="mean of the two counts", ylabel="predicted minus true lesions")
    axes.margins(x=0.12, y=0.16)
    return to_plot(figure, name, "Bland-Altman plot of the number of lesions per scan")


def _draw_bubbles(axes: Axes, spread: Mapping[tuple[float, float], int]) -> None:
    """A dot for each place, its area the number of scans there, told where there are several."""
    for (x, y), number in sorted(spread.items()):
        size = 5.0 * math.sqrt(min(number, 60))
        axes.plot(
            x,
            y,
            "o",
            color=FOUND,
            alpha=0.8,
            markersize=max(size, 6.0),
            markeredgecolor=PAPER,
            markeredgewidth=0.6,
        )
        if number > 4:
            axes.text(x, y, str(number), color=PAPER, fontsize=8, ha="center", va="center")
