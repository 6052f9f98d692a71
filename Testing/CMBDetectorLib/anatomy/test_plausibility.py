"""Which label maps are those of a human brain."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from CMBDetectorLib.anatomy.plausibility import doubt
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.volume import Volume

SPACING_MM = 3.0


@pytest.fixture(scope="module", params=["01", "06", "11", "14"])
def real_head(request: pytest.FixtureRequest, shared_dir: Path) -> Volume:
    """Canonical axes, every third voxel."""
    path = shared_dir / "label_maps" / f"training_seg_{request.param}.nii.gz"
    if not path.is_file():
        pytest.skip(f"{path.name} is not here")
    image = nib.as_closest_canonical(nib.load(path))
    array = np.ascontiguousarray(np.asarray(image.dataobj)[::3, ::3, ::3], dtype=np.int16)
    return Volume(array, Geometry(array.shape, image.affine @ np.diag([3.0, 3.0, 3.0, 1.0])))


def words(labels: Volume, image: Volume | None = None) -> str:
    """The reason, empty if there is none; the image is bright everywhere."""
    image = image or labels.with_array(np.ones(labels.array.shape, dtype=np.float32))
    found = doubt(labels, image)
    if found is None:
        return ""
    assert found.code == "anatomy-not-assessed"
    assert "\n" not in found.message
    return found.message


def cut(labels: Volume, low: int, high: int, axis: int = 2) -> Volume:
    start, stop = [0, 0, 0], list(labels.array.shape)
    start[axis], stop[axis] = max(low, 0), min(high, labels.array.shape[axis])
    box = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    return Volume(labels.array[box], labels.geometry.cropped(start, stop))


def brain_planes(labels: Volume) -> tuple[int, int]:
    used = np.flatnonzero(np.isin(labels.array, (2, 3, 41, 42, 8, 47)).any(axis=(0, 1)))
    return int(used[0]), int(used[-1]) + 1


def test_heads_are_plausible(real_head: Volume) -> None:
    assert words(real_head) == ""


def test_heads_cut_at_the_top_or_bottom_are_plausible(real_head: Volume) -> None:
    bottom, top = brain_planes(real_head)
    kept = round(60 / SPACING_MM)
    assert words(cut(real_head, 0, bottom + kept)) == ""
    assert words(cut(real_head, top - kept, 1000)) == ""
    assert words(cut(real_head, bottom + 10, top - 7)) == ""


def test_a_slab(real_head: Volume) -> None:
    bottom, _ = brain_planes(real_head)
    assert "slab of only 21 mm" in words(cut(real_head, bottom + 20, bottom + 27))


def test_a_tip_of_the_brain_is_not_enough(real_head: Volume) -> None:
    bottom, _ = brain_planes(real_head)
    assert words(cut(real_head, 0, bottom + 7)) != ""


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_two_heads(real_head: Volume, axis: int) -> None:
    two = np.concatenate([real_head.array] * 2, axis=axis)
    labels = Volume(two, Geometry(two.shape, real_head.geometry.affine))
    assert "more than one brain" in words(labels)


def test_a_brain_in_other_axes(real_head: Volume, axis_order: np.ndarray) -> None:
    assert words(real_head.reoriented(axis_order)) == ""


def test_a_brain_of_ellipsoids(brain: Volume) -> None:
    assert words(brain) == ""


@pytest.mark.parametrize(
    ("factor", "reason"),
    [(0.1, "too small for a human head"), (0.75, "expected 700 to 2200 ml"), (1.4, "700 to 2200")],
)
def test_size(brain: Volume, factor: float, reason: str) -> None:
    """A mouse, a large animal, and what nobody has."""
    empty_around = np.pad(brain.array, 1)
    affine = brain.geometry.affine @ np.diag([factor, factor, factor, 1.0])
    assert reason in words(Volume(empty_around, Geometry(empty_around.shape, affine)))


@pytest.mark.parametrize("values", [(), (258, 165, 24, 259, 514)])
def test_no_brain(brain: Volume, values: tuple[int, ...]) -> None:
    array = np.zeros_like(brain.array)
    for number, value in enumerate(values):
        array[10 * number : 10 * number + 10] = value
    assert "no brain was found" in words(brain.with_array(array))


@pytest.mark.parametrize("values", [(2, 41), (3, 42), (16, 16), (10, 49), (2, 2)])
def test_a_ball(brain: Volume, values: tuple[int, int]) -> None:
    """A phantom that was taken for brain."""
    place = np.moveaxis(np.indices(brain.array.shape), 0, -1)
    center = (np.array(brain.array.shape) - 1) / 2
    inside = np.linalg.norm(place - center, axis=-1) * 3 <= 68
    side = np.where(place[..., 0] < center[0], *values)
    assert words(brain.with_array(np.where(inside, side, 0).astype(np.int16))) != ""


def test_one_hemisphere(brain: Volume) -> None:
    array = np.where(np.isin(brain.array, (41, 42)), 24, brain.array)
    assert "halves of a brain differ less" in words(brain.with_array(array))


def test_sides_in_each_others_place(brain: Volume) -> None:
    assert "left and right" in words(brain.with_array(brain.array[::-1]))


def test_missing_deep_structures(brain: Volume) -> None:
    array = np.where(np.isin(brain.array, (10, 49, 11, 50)), 2, brain.array)
    assert "lacks deep structures: left thalamus, right thalamus" in words(brain.with_array(array))
    one = np.where(brain.array == 11, 2, brain.array)
    assert words(brain.with_array(one)) == ""


def test_a_brain_where_the_image_is_empty(brain: Volume) -> None:
    image = np.ones(brain.array.shape, dtype=np.float32)
    image[: image.shape[0] // 2] = 0
    assert "no signal" in words(brain, brain.with_array(image))
