"""A reviewed result as table and JSON document: the reader's list, the model's, and the record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from CMBDetectorLib.anatomy.schemes import summarize
from CMBDetectorLib.reporting.counts import format_counts_csv, places_line
from CMBDetectorLib.reporting.document import (
    INTENDED_USE,
    NEVER_ASSESSED_FINDINGS,
    SCHEMA,
    format_json,
    missing_places,
    summary,
)
from CMBDetectorLib.reporting.rows import format_rows
from CMBDetectorLib.reporting.tables import COLUMNS, csv_cells
from CMBDetectorLib.results import RESULT_SCHEMA_VERSION, UNEXPECTED_CONTRAST
from CMBDetectorLib.review.changes import Change, last_changes
from CMBDetectorLib.review.lesions import VERDICTS, ReviewedLesion, detection_to_dict
from CMBDetectorLib.review.session import ReviewSession

REVIEW_COLUMNS = (*COLUMNS, "verdict", "origin", "comment", "reader", "reviewed_at")


def format_reviewed_csv(session: ReviewSession) -> str:
    """One row per lesion that is there, rejected ones included, by number.

    The columns of the model's own table, then verdict, origin, comment, and the reader and
    time (UTC) of the last change that concerned the lesion; empty where there was none.
    """
    latest = last_changes(session.changes)
    rows = (_cells(lesion, latest.get(lesion.id)) for lesion in session.lesions)
    return format_rows(REVIEW_COLUMNS, rows)


def format_reviewed_counts(session: ReviewSession) -> str:
    """One row with the counts over the lesions that are not rejected, as after a run."""
    return format_counts_csv(
        session.provenance.input_name,
        session.counted_detections(),
        anatomy=session.provenance.anatomy_source,
        n_dropped=len(session.dropped),
    )


def format_reviewed_document(session: ReviewSession, outputs: Mapping[str, str]) -> str:
    """The document of a reviewed result as strict JSON."""
    return format_json(reviewed_document(session, outputs))


def reviewed_document(session: ReviewSession, outputs: Mapping[str, str]) -> dict[str, Any]:
    """The document of a run, with the counted lesions in place of the model's, and the review."""
    provenance = session.provenance.to_dict()
    settings = provenance.pop("settings")
    return {
        "schema": SCHEMA,
        "schema_version": RESULT_SCHEMA_VERSION,
        "intended_use": INTENDED_USE,
        "summary": reviewed_summary(session),
        "lesions": [detection_to_dict(lesion) for lesion in session.counted_detections()],
        "review": {
            "readers": list(readers(session)),
            "complete": session.is_complete,
            "lesions": [lesion.to_dict() for lesion in session.lesions],
            "former_lesions": [lesion.to_dict() for lesion in session.former_lesions],
            "model_lesions": [detection_to_dict(found) for found in session.model_detections],
            "changes": [change.to_dict() for change in session.changes],
        },
        "dropped": [candidate.to_dict() for candidate in session.dropped],
        "not_assessed": list(not_assessed(session)),
        "warnings": [warning.to_dict() for warning in session.warnings],
        "settings": settings,
        "provenance": provenance,
        "outputs": dict(outputs),
    }


def reviewed_summary(session: ReviewSession) -> dict[str, Any]:
    """Counts over the lesions that are not rejected, by size, zone, side and verdict."""
    counts = summarize(session.lesions)
    plain = summary(session.counted_detections(), is_conclusive=is_conclusive(session))
    return plain | {
        "n_dropped": len(session.dropped),
        "n_certain": counts.n_certain,
        "n_uncertain": counts.n_uncertain,
        "n_unreviewed": counts.n_unreviewed,
        "n_rejected": verdict_counts(session)["rejected"],
    }


def finding(session: ReviewSession) -> str:
    """What is left after the review, in a few words."""
    number = len(session.counted_detections())
    if number:
        return "1 suspected microbleed" if number == 1 else f"{number} suspected microbleeds"
    if session.lesions:
        return "No microbleed left after the review"
    return "No microbleed found" if is_conclusive(session) else "Nothing concluded"


def is_conclusive(session: ReviewSession) -> bool:
    """Whether an empty list says anything: a reader has judged, or the model could."""
    unexpected = any(warning.code == UNEXPECTED_CONTRAST for warning in session.warnings)
    return bool(session.lesions) or not unexpected


def review_notes(session: ReviewSession) -> tuple[str, str]:
    """Who has reviewed with what outcome, and where the counted lesions lie, one line each."""
    numbers = verdict_counts(session)
    order = ("accepted", "rejected", "uncertain", "unreviewed")
    verdicts = ", ".join(f"{numbers[verdict]} {verdict}" for verdict in order)
    return f"{_by_whom(session)}: {verdicts}", places_line(summarize(session.lesions))


def readers(session: ReviewSession) -> tuple[str, ...]:
    """Names of those who changed something, in the order of their first change."""
    return tuple(dict.fromkeys(change.reader for change in session.changes if change.reader))


def verdict_counts(session: ReviewSession) -> dict[str, int]:
    """How many lesions have which verdict."""
    verdicts = [lesion.verdict for lesion in session.lesions]
    return {verdict: verdicts.count(verdict) for verdict in VERDICTS}


def not_assessed(session: ReviewSession) -> tuple[str, ...]:
    """Findings that nobody has looked for, and how many counted lesions have no place."""
    return (*missing_places(session.counted_detections()), *NEVER_ASSESSED_FINDINGS)


def _by_whom(session: ReviewSession) -> str:
    if not session.changes:
        return "not reviewed"
    names = ", ".join(readers(session)) or "a reader without a name"
    return f"{'' if session.is_complete else 'partly '}reviewed by {names}"


def _cells(lesion: ReviewedLesion, change: Change | None) -> list[object]:
    return [
        *csv_cells(lesion.detection),
        lesion.verdict,
        lesion.origin,
        lesion.comment,
        "" if change is None else change.reader,
        "" if change is None else change.at,
    ]
