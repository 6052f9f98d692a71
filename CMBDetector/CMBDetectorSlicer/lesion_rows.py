"""What the lesion table shows, in which order, and which lines a filter leaves: without widgets."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from CMBDetectorLib.anatomy.schemes import ZONES, zone_of
from CMBDetectorLib.reporting.places import APPROXIMATE_MARK, LOW_MARK
from CMBDetectorLib.results import NOT_ASSESSED
from CMBDetectorSlicer.location_text import isLow, placeNote

if TYPE_CHECKING:
    from CMBDetectorLib.results import Detection
    from CMBDetectorLib.review.changes import Change

COLUMNS = (
    "number",
    "verdict",
    "zone",
    "side",
    "region",
    "diameter",
    "score",
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
    "zone": "Lobar, deep or infratentorial (MARS), from the region. ?: low confidence.",
    "side": "Side of the brain.",
    "region": "Region (MARS). ?: low confidence. ~: approximate lobe, without a parcellation.",
    "diameter": "Diameter of the ball of the same volume, in mm.",
    "volume": "Volume in mm³.",
    "score": "Mean of mean and peak probability. Lesions that a reader added have none.",
    "verdict": "The reader's verdict.",
    "comment": "Double click, or key C, to write one.",
}
PLACE_COLUMNS = frozenset({"zone", "side", "region"})
NUMBER_COLUMNS = frozenset({"number", "diameter", "volume", "score"})
VERDICTS = ("unreviewed", "accepted", "uncertain", "rejected")
_NOTHING = "–"


@dataclass(frozen=True)
class LesionRow:
    """One line of the table.

    ``score`` is None for a lesion that a reader added. ``isNumbered`` is whether the number is
    shown. ``isLow`` and ``isApproximate`` tell how sure the software's region is, and are False
    where a reader has chosen it; ``placeNote`` is what is known of the place besides.
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
    isLow: bool = False
    isApproximate: bool = False
    placeNote: str = ""

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
        isLow=isLow(detection),
        isApproximate=detection.region_is_approximate,
        placeNote=placeNote(detection),
    )


def isOwnMark(lesion: Any) -> bool:
    """Whether the reader has marked the lesion: by adding it or by a verdict."""
    return bool(lesion.origin == "reader" or lesion.verdict != "unreviewed")


def ownReadRow(lesion: Any, chosen: Collection[tuple[str, int]] = ()) -> LesionRow:
    """The line of a lesion that the reader has marked before seeing what the model found.

    It does not tell whether the model has found it too: no score, no number, which would say how
    many the model has found, and no side or region but what the reader has ``chosen`` (as
    :func:`chosenPlaces` tells).
    """
    seen = replace(lesion, detection=ownReadPlace(lesion.detection, chosen))
    return replace(rowOf(seen), score=None, origin="reader", isNumbered=False)


def ownReadPlace(detection: Detection, chosen: Collection[tuple[str, int]]) -> Detection:
    """The detection with only what the reader has chosen of side and region."""
    keys = ("hemisphere", "region")
    hidden = {key: NOT_ASSESSED for key in keys if (key, detection.label) not in chosen}
    return replace(
        detection,
        bombs_region=NOT_ASSESSED,
        structure=NOT_ASSESSED,
        structure_shares=(),
        distance_to_ventricle_mm=None,
        distance_to_brain_surface_mm=None,
        location_confidence="",
        region_is_approximate=False,
        **hidden,
    )


def chosenPlaces(changes: Iterable[Change]) -> frozenset[tuple[str, int]]:
    """What readers have said of places: (``region`` or ``hemisphere``, lesion), undone ones not."""
    # How often: what an undo takes back may have been a second choice.
    times: Counter[tuple[str, int]] = Counter()
    for change in changes:
        of = str(change.details.get("of", "")) if change.action in ("undo", "redo") else ""
        for key in ("hemisphere", "region"):
            said = [(key, lesionId) for lesionId in change.lesion_ids]
            if change.action == key or (change.action == "redo" and f"set the {key}" in of):
                times.update(said)
            elif change.action == "undo" and f"set the {key}" in of:
                times.subtract(said)
    return frozenset(place for place, number in times.items() if number > 0)


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
    text = _plainText(row, column)
    return _NOTHING if text == NOT_ASSESSED else _marked(text, row, column)


def placeText(row: LesionRow) -> str:
    """Side, zone and region in full, which a narrow column cuts off, and what else is known."""
    cells = (cellText(row, column) for column in ("side", "zone", "region"))
    place = ", ".join(cell for cell in cells if cell != _NOTHING)
    return "\n".join(filter(None, (place, row.placeNote)))


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
    # Without the marks: what is doubtful is listed with its own kind.
    text = _plainText(row, column)
    if text in ("", NOT_ASSESSED):
        return None
    return _rank(ZONES, text) if column == "zone" else text.casefold()


def _marked(text: str, row: LesionRow, column: str) -> str:
    """With the marks that the command line's table has as well."""
    marks = APPROXIMATE_MARK if column == "region" and row.isApproximate else ""
    marks += LOW_MARK if column in ("region", "zone") and row.isLow else ""
    return f"{text} {marks}" if marks else text


def _plainText(row: LesionRow, column: str) -> str:
    texts = {"zone": row.zone, "side": row.side, "region": row.region}
    return (texts | {"verdict": row.verdict, "comment": row.comment})[column]


def _rank(order: Sequence[str], value: str) -> int:
    return order.index(value) if value in order else len(order)
