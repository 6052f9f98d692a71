"""Pieces of the evaluation report's page: escaped text, numbers, tables, figures, sections."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence

from CMBDetectorLib.reporting.evaluation_svg import Plot

NO_VALUE = "–"
LEVEL_TEXT = "95 % interval"


def escaped(value: object) -> str:
    """Text that a browser shows as it is; line feeds, NUL and lone surrogates made visible."""
    text = str(value).encode("utf-8", "backslashreplace").decode("utf-8")
    shown = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
    return html.escape(shown, quote=True)


def undefined(why: str) -> str:
    """A dash, with the reason for those who point at it or have the page read out."""
    reason = escaped(why)
    return f'<abbr class="undefined" title="{reason}" aria-label="undefined: {reason}">–</abbr>'


def number(value: float | None, digits: int = 3, *, why: str = "not defined") -> str:
    """A number as shown, with the whole one as its machine-readable value."""
    if value is None or not math.isfinite(value):
        return undefined(why)
    shown = f"{value:d}" if isinstance(value, int) else f"{value:.{digits}f}"
    plain = value if isinstance(value, int) else float(value)
    return f'<data value="{plain!r}">{_minus(shown)}</data>'


def signed(value: float | None, digits: int = 3, *, why: str = "not defined") -> str:
    """As :func:`number`, with a plus sign where there is no minus."""
    if value is None or not math.isfinite(value):
        return undefined(why)
    return f'<data value="{float(value)!r}">{_minus(f"{value:+.{digits}f}")}</data>'


def interval(ends: Sequence[float] | None, digits: int = 3) -> str:
    """``low to high``, or a dash."""
    if ends is None:
        return undefined("no interval: too few scans define the value")
    low, high = (number(end, digits) for end in ends)
    return f'<span class="interval">{low} to {high}</span>'


def with_interval(
    value: float | None, ends: Sequence[float] | None, digits: int = 3, *, why: str = "not defined"
) -> str:
    """The value and, smaller, its interval; nothing beside an undefined value."""
    text = number(value, digits, why=why)
    if value is None or ends is None:
        return text
    low, high = (number(end, digits) for end in ends)
    return f'{text} <span class="interval">({low} to {high})</span>'


def table(
    headers: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    css: str = "",
    caption: str = "",
    row_css: Sequence[str] | None = None,
    box: bool = True,
) -> str:
    """A table of cells that are HTML already; the first cell of a row names the row.

    Parameters
    ----------
    headers
        Plain text.
    rows
        Of as many cells as there are headers.
    css, row_css
        Classes of the table, and of each row.
    caption
        Plain text above it.
    box
        Whether it scrolls on its own where the page is too narrow.
    """
    head = "".join(f'<th scope="col">{escaped(text)}</th>' for text in headers)
    body = []
    for position, row in enumerate(rows):
        first, *others = row
        cells = f'<th scope="row">{first}</th>' + "".join(f"<td>{cell}</td>" for cell in others)
        row_class = row_css[position] if row_css is not None else ""
        body.append(f"<tr{_class(row_class)}>{cells}</tr>")
    title = f"<caption>{escaped(caption)}</caption>" if caption else ""
    text = (
        f"<table{_class(css)}>{title}<thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(body)}</tbody></table>"
    )
    return f'<div class="scroll">{text}</div>' if box else text


def figure(plot: Plot, caption: str) -> str:
    """A plot with its plain-text caption."""
    style = f' style="--width:{plot.width_px}px"'
    return (
        f'<figure class="plot"{style}>{plot.svg}'
        f"<figcaption>{escaped(caption)}</figcaption></figure>"
    )


def row_of_figures(figures: Sequence[str]) -> str:
    """Figures side by side where there is room."""
    return f'<div class="figures">{"".join(figures)}</div>'


def paragraph(text: str, css: str = "") -> str:
    """Plain text."""
    return f"<p{_class(css)}>{escaped(text)}</p>"


def section(identifier: str, title: str, *parts: str) -> str:
    """A part of the page with a heading; ``identifier`` is unique in the page."""
    body = "\n".join(part for part in parts if part)
    return f'<section id="{identifier}"><h2>{escaped(title)}</h2>\n{body}\n</section>\n'


def plural(n: int, singular: str, several: str | None = None) -> str:
    """``1 scan``, ``2 scans``."""
    return f"{n} {singular if n == 1 else several or singular + 's'}"


def _class(css: str) -> str:
    return f' class="{css}"' if css else ""


def _minus(shown: str) -> str:
    return shown.replace("-", "\N{MINUS SIGN}")
