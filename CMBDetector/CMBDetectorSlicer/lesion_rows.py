"""What the lesion table shows, in which order, and which lines a filter leaves: without widgets."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from CMBDetectorLib.anatomy.schemes import ZONES, zone_of
from CMBDetectorLib.results import NOT_ASSESSED

COLUMNS = (
    "number",
    "verdict",
    "score",
    "diameter",
    "zone",
    "side",
    "region",
    "volume",
    "comment",
)
TITLES = {
    "number": "No.",
    "zone": "Zone",
    "side": "Side",
    "region": "Region",
    "diameter": "Ø mm",
    "volume": "mm³",
    "score": "Score",
    "verdict": "Verdict",
    "comment": "Comment",
}
EXPLANATIONS = {
    "number": "The lesion's value in the label map. It is never given to another lesion.",
    "zone": "Lobar, deep or infratentorial, from the region.",
    "side": "Side of the brain.",
    "region": "Anatomical region.",
    "diameter": "Diameter of the ball of the same volume, in mm.",
    "volume": "Volume in mm³.",
    "score": "Mean of mean and peak probability. Lesions that a reader added have none.",
    "verdict": "The reader's verdict.",
    "comment": "Double click, or key C, to write one.",
}
NUMBER_COLUMNS = frozenset({"number", "diameter", "volume", "score"})
VERDICTS = ("unreviewed", "accepted", "uncertain", "rejected")
_NOTHING = "–"


@dataclass(frozen=True)
class LesionRow:
    """One line of the table.

    ``score`` is None for a lesion that a reader added. ``isNumbered`` is whether the number is
    shown.
    """

    id: int
    zone: str
    side: str
    region: str
    diameterMm: float
    volumeMm3: float
    score: float | None
    verdict: str
    comment: str
    origin: str
    isNumbered: bool = True

    @property
    def isRejected(self) -> bool:
        return self.verdict == "rejected"


@dataclass(frozen=True)
class RowFilter:
    """Which rows to show; None and 0 let everything through."""

    zone: str | None = None
    verdict: str | None = None
    minScore: float = 0.0

    def accepts(self, row: LesionRow) -> bool:
        """Whether to show the row. A lesion without a score passes every limit of the score."""
        return (
            (self.zone is None or row.zone == self.zone)
            and (self.verdict is None or row.verdict == self.verdict)
            # A spin box of two decimals must not hide what the table shows as the same number.
            and (row.score is None or round(row.score, 2) >= round(self.minScore, 2))
        )


def rowOf(lesion: Any) -> LesionRow:
    """The table's line for a reviewed lesion."""
    detection = lesion.detection
    return LesionRow(
        id=lesion.id,
        zone=zone_of(detection.region),
        side=detection.hemisphere,
        region=detection.region,
        diameterMm=detection.equivalent_diameter_mm,
        volumeMm3=detection.volume_mm3,
        score=None if math.isnan(detection.score) else detection.score,
        verdict=lesion.verdict,
        comment=lesion.comment,
        origin=lesion.origin,
    )


def isOwnMark(lesion: Any) -> bool:
    """Whether the reader has marked the lesion: by adding it or by a verdict."""
    return bool(lesion.origin == "reader" or lesion.verdict != "unreviewed")


def ownReadRow(lesion: Any) -> LesionRow:
    """The line of a lesion that the reader has marked before seeing what the model found.

    It does not tell whether the model has found it too: no score, and no number, which would say
    how many the model has found.
    """
    return replace(rowOf(lesion), score=None, origin="reader", isNumbered=False)


def rowsOf(lesions: Iterable[Any]) -> tuple[LesionRow, ...]:
    """Lines for reviewed lesions, in their order."""
    return tuple(rowOf(lesion) for lesion in lesions)


def cellText(row: LesionRow, column: str) -> str:
    """What a cell reads."""
    if column == "number":
        if not row.isNumbered:
            return "+"
        return f"{row.id} +" if row.origin == "reader" else str(row.id)
    if column == "diameter":
        return f"{row.diameterMm:.1f}"
    if column == "volume":
        return f"{row.volumeMm3:.1f}"
    if column == "score":
        return _NOTHING if row.score is None else f"{row.score:.2f}"
    texts = {"zone": row.zone, "side": row.side, "region": row.region}
    texts |= {"verdict": row.verdict, "comment": row.comment}
    return _NOTHING if texts[column] == NOT_ASSESSED else texts[column]


def sortedIds(rows: Sequence[LesionRow], column: str, descending: bool = False) -> tuple[int, ...]:
    """Ids in the order of a column.

    Cells that say nothing (no score, no comment, not assessed) come last either way; equals are
    in the order of their numbers either way, so that the list does not shuffle.
    """
    keyed = [(_sortKey(row, column), row.id) for row in sorted(rows, key=lambda row: row.id)]
    told = [(key, lesionId) for key, lesionId in keyed if key is not None]
    untold = [lesionId for key, lesionId in keyed if key is None]
    told.sort(key=lambda pair: pair[0], reverse=descending)
    return (*(lesionId for _, lesionId in told), *untold)


def _sortKey(row: LesionRow, column: str) -> Any:
    numbers = {"number": row.id, "diameter": row.diameterMm, "volume": row.volumeMm3}
    if column in numbers:
        return numbers[column]
    if column == "score":
        return row.score
    if column == "verdict":
        return _rank(VERDICTS, row.verdict)
    text = cellText(row, column)
    if text in ("", _NOTHING):
        return None
    return _rank(ZONES, text) if column == "zone" else text.casefold()


def _rank(order: Sequence[str], value: str) -> int:
    return order.index(value) if value in order else len(order)
