"""A picture of every lesion in three planes, or of the brain where none was found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from CMBDetectorLib.io.writing import atomic_path
from CMBDetectorLib.reporting import drawing
from CMBDetectorLib.reporting.header import (
    FOOTER_HEIGHT_PX,
    draw_footer,
    draw_header,
    header_height,
)
from CMBDetectorLib.reporting.picture import (
    Caption,
    PictureContent,
    measurements,
    picture_content,
)
from CMBDetectorLib.reporting.planes import (
    AXIAL,
    CORONAL,
    SAGITTAL,
    View,
    sample_image,
    sample_labels,
    slice_frame,
)
from CMBDetectorLib.reporting.scene import (
    brain_box,
    brain_window,
    nearest_voxel,
    plane_centers,
    point_ras_mm,
    triple,
)
from CMBDetectorLib.results import Detection, DetectionResult
from CMBDetectorLib.volume import Volume

FIELD_OF_VIEW_MM = 40.0
MOST_LESIONS = 40
N_OVERVIEW_SLICES = 10

_CLOSE_UPS = f"{FIELD_OF_VIEW_MM:g} x {FIELD_OF_VIEW_MM:g} mm around each lesion"
_OVERVIEW = f"{N_OVERVIEW_SLICES} slices"
_SEARCHED = ", the outline is the brain that was searched"
_PANELS = ("locator", "axial plain", "axial", "coronal", "sagittal")
_MARGIN, _GAP, _PADDING, _CAPTION_WIDTH = 28, 8, 14, 206
_TITLE_HEIGHT = 22
_MOST_IN_ONE_COLUMN = 8
_MOST_LOOSE_ROWS = 7

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class MontageLayout:
    """Where everything is in the picture, in pixels from the top left corner.

    ``panels`` maps (lesion's label, panel) to (left, top, right, bottom); the panels are
    ``locator``, ``axial plain``, ``axial``, ``coronal`` and ``sagittal``. Without a lesion the
    keys are (0, ``slice 1``), (0, ``slice 2``), … from the patient's feet up.
    """

    width: int
    height: int
    panel_px: int
    cards: dict[int, Box]
    panels: dict[tuple[int, str], Box]


def plan_montage(result: DetectionResult | PictureContent) -> MontageLayout:
    """The layout for a result: one card per lesion, in two columns where there are many."""
    content = picture_content(result)
    shown = content.detections[:MOST_LESIONS]
    n_columns = 1 if len(shown) <= _MOST_IN_ONE_COLUMN else 2
    panel = 216 if n_columns == 1 else 176
    panels_width = len(_PANELS) * panel + (len(_PANELS) - 1) * _GAP
    card_width = _CAPTION_WIDTH + panels_width + 2 * _PADDING
    card_height = _TITLE_HEIGHT + panel + 2 * _PADDING
    width = 2 * _MARGIN + n_columns * card_width + (n_columns - 1) * _MARGIN // 2
    top = header_height(content, width, _MARGIN)
    if not shown:
        return _plan_overview(width, top)

    cards: dict[int, Box] = {}
    panels: dict[tuple[int, str], Box] = {}
    for position, lesion in enumerate(shown):
        row, column = divmod(position, n_columns)
        x = _MARGIN + column * (card_width + _MARGIN // 2)
        y = top + row * (card_height + _MARGIN // 2)
        cards[lesion.label] = (x, y, x + card_width, y + card_height)
        for number, name in enumerate(_PANELS):
            left = x + _PADDING + _CAPTION_WIDTH + number * (panel + _GAP)
            upper = y + _PADDING + _TITLE_HEIGHT
            panels[lesion.label, name] = (left, upper, left + panel, upper + panel)
    bottom = max(box[3] for box in cards.values())
    return MontageLayout(width, bottom + FOOTER_HEIGHT_PX, panel, cards, panels)


def draw_montage(result: DetectionResult | PictureContent, image: Volume) -> Image.Image:
    """Draw the picture.

    Planes are axial, coronal and sagittal whatever the axes of the image, tilted as its slices
    are, in radiological convention (the patient's right on the left) and true proportions. All
    share one window, from the brain's intensities. The outline is that of the label map,
    voxel by voxel.

    Parameters
    ----------
    result
        Its label map and brain mask lie on the grid of ``image``.
    image
        The input image.
    """
    content = picture_content(result)
    layout = plan_montage(content)
    canvas = Image.new("RGB", (layout.width, layout.height), drawing.BACKGROUND)
    draw_header(canvas, content, _MARGIN)
    window = brain_window(image, content.brain_mask)
    if content.detections:
        drawn = _CLOSE_UPS
        _draw_lesions(canvas, layout, content, image, window)
    else:
        drawn = _OVERVIEW + ("" if content.brain_mask is None else _SEARCHED)
        _draw_overview(canvas, layout, content, image, window)
    draw_footer(
        canvas,
        _MARGIN,
        drawn=drawn,
        not_assessed=content.not_assessed,
        n_more=max(0, len(content.detections) - MOST_LESIONS),
        obliquity_deg=image.geometry.obliquity_deg,
    )
    return canvas


def write_montage(result: DetectionResult | PictureContent, image: Volume, path: Path) -> None:
    """Write :func:`draw_montage` as PNG; whole or not at all.

    Raises
    ------
    OutputError
        If the operating system refuses.
    """
    picture = draw_montage(result, image)
    with atomic_path(path) as temporary:
        picture.save(temporary, format="PNG", compress_level=6)


def _draw_lesions(
    canvas: Image.Image,
    layout: MontageLayout,
    content: PictureContent,
    image: Volume,
    window: tuple[float, float],
) -> None:
    shown = content.detections[:MOST_LESIONS]
    n_slices = image.geometry.shape[image.geometry.slice_axis]
    frame = slice_frame(image.geometry)
    middle_mm, extent_mm = brain_box(content.brain_mask, image.geometry, frame)
    for lesion, center_mm in zip(shown, plane_centers(content.label_map, shown), strict=True):
        caption = content.caption(lesion)
        _draw_card(canvas, layout.cards[lesion.label], lesion, caption, n_slices)
        whole = View(
            AXIAL,
            frame,
            point_ras_mm(frame, middle_mm[:2], float(center_mm @ frame[:, 2])),
            layout.panel_px,
            layout.panel_px,
            max(extent_mm[:2]) * 1.08 / layout.panel_px,
        )
        panel = drawing.gray_image(sample_image(image, whole, order=1, oversampling=2), window)
        _draw_ring(panel, whole.pixel_of(center_mm), caption.color)
        drawing.draw_letters(panel, AXIAL)
        _place(canvas, panel, layout.panels[lesion.label, "locator"], "axial, whole slice")

        for plane in (AXIAL, CORONAL, SAGITTAL):
            mm_per_px = FIELD_OF_VIEW_MM / layout.panel_px
            view = View(
                plane, frame, triple(center_mm), layout.panel_px, layout.panel_px, mm_per_px
            )
            panel = drawing.gray_image(sample_image(image, view), window)
            drawing.draw_letters(panel, plane)
            if plane is AXIAL:
                plain = panel.copy()
                drawing.draw_scale_bar(plain, mm_per_px)
                _place(canvas, plain, layout.panels[lesion.label, "axial plain"], "axial")
            labels = sample_labels(content.label_map, view)
            drawing.draw_outline(
                panel, (labels != 0) & (labels != lesion.label), drawing.NEIGHBOR, 1.2
            )
            drawing.draw_outline(panel, labels == lesion.label, caption.color)
            title = "axial, outlined" if plane is AXIAL else plane.name
            _place(canvas, panel, layout.panels[lesion.label, plane.name], title)


def _draw_card(
    canvas: Image.Image, box: Box, lesion: Detection, caption: Caption, n_slices: int
) -> None:
    draw = ImageDraw.Draw(canvas)
    draw.rounded_rectangle(box, radius=10, fill=drawing.CARD, outline=drawing.CARD_EDGE)
    x, y = box[0] + _PADDING + 4, box[1] + _PADDING
    drawing.draw_text(draw, (x, y - 3), str(lesion.label), 34, caption.color)
    rows = (*measurements(lesion, n_slices), *caption.rows)
    # The cards of two columns are not as high.
    line_height = 22 if len(rows) <= _MOST_LOOSE_ROWS else 20
    for number, (name, value) in enumerate(rows):
        line_y = y + 44 + number * line_height
        value_x = x + 68
        drawing.draw_text(draw, (x, line_y), name, 14, drawing.MUTED)
        drawing.draw_text(
            draw, (value_x, line_y), drawing.shortened(value, 14, _CAPTION_WIDTH - 72), 14
        )
    if caption.pill:
        text = drawing.shortened(caption.pill, 13, _CAPTION_WIDTH - 98)
        drawing.draw_pill(draw, (x + 68, y + 3), text, 13, caption.pill_color)


def _place(canvas: Image.Image, panel: Image.Image, box: Box, title: str) -> None:
    canvas.paste(panel, box[:2])
    draw = ImageDraw.Draw(canvas)
    drawing.draw_text(draw, (box[0] + 1, box[1] - _TITLE_HEIGHT), title, 13, drawing.MUTED)


def _draw_ring(panel: Image.Image, center_px: tuple[float, float], color: drawing.Color) -> None:
    column, row = center_px
    for radius, width, ink in ((12, 4, (0, 0, 0)), (11, 2, color)):
        ImageDraw.Draw(panel).ellipse(
            (column - radius, row - radius, column + radius, row + radius),
            outline=ink,
            width=width,
        )


def _plan_overview(width: int, top: int) -> MontageLayout:
    n_columns = N_OVERVIEW_SLICES // 2
    panel = (width - 2 * _MARGIN - 2 * _PADDING - (n_columns - 1) * _GAP) // n_columns
    row_height = panel + _TITLE_HEIGHT + _GAP
    card = (_MARGIN, top, width - _MARGIN, top + 2 * row_height + 2 * _PADDING - _GAP)
    panels: dict[tuple[int, str], Box] = {}
    for number in range(N_OVERVIEW_SLICES):
        row, column = divmod(number, n_columns)
        left = _MARGIN + _PADDING + column * (panel + _GAP)
        upper = top + _PADDING + _TITLE_HEIGHT + row * row_height
        panels[0, f"slice {number + 1}"] = (left, upper, left + panel, upper + panel)
    return MontageLayout(width, card[3] + FOOTER_HEIGHT_PX, panel, {0: card}, panels)


def _draw_overview(
    canvas: Image.Image,
    layout: MontageLayout,
    content: PictureContent,
    image: Volume,
    window: tuple[float, float],
) -> None:
    """Evenly spaced axial slices with the border of what was searched."""
    ImageDraw.Draw(canvas).rounded_rectangle(
        layout.cards[0], radius=10, fill=drawing.CARD, outline=drawing.CARD_EDGE
    )
    frame = slice_frame(image.geometry)
    middle_mm, extent_mm = brain_box(content.brain_mask, image.geometry, frame)
    heights_mm = middle_mm[2] + extent_mm[2] * (
        (np.arange(N_OVERVIEW_SLICES) + 0.5) / N_OVERVIEW_SLICES - 0.5
    )
    for height_mm, box in zip(heights_mm.tolist(), layout.panels.values(), strict=True):
        center_mm = nearest_voxel(image.geometry, point_ras_mm(frame, middle_mm[:2], height_mm))
        view = View(
            AXIAL,
            frame,
            center_mm,
            layout.panel_px,
            layout.panel_px,
            max(extent_mm[:2]) * 1.15 / layout.panel_px,
        )
        panel = drawing.gray_image(sample_image(image, view, order=1, oversampling=2), window)
        if content.brain_mask is not None:
            searched = sample_labels(content.brain_mask, view) != 0
            drawing.draw_outline(panel, searched, drawing.NEIGHBOR, 1.2)
        drawing.draw_letters(panel, AXIAL)
        _place(canvas, panel, box, f"axial, z {center_mm[2]:.0f} mm")
