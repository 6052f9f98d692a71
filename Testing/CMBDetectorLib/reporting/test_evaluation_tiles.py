from __future__ import annotations

import io
import math
from dataclasses import replace
from multiprocessing.reduction import ForkingPickler

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from CMBDetectorLib.evaluation.label_maps import lesions_from_labels, lesions_from_points
from CMBDetectorLib.evaluation.lesions import LesionSet, MarkedLesion
from CMBDetectorLib.evaluation.outcomes import LesionOutcome, ScanOutcome
from CMBDetectorLib.evaluation.rule import MatchingRule
from CMBDetectorLib.evaluation.scan import evaluate_scan
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.reporting.drawing import OUTSIDE
from CMBDetectorLib.reporting.evaluation_tiles import (
    GAP_PX,
    PANEL_PX,
    PREDICTION_COLOR,
    TILE_FIELD_OF_VIEW_MM,
    TILE_SIZE_PX,
    TRUTH_COLOR,
    draw_error_tiles,
)
from CMBDetectorLib.volume import Volume

MM_PER_PX = TILE_FIELD_OF_VIEW_MM / PANEL_PX
VALUES = MatchingRule(lesions_are="values")
TRUE_MM, FALSE_MM, NEAR_MM = (8.1, 5.1, 2.7), (-9.1, -6.1, -3.3), (-9.1, 1.1, -3.3)


def ball_labels(geometry: Geometry, balls: dict[int, tuple[tuple[float, ...], float]]) -> Volume:
    """Values of a label map as balls: number -> (center in RAS mm, diameter in mm)."""
    ras_mm = geometry.ijk_to_ras_mm(np.moveaxis(np.indices(geometry.shape), 0, -1))
    labels = np.zeros(geometry.shape, dtype=np.int16)
    for number, (center_mm, diameter_mm) in balls.items():
        labels[np.linalg.norm(ras_mm - center_mm, axis=-1) <= diameter_mm / 2] = number
    return Volume(labels, geometry)


def grid(spacing=(0.8, 0.8, 2.0), rotation: np.ndarray | None = None) -> Geometry:
    """A left-handed grid of about 60 mm a side around the origin."""
    affine = np.diag([-spacing[0], spacing[1], spacing[2], 1.0])
    if rotation is not None:
        affine[:3, :3] = rotation @ affine[:3, :3]
    shape = tuple(round(60 / step) for step in spacing)
    affine[:3, 3] = -Geometry(shape, affine).center_ras_mm
    return Geometry(shape, affine)


def smooth_image(geometry: Geometry, rotation: np.ndarray | None = None) -> np.ndarray:
    ras_mm = geometry.ijk_to_ras_mm(np.moveaxis(np.indices(geometry.shape), 0, -1))
    if rotation is not None:
        ras_mm = ras_mm @ rotation
    x, y, z = np.moveaxis(ras_mm, -1, 0)
    return 500 + 4 * y + 60 * np.sin(x / 4) + 30 * np.cos(z / 5)


def simple_scan(geometry: Geometry, rotation: np.ndarray | None = None):
    """One missed lesion and one false positive, beside which lies a true lesion of its own."""
    turned = np.eye(3) if rotation is None else rotation
    place = {name: tuple(turned @ name) for name in (TRUE_MM, FALSE_MM, NEAR_MM)}
    truth = ball_labels(geometry, {1: (place[TRUE_MM], 5.03), 2: (place[NEAR_MM], 4.0)})
    prediction = ball_labels(geometry, {4: (place[FALSE_MM], 4.0), 7: (place[NEAR_MM], 2.4)})
    image = smooth_image(geometry, rotation)
    image[truth.array > 0] = 60.0
    volume = Volume(image.astype(np.float32), geometry)
    return truth, prediction, volume


def tiles_of(truth: Volume, prediction: Volume, image: Volume | None):
    true, predicted = (lesions_from_labels(labels, VALUES) for labels in (truth, prediction))
    outcome = evaluate_scan("sub-01", true, predicted, MatchingRule())
    return draw_error_tiles(outcome, true, predicted, image)


def pixels(tile) -> np.ndarray:
    with Image.open(io.BytesIO(tile.picture)) as picture:
        assert picture.format == "JPEG"
        assert picture.size == TILE_SIZE_PX
        return np.asarray(picture.convert("RGB")).astype(int)


