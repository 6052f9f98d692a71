from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from CMBDetectorLib.errors import OutputError
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.volume import Volume
from training.datasets.check_pictures import (
    COLORS,
    RED,
    draw_check,
    write_check,
)
from training.datasets.growing import grow_masks
from training.datasets.grown import GrownMasks


def spots(n: int) -> tuple[Volume, GrownMasks]:
    """n dark spots in rows, grown."""
    side = int(np.ceil(np.sqrt(n)))
    geometry = Geometry((12 * side + 12, 12 * side + 12, 11), np.diag([-0.8, 0.8, 1.5, 1.0]))
    array = np.random.default_rng(0).normal(800, 5, geometry.shape).astype(np.float32)
    seeds = []
    for number in range(n):
        i, j = (12 * (part + 1) for part in divmod(number, side))
        array[i : i + 3, j : j + 3, 4:6] = 200
        seeds.append(geometry.ijk_to_ras_mm([i + 1, j + 1, 5]))
    image = Volume(array, geometry)
    return image, grow_masks(image, seeds)


def pixels_of(picture: Image.Image, color: tuple[int, int, int]) -> int:
    return int((np.asarray(picture) == color).all(axis=-1).sum())


def test_every_lesion_is_on_a_page() -> None:
    image, grown = spots(9)
    assert len(grown.with_voxels) == 9
    pages = draw_check(image, grown, title="sub-1_T2starw", most_a_page=4)
    assert len(pages) == 3
    assert pages[0].size == pages[1].size
    assert pages[2].height < pages[0].height
    ink = [pixels_of(page, COLORS["grown"]) for page in pages]
    assert ink[0] > 3 * ink[2] > 0


def test_refused_ones_are_shown_in_red() -> None:
    image, grown = spots(2)
    plain = draw_check(image, grown)[0]
    assert pixels_of(plain, RED) == 0
    far = image.geometry.corners_ras_mm().max(axis=0) + 50
    seeds = [grown.lesions[0].seed_ras_mm, image.geometry.ijk_to_ras_mm([18, 18, 5]), far]
    mixed = grow_masks(image, seeds)
    assert [lesion.status for lesion in mixed.lesions] == ["grown", "refused", "outside"]
    picture = draw_check(image, mixed)[0]
    assert picture.height > plain.height
    rows = np.flatnonzero((np.asarray(picture) == RED).all(axis=-1).any(axis=1))
    # In the cards of both, which are the lower two of three.
    assert rows.min() > picture.height / 3
    assert np.ptp(rows) > picture.height / 4


def test_outline_is_where_the_mask_is() -> None:
    """In the close-up the ink of the outline surrounds what is dark."""
    image, grown = spots(1)
    shown = np.asarray(draw_check(image, grown)[0]).astype(int)
    ink = (shown == COLORS["grown"]).all(axis=-1)
    bare = GrownMasks(image.with_array(np.zeros_like(grown.labels.array)), grown.lesions)
    without = np.asarray(draw_check(image, bare)[0]).astype(int)
    changed = (shown != without).any(axis=-1)
    assert changed.any()
    columns = np.flatnonzero(changed.any(axis=0))
    breaks = np.flatnonzero(np.diff(columns) > 20)
    assert len(breaks) == 2, "three close-ups carry an outline"
    for part in np.split(columns, breaks + 1):
        rows = np.flatnonzero(changed[:, part].any(axis=1))
        box = without[rows[0] : rows[-1] + 1, part[0] : part[-1] + 1]
        assert np.median(box[..., 0]) < 100
        mm_per_px = 30 / 168
        width_mm = (part[-1] - part[0] + 1) * mm_per_px
        assert width_mm == pytest.approx(3 * 0.8, abs=0.6)
    assert ink[changed].any()


def test_same_picture_in_every_axis_order(axis_order: np.ndarray) -> None:
    image, grown = spots(1)
    expected = np.asarray(draw_check(image, grown)[0]).astype(int)
    turned = GrownMasks(grown.labels.reoriented(axis_order), grown.lesions)
    picture = np.asarray(draw_check(image.reoriented(axis_order), turned)[0]).astype(int)
    assert picture.shape == expected.shape
    # The slice's number counts in the order of the file, and splines round differently.
    differs = np.abs(picture - expected).max(axis=-1) > 8
    assert differs[:, 260:].mean() < 1e-3


def test_no_lesion_is_a_page_that_says_so() -> None:
    image, _ = spots(1)
    (page,) = draw_check(image, grow_masks(image, []), title="x")
    assert page.height < 200


def test_files(tmp_path: Path) -> None:
    image, grown = spots(3)
    path = tmp_path / "new" / "a_desc-check.png"
    paths = write_check(path, image, grown, title="Ä/b", most_a_page=2)
    assert [path.name for path in paths] == ["a_desc-check.png", "a_desc-check2.png"]
    assert sorted(paths) == sorted((tmp_path / "new").iterdir())
    for path, page in zip(paths, draw_check(image, grown, title="Ä/b", most_a_page=2), strict=True):
        with Image.open(path) as written:
            np.testing.assert_array_equal(np.asarray(written), np.asarray(page))
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(OutputError):
        write_check(tmp_path / "file" / "a.png", image, grown)


def test_brain_mask_sets_the_frame(sample_scan: Path) -> None:
    file = nib.load(sample_scan)
    image = Volume(np.asarray(file.dataobj), Geometry(file.shape, file.affine))
    grown = grow_masks(image, [[-49.8, -2.8, 7.9]])
    mask = image.with_array(np.zeros(image.geometry.shape, bool))
    mask.array[60:180, 80:240, 10:40] = True
    plain, framed = (np.asarray(draw_check(image, grown, brain_mask=m)[0]) for m in (None, mask))
    assert plain.shape == framed.shape
    assert (plain != framed).any()
