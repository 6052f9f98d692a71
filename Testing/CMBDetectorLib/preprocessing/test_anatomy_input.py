"""The grid and the intensities that the anatomy network sees."""

from __future__ import annotations

import nibabel as nib
import nibabel.processing
import numpy as np
import pytest

from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.preprocessing.anatomy_input import prepare_for_anatomy, scale_intensities
from CMBDetectorLib.volume import Volume

AFFINES = {
    "right-handed": np.array([[1.2, 0, 0, -30], [0, 1.2, 0, -20], [0, 0, 2.0, -25], [0, 0, 0, 1]]),
    "left-handed": np.array([[-1.2, 0, 0, 30], [0, 1.2, 0, -20], [0, 0, 2.0, -25], [0, 0, 0, 1]]),
    "permuted": np.array([[0, 0, 2.0, -25], [-1.2, 0, 0, 30], [0, 1.2, 0, -20], [0, 0, 0, 1]]),
    "oblique": np.array(
        [[1.17, -0.26, 0, -25], [0.25, 1.15, 0.3, -28], [-0.06, -0.2, 1.95, -18], [0, 0, 0, 1.0]]
    ),
}


def other_of(mask: np.ndarray, geometry: Geometry, like: Volume) -> np.ndarray:
    """A mask on another grid by nibabel, linearly; outside of its field of view 0."""
    moved = nibabel.processing.resample_from_to(
        nib.Nifti1Image(mask.astype(np.float32), geometry.affine),
        (like.geometry.shape, like.geometry.affine),
        order=1,
    )
    return np.asarray(moved.dataobj)


@pytest.mark.parametrize("name", AFFINES)
def test_places_in_the_patient_are_kept(name: str) -> None:
    """A smooth image on the coarse grid, against nibabel's resampling at the same places."""
    geometry = Geometry((44, 40, 30), AFFINES[name])
    ijk = np.stack(np.indices(geometry.shape), axis=-1)
    x, y, z = np.moveaxis(geometry.ijk_to_ras_mm(ijk), -1, 0)
    array = (200 + 2 * x + 3 * y - z + 10 * np.sin(x / 12)).astype(np.float32)
    array[:9] = 0
    found = prepare_for_anatomy(Volume(array, geometry), 1.5)
    prepared = found.image
    assert nib.aff2axcodes(prepared.geometry.affine) == ("R", "A", "S")
    np.testing.assert_allclose(prepared.geometry.spacing_mm, 1.5)
    other = nibabel.processing.resample_from_to(
        nib.Nifti1Image(array, geometry.affine),
        (prepared.geometry.shape, prepared.geometry.affine),
        order=1,
        cval=-1e6,
    )
    inside = np.asarray(other.dataobj) > -1e5
    inside &= (prepared.array > 0) & (prepared.array < 1)
    # Where zeros end, neither tool's values are those of the smooth image.
    clear = other_of(array != 0, geometry, prepared) > 0.999
    np.testing.assert_array_equal(found.is_seen[clear], True)
    gone = other_of(array == 0, geometry, prepared) > 0.999
    assert gone.any()
    assert not found.is_seen[gone].any()
    inside &= clear
    assert inside.mean() > 0.3
    expected = np.asarray(other.dataobj)[inside]
    got = prepared.array[inside]
    slope, offset = np.polyfit(got, expected, 1)
    assert slope > 0
    np.testing.assert_allclose(slope * got + offset, expected, atol=1.5)


def test_the_middle_99_percent_fill_0_to_1_and_zeros_do_not_count() -> None:
    values = np.concatenate([np.zeros(5000), np.linspace(100, 300, 2001)]).reshape(-1, 1, 1)
    scaled = scale_intensities(values)
    assert scaled.dtype == np.float32
    assert scaled[:5000].max() == 0
    np.testing.assert_allclose(scaled[5000:][1000], 0.5, atol=1e-6)
    assert scaled.min() == 0
    assert scaled.max() == 1


def test_signed_maps_keep_their_order() -> None:
    values = np.linspace(-1, 3, 1000).reshape(10, 10, 10)
    scaled = scale_intensities(values).ravel()
    assert np.all(np.diff(scaled) >= 0)
    assert 0.2 < scaled[250] < 0.3


@pytest.mark.parametrize("value", [0.0, 7.0])
def test_an_image_of_one_value_is_empty(value: float) -> None:
    assert scale_intensities(np.full((3, 4, 5), value)).max() == 0
