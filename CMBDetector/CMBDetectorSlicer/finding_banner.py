"""What the search found, in a box that tells the four outcomes apart at a glance."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from CMBDetectorLib.results import DetectionResult
from CMBDetectorSlicer.banners import Kind, showHtml, warningsHtml
from CMBDetectorSlicer.device_names import deviceText

if TYPE_CHECKING:
    from CMBDetectorLib.review.session import ReviewSession

HIDDEN = "The finding is hidden until you have read the scan yourself: press Reveal."


def showFinding(label: Any, session: ReviewSession | None, isHidden: bool = False) -> None:
    """Fill the label for a result, or hide it if there is none.

    The finding is what the software found, whatever a reader has made of it since.
    """
    if session is None:
        showHtml(label, "note", "")
        return
    if isHidden:
        showHtml(label, "note", escape(HIDDEN))
        return
    result = DetectionResult(
        detections=session.model_detections,
        label_map=session.label_map,
        brain_mask=session.label_map,
        provenance=session.provenance,
        warnings=session.warnings,
    )
    made = session.provenance
    facts = (
        f"{made.input_name} · model {made.model_id} {made.model_version} · "
        f"{deviceText(made.device)} · threshold {made.threshold:g}"
    )
    html = (
        f'<p style="margin:0"><b style="font-size:large">{escape(result.finding)}</b></p>'
        f'<p style="margin:2px 0 0 0">{escape(facts)}</p>{warningsHtml(session.warnings)}'
    )
    showHtml(label, kindOf(result), html)


def kindOf(result: DetectionResult) -> Kind:
    """Found, none found, and nothing concluded look different."""
    if result.detections:
        return "finding"
    return "none" if result.is_conclusive else "warning"
