"""Plots as SVG inside a page: text as text, the same bytes every time, colors of the page."""

from __future__ import annotations

import contextlib
import html
import io
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from CMBDetectorLib.errors import MissingDependencyError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, LINE, PAPER = "#1b2530", "#5c6875", "#d3dae1", "#fefefe"
FOUND, MISSED, FALSE = "#0d8a80", "#c2700a", "#5a73a8"
"""Found lesions and what is right; missed lesions; false positives."""

COLOR_VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    LINE: "--line",
    PAPER: "--paper",
    FOUND: "--found",
    MISSED: "--missed",
    FALSE: "--false",
}
"""The page's CSS variable for each color, so that plots follow its light or dark look."""

_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "cmbdetector",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.5,
    # What users call their scans and columns is no formula.
    "text.parse_math": False,
    "axes.unicode_minus": True,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "grid.color": LINE,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}
_NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}
_PX_PER_PT = 4 / 3
_LONGEST_LABEL = 30


@dataclass(frozen=True)
class Plot:
    """An ``svg`` element that fills the width it is given, and the width it is made for."""

    svg: str
    width_px: int


@contextlib.contextmanager
def plot_style() -> Iterator[None]:
    """The look of all plots, within which they are drawn and written.

    Raises
    ------
    MissingDependencyError
        If matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise MissingDependencyError(
            "the plots of the report need matplotlib; "
            'install it with: pip install "cmbdetector[evaluation]"'
        ) from error
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        # The browser has the font: matplotlib only measures with its own.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from")
        yield


def new_figure(
    width_in: float, height_in: float, columns: int = 1, **options: Any
) -> tuple[Figure, list[Axes]]:
    """A figure without pyplot and its axes from left to right; options of ``Figure.subplots``."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(wspace=0.06)
    figure = Figure(figsize=(width_in, height_in), layout=layout)
    FigureCanvasSVG(figure)
    axes = figure.subplots(1, columns, squeeze=False, **options)
    return figure, list(axes[0])


def to_plot(figure: Figure, name: str, title: str) -> Plot:
    """The figure as an element for a page.

    Parameters
    ----------
    figure
        As :func:`new_figure` makes it.
    name
        Of letters, digits and hyphens, unique in the page: all ids within begin with it.
    title
        What is seen, for those who cannot see it; plain text.
    """
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata=_NO_METADATA)
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    # It would hold for the whole page, which has the same rule for plots only.
    text = re.sub(r"<defs>\s*<style[^>]*>.*?</style>\s*</defs>", "", text, count=1, flags=re.DOTALL)
    text = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", text)
    for color, variable in COLOR_VARIABLES.items():
        text = text.replace(color, f"var({variable}, {color})")
    heading = f'<svg role="img" aria-labelledby="{name}-title" style="width:100%;height:auto" '
    start = re.match(r"<svg[^>]*>", text)
    assert start is not None
    attributes = re.sub(r'\s(?:width|height)="[^"]*"', "", start[0][len("<svg") : -1])
    svg = (
        f"{heading}{attributes.strip()}>"
        f'<title id="{name}-title">{html.escape(title)}</title>{text[start.end() :].strip()}'
    )
    return Plot(svg, round(figure.get_figwidth() * 72 * _PX_PER_PT))


def standalone_svg(plot: Plot) -> str:
    """The element as a file of its own, in the light colors."""
    text = re.sub(r"var\(--[a-z]+, (#[0-9a-f]{6})\)", r"\1", plot.svg)
    return text + "\n"


def plot_label(text: str, longest: int = _LONGEST_LABEL) -> str:
    """A user's text as a label: in one line, without what fonts and XML cannot show, and short."""
    clean = "".join(c if c.isprintable() else " " for c in text)
    clean = " ".join(clean.encode("utf-8", "replace").decode("utf-8").split())
    if len(clean) <= longest:
        return clean
    keep = longest - 1
    return f"{clean[: keep - keep // 2]}…{clean[len(clean) - keep // 2 :]}"
