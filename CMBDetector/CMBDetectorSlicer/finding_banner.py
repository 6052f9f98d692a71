"""What the search found, in a box that tells the four outcomes apart at a glance."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from CMBDetectorLib.results import DetectionResult
from CMBDetectorSlicer.banners import Kind, showHtml, warningsHtml
from CMBDetectorSlicer.device_names import deviceText
from CMBDetectorSlicer.location_text import anatomyText, droppedNote, droppedText

if TYPE_CHECKING:
    from CMBDetectorLib.review.session import ReviewSession

TOOL_TIP = "What the search found, with its warnings, model and device."
HIDDEN = "The finding is hidden until you have read the scan yourself: press Reveal."


def showFinding(label: Any, session: ReviewSession | None, isHidden: bool = False) -> None:
    """Fill the label for a result, or hide it if there is none.

    The finding is what the software found, whatever a reader has made of it since.
    """
    label.toolTip = TOOL_TIP
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
        dropped=session.dropped,
    )
    made = session.provenance
    facts = (
        f"{made.input_name} · model {made.model_id} {made.model_version} · "
        f"{deviceText(made.device)} · threshold {made.threshold:g}"
    )
    html = (
        f'<p style="margin:0"><b style="font-size:large">{escape(result.finding)}</b></p>'
        f'<p style="margin:2px 0 0 0">{escape(facts)}</p>'
        f'<p style="margin:2px 0 0 0">{escape(anatomyText(made))}</p>'
    )
    left = droppedText(session.dropped)
    if left:
        html += f'<p style="margin:2px 0 0 0">{escape(left)}</p>'
    showHtml(label, kindOf(result), html + warningsHtml(session.warnings))
    label.toolTip = f"{TOOL_TIP}\n\n{left}\n{droppedNote(session.dropped)}" if left else TOOL_TIP


def kindOf(result: DetectionResult) -> Kind:
    """Found, none found, and nothing concluded look different."""
    if result.detections:
        return "finding"
    return "none" if result.is_conclusive else "warning"
