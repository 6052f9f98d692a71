from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.reporting.drawing import ACCENT, AMBER, NEIGHBOR, printable, text_width, wrapped
from CMBDetectorLib.reporting.montage import (
    FIELD_OF_VIEW_MM,
    MOST_LESIONS,
    draw_montage,
    plan_montage,
    write_montage,
)
from CMBDetectorLib.volume import Volume

ORDERS = [
    np.stack([axes, flips], axis=1)
    for axes in itertools.permutations(range(3))
    for flips in itertools.product((1, -1), repeat=3)
]
OUTLINED = ("axial", "coronal", "sagittal")


def grid_of_centers(n: int) -> list[tuple[float, float, float]]:
    places = itertools.product((-12, -6, 0, 6, 12), (-14, -7, 0, 7, 14), (-9, -3, 3, 9))
    return [(float(x), float(y), float(z)) for x, y, z in places][:n]


def coronal_oblique() -> Geometry:
    affine = np.eye(4)
    rotation = Rotation.from_euler("xyz", [20, -8, 10], degrees=True).as_matrix()
    affine[:3, :3] = rotation @ np.array([[0, 0, 1.0], [-1, 0, 0], [0, -1, 0]]).T
    affine[:3, :3] = affine[:3, :3] * [0.9, 0.9, 3.0]
    geometry = Geometry((64, 64, 20), affine)
    affine[:3, 3] = -geometry.center_ras_mm
    return Geometry((64, 64, 20), affine)


def decode(result, image: Volume, path: Path) -> np.ndarray:
    write_montage(result, image, path)
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB")).astype(int)


