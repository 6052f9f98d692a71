"""Text, outlines and panels in the style of this project's pictures."""

from __future__ import annotations

import functools
import unicodedata

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from skimage.measure import find_contours

from CMBDetectorLib.reporting.planes import PatientPlane

Color = tuple[int, int, int]

BACKGROUND: Color = (13, 16, 21)
CARD: Color = (22, 26, 33)
CARD_EDGE: Color = (42, 49, 60)
OUTSIDE: Color = (32, 37, 46)
TEXT: Color = (232, 237, 243)
MUTED: Color = (146, 156, 168)
ACCENT: Color = (62, 224, 208)
NEIGHBOR: Color = (120, 144, 190)
AMBER: Color = (245, 184, 75)
AMBER_DARK: Color = (52, 42, 24)

_SMOOTHING = 4
_RAISED = {"²": "2", "³": "3"}
# The font that comes with Pillow knows ASCII and little else.
_REPLACED = str.maketrans(
    {
        "–": "-",
        "—": "-",
        "−": "-",
        "×": "x",
        "≥": ">=",
        "≤": "<=",
        "µ": "u",
        "Ł": "L",
        "ł": "l",
        "Ø": "O",
        "ø": "o",
        "Đ": "D",
        "đ": "d",
        "ß": "ss",
        "Æ": "AE",
        "æ": "ae",
    }
)
_ALSO_KNOWN = "©«°±´·»‘’“”…"


@functools.cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The font that comes with Pillow, in pixels."""
    return ImageFont.load_default(size=size)


def printable(text: str) -> str:
    """The text in characters the font has: accents dropped, other scripts as question marks."""
    known = []
    for character in text.translate(_REPLACED):
        if character in _RAISED or character in _ALSO_KNOWN:
            known.append(character)
            continue
        plain = "".join(
            part
            for part in unicodedata.normalize("NFKD", character)
            if not unicodedata.combining(part)
        )
        known.append(plain if plain.isascii() and plain.isprintable() else "?")
    return "".join(known)


def text_width(text: str, size: int) -> int:
    """Width in pixels of a line as :func:`draw_text` draws it."""
    return round(sum(font(part_size).getlength(part) for part, part_size, _ in _runs(text, size)))


def draw_text(
    draw: ImageDraw.ImageDraw, xy: tuple[float, float], text: str, size: int, color: Color = TEXT
) -> None:
    """Draw a line with its top left corner at ``xy``; ² and ³ are raised figures."""
    x, y = xy
    for part, part_size, raised in _runs(text, size):
        draw.text((x, y + (size * 0.06 if raised else 0)), part, color, font(part_size))
        x += font(part_size).getlength(part)


def shortened(text: str, size: int, width_px: int) -> str:
    """The text, its middle left out where it is wider than ``width_px``."""
    if text_width(text, size) <= width_px:
        return text
    keep = len(text)
    while keep > 8:
        keep -= 1
        candidate = f"{text[: keep - keep // 2]}…{text[len(text) - keep // 2 :]}"
        if text_width(candidate, size) <= width_px:
            return candidate
    return text[:8]


def wrapped(text: str, size: int, width_px: int) -> list[str]:
    """The text in lines not wider than ``width_px``, broken at spaces."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if not lines[-1] or text_width(longer, size) <= width_px:
            lines[-1] = longer
        else:
            lines.append(word)
    return [shortened(line, size, width_px) for line in lines]


def gray_image(values: npt.NDArray[np.float32], window: tuple[float, float]) -> Image.Image:
    """Values between the window's ends as black to white; NaN in the colour of "outside"."""
    low, high = window
    scaled = np.clip((values - low) / (high - low), 0, 1) * 255
    gray = np.nan_to_num(scaled).round().astype(np.uint8)
    pixels = np.repeat(gray[..., None], 3, axis=2)
    pixels[np.isnan(values)] = OUTSIDE
    return Image.fromarray(pixels)


def draw_outline(
    image: Image.Image, mask: npt.NDArray[np.bool_], color: Color, width_px: float = 1.6
) -> None:
    """Draw the border of a mask of the image's size, along the edges of its pixels."""
    if not mask.any():
        return
    size = (image.width * _SMOOTHING, image.height * _SMOOTHING)
    ink = Image.new("L", size, 0)
    pen = ImageDraw.Draw(ink)
    for contour in find_contours(np.pad(mask, 1).astype(np.float32), 0.5):
        points = [((x - 0.5) * _SMOOTHING, (y - 0.5) * _SMOOTHING) for y, x in contour]
        pen.line(points, fill=255, width=round(width_px * _SMOOTHING), joint="curve")
    ink = ink.resize(image.size, Image.Resampling.BOX)
    image.paste(Image.new("RGB", image.size, color), (0, 0), ink)


def draw_letters(image: Image.Image, plane: PatientPlane) -> None:
    """Name the patient's sides at the left, right and top edge of a panel."""
    draw = ImageDraw.Draw(image)
    size = 14
    middle_y = image.height / 2 - size * 0.6
    _draw_letter(draw, (6, middle_y), plane.left_letter, size)
    right_x = image.width - 6 - text_width(plane.right_letter, size)
    _draw_letter(draw, (right_x, middle_y), plane.right_letter, size)
    top_x = image.width / 2 - text_width(plane.top_letter, size) / 2
    _draw_letter(draw, (top_x, 3), plane.top_letter, size)


def draw_scale_bar(image: Image.Image, mm_per_px: float, length_mm: float = 10.0) -> None:
    """A bar of the given length with its name in the lower right corner."""
    draw = ImageDraw.Draw(image)
    right, bottom = image.width - 9, image.height - 9
    left = right - length_mm / mm_per_px
    draw.rectangle((left - 1, bottom - 2, right + 1, bottom + 1), fill=(0, 0, 0))
    draw.rectangle((left, bottom - 1, right, bottom), fill=TEXT)
    label = f"{length_mm:g} mm"
    x = (left + right - text_width(label, 11)) / 2
    _draw_letter(draw, (x, bottom - 17), label, 11)


def draw_pill(
    draw: ImageDraw.ImageDraw, xy: tuple[float, float], text: str, size: int, color: Color
) -> None:
    """Text in a rounded frame with its top left corner at ``xy``."""
    x, y = xy
    width, height = text_width(text, size) + 20, size + 12
    draw.rounded_rectangle((x, y, x + width, y + height), radius=height // 2, outline=color)
    draw_text(draw, (x + 10, y + 4), text, size, color)


def _draw_letter(draw: ImageDraw.ImageDraw, xy: tuple[float, float], text: str, size: int) -> None:
    draw.text(xy, text, TEXT, font(size), stroke_width=2, stroke_fill=(0, 0, 0))


def _runs(text: str, size: int) -> list[tuple[str, int, bool]]:
    """The text in parts of one height: (part, font size, whether it is raised)."""
    runs: list[tuple[str, int, bool]] = []
    start = 0
    known = printable(text)
    for position, character in enumerate(known):
        if character in _RAISED:
            runs += [(known[start:position], size, False)] if position > start else []
            runs.append((_RAISED[character], max(7, round(size * 0.65)), True))
            start = position + 1
    if start < len(known):
        runs.append((known[start:], size, False))
    return runs
