"""A review as plain types, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from CMBDetectorLib.errors import InputError
from CMBDetectorLib.results import DroppedDetection, Provenance, ResultWarning
from CMBDetectorLib.review.changes import Change
from CMBDetectorLib.review.label_store import IntArray, LabelStore
from CMBDetectorLib.review.lesions import (
    ReviewedLesion,
    detection_from_dict,
    detection_to_dict,
)
from CMBDetectorLib.review.session import ReviewSession
from CMBDetectorLib.review.state import Clock, timestamp
from CMBDetectorLib.volume import Volume

SCHEMA = "cmbdetector-review"
REVIEW_SCHEMA_VERSION = 1

_SAME_PLACE_VOXELS = 1e-3
_T = TypeVar("_T")


def session_to_dict(session: ReviewSession) -> dict[str, Any]:
    """All of a session but its voxels."""
    return {
        "schema": SCHEMA,
        "schema_version": REVIEW_SCHEMA_VERSION,
        "shape": list(session.label_map.geometry.shape),
        "reader": session.reader,
        "lesions": [lesion.to_dict() for lesion in session.lesions],
        "former_lesions": [lesion.to_dict() for lesion in session.former_lesions],
        "model_lesions": [detection_to_dict(found) for found in session.model_detections],
        "next_id": session.next_id,
        "changes": [change.to_dict() for change in session.changes],
        "warnings": [warning.to_dict() for warning in session.warnings],
        "dropped": [dropped.to_dict() for dropped in session.dropped],
        "provenance": session.provenance.to_dict(),
    }


def session_from_dict(
    plain: Any, label_map: Volume, *, accept_edits: bool, now: Clock
) -> ReviewSession:
    """The inverse of :func:`session_to_dict`; see :meth:`ReviewSession.from_dict`."""
    _check_schema(plain)
    shape = list(label_map.geometry.shape)
    if plain.get("shape") != shape:
        raise InputError(
            f"the review belongs to an image of shape {plain.get('shape')}, got one of {shape}; "
            "use the image and the segmentation it was made with"
        )
    try:
        lesions = _each(ReviewedLesion.from_dict, plain["lesions"])
        former = _each(ReviewedLesion.from_dict, plain["former_lesions"])
        model_detections = _each(detection_from_dict, plain["model_lesions"])
        changes = _each(Change.from_dict, plain["changes"])
        warnings = _each(ResultWarning.from_dict, plain["warnings"])
        # Earlier versions left nothing out.
        dropped = _each(DroppedDetection.from_dict, plain.get("dropped", []))
        provenance = Provenance.from_dict(plain["provenance"])
        reader, next_id = plain["reader"], plain["next_id"]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"the review is incomplete ({type(error).__name__}: {error}); "
            "the file or scene was damaged or made by other software"
        ) from error
    if not isinstance(reader, str) or not isinstance(next_id, int):
        raise InputError(
            f"the review's reader is {reader!r:.60} and its next id {next_id!r:.60}, expected a "
            "text and a whole number; the file or scene was damaged or made by other software"
        )

    ids = [lesion.id for lesion in (*lesions, *former)]
    if len(set(ids)) < len(ids):
        raise InputError(
            "the review gives one id to several lesions; "
            "the file or scene was damaged or made by other software"
        )

    store = LabelStore(label_map)
    drawn = store.voxels_by_label()
    edited = _edited(lesions, drawn, store)
    _check_edits(lesions, drawn, edited, accept_edits=accept_edits)
    for lesion_id in edited & drawn.keys():
        store.write(drawn[lesion_id], 0)
    # Edited lesions begin as former ones, which the redrawing brings back.
    session = ReviewSession(
        store.volume,
        [lesion for lesion in lesions if lesion.id not in edited],
        model_detections=model_detections,
        provenance=provenance,
        warnings=warnings,
        dropped=dropped,
        changes=[*changes, *_removal(edited - drawn.keys(), now)],
        former=[*former, *(lesion for lesion in lesions if lesion.id in edited)],
        next_id=next_id,
        now=now,
    )
    # Still without a reader's name: nobody knows who edited them.
    session.redraw({i: store.voxels_ijk(drawn[i]) for i in edited & drawn.keys()})
    session.forget_steps()
    session.reader = reader
    return session


def _check_schema(plain: Any) -> None:
    if not isinstance(plain, Mapping) or plain.get("schema") != SCHEMA:
        raise InputError(
            f'this is no review of CMBDetector: its "schema" is not "{SCHEMA}"; '
            "open a scene that holds one"
        )
    version = plain.get("schema_version")
    if not isinstance(version, int) or not 1 <= version <= REVIEW_SCHEMA_VERSION:
        raise InputError(
            f"the review has schema version {version!r:.60}, this software reads up to "
            f"{REVIEW_SCHEMA_VERSION}; update CMBDetector"
        )


def _edited(
    lesions: Sequence[ReviewedLesion], drawn: Mapping[int, IntArray], store: LabelStore
) -> set[int]:
    """Ids whose voxels in the map are not those that were measured, or that only one side has."""
    edited = {lesion.id for lesion in lesions} ^ drawn.keys()
    for lesion in lesions:
        if lesion.id not in edited:
            voxels = store.voxels_ijk(drawn[lesion.id])
            moved = np.abs(voxels.mean(axis=0) - lesion.detection.center_ijk).max()
            if len(voxels) != lesion.detection.n_voxels or moved > _SAME_PLACE_VOXELS:
                edited.add(lesion.id)
    return edited


def _check_edits(
    lesions: Sequence[ReviewedLesion],
    drawn: Mapping[int, IntArray],
    edited: set[int],
    *,
    accept_edits: bool,
) -> None:
    if edited and not accept_edits:
        raise InputError(
            f"the label map has other voxels than the review for lesions {sorted(edited)[:5]}; "
            "use the label map that was stored with the review"
        )
    if lesions and not any(lesion.id in drawn for lesion in lesions):
        raise InputError(
            f"the label map has none of the review's {len(lesions)} lesions; "
            "use the label map that was stored with the review"
        )


def _removal(ids: set[int], now: Clock) -> list[Change]:
    if not ids:
        return []
    details = {"reason": "not in the label map any more"}
    return [Change(timestamp(now), "", "remove", tuple(sorted(ids)), details)]


def _each(read: Callable[[Any], _T], items: Any) -> list[_T]:
    if not isinstance(items, list):
        raise TypeError(f"expected a list, got {items!r:.60}")
    return [read(item) for item in items]