def panels(tile) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Axial plain, axial outlined, coronal outlined."""
    shown = pixels(tile)
    starts = [number * (PANEL_PX + GAP_PX) for number in range(3)]
    plain, axial, coronal = (shown[:, start : start + PANEL_PX] for start in starts)
    return plain, axial, coronal


def inked(shown: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    """Pixels that are drawn on in this color: everything else is gray."""
    red, green, blue = np.moveaxis(shown, -1, 0)
    return (red - blue > 80) if color == TRUTH_COLOR else (green - red > 80)


def extent_mm(marked: np.ndarray) -> tuple[float, float, float, float]:
    """Middle and size across, middle and size down, from the panel's center."""
    rows, columns = np.nonzero(marked)
    half = (PANEL_PX - 1) / 2
    across = ((columns.min() + columns.max()) / 2 - half, np.ptp(columns))
    down = ((rows.min() + rows.max()) / 2 - half, np.ptp(rows))
    return tuple(value * MM_PER_PX for value in (*across, *down))


def test_every_error_has_a_tile_in_order(evaluation_demo) -> None:
    for outcome in evaluation_demo.outcomes:
        tiles = [tile for tile in evaluation_demo.tiles if tile.scan_id == outcome.scan_id]
        errors = outcome.of("missed", "false", "second hit")
        assert [tile.entry for tile in tiles] == list(errors)
        for tile in tiles:
            assert (tile.side, tile.number, tile.outcome) == (
                tile.entry.side,
                tile.entry.lesion.number,
                tile.entry.outcome,
            )


def test_tiles_are_small_and_travel_between_processes(evaluation_demo) -> None:
    tiles = evaluation_demo.tiles
    assert np.mean([len(tile.picture) for tile in tiles]) < 6000
    again = ForkingPickler.loads(ForkingPickler.dumps(tuple(tiles)))
    assert [(tile.scan_id, tile.number, tile.picture) for tile in again] == [
        (tile.scan_id, tile.number, tile.picture) for tile in tiles
    ]


def test_outline_is_around_the_dark_lesion(tiles) -> None:
    missed, false = tiles
    assert (missed.outcome, false.outcome) == ("missed", "false")
    plain, *outlined = panels(missed)
    assert not inked(plain, TRUTH_COLOR).any()
    dark = plain.max(axis=-1) < 60
    dark[:, :20] = dark[90:] = False  # the letter and the bar
    for shown in (*outlined, np.where(dark[..., None], TRUTH_COLOR, 0)):
        x, width, y, height = extent_mm(inked(shown, TRUTH_COLOR))
        assert abs(x) < 0.6
        assert abs(y) < 1.2
        assert 4 < width < 6.5
        assert 4 < height < 7.5
    for shown in outlined:
        assert not inked(shown, PREDICTION_COLOR).any()


def test_neighbors_of_both_sides_are_drawn_where_they_are(tiles) -> None:
    _, false = tiles
    _, axial, _ = panels(false)
    x, width, y, height = extent_mm(inked(axial, TRUTH_COLOR))
    assert abs(x) < 0.6
    assert y == pytest.approx(FALSE_MM[1] - NEAR_MM[1], abs=0.7)
    assert max(width, height) < 5.5
    rows, _ = np.nonzero(inked(axial, PREDICTION_COLOR))
    assert rows.max() > PANEL_PX / 2 > rows.min()


def test_radiological_convention() -> None:
    """A true lesion to the patient's left of a false positive is on the right in the picture."""
    geometry = grid()
    image = Volume(smooth_image(geometry), geometry)
    truth = ball_labels(geometry, {1: ((-7.0, 0.0, 0.0), 4.0)})
    prediction = ball_labels(geometry, {1: ((0.0, 0.0, 0.0), 4.0)})
    _, false = tiles_of(truth, prediction, image)
    for shown in panels(false)[1:]:
        assert extent_mm(inked(shown, TRUTH_COLOR))[0] == pytest.approx(7, abs=0.7)
    above = ball_labels(geometry, {1: ((0.0, 0.0, 8.0), 4.0)})
    _, false = tiles_of(above, prediction, image)
    assert extent_mm(inked(panels(false)[2], TRUTH_COLOR))[2] == pytest.approx(-8, abs=1.2)


