"""The picture of a reviewed result: what counts, in the colors of its verdicts."""

from __future__ import annotations

from CMBDetectorLib.reporting import drawing
from CMBDetectorLib.reporting.picture import Caption, PictureContent, place_rows
from CMBDetectorLib.reporting.reviewed_document import finding, not_assessed, review_notes
from CMBDetectorLib.reporting.terminology import VERDICT_COLORS
from CMBDetectorLib.review.lesions import ReviewedLesion, Verdict
from CMBDetectorLib.review.session import ReviewSession


def reviewed_content(session: ReviewSession) -> PictureContent:
    """What the picture shows; rejected lesions are left out, the brain mask is not known."""
    counted = [lesion for lesion in session.lesions if lesion.is_counted]
    return PictureContent(
        finding=finding(session),
        detections=tuple(lesion.detection for lesion in counted),
        label_map=session.counted_label_map(),
        brain_mask=None,
        provenance=session.provenance,
        warnings=session.warnings,
        notes=review_notes(session),
        captions={lesion.id: _caption(lesion) for lesion in counted},
        not_assessed=", ".join(not_assessed(session)),
    )


def _caption(lesion: ReviewedLesion) -> Caption:
    color = _color(lesion.verdict)
    return Caption(
        pill=lesion.verdict,
        pill_color=color,
        color=color,
        rows=place_rows(lesion.detection),
    )


def _color(verdict: Verdict) -> drawing.Color:
    red, green, blue = (round(255 * part) for part in VERDICT_COLORS[verdict])
    return red, green, blue
