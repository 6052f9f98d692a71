"""Shapes with known values, on any grid, and against SimpleITK."""

from __future__ import annotations

import math

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from CMBDetectorLib.errors import UsageError
from CMBDetectorLib.geometry import Geometry
from training.analysis.columns import LESION_COLUMNS
from training.analysis.shape_features import shape_features


def box(a: int, b: int, c: int) -> np.ndarray:
    return np.argwhere(np.ones((a, b, c), dtype=bool)) + 3


def on(matrix: np.ndarray, shape: tuple[int, int, int] = (60, 60, 60)) -> Geometry:
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = matrix, (31.0, -42.5, 17.25)
    return Geometry(shape, affine)


@pytest.mark.parametrize("size", [(1, 1, 1), (3, 2, 1), (5, 4, 2), (7, 5, 3)])
@pytest.mark.parametrize("spacing_mm", [1.0, 0.4])
def test_a_box_has_the_surface_derived_by_hand(
    size: tuple[int, int, int], spacing_mm: float
) -> None:
    """Edges are cut off by half a voxel: prisms along them, tetrahedra at the corners."""
    a, b, c = size
    features = shape_features(box(*size), on(np.diag([-spacing_mm, spacing_mm, spacing_mm])))
    volume = a * b * c - (a + b + c - 3) / 2 - 5 / 6
    edges = (a - 1) + (b - 1) + (c - 1)
    faces = (a - 1) * (b - 1) + (a - 1) * (c - 1) + (b - 1) * (c - 1)
    area = 2 * faces + 4 * math.sqrt(0.5) * edges + math.sqrt(3)
    expected = {
        "n_voxels": a * b * c,
        "n_slices": c,
        "original_shape_VoxelVolume": a * b * c * spacing_mm**3,
        "original_shape_MeshVolume": volume * spacing_mm**3,
        "original_shape_SurfaceArea": area * spacing_mm**2,
        "original_shape_SurfaceVolumeRatio": area / volume / spacing_mm,
        "original_shape_Sphericity": (36 * math.pi * volume**2) ** (1 / 3) / area,
        "original_shape_Maximum3DDiameter": math.hypot(a, b - 1, c - 1) * spacing_mm,
        "original_shape_Maximum2DDiameterSlice": math.hypot(a, b - 1) * spacing_mm,
        "original_shape_Maximum2DDiameterColumn": math.hypot(a, c - 1) * spacing_mm,
        "original_shape_Maximum2DDiameterRow": math.hypot(b, c - 1) * spacing_mm,
        "original_shape_MajorAxisLength": 4 * math.sqrt((a**2 - 1) / 12) * spacing_mm,
        "original_shape_MinorAxisLength": 4 * math.sqrt((b**2 - 1) / 12) * spacing_mm,
        "original_shape_LeastAxisLength": 4 * math.sqrt((c**2 - 1) / 12) * spacing_mm,
        "max_diameter_mm": math.hypot(a, b, c) * spacing_mm,
        "elongation": c / a,
    }
    for name, value in expected.items():
        assert features[name] == pytest.approx(value, rel=1e-6), name


def test_one_voxel_is_an_octahedron_without_axes() -> None:
    features = shape_features(np.array([[4, 5, 6]]), on(np.diag([0.5, 0.5, 3.0])))
    assert features["original_shape_MeshVolume"] == pytest.approx(0.75 / 6)
    assert features["original_shape_Maximum3DDiameter"] == pytest.approx(3.0)
    assert features["original_shape_MajorAxisLength"] == 0
    assert math.isnan(features["original_shape_Elongation"])
    assert math.isnan(features["original_shape_Flatness"])
    assert features["elongation"] == pytest.approx(0.5 / 3)


def test_a_line_and_a_plane_have_axes_of_length_0(oblique: np.ndarray) -> None:
    line = shape_features(box(5, 1, 1), on(oblique))
    assert line["original_shape_MinorAxisLength"] == 0
    assert line["original_shape_Elongation"] == 0
    plane = shape_features(box(5, 4, 1), on(oblique))
    assert plane["original_shape_Elongation"] > 0
    assert plane["original_shape_Flatness"] == 0