def near(pixels: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    return np.abs(pixels - color).max(axis=-1) < 40


def panel(pixels: np.ndarray, result, label: int, name: str) -> np.ndarray:
    left, top, right, bottom = plan_montage(result).panels[label, name]
    return pixels[top:bottom, left:right]


@pytest.mark.parametrize("geometry", [None, coronal_oblique()], ids=["axial", "coronal oblique"])
def test_outline_is_around_the_dark_lesion(make_result, tmp_path: Path, geometry) -> None:
    result, image = make_result([(8.0, 5.0, 2.0)], geometry=geometry)
    pixels = decode(result, image, tmp_path / "a.png")
    for name in OUTLINED:
        shown = panel(pixels, result, 1, name)
        outline = near(shown, ACCENT)
        assert outline.sum() > 20, name
        rows, columns = np.nonzero(outline)
        size = shown.shape[0]
        mm_per_px = FIELD_OF_VIEW_MM / size
        # A ball of 5 mm, give or take a voxel, in the middle.
        for ends in ((rows.min(), rows.max()), (columns.min(), columns.max())):
            assert 3 < (ends[1] - ends[0]) * mm_per_px < 5 + 3.5, name
            assert abs(sum(ends) / 2 - size / 2) * mm_per_px < 2.0, name
        middle = slice(size // 2 - 3, size // 2 + 3)
        assert shown[middle, middle].mean() < 60, name
        assert not near(panel(pixels, result, 1, "axial plain"), ACCENT).any()


def test_every_axis_order_gives_the_same_picture(make_result, tmp_path: Path) -> None:
    result, image = make_result([(8.0, 5.0, 2.0)], geometry=coronal_oblique())
    expected = np.asarray(draw_montage(result, image)).astype(int)
    for order in ORDERS:
        turned = replace(
            result,
            label_map=result.label_map.reoriented(order),
            brain_mask=result.brain_mask.reoriented(order),
        )
        pixels = np.asarray(draw_montage(turned, image.reoriented(order))).astype(int)
        difference = np.abs(pixels - expected).max(axis=-1)
        assert (difference > 3).mean() < 1e-4, order.tolist()


def test_overview_is_the_same_in_every_axis_order(make_result) -> None:
    result, image = make_result([], geometry=coronal_oblique())
    expected = np.asarray(draw_montage(result, image)).astype(int)
    for order in ORDERS[1::9]:
        turned = replace(result, brain_mask=result.brain_mask.reoriented(order))
        pixels = np.asarray(draw_montage(turned, image.reoriented(order))).astype(int)
        assert (np.abs(pixels - expected).max(axis=-1) > 3).mean() < 1e-4, order.tolist()


@pytest.mark.parametrize(
    ("offset_ras_mm", "seen_in"),
    [
        ((9, 0, 0), {"axial": "left", "coronal": "left"}),
        ((0, 9, 0), {"axial": "top", "sagittal": "left"}),
        ((0, 0, 9), {"coronal": "top", "sagittal": "top"}),
    ],
    ids=["patient's right", "front", "top"],
)
def test_a_bright_spot_is_seen_on_the_right_side(make_result, offset_ras_mm, seen_in) -> None:
    result, image = make_result([(0.0, 0.0, 0.0)])
    ijk = np.rint(image.geometry.ras_mm_to_ijk(offset_ras_mm)).astype(int)
    array = image.array.copy()
    array[tuple(slice(n - 1, n + 2) for n in ijk)] = 1000.0
    pixels = np.asarray(draw_montage(result, Volume(array, image.geometry))).astype(int)
    for name in OUTLINED:
        shown = panel(pixels, result, 1, name)
        size = shown.shape[0]
        # The letters are outside this window.
        inner = shown[24:-24, 24:-24].min(axis=-1)
        rows, columns = np.nonzero(inner > 250)
        if name not in seen_in:
            assert len(rows) < 9, name
            continue
        row, column = rows.mean() + 24, columns.mean() + 24
        distance_px = 9 / (FIELD_OF_VIEW_MM / size)
        expected = {
            "left": (size / 2, size / 2 - distance_px),
            "top": (size / 2 - distance_px, size / 2),
        }[seen_in[name]]
        np.testing.assert_allclose((row, column), expected, atol=2.2 / (FIELD_OF_VIEW_MM / size))


def test_proportions_are_true_for_thick_slices(make_result) -> None:
    affine = np.diag([-0.5, 0.5, 4.0, 1.0])
    geometry = Geometry((110, 120, 14), affine)
    affine[:3, 3] = -geometry.center_ras_mm
    result, image = make_result([(0.0, 0.0, 0.0)], geometry=Geometry(geometry.shape, affine))
    array = np.zeros(geometry.shape, dtype=np.int16)
    i, j, k = np.rint(np.array(result.detections[0].center_ijk)).astype(int)
    array[i - 4 : i + 4, j - 8 : j + 8, k] = 1
    result = replace(result, label_map=result.label_map.with_array(array))
    pixels = np.asarray(draw_montage(result, image)).astype(int)
    for name, size_mm in (("axial", (8, 4)), ("coronal", (4, 4)), ("sagittal", (4, 8))):
        shown = panel(pixels, result, 1, name)
        rows, columns = np.nonzero(near(shown, ACCENT))
        mm_per_px = FIELD_OF_VIEW_MM / shown.shape[0]
        assert np.ptp(rows) * mm_per_px == pytest.approx(size_mm[0], abs=0.6), name
        assert np.ptp(columns) * mm_per_px == pytest.approx(size_mm[1], abs=0.6), name


def test_other_lesions_nearby_are_outlined_in_another_color(make_result) -> None:
    result, image = make_result([(0.0, 0.0, 0.0), (9.0, 0.0, 0.0)])
    pixels = np.asarray(draw_montage(result, image)).astype(int)
    shown = panel(pixels, result, 1, "axial")
    half = shown.shape[1] // 2
    assert near(shown[:, : half - 20], NEIGHBOR).sum() > 10
    assert not near(shown[:, : half - 20], ACCENT).any()
    assert near(shown[:, half - 20 :], ACCENT).sum() > 20


@pytest.mark.parametrize("n", [8, 9, MOST_LESIONS + 3])
def test_layout_has_a_card_for_each_lesion_without_overlap(make_result, n: int) -> None:
    result, image = make_result(grid_of_centers(n), radius_mm=1.2)
    assert len(result.detections) == n
    layout = plan_montage(result)
    assert sorted(layout.cards) == list(range(1, min(n, MOST_LESIONS) + 1))
    occupied = np.zeros((layout.height, layout.width), dtype=int)
    for left, top, right, bottom in layout.panels.values():
        occupied[top:bottom, left:right] += 1
    assert occupied.max() == 1
    picture = draw_montage(result, image)
    assert picture.size == (layout.width, layout.height)
    footer = np.asarray(picture).astype(int)[-45:, -250:]
    assert near(footer, AMBER).any() == (n > MOST_LESIONS)


def test_none_found_shows_the_brain_that_was_searched(make_result, tmp_path: Path) -> None:
    result, image = make_result([])
    pixels = decode(result, image, tmp_path / "a.png")
    layout = plan_montage(result)
    assert len(layout.panels) == 10
    for _, name in layout.panels:
        shown = panel(pixels, result, 0, name)
        assert near(shown, NEIGHBOR).sum() > 50, name
        assert shown[shown.shape[0] // 2, shown.shape[1] // 2].mean() > 40, name


def test_warnings_make_room_for_themselves(make_result) -> None:
    quiet, image = make_result([(0.0, 0.0, 0.0)])
    long_warning = "slices are 4 mm apart and small microbleeds may be missed " * 6
    loud, _ = make_result([(0.0, 0.0, 0.0)], warnings=(long_warning, "8-bit"))
    assert plan_montage(loud).height > plan_montage(quiet).height + 60
    bottom = plan_montage(loud).cards[1][1]
    pixels = np.asarray(draw_montage(loud, image)).astype(int)
    left_half = pixels[100:bottom, : pixels.shape[1] // 2]
    assert near(left_half, AMBER).any()


@pytest.mark.parametrize("fill", [np.nan, 7.0])
def test_senseless_images_are_still_drawn(make_result, fill: float) -> None:
    result, image = make_result([(0.0, 0.0, 0.0)])
    array = np.full_like(image.array, fill)
    mask = result.brain_mask.with_array(np.zeros_like(result.brain_mask.array))
    draw_montage(replace(result, brain_mask=mask), image.with_array(array))


def test_text_is_reduced_to_what_the_font_has() -> None:
    assert printable("größe – 3 × 4 mm³ Łódź 脳\n") == "grosse - 3 x 4 mm³ Lodz ??"
    lines = wrapped("one two three four five six " + "x" * 300, 15, 120)
    assert len(lines) > 2
    assert max(text_width(line, 15) for line in lines) <= 120
