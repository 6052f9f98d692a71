from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from CMBDetectorLib.errors import UsageError
from CMBDetectorLib.evaluation.label_maps import lesions_from_labels, lesions_from_points
from CMBDetectorLib.evaluation.lesions import LesionSet
from CMBDetectorLib.evaluation.rule import MatchingRule
from CMBDetectorLib.evaluation.shared_grid import nearest_voxels, on_shared_grid
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.volume import Volume

RULE = MatchingRule(lesions_are="components")
TURN = Rotation.from_euler("xyz", [20, -35, 50], degrees=True).as_matrix()


def grid(
    spacing_mm: tuple[float, float, float],
    rotation: np.ndarray | None = None,
    start_mm: tuple[float, float, float] = (0.0, 0.0, 0.0),
    field_mm: float = 24.0,
) -> Geometry:
    affine = np.eye(4)
    affine[:3, :3] = (np.eye(3) if rotation is None else rotation) @ np.diag(spacing_mm)
    affine[:3, 3] = start_mm
    i, j, k = np.ceil(field_mm / np.array(spacing_mm)).astype(int).tolist()
    return Geometry((i, j, k), affine)


def boxes(geometry: Geometry, *starts: tuple[int, int, int], size: int = 2) -> LesionSet:
    array = np.zeros(geometry.shape, dtype=np.uint8)
    for i, j, k in starts:
        array[i : i + size, j : j + size, k : k + size] = 1
    return lesions_from_labels(Volume(array, geometry), RULE)


def all_voxels(geometry: Geometry) -> LesionSet:
    return lesions_from_labels(Volume(np.ones(geometry.shape, dtype=np.uint8), geometry), RULE)


def test_the_same_grid_stays() -> None:
    geometry = grid((0.5, 0.6, 2.0), TURN)
    predicted, true = boxes(geometry, (3, 4, 2)), boxes(geometry, (4, 4, 2), (20, 20, 5))
    common = on_shared_grid(predicted, true)
    assert common.geometry == geometry
    np.testing.assert_array_equal(common.predicted.ijk, predicted.voxels_ijk[0])
    np.testing.assert_array_equal(common.true.n_voxels, [8, 8])
    np.testing.assert_array_equal(common.shared.predictions, [0])
    np.testing.assert_array_equal(common.shared.truths, [0])
    np.testing.assert_array_equal(common.shared.n_voxels, [4])


def test_another_field_of_view_of_the_same_lattice_is_exact() -> None:
    geometry = grid((0.5, 0.6, 2.0), TURN, (7.0, -3.0, 11.0))
    cropped = geometry.cropped((2, 3, 1), (30, 30, 10))
    common = on_shared_grid(boxes(cropped, (3, 4, 2)), boxes(geometry, (5, 7, 3)))
    np.testing.assert_array_equal(common.shared.n_voxels, [8])
    np.testing.assert_array_equal(common.predicted.n_voxels, [8])


@pytest.mark.parametrize("swapped", [False, True])
def test_volume_in_common_of_boxes_is_exact_where_edges_meet(swapped: bool) -> None:
    """Thick slices against small cubes: neither grid alone can tell what they share."""
    thick = grid((0.5, 0.5, 4.0), start_mm=(0.25, 0.25, 2.0))
    cubes = grid((1.0, 1.0, 1.0), start_mm=(0.5, 0.5, 0.5))
    # 3 to 4 mm by 3 to 4 by 4 to 12, and 3 to 5 by 3 to 5 by 10 to 12.
    one, other = boxes(thick, (6, 6, 1)), boxes(cubes, (3, 3, 10))
    common = on_shared_grid(other, one) if swapped else on_shared_grid(one, other)
    voxel_mm3 = common.geometry.voxel_volume_mm3
    assert common.geometry.spacing_mm == pytest.approx((0.5, 0.5, 1.0))
    assert common.shared.n_voxels[0] * voxel_mm3 == pytest.approx(1 * 1 * 2)
    sides = (common.true, common.predicted) if swapped else (common.predicted, common.true)
    assert [side.n_voxels[0] * voxel_mm3 for side in sides] == pytest.approx([8.0, 8.0])