def test_a_ball_converges_on_every_grid(matrix: np.ndarray, grid_around, inside) -> None:
    """Volume, axes and diameter; the area of a mesh of whole voxels stays above that of a ball."""
    radius_mm = 5.0
    errors = []
    for fine in (1.0, 0.5, 0.25):
        unit = matrix / np.linalg.norm(matrix, axis=0) * fine * np.array([1.0, 0.9, 1.1])
        geometry = grid_around(unit, radius_mm)
        features = shape_features(inside(geometry, (radius_mm,) * 3), geometry)
        errors.append(
            [
                abs(features["original_shape_MeshVolume"] / (4 / 3 * math.pi * radius_mm**3) - 1),
                abs(features["original_shape_VoxelVolume"] / (4 / 3 * math.pi * radius_mm**3) - 1),
                abs(features["original_shape_Maximum3DDiameter"] / (2 * radius_mm) - 1),
                abs(features["original_shape_MajorAxisLength"] / (4 * radius_mm / 5**0.5) - 1),
                abs(features["original_shape_Flatness"] - 1),
                abs(features["equivalent_diameter_mm"] / (2 * radius_mm) - 1),
            ]
        )
        assert 0.88 < features["original_shape_Sphericity"] < 0.97
    np.testing.assert_array_less(errors[2], [0.01, 0.01, 0.03, 0.01, 0.01, 0.01])
    assert (np.array(errors[2]) <= np.array(errors[0]) + 1e-3).all()


def test_an_ellipsoid_has_its_axes_whatever_way_it_lies(
    matrix: np.ndarray, grid_around, inside, rotation
) -> None:
    geometry = grid_around(matrix / np.linalg.norm(matrix, axis=0) * 0.3, 7.0)
    voxels = inside(geometry, (6.0, 4.0, 3.0), rotation(40, (0.3, 1, 2)))
    features = shape_features(voxels, geometry)
    # The variance of a solid ellipsoid along a semi-axis a is a² / 5.
    assert features["original_shape_MajorAxisLength"] == pytest.approx(24 / 5**0.5, rel=0.01)
    assert features["original_shape_MinorAxisLength"] == pytest.approx(16 / 5**0.5, rel=0.01)
    assert features["original_shape_LeastAxisLength"] == pytest.approx(12 / 5**0.5, rel=0.01)
    assert features["original_shape_Elongation"] == pytest.approx(4 / 6, rel=0.01)
    assert features["original_shape_Flatness"] == pytest.approx(0.5, rel=0.01)
    assert features["original_shape_Maximum3DDiameter"] == pytest.approx(12, rel=0.03)


def blob(seed: int, shape: tuple[int, int, int] = (11, 12, 7)) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=shape)
    labels, n = ndimage.label(ndimage.gaussian_filter(noise, 1.0) > 0.1, np.ones((3, 3, 3)))
    sizes = ndimage.sum_labels(np.ones(shape), labels, range(1, n + 1))
    return np.argwhere(labels == int(np.argmax(sizes)) + 1)


@pytest.mark.parametrize("seed", range(3))
def test_against_simpleitk(matrix: np.ndarray, seed: int, to_sitk) -> None:
    voxels = blob(seed)
    geometry = on(matrix, (11, 12, 7))
    array = np.zeros(geometry.shape, dtype=np.uint8)
    array[tuple(voxels.T)] = 1
    measured = sitk.LabelShapeStatisticsImageFilter()
    measured.ComputeFeretDiameterOn()
    measured.Execute(to_sitk(array, geometry))
    features = shape_features(voxels, geometry)
    assert features["original_shape_VoxelVolume"] == pytest.approx(measured.GetPhysicalSize(1))
    assert features["equivalent_diameter_mm"] == pytest.approx(
        2 * measured.GetEquivalentSphericalRadius(1)
    )
    lengths = 4 * np.sqrt(measured.GetPrincipalMoments(1))
    names = ("LeastAxisLength", "MinorAxisLength", "MajorAxisLength")
    axes = [features[f"original_shape_{part}"] for part in names]
    np.testing.assert_allclose(axes, lengths, rtol=1e-6)
    # Between voxel centers there, between the middles of voxel edges here.
    feret_mm = measured.GetFeretDiameter(1)
    diameter_mm = features["original_shape_Maximum3DDiameter"]
    assert feret_mm < diameter_mm <= feret_mm + max(geometry.spacing_mm) + 1e-9


