from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import pdist
from scipy.spatial.transform import Rotation

from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.postprocessing.measure import (
    equivalent_diameter_mm,
    max_diameter_mm,
    measure_components,
)

SPACING = np.array([0.5, 0.6, 2.0])


def oblique_geometry(shape: tuple[int, int, int]) -> Geometry:
    affine = np.eye(4)
    rotation = Rotation.from_euler("xyz", [20, -35, 50], degrees=True).as_matrix()
    affine[:3, :3] = rotation @ np.diag(SPACING * [-1, 1, 1])
    affine[:3, 3] = (12.0, -40.0, 33.0)
    return Geometry(shape, affine)


def all_corners_mm(ijk: np.ndarray, geometry: Geometry) -> np.ndarray:
    offsets = np.stack(np.meshgrid(*[[-0.5, 0.5]] * 3), axis=-1).reshape(-1, 3)
    corners = np.unique((ijk[:, None] + offsets).reshape(-1, 3), axis=0)
    return geometry.ijk_to_ras_mm(corners)


def measure_one(ijk: np.ndarray, geometry: Geometry, probability: np.ndarray | None = None):
    values = np.ones(len(ijk)) if probability is None else probability
    return measure_components(ijk, np.zeros(len(ijk), dtype=np.int64), values, geometry)


@pytest.mark.parametrize("n_voxels", [1, 2, 7, 40, 400])
def test_max_diameter_is_that_of_all_corners_compared_pairwise(n_voxels: int) -> None:
    rng = np.random.default_rng(n_voxels)
    geometry = oblique_geometry((40, 40, 40))
    ijk = np.unique(rng.integers(3, 12, (n_voxels, 3)), axis=0)
    expected = pdist(all_corners_mm(ijk, geometry)).max()
    assert max_diameter_mm(ijk, geometry) == pytest.approx(expected, rel=1e-12)


def test_max_diameter_of_a_component_with_thousands_of_hull_corners() -> None:
    indices = np.moveaxis(np.indices((101, 101, 101)), 0, -1)
    ijk = np.argwhere(np.linalg.norm(indices - 50, axis=-1) <= 48)
    geometry = Geometry((101, 101, 101), np.diag([-0.7, 0.7, 0.7, 1]))
    diameter = max_diameter_mm(ijk, geometry)
    assert 96 * 0.7 < diameter < (96 + np.sqrt(3)) * 0.7


def test_single_voxel_is_a_box() -> None:
    geometry = oblique_geometry((9, 9, 9))
    ijk = np.array([[4, 5, 6]])
    measures = measure_one(ijk, geometry, np.array([0.75]))
    assert measures.volume_mm3[0] == pytest.approx(0.6)
    assert measures.elongation[0] == pytest.approx(0.5 / 2.0)
    assert max_diameter_mm(ijk, geometry) == pytest.approx(np.linalg.norm(SPACING))
    np.testing.assert_allclose(measures.center_ras_mm[0], geometry.ijk_to_ras_mm((4, 5, 6)))
    assert measures.mean_probability[0] == measures.peak_probability[0] == 0.75


@pytest.mark.parametrize("axes_mm", [(6.0, 6.0, 6.0), (3.0, 5.0, 6.0), (8.0, 4.0, 5.0)])
def test_ellipsoid_in_an_oblique_grid(axes_mm: tuple[float, float, float]) -> None:
    """Half axes in the patient, at an angle to the voxels."""
    rotation = Rotation.from_euler("zyx", [30, 15, -40], degrees=True).as_matrix()
    affine = oblique_geometry((1, 1, 1)).affine.copy()
    affine[:3, :3] *= 0.25 / SPACING * [1, 1, 1.4]
    geometry = Geometry((110, 110, 80), affine)
    center_mm = geometry.center_ras_mm + np.array([0.3, 0.1, -0.2])
    ras_mm = geometry.ijk_to_ras_mm(np.moveaxis(np.indices(geometry.shape), 0, -1))
    inside = ((((ras_mm - center_mm) @ rotation) / axes_mm) ** 2).sum(axis=-1) <= 1
    ijk = np.argwhere(inside)
    measures = measure_one(ijk, geometry)
    volume_mm3 = 4 / 3 * np.pi * np.prod(axes_mm)
    assert measures.volume_mm3[0] == pytest.approx(volume_mm3, rel=0.01)
    assert measures.elongation[0] == pytest.approx(min(axes_mm) / max(axes_mm), rel=0.01)
    np.testing.assert_allclose(measures.center_ras_mm[0], center_mm, atol=0.02)
    assert equivalent_diameter_mm(float(measures.volume_mm3[0])) == pytest.approx(
        2 * np.prod(axes_mm) ** (1 / 3), rel=0.01
    )
    diameter = max_diameter_mm(ijk, geometry)
    voxel_mm = np.linalg.norm(geometry.spacing_mm)
    assert 2 * max(axes_mm) - voxel_mm <= diameter <= 2 * max(axes_mm) + voxel_mm


def test_box_has_the_elongation_of_its_edges() -> None:
    """Exact for any box of voxels, thanks to the voxel's own second moment."""
    geometry = Geometry((30, 30, 30), np.diag([0.5, -0.6, 2.0, 1.0]))
    ijk = np.argwhere(np.ones((10, 5, 2)))
    measures = measure_one(ijk, geometry)
    assert measures.elongation[0] == pytest.approx(3.0 / 5.0, rel=1e-12)
    assert max_diameter_mm(ijk, geometry) == pytest.approx(np.linalg.norm([5.0, 3.0, 4.0]))


def test_components_are_kept_apart() -> None:
    geometry = Geometry((20, 20, 20), np.eye(4))
    ijk = np.array([[1, 1, 1], [10, 3, 4], [1, 1, 2], [10, 3, 5], [10, 3, 6]])
    component = np.array([0, 1, 0, 1, 1])
    probability = np.array([0.5, 0.6, 0.9, 0.7, 0.8])
    measures = measure_components(ijk, component, probability, geometry)
    np.testing.assert_array_equal(measures.n_voxels, [2, 3])
    np.testing.assert_allclose(measures.center_ijk, [[1, 1, 1.5], [10, 3, 5]])
    np.testing.assert_allclose(measures.mean_probability, [0.7, 0.7])
    np.testing.assert_allclose(measures.peak_probability, [0.9, 0.8])
