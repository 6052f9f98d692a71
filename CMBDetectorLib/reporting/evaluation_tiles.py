"""A small picture of every missed lesion and every false alarm of a scan."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from CMBDetectorLib.evaluation.lesions import LesionSet
from CMBDetectorLib.evaluation.outcomes import LesionOutcome, Outcome, ScanOutcome, Side
from CMBDetectorLib.geometry import FloatArray, Geometry
from CMBDetectorLib.reporting import drawing
from CMBDetectorLib.reporting.evaluation_local_image import LocalImage
from CMBDetectorLib.reporting.evaluation_sparse import SparseLesions
from CMBDetectorLib.reporting.planes import (
    AXIAL,
    CORONAL,
    PatientPlane,
    View,
    sample_image,
    slice_frame,
)
from CMBDetectorLib.reporting.scene import nearest_voxel, triple
from CMBDetectorLib.volume import Volume

TILE_FIELD_OF_VIEW_MM = 30.0
TRUTH_COLOR: drawing.Color = drawing.AMBER
PREDICTION_COLOR: drawing.Color = drawing.ACCENT
PANEL_PX = 112
GAP_PX = 4
TILE_SIZE_PX = (3 * PANEL_PX + 2 * GAP_PX, PANEL_PX)
"""Width and height of a tile: axial plain, axial with outlines, coronal with outlines."""

_MM_PER_PX = TILE_FIELD_OF_VIEW_MM / PANEL_PX
_RING_RADIUS_MM = 2.5
# The lesion in question, and others: where two outlines coincide, the truth shows on both sides.
_WIDTHS_PX: dict[drawing.Color, tuple[float, float]] = {
    TRUTH_COLOR: (2.2, 1.8),
    PREDICTION_COLOR: (1.8, 0.9),
}
_JPEG_QUALITY = 78


@dataclass(frozen=True)
class ErrorTile:
    """One false positive or false negative in pictures; plain data, small.

    Attributes
    ----------
    scan_id
        Its scan.
    entry
        The lesion and what became of it: ``missed``, ``false`` or ``second hit``.
    picture
        A JPEG of TILE_SIZE_PX: the axial plane without and with outlines, and the coronal one.
    slice_number, n_slices
        The slice that holds the center, counted from 1 along the slice axis in the order of the
        file, and how many there are: of the image, else of the lesion's own label map; None with
        neither, or where the center is beyond it.
    shows_image
        False where no image was given, so that outlines are all there is to see.
    """

    scan_id: str
    entry: LesionOutcome
    picture: bytes
    slice_number: int | None
    n_slices: int | None
    shows_image: bool

    @property
    def side(self) -> Side:
        """``truth`` of a missed lesion, else ``prediction``."""
        return self.entry.side

    @property
    def number(self) -> int:
        """Of the lesion, on its side."""
        return self.entry.lesion.number

    @property
    def outcome(self) -> Outcome:
        """``missed``, ``false`` or ``second hit``."""
        return self.entry.outcome


def draw_error_tiles(
    outcome: ScanOutcome, true: LesionSet, predicted: LesionSet, image: Volume | None
) -> tuple[ErrorTile, ...]:
    """Draw every missed lesion, false positive and second hit of a scan.

    Planes are axial and coronal whatever the axes of the image, tilted as its slices are, in
    radiological convention (the patient's right on the left), 30 mm wide. The truth is outlined
    in TRUTH_COLOR, the prediction in PREDICTION_COLOR, the lesion in question in the middle;
    a lesion that is a point has a ring. Black and white are percentiles of the image's own
    intensities around the lesion, background of 0 and NaN aside.

    Parameters
    ----------
    outcome
        Of the scan whose lesions ``true`` and ``predicted`` are.
    true, predicted
        Each on any grid of its own, or as points.
    image
        On any grid; None draws outlines on a plain ground.

    Returns
    -------
    tuple of ErrorTile
        In the order of ``outcome.lesions``.

    Raises
    ------
    KeyError
        If ``outcome`` has a lesion whose number neither set knows.
    """
    errors = outcome.of("missed", "false", "second hit")
    if not errors:
        return ()
    sides = {"truth": SparseLesions(true), "prediction": SparseLesions(predicted)}
    own_geometry = next(
        (part.geometry for part in (predicted, true) if part.geometry is not None), None
    )
    frame = np.eye(3)
    if image is not None:
        frame = slice_frame(image.geometry)
    elif own_geometry is not None:
        frame = slice_frame(own_geometry)
    tiles = []
    for entry in errors:
        lesions = sides[entry.side]
        row = lesions.row_of(entry.lesion.number)
        center_mm = _plane_center(lesions, row, frame, image)
        grid = lesions.geometry if image is None else image.geometry
        slice_number, n_slices = _slice_of(entry.lesion.center_ras_mm, grid)
        picture = _draw(sides, (entry.side, row), center_mm, frame, image)
        tiles.append(
            ErrorTile(
                scan_id=outcome.scan_id,
                entry=entry,
                picture=picture,
                slice_number=slice_number,
                n_slices=n_slices,
                shows_image=image is not None,
            )
        )
    return tuple(tiles)


def _plane_center(
    lesions: SparseLesions, row: int, frame: FloatArray, image: Volume | None
) -> tuple[float, float, float]:
    """A voxel of the lesion, so that its planes show it; of a point the nearest voxel shown."""
    voxels_mm = lesions.voxels_ras_mm(row)
    if len(voxels_mm):
        distance_mm = np.linalg.norm(voxels_mm - voxels_mm.mean(axis=0), axis=1)
        # In the frame's order, so that the grid's order of axes makes no difference in a tie.
        x, y, z = np.round(voxels_mm @ frame, 3).T
        first = np.lexsort((x, y, z, np.round(distance_mm, 3)))[0]
        return triple(voxels_mm[first])
    point = lesions.center_ras_mm(row)
    return point if image is None else nearest_voxel(image.geometry, point)


def _slice_of(
    center_ras_mm: tuple[float, float, float], grid: Geometry | None
) -> tuple[int | None, int | None]:
    if grid is None:
        return None, None
    axis = grid.slice_axis
    index = int(np.rint(grid.ras_mm_to_ijk(center_ras_mm)[axis]))
    n_slices = grid.shape[axis]
    return (index + 1 if 0 <= index < n_slices else None), n_slices


def _draw(
    sides: dict[str, SparseLesions],
    subject: tuple[Side, int],
    center_mm: tuple[float, float, float],
    frame: FloatArray,
    image: Volume | None,
) -> bytes:
    """The three panels; ``subject`` is the side and the row of the lesion in question."""
    canvas = Image.new("RGB", TILE_SIZE_PX, drawing.BACKGROUND)
    local = (
        None
        if image is None
        else LocalImage.around(image, center_mm, frame, TILE_FIELD_OF_VIEW_MM / 2)
    )
    left = 0
    for plane in (AXIAL, CORONAL):
        view = View(plane, frame, center_mm, PANEL_PX, PANEL_PX, _MM_PER_PX)
        panel = _ground(view, local)
        if plane is AXIAL:
            plain = panel.copy()
            _draw_marks(plain, plane, has_image=image is not None)
            canvas.paste(plain, (left, 0))
            left += PANEL_PX + GAP_PX
        for side, color in (("truth", TRUTH_COLOR), ("prediction", PREDICTION_COLOR)):
            row = subject[1] if side == subject[0] else None
            _draw_lesions(panel, view, sides[side], row, color)
        canvas.paste(panel, (left, 0))
        left += PANEL_PX + GAP_PX
    stream = io.BytesIO()
    # Colors at full resolution: outlines are a pixel or two wide.
    canvas.save(stream, format="JPEG", quality=_JPEG_QUALITY, subsampling=0, optimize=True)
    return stream.getvalue()


def _ground(view: View, local: LocalImage | None) -> Image.Image:
    if local is None:
        return Image.new("RGB", (view.width_px, view.height_px), drawing.OUTSIDE)
    return drawing.gray_image(sample_image(local.volume, view), local.window)


def _draw_marks(panel: Image.Image, plane: PatientPlane, *, has_image: bool) -> None:
    """The patient's right, and a bar of 10 mm, where nothing else is drawn."""
    pen = ImageDraw.Draw(panel)
    right, bottom = panel.width - 6, panel.height - 6
    bar = 10.0 / _MM_PER_PX
    pen.rectangle((right - bar - 1, bottom - 2, right + 1, bottom + 1), fill=(0, 0, 0))
    pen.rectangle((right - bar, bottom - 1, right, bottom), fill=drawing.TEXT)
    middle = panel.height / 2 - 7
    pen.text(
        (4, middle),
        plane.left_letter,
        drawing.TEXT,
        drawing.font(11),
        stroke_width=2,
        stroke_fill=(0, 0, 0),
    )
    if not has_image:
        drawing.draw_text(pen, (8, 8), "no image given", 11, drawing.MUTED)


def _draw_lesions(
    panel: Image.Image,
    view: View,
    lesions: SparseLesions,
    subject: int | None,
    color: drawing.Color,
) -> None:
    if lesions.geometry is None:
        for row, is_subject in lesions.points_near(view, subject):
            _draw_ring(panel, view.pixel_of(lesions.center_ras_mm(row)), color, is_subject)
        return
    subject_width, other_width = _WIDTHS_PX[color]
    labels = lesions.sample(view)
    others: npt.NDArray[np.int64] = np.unique(labels)
    for label in others.tolist():
        if label and label - 1 != subject:
            drawing.draw_outline(panel, labels == label, color, other_width)
    if subject is not None:
        drawing.draw_outline(panel, labels == subject + 1, color, subject_width)


def _draw_ring(
    panel: Image.Image, center_px: tuple[float, float], color: drawing.Color, is_subject: bool
) -> None:
    column, row = center_px
    radius = _RING_RADIUS_MM / _MM_PER_PX
    ImageDraw.Draw(panel).ellipse(
        (column - radius, row - radius, column + radius, row + radius),
        outline=color,
        width=2 if is_subject else 1,
    )