@pytest.mark.parametrize("seed", range(6))
def test_samples_are_those_that_lie_in_a_voxel(seed: int) -> None:
    """Against trying every voxel of the shared grid; no lesion, however small, is lost."""
    rng = np.random.default_rng(seed)
    rotation = Rotation.random(random_state=seed).as_matrix()
    coarse = grid((1.1, 0.9, 2.3), rotation, tuple(rng.uniform(-5, 5, 3)), field_mm=9.0)
    fine = grid((1.0, 0.8, 1.4), start_mm=(-12.0, -12.0, -12.0))
    labels = np.zeros(coarse.shape, dtype=np.int16)
    chosen = rng.choice(labels.size, 40, replace=False)
    labels.flat[chosen] = np.arange(1, 41)
    values = MatchingRule(lesions_are="values")
    lesions = lesions_from_labels(Volume(labels, coarse), values)
    common = on_shared_grid(boxes(fine, (3, 3, 3)), lesions)
    assert common.true.n_voxels.min() >= 1

    corners = common.geometry.ras_mm_to_ijk(coarse.corners_ras_mm())
    start, stop = np.floor(corners.min(axis=0)), np.ceil(corners.max(axis=0)) + 1
    tried = np.stack(np.meshgrid(*map(np.arange, start, stop), indexing="ij"), -1).reshape(-1, 3)
    center_mm = nib.affines.apply_affine(common.geometry.affine, tried)
    index = np.rint(nib.affines.apply_affine(np.linalg.inv(coarse.affine), center_mm)).astype(int)
    inside = ((index >= 0) & (index < coarse.shape)).all(axis=1)
    number = labels[tuple(index[inside].T)]
    expected = {(*map(int, v), n - 1) for v, n in zip(tried[inside], number, strict=True) if n}
    found = zip(common.true.ijk.tolist(), common.true.lesion.tolist(), strict=True)
    assert {(*voxel, lesion) for voxel, lesion in found} == expected
    assert len(common.true.ijk) == len(expected)


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (0.7, 0.7, 3.0), (0.45, 0.45, 6.0)])
@pytest.mark.parametrize("angle_deg", [0, 2, 45])
def test_division_is_fine_enough_and_no_finer_than_needed(
    spacing_mm: tuple[float, float, float], angle_deg: float
) -> None:
    """Each voxel of both grids has a sample; together they have the volume of the lesion."""
    rotation = Rotation.from_euler("zx", [angle_deg, angle_deg], degrees=True).as_matrix()
    one = grid(spacing_mm, rotation, (0.1, 0.2, 0.3), field_mm=6.0)
    other = grid((0.9, 0.9, 1.5), start_mm=(-2.0, 1.0, 0.0), field_mm=8.0)
    common = on_shared_grid(all_voxels(one), all_voxels(other))
    voxel_mm3 = common.geometry.voxel_volume_mm3
    for side, geometry in ((common.predicted, one), (common.true, other)):
        volume_mm3 = np.prod(geometry.shape) * geometry.voxel_volume_mm3
        assert side.n_voxels[0] * voxel_mm3 == pytest.approx(volume_mm3, rel=0.06)
        index = np.rint(geometry.ras_mm_to_ijk(common.geometry.ijk_to_ras_mm(side.ijk)))
        reached = np.unique(np.clip(index, 0, np.array(geometry.shape) - 1), axis=0)
        assert len(reached) == np.prod(geometry.shape)
    finer_mm3 = min(one.voxel_volume_mm3, other.voxel_volume_mm3)
    assert finer_mm3 / voxel_mm3 <= (8 if angle_deg == 0 else 80)


def test_a_point_on_a_border_belongs_to_one_voxel_in_any_order_of_the_axes(
    axis_order: np.ndarray,
) -> None:
    geometry = grid((1.0, 2.0, 4.0))
    points_mm = np.array([[0.5, 1.0, 2.0], [0.5 - 1e-9, 3.1, 5.9], [0.4, 0.9, 6.1]])
    expected_mm = np.array([[1.0, 2.0, 4.0], [1.0, 4.0, 4.0], [0.0, 0.0, 8.0]])
    turned = geometry.reoriented(axis_order)
    voxels = nearest_voxels(points_mm, turned)
    np.testing.assert_allclose(turned.ijk_to_ras_mm(voxels), expected_mm)


def test_points_have_no_grid() -> None:
    with pytest.raises(UsageError, match="label maps"):
        on_shared_grid(lesions_from_points([[1, 2, 3]]), boxes(grid((1.0, 1.0, 1.0)), (3, 3, 3)))


def test_lesions_far_apart_share_nothing() -> None:
    """As where a header is wrong by orders of magnitude."""
    here, there = grid((0.1, 0.1, 0.1), field_mm=3.0), grid((0.2, 0.2, 0.2), start_mm=(1e9,) * 3)
    common = on_shared_grid(boxes(here, (3, 3, 3)), boxes(there, (3, 3, 3), (8, 8, 8)))
    assert len(common.shared.n_voxels) == 0
    np.testing.assert_array_equal(common.true.n_voxels, [64, 64])


def test_nothing_on_a_grid() -> None:
    empty, one = grid((1.0, 1.0, 1.0)), grid((0.5, 0.5, 2.0))
    common = on_shared_grid(boxes(empty), boxes(one, (3, 3, 3)))
    assert len(common.predicted.ijk) == len(common.shared.n_voxels) == 0
    common = on_shared_grid(boxes(one), boxes(empty))
    assert len(common.true.n_voxels) == 0
