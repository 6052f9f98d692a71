"""Head and foot of a picture: what it is of, how it was made, and what to beware of."""

from __future__ import annotations

from PIL import Image, ImageDraw

from CMBDetectorLib.reporting import drawing
from CMBDetectorLib.reporting.picture import PictureContent
from CMBDetectorLib.results import Provenance

FOOTER_HEIGHT_PX = 52
RESEARCH_ONLY = "Research use only - not for clinical use"

_HEADLINE_SIZE, _TEXT_SIZE, _WARNING_SIZE = 30, 15, 15
_WARNING_LINE = 22
_FACTS_BOTTOM = 122
_NOTE_LINE = 24
_WORTH_TELLING_DEG = 1.0


def header_height(content: PictureContent, width: int, margin: int) -> int:
    """Height in pixels of what :func:`draw_header` draws, the gap beneath included."""
    lines = _warning_lines(content, width - 2 * margin)
    top = _warnings_top(content, width, margin)
    return top + (len(lines) * _WARNING_LINE + 38 if lines else 0)


def draw_header(canvas: Image.Image, content: PictureContent, margin: int) -> None:
    """Finding, file, model and operating point, and the warnings in a box of their own."""
    draw = ImageDraw.Draw(canvas)
    pill_width = drawing.text_width(RESEARCH_ONLY, 14) + 20
    pill_x = canvas.width - margin - pill_width
    drawing.draw_pill(draw, (pill_x, margin + 2), RESEARCH_ONLY, 14, drawing.AMBER)
    drawing.draw_text(draw, (margin, margin - 6), content.finding, _HEADLINE_SIZE)

    provenance = content.provenance
    width = canvas.width - 2 * margin
    name = drawing.shortened(provenance.input_name, _TEXT_SIZE, width)
    drawing.draw_text(draw, (margin, margin + 38), name, _TEXT_SIZE)
    spacing = " x ".join(f"{value:.3g}" for value in provenance.input_spacing_mm)
    facts = (
        f"voxels {spacing} mm",
        f"model {provenance.model_id} {provenance.model_version}",
        f"threshold {provenance.threshold:g}" + _extent(provenance),
        f"at least {provenance.min_volume_mm3:g} mm³",
        f"CMBDetector {provenance.software_version}",
        provenance.started_at[:10],
    )
    line = drawing.shortened("  ·  ".join(facts), _TEXT_SIZE, width)
    drawing.draw_text(draw, (margin, margin + 60), line, _TEXT_SIZE, drawing.MUTED)
    for number, note in enumerate(_note_lines(content, width)):
        y = margin + 88 + number * _NOTE_LINE
        drawing.draw_text(draw, (margin, y), note, _TEXT_SIZE)
    _draw_warnings(canvas, content, margin)


def _extent(provenance: Provenance) -> str:
    extent = provenance.extent_threshold
    if extent is None or extent == provenance.threshold:
        return ""
    return f", drawn to {extent:g}"


def draw_footer(
    canvas: Image.Image,
    margin: int,
    *,
    drawn: str,
    not_assessed: str,
    n_more: int,
    obliquity_deg: float,
) -> None:
    """How to read the picture, and how many lesions are only in the table.

    ``drawn`` says what the panels and outlines are; the planes are tilted by ``obliquity_deg``.
    """
    draw = ImageDraw.Draw(canvas)
    y = canvas.height - FOOTER_HEIGHT_PX + 16
    planes = "patient planes"
    if obliquity_deg >= _WORTH_TELLING_DEG:
        planes = f"planes along the image's own slices, tilted by {obliquity_deg:.0f}°"
    text = f"{drawn}  ·  {planes}, the patient's right on the left  ·  not assessed: {not_assessed}"
    more = f"{n_more} more in the table" if n_more else ""
    more_width = drawing.text_width(more, 15) + 24 if more else 0
    line = drawing.shortened(text, 13, canvas.width - 2 * margin - more_width)
    drawing.draw_text(draw, (margin, y), line, 13, drawing.MUTED)
    if more:
        x = canvas.width - margin - drawing.text_width(more, 15)
        drawing.draw_text(draw, (x, y - 2), more, 15, drawing.AMBER)


def _note_lines(content: PictureContent, width: int) -> list[str]:
    return [line for note in content.notes for line in drawing.wrapped(note, _TEXT_SIZE, width)]


def _warnings_top(content: PictureContent, width: int, margin: int) -> int:
    return _FACTS_BOTTOM + len(_note_lines(content, width - 2 * margin)) * _NOTE_LINE


def _warning_lines(content: PictureContent, width: int) -> list[tuple[bool, str]]:
    """The warnings in lines: (whether a warning begins here, text)."""
    lines = []
    for warning in content.warnings:
        parts = drawing.wrapped(warning.message, _WARNING_SIZE, width - 64)
        lines += [(number == 0, part) for number, part in enumerate(parts)]
    return lines


def _draw_warnings(canvas: Image.Image, content: PictureContent, margin: int) -> None:
    lines = _warning_lines(content, canvas.width - 2 * margin)
    if not lines:
        return
    draw = ImageDraw.Draw(canvas)
    top = _warnings_top(content, canvas.width, margin)
    bottom = top + len(lines) * _WARNING_LINE + 20
    draw.rounded_rectangle(
        (margin, top, canvas.width - margin, bottom),
        radius=10,
        fill=drawing.AMBER_DARK,
        outline=drawing.AMBER,
    )
    for number, (begins, text) in enumerate(lines):
        y = top + 9 + number * _WARNING_LINE
        if begins:
            drawing.draw_text(draw, (margin + 18, y), "!", _WARNING_SIZE, drawing.AMBER)
        drawing.draw_text(draw, (margin + 36, y), text, _WARNING_SIZE)