@pytest.fixture(scope="module")
def scan() -> tuple[Volume, Volume, Volume]:
    return simple_scan(grid())


@pytest.fixture(scope="module")
def tiles(scan):
    return tiles_of(*scan)


def test_every_order_of_axes_gives_the_same_tile(scan, tiles, axis_order: np.ndarray) -> None:
    """The slice number is that of the file: against nibabel, along the widest spacing."""
    turned = [volume.reoriented(axis_order) for volume in scan]
    image = turned[2]
    axis = int(np.argmax(nib.affines.voxel_sizes(image.geometry.affine)))
    for first, second in zip(tiles, tiles_of(*turned), strict=True):
        difference = np.abs(pixels(first) - pixels(second))
        assert difference.max() <= 12
        assert difference.mean() < 0.1
        center = second.entry.lesion.center_ras_mm
        index = nib.affines.apply_affine(np.linalg.inv(image.geometry.affine), center)[axis]
        assert second.slice_number == round(index) + 1
        assert second.n_slices == image.array.shape[axis]


def test_tilted_slices_give_the_same_tile(tiles) -> None:
    rotation = Rotation.from_euler("xyz", [14, -9, 11], degrees=True).as_matrix()
    tilted = tiles_of(*simple_scan(grid(rotation=rotation), rotation))
    for first, second in zip(tiles, tilted, strict=True):
        assert np.abs(pixels(first) - pixels(second)).mean() < 0.5


