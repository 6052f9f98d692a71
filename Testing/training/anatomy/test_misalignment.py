"""How far off an alignment is."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from training.anatomy.misalignment import Misalignment


def test_none_is_none() -> None:
    drawn = Misalignment(0.0, 0.0, 0.0).draw(np.random.default_rng(0))
    np.testing.assert_allclose(drawn, np.eye(4), atol=1e-12)


def test_draws_have_the_spread_that_was_asked_for() -> None:
    rng = np.random.default_rng(1)
    drawn = np.stack([Misalignment(12.0, 7.0, 0.07).draw(rng) for _ in range(600)])
    assert drawn[:, :3, 3].std() == pytest.approx(12.0, rel=0.1)
    assert np.abs(drawn[:, :3, 3].mean(axis=0)).max() < 2
    sizes = np.linalg.norm(drawn[:, :3, :3], axis=1)
    assert sizes.mean() == pytest.approx(1.0, abs=0.01)
    # A common change and one of each axis, half as much.
    assert sizes.std() == pytest.approx(0.07 * np.sqrt(1.25), rel=0.15)
    turns = drawn[:, :3, :3] / sizes[:, None]
    angles = Rotation.from_matrix(turns).as_rotvec(degrees=True)
    assert angles.std() == pytest.approx(7.0, rel=0.15)


def test_no_draw_turns_a_head_inside_out() -> None:
    rng = np.random.default_rng(2)
    for _ in range(50):
        drawn = Misalignment(1.0, 5.0, 0.8).draw(rng)
        assert np.linalg.det(drawn[:3, :3]) > 0.2
