from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from CMBDetectorLib.anatomy.midplane import find_midplane
from CMBDetectorLib.anatomy.tissue_map import read_tissue_map
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.volume import Volume


@pytest.mark.parametrize("angles_deg", [(0, 0, 0), (10, -12, 15), (0, 20, -20)])
def test_plane_turns_with_the_head(angles_deg: tuple[int, int, int], brain: Volume) -> None:
    turn = Rotation.from_euler("xyz", angles_deg, degrees=True)
    affine = brain.geometry.affine.copy()
    affine[:3] = turn.as_matrix() @ affine[:3]
    affine[:3, 3] += (17, -4, 9)
    plane = find_midplane(
        read_tissue_map(Volume(brain.array, Geometry(brain.geometry.shape, affine)))
    )
    assert plane is not None
    np.testing.assert_allclose(plane.normal, turn.apply((1, 0, 0)), atol=5e-3)
    places = turn.apply([(0, 40, 10), (30, -20, 5), (-12, 0, 0)]) + np.array((17, -4, 9))
    np.testing.assert_allclose(plane.distance_mm(places), (0, 30, -12), atol=0.3)


def test_one_side_alone_has_no_plane(brain: Volume) -> None:
    labels = brain.array.copy()
    labels[(labels >= 41) & (labels <= 60)] = 0
    assert find_midplane(read_tissue_map(brain.with_array(labels))) is None
