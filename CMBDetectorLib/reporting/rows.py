"""Rows of cells as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence


def format_rows(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """CSV of RFC 4180 under a header: commas, CRLF line ends, quotes where needed."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()
