"""Head and foot of a picture: what it is of, how it was made, and what to beware of."""

from __future__ import annotations

from PIL import Image, ImageDraw

from CMBDetectorLib.reporting import drawing
from CMBDetectorLib.results import DetectionResult

FOOTER_HEIGHT_PX = 52
RESEARCH_ONLY = "Research use only - not for clinical use"

_HEADLINE_SIZE, _TEXT_SIZE, _WARNING_SIZE = 30, 15, 15
_WARNING_LINE = 22
_WARNINGS_TOP = 122
_WORTH_TELLING_DEG = 1.0


def header_height(result: DetectionResult, width: int, margin: int) -> int:
    """Height in pixels of what :func:`draw_header` draws, the gap beneath included."""
    lines = _warning_lines(result, width - 2 * margin)
    return _WARNINGS_TOP + (len(lines) * _WARNING_LINE + 38 if lines else 0)


def draw_header(canvas: Image.Image, result: DetectionResult, margin: int) -> None:
    """Finding, file, model and operating point, and the warnings in a box of their own."""
    draw = ImageDraw.Draw(canvas)
    pill_width = drawing.text_width(RESEARCH_ONLY, 14) + 20
    pill_x = canvas.width - margin - pill_width
    drawing.draw_pill(draw, (pill_x, margin + 2), RESEARCH_ONLY, 14, drawing.AMBER)
    drawing.draw_text(draw, (margin, margin - 6), result.finding, _HEADLINE_SIZE)

    provenance = result.provenance
    width = canvas.width - 2 * margin
    name = drawing.shortened(provenance.input_name, _TEXT_SIZE, width)
    drawing.draw_text(draw, (margin, margin + 38), name, _TEXT_SIZE)
    spacing = " x ".join(f"{value:.3g}" for value in provenance.input_spacing_mm)
    facts = (
        f"voxels {spacing} mm",
        f"model {provenance.model_id} {provenance.model_version}",
        f"threshold {provenance.threshold:g}",
        f"at least {provenance.min_volume_mm3:g} mm³",
        f"CMBDetector {provenance.software_version}",
        provenance.started_at[:10],
    )
    line = drawing.shortened("  ·  ".join(facts), _TEXT_SIZE, width)
    drawing.draw_text(draw, (margin, margin + 60), line, _TEXT_SIZE, drawing.MUTED)
    _draw_warnings(canvas, result, margin)


def draw_footer(
    canvas: Image.Image, margin: int, *, drawn: str, n_more: int, obliquity_deg: float
) -> None:
    """How to read the picture, and how many lesions are only in the table.

    ``drawn`` says what the panels and outlines are; the planes are tilted by ``obliquity_deg``.
    """
    draw = ImageDraw.Draw(canvas)
    y = canvas.height - FOOTER_HEIGHT_PX + 16
    planes = "patient planes"
    if obliquity_deg >= _WORTH_TELLING_DEG:
        planes = f"planes along the image's own slices, tilted by {obliquity_deg:.0f}°"
    text = (
        f"{drawn}  ·  {planes}, the patient's right on the left  ·  "
        "not assessed: superficial siderosis, macrobleeds, anatomical region"
    )
    more = f"{n_more} more in the table" if n_more else ""
    more_width = drawing.text_width(more, 15) + 24 if more else 0
    line = drawing.shortened(text, 13, canvas.width - 2 * margin - more_width)
    drawing.draw_text(draw, (margin, y), line, 13, drawing.MUTED)
    if more:
        x = canvas.width - margin - drawing.text_width(more, 15)
        drawing.draw_text(draw, (x, y - 2), more, 15, drawing.AMBER)


def _warning_lines(result: DetectionResult, width: int) -> list[tuple[bool, str]]:
    """The warnings in lines: (whether a warning begins here, text)."""
    lines = []
    for warning in result.warnings:
        parts = drawing.wrapped(warning.message, _WARNING_SIZE, width - 64)
        lines += [(number == 0, part) for number, part in enumerate(parts)]
    return lines


def _draw_warnings(canvas: Image.Image, result: DetectionResult, margin: int) -> None:
    lines = _warning_lines(result, canvas.width - 2 * margin)
    if not lines:
        return
    draw = ImageDraw.Draw(canvas)
    bottom = _WARNINGS_TOP + len(lines) * _WARNING_LINE + 20
    draw.rounded_rectangle(
        (margin, _WARNINGS_TOP, canvas.width - margin, bottom),
        radius=10,
        fill=drawing.AMBER_DARK,
        outline=drawing.AMBER,
    )
    for number, (begins, text) in enumerate(lines):
        y = _WARNINGS_TOP + 9 + number * _WARNING_LINE
        if begins:
            drawing.draw_text(draw, (margin + 18, y), "!", _WARNING_SIZE, drawing.AMBER)
        drawing.draw_text(draw, (margin + 36, y), text, _WARNING_SIZE)
