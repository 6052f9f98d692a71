"""Boxes of text that stand out: a finding, a warning, an error.

Fill colors are translucent and the text keeps the palette's own color, so that a box can be read in
Slicer's light and dark styles. Kinds differ by their first words too, not by color alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any, Literal

from CMBDetectorLib.results import ResultWarning

Kind = Literal["plain", "note", "finding", "none", "warning", "error"]

_STYLES: dict[str, tuple[str, str]] = {
    "note": ("rgba(128, 128, 128, 35)", "#888888"),
    "finding": ("rgba(0, 114, 178, 60)", "#0072b2"),
    "none": ("rgba(128, 128, 128, 60)", "#888888"),
    "warning": ("rgba(230, 159, 0, 60)", "#e69f00"),
    "error": ("rgba(213, 60, 0, 65)", "#d53c00"),
}


def showText(label: Any, kind: Kind, headline: str, lines: Sequence[str] = ()) -> None:
    """Fill the label, or hide it if there is nothing to say; texts are shown as they are."""
    # Always marked up: a label takes text without any tag literally, "&lt;" and all.
    tag = "b" if lines else "span"
    parts = [f"<{tag}>{escape(headline)}</{tag}>", *map(escape, lines)]
    showHtml(label, kind, "<br>".join(parts) if headline else "")


def showHtml(label: Any, kind: Kind, html: str) -> None:
    """The same with text that is HTML already."""
    label.text = html
    label.visible = bool(html)
    label.styleSheet = _styleSheet(label.objectName, kind)


def warningsHtml(warnings: Sequence[ResultWarning]) -> str:
    """One paragraph for each warning, led by the word."""
    return "".join(
        f'<p style="margin:3px 0 0 0"><b>Warning:</b> {escape(_sentence(warning.message))}</p>'
        for warning in warnings
    )


def _styleSheet(name: str, kind: Kind) -> str:
    if kind == "plain":
        return ""
    fill, edge = _STYLES[kind]
    # By name: a rule for QLabel alone would also dress the label's tool tip.
    return (
        f"#{name} {{ background-color: {fill}; border: 0; border-left: 4px solid {edge}; "
        "padding: 5px 6px; }"
    )


def _sentence(text: str) -> str:
    """The library's one-line messages begin small and have no full stop."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")
