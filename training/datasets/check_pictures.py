"""Pages with a row for every listed lesion, to check what was made of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from CMBDetectorLib.geometry import FloatArray
from CMBDetectorLib.reporting import drawing
from CMBDetectorLib.reporting.planes import (
    AXIAL,
    CORONAL,
    SAGITTAL,
    View,
    sample_image,
    sample_labels,
    slice_frame,
)
from CMBDetectorLib.reporting.scene import brain_box, brain_window, nearest_voxel, point_ras_mm
from CMBDetectorLib.reporting.staging import write_together
from CMBDetectorLib.volume import Volume
from training.datasets.grown import GrownLesion, GrownMasks, SeedStatus

FIELD_OF_VIEW_MM = 30.0
MOST_LESIONS_A_PAGE = 24

RED: drawing.Color = (244, 96, 88)
COLORS: dict[SeedStatus, drawing.Color] = {
    "grown": drawing.ACCENT,
    "given": drawing.ACCENT,
    "shared": drawing.AMBER,
    "ball": drawing.AMBER,
    "merged": drawing.NEIGHBOR,
    "refused": RED,
    "outside": RED,
}

_SEED: drawing.Color = (255, 92, 214)
_MARGIN, _GAP, _PADDING, _CAPTION_WIDTH, _PANEL = 24, 6, 12, 236, 168
_TITLE_HEIGHT, _HEADER_HEIGHT, _FOOTER_HEIGHT = 20, 88, 40
_LINE = 19
_N_PANELS = 5
_MOST_IN_ONE_COLUMN = 8
_CARD_WIDTH = _CAPTION_WIDTH + _N_PANELS * (_PANEL + _GAP) - _GAP + 2 * _PADDING
_CARD_HEIGHT = _TITLE_HEIGHT + _PANEL + 2 * _PADDING
_READ = (
    f"close-ups {FIELD_OF_VIEW_MM:g} x {FIELD_OF_VIEW_MM:g} mm, along the image's own slices, the "
    "patient's right on the left  ·  pink cross: the listed place  ·  blue: other lesions"
)


@dataclass(frozen=True, eq=False)
class _Scene:
    """What all lesions of a scan share."""

    image: Volume
    labels: Volume
    frame: FloatArray
    window: tuple[float, float]
    middle_mm: FloatArray
    extent_mm: FloatArray


def draw_check(
    image: Volume,
    grown: GrownMasks,
    *,
    title: str = "",
    brain_mask: Volume | None = None,
    most_a_page: int = MOST_LESIONS_A_PAGE,
) -> tuple[Image.Image, ...]:
    """Draw all lesions on as many pages as they need; at least one.

    Each has a card: number, status, size, how far it moved, and why it was refused; the whole
    axial slice with a ring; a close-up as it is; and close-ups in three planes with the outline and
    a cross at the listed place.

    Parameters
    ----------
    image
        The scan.
    grown
        Its label map lies on the grid of ``image``.
    title
        Such as the scan's name.
    brain_mask
        On that grid; sets the window and the frame of the whole slices. The whole image without.
    most_a_page
        Lesions; at least 1.
    """
    frame = slice_frame(image.geometry)
    middle_mm, extent_mm = brain_box(brain_mask, image.geometry, frame)
    window = brain_window(image, brain_mask)
    scene = _Scene(image, grown.labels, frame, window, middle_mm, extent_mm)
    starts = range(0, max(1, len(grown.lesions)), most_a_page)
    n_columns = 1 if len(grown.lesions) <= min(_MOST_IN_ONE_COLUMN, most_a_page) else 2
    pages = []
    for number, start in enumerate(starts, start=1):
        shown = grown.lesions[start : start + most_a_page]
        page = f"page {number} of {len(starts)}" if len(starts) > 1 else ""
        pages.append(_draw_page(scene, shown, n_columns, (title, _summary(grown), page)))
    return tuple(pages)


def write_check(
    path: Path,
    image: Volume,
    grown: GrownMasks,
    *,
    title: str = "",
    brain_mask: Volume | None = None,
    most_a_page: int = MOST_LESIONS_A_PAGE,
) -> tuple[Path, ...]:
    """Write the pages of :func:`draw_check` as PNG, all or none.

    The first is ``path``, further ones get a number before the extension: ``a_desc-check.png``,
    ``a_desc-check2.png``.

    Raises
    ------
    OutputError
        If the operating system refuses.
    """
    pages = draw_check(image, grown, title=title, brain_mask=brain_mask, most_a_page=most_a_page)
    names = [str(number) for number in range(1, len(pages) + 1)]
    paths = {
        name: path if name == "1" else path.with_name(f"{path.stem}{name}{path.suffix}")
        for name in names
    }
    by_name = dict(zip(names, pages, strict=True))
    write_together(
        paths, lambda name, staged: by_name[name].save(staged, format="PNG", compress_level=6)
    )
    return tuple(paths.values())


def _summary(grown: GrownMasks) -> str:
    count = Counter(lesion.status for lesion in grown.lesions)
    parts = ", ".join(f"{count[status]} {status}" for status in COLORS if count[status])
    return f"{len(grown.lesions)} listed: {parts}" if parts else "no lesion listed"


def _draw_page(
    scene: _Scene, shown: Sequence[GrownLesion], n_columns: int, texts: tuple[str, str, str]
) -> Image.Image:
    n_rows = -(-len(shown) // n_columns)
    width = 2 * _MARGIN + n_columns * _CARD_WIDTH + (n_columns - 1) * _MARGIN // 2
    height = _HEADER_HEIGHT + n_rows * (_CARD_HEIGHT + _MARGIN // 2) + _FOOTER_HEIGHT
    canvas = Image.new("RGB", (width, height), drawing.BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    title, summary, page = texts
    room = width - 2 * _MARGIN
    drawing.draw_text(draw, (_MARGIN, _MARGIN - 6), drawing.shortened(title, 24, room - 160), 24)
    drawing.draw_text(draw, (_MARGIN, _MARGIN + 28), summary, 15, drawing.MUTED)
    page_x = width - _MARGIN - drawing.text_width(page, 15)
    drawing.draw_text(draw, (page_x, _MARGIN), page, 15, drawing.MUTED)
    for position, lesion in enumerate(shown):
        row, column = divmod(position, n_columns)
        left = _MARGIN + column * (_CARD_WIDTH + _MARGIN // 2)
        top = _HEADER_HEIGHT + row * (_CARD_HEIGHT + _MARGIN // 2)
        _draw_card(canvas, (left, top), scene, lesion)
    foot = drawing.shortened(_READ, 13, room)
    drawing.draw_text(draw, (_MARGIN, height - _FOOTER_HEIGHT + 10), foot, 13, drawing.MUTED)
    return canvas


def _draw_card(
    canvas: Image.Image, corner: tuple[int, int], scene: _Scene, lesion: GrownLesion
) -> None:
    left, top = corner
    draw = ImageDraw.Draw(canvas)
    draw.rounded_rectangle(
        (left, top, left + _CARD_WIDTH, top + _CARD_HEIGHT),
        radius=10,
        fill=drawing.CARD,
        outline=drawing.CARD_EDGE,
    )
    _draw_caption(draw, (left + _PADDING + 2, top + _PADDING), scene, lesion)
    for position, (title, panel) in enumerate(_panels(scene, lesion)):
        x = left + _PADDING + _CAPTION_WIDTH + position * (_PANEL + _GAP)
        y = top + _PADDING
        drawing.draw_text(draw, (x + 1, y), title, 12, drawing.MUTED)
        canvas.paste(panel, (x, y + _TITLE_HEIGHT))


def _draw_caption(
    draw: ImageDraw.ImageDraw, corner: tuple[int, int], scene: _Scene, lesion: GrownLesion
) -> None:
    x, y = corner
    color = COLORS[lesion.status]
    number = str(lesion.number)
    drawing.draw_text(draw, (x, y - 2), number, 28, color)
    drawing.draw_pill(draw, (x + drawing.text_width(number, 28) + 12, y), lesion.status, 13, color)
    y += 38
    for name, value in _facts(scene, lesion):
        drawing.draw_text(draw, (x, y), name, 13, drawing.MUTED)
        drawing.draw_text(draw, (x + 66, y), value, 13)
        y += _LINE
    y += 4
    for line in drawing.wrapped(lesion.reason, 13, _CAPTION_WIDTH - 16) if lesion.reason else ():
        drawing.draw_text(draw, (x, y), line, 13, color)
        y += _LINE - 2


def _facts(scene: _Scene, lesion: GrownLesion) -> list[tuple[str, str]]:
    """Lines of the caption: name and value."""
    geometry = scene.image.geometry
    x_mm, y_mm, z_mm = lesion.seed_ras_mm
    facts = [("seed", f"{x_mm:.1f}, {y_mm:.1f}, {z_mm:.1f} mm")]
    if lesion.status != "outside":
        slice_index = round(geometry.ras_mm_to_ijk(lesion.seed_ras_mm)[geometry.slice_axis])
        facts.append(("slice", f"{slice_index + 1} of {geometry.shape[geometry.slice_axis]}"))
    if lesion.n_voxels:
        facts.append(("diameter", f"{lesion.equivalent_diameter_mm:.1f} mm"))
        facts.append(("volume", f"{lesion.volume_mm3:.1f} mm³, {lesion.n_voxels} voxels"))
        facts.append(("moved", f"{lesion.moved_mm:.1f} mm"))
    return facts


def _panels(scene: _Scene, lesion: GrownLesion) -> list[tuple[str, Image.Image]]:
    geometry = scene.image.geometry
    color = COLORS[lesion.status]
    place = lesion.center_ras_mm if lesion.n_voxels else lesion.seed_ras_mm
    center = nearest_voxel(geometry, place)
    height_mm = float(scene.frame[:, 2] @ center)
    whole = View(
        AXIAL,
        scene.frame,
        point_ras_mm(scene.frame, scene.middle_mm[:2], height_mm),
        _PANEL,
        _PANEL,
        max(scene.extent_mm[:2]) * 1.08 / _PANEL,
    )
    values = sample_image(scene.image, whole, order=1, oversampling=2)
    locator = drawing.gray_image(values, scene.window)
    column, row = whole.pixel_of(center)
    ImageDraw.Draw(locator).ellipse(
        (column - 9, row - 9, column + 9, row + 9), outline=color, width=2
    )
    drawing.draw_letters(locator, AXIAL)
    panels = [("axial, whole slice", locator)]
    for plane in (AXIAL, CORONAL, SAGITTAL):
        view = View(plane, scene.frame, center, _PANEL, _PANEL, FIELD_OF_VIEW_MM / _PANEL)
        panel = drawing.gray_image(sample_image(scene.image, view), scene.window)
        drawing.draw_letters(panel, plane)
        if plane is AXIAL:
            plain = panel.copy()
            drawing.draw_scale_bar(plain, view.mm_per_px)
            panels.append(("axial", plain))
        labels = sample_labels(scene.labels, view)
        drawing.draw_outline(
            panel, (labels != 0) & (labels != lesion.number), drawing.NEIGHBOR, 1.2
        )
        drawing.draw_outline(panel, labels == lesion.number, color, 1.4)
        _draw_cross(panel, view.pixel_of(lesion.seed_ras_mm))
        panels.append((f"{plane.name}, outlined", panel))
    return panels


def _draw_cross(panel: Image.Image, at_px: tuple[float, float]) -> None:
    """Four short strokes that leave the place itself free."""
    column, row = at_px
    draw = ImageDraw.Draw(panel)
    for across, down in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        ends = [(column + across * r, row + down * r) for r in (9, 15)]
        draw.line([*ends[0], *ends[1]], fill=_SEED, width=1)