def test_image_and_lesions_on_grids_of_their_own(scan, tiles) -> None:
    image = scan[2]
    fine = grid((0.5, 0.7, 1.1))
    rotated = grid((0.6, 0.6, 1.4), Rotation.from_euler("z", 30, degrees=True).as_matrix())
    other_truth = ball_labels(rotated, {1: (TRUE_MM, 5.0), 2: (NEAR_MM, 4.0)})
    other_prediction = ball_labels(fine, {4: (FALSE_MM, 4.0), 7: (NEAR_MM, 2.4)})
    shown = tiles_of(other_truth, other_prediction, image)
    for first, second, color in zip(tiles, shown, (TRUTH_COLOR, PREDICTION_COLOR), strict=True):
        for before, after in zip(panels(first)[1:], panels(second)[1:], strict=True):
            middle = slice(PANEL_PX // 4, 3 * PANEL_PX // 4)
            old = extent_mm(inked(before, color)[middle, middle])
            new = extent_mm(inked(after, color)[middle, middle])
            # Slices are 2 mm thick in the one, 1.4 and 1.1 mm in the other.
            assert old[:3] == pytest.approx(new[:3], abs=1.2)
            assert old[3] == pytest.approx(new[3], abs=2.5)
        assert first.slice_number == second.slice_number


def test_points_have_rings() -> None:
    geometry = grid()
    image = Volume(smooth_image(geometry), geometry)
    true = lesions_from_points(np.array([TRUE_MM]))
    predicted = lesions_from_points(np.array([FALSE_MM]), scores=[0.4])
    outcome = evaluate_scan("sub-01", true, predicted, MatchingRule())
    tiles = draw_error_tiles(outcome, true, predicted, image)
    for tile, color in zip(tiles, (TRUTH_COLOR, PREDICTION_COLOR), strict=True):
        for shown in panels(tile)[1:]:
            x, width, y, height = extent_mm(inked(shown, color))
            assert width == pytest.approx(5, abs=0.8)
            assert height == pytest.approx(5, abs=0.8)
            # The plane goes through the nearest voxel, half a voxel off at most.
            assert math.hypot(x, y) < 1.3
            assert not inked(shown, color)[PANEL_PX // 2, PANEL_PX // 2]


def test_without_an_image_outlines_are_on_plain_ground(scan) -> None:
    truth, prediction, _ = scan
    for tile in tiles_of(truth, prediction, None):
        assert not tile.shows_image
        plain, axial, _ = panels(tile)
        assert (np.abs(plain - OUTSIDE).max(axis=-1) < 12).mean() > 0.8
        # The words are in the first panel only.
        assert (plain[:30].mean(axis=-1) > 80).any()
        assert tile.outcome == "false" or not (axial[:30].mean(axis=-1) > 80).any()
        color = TRUTH_COLOR if tile.outcome == "missed" else PREDICTION_COLOR
        assert abs(extent_mm(inked(axial, color)[30:80, 30:80])[1] - 4.5) < 2
        assert tile.n_slices == truth.geometry.shape[2]


def test_points_without_an_image_have_no_slice() -> None:
    true, predicted = (
        lesions_from_points(np.array([TRUE_MM])),
        lesions_from_points(np.empty((0, 3))),
    )
    outcome = evaluate_scan("sub-01", true, predicted, MatchingRule())
    (tile,) = draw_error_tiles(outcome, true, predicted, None)
    assert (tile.slice_number, tile.n_slices) == (None, None)
    assert inked(panels(tile)[1], TRUTH_COLOR).any()


@pytest.mark.parametrize("background", [0.0, np.nan])
def test_background_does_not_set_the_window(scan, background: float) -> None:
    """With four fifths of background, tissue still spans dark to bright."""
    truth, prediction, image = scan
    ras_mm = image.geometry.ijk_to_ras_mm(np.moveaxis(np.indices(image.geometry.shape), 0, -1))
    far = np.linalg.norm(ras_mm - TRUE_MM, axis=-1) > 9
    cut = image.with_array(np.where(far, np.float32(background), image.array))
    missed, _ = tiles_of(truth, prediction, cut)
    plain = panels(missed)[0].mean(axis=-1)
    rows, columns = np.indices(plain.shape) - (PANEL_PX - 1) / 2
    distance_mm = np.hypot(rows, columns) * MM_PER_PX
    assert plain[distance_mm < 1].mean() < 40
    assert plain[(distance_mm > 4) & (distance_mm < 7)].mean() > 110
    assert plain[(distance_mm > 11) & (distance_mm < 14)].mean() < 15


@pytest.mark.parametrize("value", [0.0, 7.0, np.nan, np.inf])
def test_image_of_one_value_can_be_drawn(scan, value: float) -> None:
    truth, prediction, image = scan
    flat = image.with_array(np.full(image.geometry.shape, value, dtype=np.float32))
    for tile in tiles_of(truth, prediction, flat):
        assert inked(panels(tile)[1], TRUTH_COLOR).any() or tile.outcome == "false"


def test_lesion_beyond_the_image_is_drawn_on_the_ground_of_outside(scan) -> None:
    truth, prediction, image = scan
    stop = (image.geometry.shape[0], image.geometry.shape[1], 8)
    lower = Volume(image.array[:, :, :8], image.geometry.cropped((0, 0, 0), stop))
    missed, _ = tiles_of(truth, prediction, lower)
    assert missed.slice_number is None
    plain, axial, _ = panels(missed)
    assert (np.abs(plain - OUTSIDE).max(axis=-1) < 12).mean() > 0.8
    assert inked(axial, TRUTH_COLOR).any()


def test_immense_grids_are_never_filled() -> None:
    """A label map of this grid would take 8 TB."""
    geometry = Geometry((20000, 20000, 20000), np.diag([0.5, 0.5, 0.5, 1.0]))
    rng = np.random.default_rng(3)
    offsets = np.stack(np.meshgrid(*[range(-3, 4)] * 3), axis=-1).reshape(-1, 3)
    offsets = offsets[np.linalg.norm(offsets, axis=1) <= 3]
    starts = rng.integers(10, 19990, (3000, 3))
    voxels = tuple(start + offsets for start in starts)
    lesions = tuple(
        MarkedLesion(number, tuple(geometry.ijk_to_ras_mm(start).tolist()))
        for number, start in enumerate(starts, start=1)
    )
    predicted = LesionSet(lesions, geometry, voxels)
    entries = tuple(LesionOutcome("prediction", lesion, "false") for lesion in lesions[::300])
    outcome = ScanOutcome("sub-01", entries)
    for tile in draw_error_tiles(outcome, LesionSet((), geometry), predicted, None):
        for shown in panels(tile)[1:]:
            _, width, _, height = extent_mm(inked(shown, PREDICTION_COLOR)[40:72, 40:72])
            assert width == pytest.approx(3.5, abs=0.8)
            assert height == pytest.approx(3.5, abs=0.8)


def test_scan_without_errors_has_no_tiles(evaluation_demo) -> None:
    true, predicted = evaluation_demo.lesions[0]
    without = replace(evaluation_demo.outcomes[0], lesions=())
    assert draw_error_tiles(without, true, predicted, None) == ()
