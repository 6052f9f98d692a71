"""What a scan is like, on scans made to be so."""

from __future__ import annotations

import math

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.volume import Volume
from training.analysis.scan_features import (
    distance_to_surface_mm,
    find_background,
    grid_features,
    tissue_to_noise,
)


@pytest.fixture
def head() -> Volume:
    """A bright ball in the noise of air, as a scanner makes it."""
    geometry = Geometry((48, 48, 24), np.diag([-1.0, 1.0, 2.0, 1.0]))
    ijk = np.moveaxis(np.indices(geometry.shape), 0, -1)
    distance = np.linalg.norm(geometry.ijk_to_ras_mm(ijk) - geometry.center_ras_mm, axis=-1)
    rng = np.random.default_rng(2)
    real, imaginary = rng.normal(0, 10, (2, *geometry.shape))
    array = np.hypot(np.where(distance < 18, 300, 0) + real, imaginary)
    return Volume(array.astype(np.float32), geometry)


def inside(volume: Volume) -> np.ndarray:
    return volume.array > 150


def test_backgrounds(head: Volume) -> None:
    brain = inside(head)
    assert find_background(head).kind == "noise"
    zero = find_background(head.with_array(np.where(brain, head.array, 0)))
    assert (zero.kind, zero.value) == ("zero", 0.0)
    constant = find_background(head.with_array(np.where(brain, head.array, -7)))
    assert (constant.kind, constant.value) == ("constant", -7.0)
    nan = find_background(head.with_array(np.where(brain, head.array, np.nan)))
    assert (nan.kind, nan.value) == ("nan", None)
    nothing = find_background(head.with_array(np.full_like(head.array, np.nan)))
    assert nothing.kind == "nan"


def test_tissue_over_noise_whatever_the_background(head: Volume) -> None:
    brain = inside(head)
    for background in (None, 0.0, -7.0, np.nan):
        array = head.array if background is None else np.where(brain, head.array, background)
        image = head.with_array(array)
        assert tissue_to_noise(image, find_background(image), None) == pytest.approx(30, rel=0.06)
    assert tissue_to_noise(head, find_background(head), brain) == pytest.approx(30, rel=0.06)


def test_an_image_without_noise_or_tissue_has_no_ratio(head: Volume) -> None:
    flat = head.with_array(np.full_like(head.array, 5))
    assert math.isnan(tissue_to_noise(flat, find_background(flat), None))
    empty = head.with_array(np.full_like(head.array, np.nan))
    assert math.isnan(tissue_to_noise(empty, find_background(empty), None))


def test_grid_features_follow_the_patient_and_not_the_file(axis_order: np.ndarray) -> None:
    geometry = Geometry((10, 11, 12), np.diag([-0.5, 0.7, 3.0, 1.0])).reoriented(axis_order)
    features = grid_features(geometry)
    assert features["slice_spacing_mm"] == pytest.approx(3)
    assert features["in_plane_mm"] == pytest.approx(0.6)
    assert features["obliquity_deg"] == pytest.approx(0, abs=1e-5)
    k = int(np.flatnonzero(geometry.orientation[:, 0] == 2)[0])
    assert features[f"spacing_{'ijk'[k]}_mm"] == pytest.approx(3)
    assert features[f"n_{'ijk'[k]}"] == 12


def test_distance_to_the_surface_against_simpleitk(
    matrix: np.ndarray, grid_around, inside, to_sitk
) -> None:
    geometry = grid_around(matrix, 9.0)
    brain = np.zeros(geometry.shape, dtype=bool)
    brain[tuple(inside(geometry, (8.0, 7.0, 6.0)).T)] = True
    whole = sitk.SignedMaurerDistanceMap(
        to_sitk((~brain).astype(np.uint8), geometry), squaredDistance=False, useImageSpacing=True
    )
    expected = sitk.GetArrayFromImage(whole).transpose(2, 1, 0)
    places = np.argwhere(brain)[::37]
    measured = distance_to_surface_mm(geometry.ijk_to_ras_mm(places), Volume(brain, geometry))
    np.testing.assert_allclose(measured, expected[tuple(places.T)], rtol=1e-5)


def test_no_surface_no_distance() -> None:
    geometry = Geometry((4, 4, 4), np.eye(4))
    everywhere = Volume(np.ones(geometry.shape, dtype=bool), geometry)
    assert np.isnan(distance_to_surface_mm(np.zeros((2, 3)), everywhere)).all()
    assert len(distance_to_surface_mm(np.empty((0, 3)), everywhere)) == 0
