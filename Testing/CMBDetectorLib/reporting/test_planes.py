from __future__ import annotations

import itertools

import numpy as np
import pytest
import SimpleITK
from scipy.spatial.transform import Rotation

from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.reporting.planes import (
    AXIAL,
    CORONAL,
    SAGITTAL,
    PatientPlane,
    View,
    sample_image,
    sample_labels,
    slice_frame,
)
from CMBDetectorLib.volume import Volume

ORDERS = [
    np.stack([axes, flips], axis=1)
    for axes in itertools.permutations(range(3))
    for flips in itertools.product((1, -1), repeat=3)
]


def tilted_geometry() -> Geometry:
    affine = np.eye(4)
    rotation = Rotation.from_euler("xyz", [18, -9, 12], degrees=True).as_matrix()
    affine[:3, :3] = rotation @ np.diag([0.8, 0.9, 3.0])
    affine[:3, 3] = (-20.0, -25.0, -28.0)
    return Geometry((56, 52, 20), affine)


@pytest.mark.parametrize("plane", [AXIAL, CORONAL, SAGITTAL])
def test_letters_say_where_the_picture_s_edges_lie(plane: PatientPlane) -> None:
    """An image whose value is a coordinate tells on which side of the patient a pixel is."""
    geometry = Geometry((40, 40, 40), np.diag([-1.0, -1.0, 1.0, 1.0]))
    center_mm = tuple(geometry.center_ras_mm.tolist())
    ras_mm = geometry.ijk_to_ras_mm(np.moveaxis(np.indices(geometry.shape), 0, -1))
    view = View(plane, np.eye(3), center_mm, 20, 20, 1.0)
    middle = 10
    axis_of = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}
    for letter, pixel in (
        (plane.left_letter, (middle, 0)),
        (plane.right_letter, (middle, 19)),
        (plane.top_letter, (0, middle)),
        (plane.bottom_letter, (19, middle)),
    ):
        axis, sign = axis_of[letter]
        values = sample_image(Volume(ras_mm[..., axis], geometry), view, order=1)
        assert (values[pixel] - center_mm[axis]) * sign > 8


@pytest.mark.parametrize("plane", [AXIAL, CORONAL, SAGITTAL])
def test_every_axis_order_gives_the_same_plane(plane: PatientPlane) -> None:
    rng = np.random.default_rng(0)
    geometry = tilted_geometry()
    volume = Volume(rng.random(geometry.shape).astype(np.float32), geometry)
    labels = Volume((volume.array > 0.7).astype(np.int16), geometry)
    frame = slice_frame(geometry)
    view = View(plane, frame, tuple(geometry.center_ras_mm.tolist()), 64, 64, 0.5)
    expected, expected_labels = sample_image(volume, view), sample_labels(labels, view)
    for order in ORDERS:
        turned = volume.reoriented(order)
        np.testing.assert_allclose(slice_frame(turned.geometry), frame, atol=1e-12)
        np.testing.assert_allclose(sample_image(turned, view), expected, atol=1e-4)
        np.testing.assert_array_equal(
            sample_labels(labels.reoriented(order), view), expected_labels
        )


@pytest.mark.parametrize("plane", [AXIAL, CORONAL, SAGITTAL])
def test_agrees_with_simpleitk(plane: PatientPlane) -> None:
    rng = np.random.default_rng(1)
    geometry = tilted_geometry()
    volume = Volume(rng.random(geometry.shape).astype(np.float32), geometry)
    view = View(plane, np.eye(3), tuple(geometry.center_ras_mm.tolist()), 9, 11, 1.3)
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(volume.array.T))
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ geometry.affine
    image.SetSpacing(geometry.spacing_mm)
    image.SetOrigin(affine[:3, 3].tolist())
    image.SetDirection((affine[:3, :3] / geometry.spacing_mm).ravel().tolist())
    values = sample_image(volume, view, order=1)
    for (row, column), value in np.ndenumerate(values):
        point_lps_mm = view.points_ras_mm()[row, column] * [-1, -1, 1]
        index = image.TransformPhysicalPointToContinuousIndex(point_lps_mm.tolist())
        assert value == pytest.approx(image.EvaluateAtContinuousIndex(index), abs=1e-4)


def test_slice_frame_follows_a_tilted_image_and_not_its_axis_order() -> None:
    frame = slice_frame(tilted_geometry())
    np.testing.assert_allclose(frame @ frame.T, np.eye(3), atol=1e-12)
    assert (np.diag(frame) > 0.9).all()
    directions = tilted_geometry().affine[:3, :3] / tilted_geometry().spacing_mm
    np.testing.assert_allclose(frame, directions, atol=1e-12)
    coronal = Geometry((10, 10, 10), [[0, 0, -1, 0], [3, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
    np.testing.assert_allclose(slice_frame(coronal), np.eye(3), atol=1e-12)


def test_outside_is_nan_and_label_0() -> None:
    geometry = Geometry((10, 10, 10), np.eye(4))
    volume = Volume(np.ones(geometry.shape, dtype=np.float32), geometry)
    view = View(AXIAL, np.eye(3), (0.0, 4.5, 4.5), 10, 10, 1.0)
    values, labels = sample_image(volume, view), sample_labels(volume, view)
    np.testing.assert_array_equal(np.isnan(values), labels == 0)
    assert np.isnan(values[:, -1]).all()
    assert not np.isnan(values[:, 0]).any()
    far = View(AXIAL, np.eye(3), (500.0, 0.0, 0.0), 6, 5, 1.0)
    assert np.isnan(sample_image(volume, far)).all()
    assert sample_image(volume, far).shape == (5, 6)


def test_pixel_of_is_the_inverse_of_the_points() -> None:
    view = View(SAGITTAL, slice_frame(tilted_geometry()), (3.0, 4.0, 5.0), 30, 20, 0.7)
    column, row = view.pixel_of(view.points_ras_mm()[13, 21])
    assert (column, row) == (pytest.approx(21, abs=1e-3), pytest.approx(13, abs=1e-3))
