"""Voxels without a value: taken for background, filled, or a reason to refuse the image."""

from __future__ import annotations

import numpy as np
import pytest

from CMBDetectorLib.errors import InputError
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.preprocessing.checks import validate_volume
from CMBDetectorLib.volume import Volume


def codes(warnings: tuple) -> list[str]:
    return [warning.code for warning in warnings]


def plain(shape: tuple[int, int, int] = (40, 40, 20), slice_mm: float = 3.0) -> Volume:
    array = np.random.default_rng(0).normal(500, 20, shape).astype(np.float32)
    return Volume(array, Geometry(shape, np.diag([1, 1, slice_mm, 1])))


def head(shift: int = 0) -> tuple[Volume, np.ndarray]:
    """A noisy image and the ellipsoid that is its head, moved up by some slices."""
    volume = plain((64, 64, 32))
    i, j, k = np.indices(volume.array.shape)
    inside = ((i - 32) / 25) ** 2 + ((j - 32) / 25) ** 2 + ((k - 16 - shift) / 12) ** 2 < 1
    return volume, inside


def changed(volume: Volume, **values: float) -> Volume:
    array = volume.array.copy()
    array[3, 4, 5] = values["value"]
    return volume.with_array(array)


def test_nan_background_becomes_zero():
    volume, inside = head()
    array = np.where(inside, volume.array, np.nan)
    cleaned, warnings = validate_volume(volume.with_array(array))
    assert codes(warnings) == ["nan-background"]
    np.testing.assert_array_equal(cleaned.array, np.where(inside, volume.array, 0))
    assert np.isnan(array).any()


def test_nan_background_of_a_head_that_touches_the_border():
    volume, inside = head(shift=10)
    array = np.where(inside, volume.array, np.nan)
    cleaned, warnings = validate_volume(volume.with_array(array))
    assert codes(warnings) == ["nan-background"]
    np.testing.assert_array_equal(cleaned.array, np.where(inside, volume.array, 0))


def test_nan_background_with_a_hole_in_the_brain():
    volume, inside = head()
    array = np.where(inside, volume.array, np.nan)
    array[30:33, 30:32, 16] = np.nan
    cleaned, warnings = validate_volume(volume.with_array(array))
    assert codes(warnings) == ["nan-background", "nan-replaced"]
    hole = cleaned.array[30:33, 30:32, 16]
    assert np.all(np.abs(hole - 500) < 40)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_few_holes_take_their_neighbors_values(value):
    volume = changed(plain(), value=value)
    cleaned, warnings = validate_volume(volume)
    assert codes(warnings) == ["nan-replaced"]
    assert "1 voxels" in warnings[0].message
    around = volume.array[2:5, 3:6, 4:7]
    assert cleaned.array[3, 4, 5] == np.nanmedian(around[np.isfinite(around)])
    same = np.isfinite(volume.array)
    np.testing.assert_array_equal(cleaned.array[same], volume.array[same])


def test_large_hole_is_filled_from_its_rim():
    volume = plain((60, 60, 60), 1.0)
    array = volume.array.copy()
    array[20:30, 20:30, 20:30] = np.nan
    cleaned, warnings = validate_volume(volume.with_array(array))
    assert codes(warnings) == ["nan-replaced"]
    assert np.all(np.abs(cleaned.array[20:30, 20:30, 20:30] - 500) < 40)


def test_hole_at_the_border_is_not_taken_for_background():
    volume = plain()
    array = volume.array.copy()
    array[0, :3, :3] = np.nan
    cleaned, warnings = validate_volume(volume.with_array(array))
    assert codes(warnings) == ["nan-replaced"]
    assert cleaned.array.min() > 300


def sprinkled(array: np.ndarray, share: float) -> None:
    array[np.random.default_rng(4).random(array.shape) < share] = np.nan


def every_other_slice(array: np.ndarray) -> None:
    array[..., ::2] = np.inf


def slices_in_the_middle(array: np.ndarray) -> None:
    array[..., 8:12] = np.nan


def block_inside(array: np.ndarray) -> None:
    array[10:30, 10:30, 5:15] = np.nan


def nearly_everything(array: np.ndarray) -> None:
    array[5:, :, :] = np.nan
    array[:, 5:, :] = np.nan


def everything(array: np.ndarray) -> None:
    array[:] = np.nan


@pytest.mark.parametrize(
    "spoil",
    [
        lambda array: sprinkled(array, 0.02),
        lambda array: sprinkled(array, 0.5),
        lambda array: sprinkled(array, 0.9),
        every_other_slice,
        slices_in_the_middle,
        block_inside,
        nearly_everything,
        everything,
    ],
)
def test_too_many_voxels_without_a_value(spoil):
    volume = plain()
    array = volume.array.copy()
    spoil(array)
    with pytest.raises(InputError, match="NaN or infinite"):
        validate_volume(volume.with_array(array))