def test_axes_are_those_of_the_points_in_space(sheared: np.ndarray) -> None:
    voxels = blob(5)
    geometry = on(sheared, (11, 12, 7))
    points = nib.affines.apply_affine(geometry.affine, voxels)
    lengths = 4 * np.sqrt(np.sort(np.linalg.eigvalsh(np.cov(points.T, bias=True))))
    features = shape_features(voxels, geometry)
    names = ("LeastAxisLength", "MinorAxisLength", "MajorAxisLength")
    measured = [features[f"original_shape_{part}"] for part in names]
    np.testing.assert_allclose(measured, lengths, rtol=1e-9)


def test_a_sheared_grid_scales_the_volume_by_its_voxels(sheared: np.ndarray) -> None:
    voxels = blob(6)
    straight = shape_features(voxels, on(np.eye(3)))
    skew = shape_features(voxels, on(sheared))
    det = abs(np.linalg.det(sheared))
    for name in ("original_shape_MeshVolume", "original_shape_VoxelVolume"):
        assert skew[name] == pytest.approx(straight[name] * det, rel=1e-9)
    # Two voxels, told apart along i by the sheared step only.
    pair = shape_features(np.array([[3, 3, 3], [3, 4, 3]]), on(sheared))
    step_mm = float(np.linalg.norm(sheared[:, 1]))
    assert pair["original_shape_MajorAxisLength"] == pytest.approx(2 * step_mm)
    corners = np.indices((2, 3, 2)).reshape(3, -1).T @ sheared.T
    longest = max(np.linalg.norm(p - q) for p in corners for q in corners)
    assert pair["max_diameter_mm"] == pytest.approx(longest)


def test_every_order_of_the_axes_gives_the_same(axis_order: np.ndarray, rotation) -> None:
    matrix = rotation(14, (0.2, 1, 0.4)) @ np.diag([0.5, 0.6, 2.0])
    geometry = on(matrix, (11, 12, 7))
    mask = np.zeros(geometry.shape, dtype=bool)
    mask[tuple(blob(2).T)] = True
    reference = shape_features(np.argwhere(mask), geometry)
    targets, ways = axis_order.astype(int).T
    turned = mask[tuple(slice(None, None, way) for way in ways)].transpose(np.argsort(targets))
    features = shape_features(np.argwhere(turned), geometry.reoriented(axis_order))
    assert features == pytest.approx(reference, rel=1e-6)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    scale=st.floats(0.2, 5.0),
    shift=st.tuples(*[st.integers(0, 20)] * 3),
)
def test_scale_and_place(
    oblique: np.ndarray, seed: int, scale: float, shift: tuple[int, int, int]
) -> None:
    voxels = blob(seed, (7, 6, 5))
    first = shape_features(voxels, on(oblique))
    second = shape_features(voxels + np.array(shift), on(oblique * scale))
    powers = {"mm": 1, "mm²": 2, "mm³": 3, "1/mm": -1, "": 0}
    for column in LESION_COLUMNS:
        if column.name in first and not math.isnan(first[column.name]):
            expected = first[column.name] * scale ** powers[column.unit]
            assert second[column.name] == pytest.approx(expected, rel=1e-6, abs=1e-9), column.name
    assert 0 < first["original_shape_Sphericity"] <= 1
    assert first["original_shape_MeshVolume"] < first["original_shape_VoxelVolume"]
    assert first["original_shape_Maximum3DDiameter"] <= first["max_diameter_mm"] + 1e-9
    assert set(first) <= {column.name for column in LESION_COLUMNS}


def test_a_long_thin_lesion_and_a_large_one(inside) -> None:
    """Many mesh vertices in one plane or one line take the way over the hull."""
    geometry = on(np.diag([0.3, 0.4, 1.0]), (500, 40, 40))
    line = shape_features(np.array([[i, 4, 4] for i in range(2, 480)]), geometry)
    assert line["original_shape_Maximum2DDiameterSlice"] == pytest.approx(478 * 0.3)
    ball = inside(on(np.eye(3) * 0.5, (40, 40, 40)), (9.0, 9.0, 9.0))
    features = shape_features(ball, on(np.eye(3) * 0.5))
    for name in ("3DDiameter", "2DDiameterSlice", "2DDiameterColumn", "2DDiameterRow"):
        assert features[f"original_shape_Maximum{name}"] == pytest.approx(18, rel=0.03)


def test_no_voxel_is_refused() -> None:
    with pytest.raises(UsageError, match="at least one"):
        shape_features(np.empty((0, 3), dtype=np.int64), on(np.eye(3)))
