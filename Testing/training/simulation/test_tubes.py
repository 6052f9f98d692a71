from __future__ import annotations

import numpy as np
import pytest

from training.simulation.tubes import Tube, bent_tube, rasterize

SHAPE = (60, 50, 40)


def _line(radius_mm: float, start: tuple[float, ...], stop: tuple[float, ...]) -> Tube:
    return Tube(np.array([start, stop]), np.full(2, radius_mm))


@pytest.mark.parametrize("radius_mm", [0.1, 0.27, 0.29, 0.4, 0.6, 1.5])
@pytest.mark.parametrize("stop", [(25.1, 12.2, 10.4), (22.0, 19.0, 15.0)])
def test_volume_is_that_of_the_tube(radius_mm: float, stop: tuple[float, ...]) -> None:
    tube = _line(radius_mm, (5.3, 5.1, 5.2), stop)
    length_mm = np.linalg.norm(np.diff(tube.points_mm, axis=0))
    volume_mm3 = rasterize([tube], SHAPE, 0.5).sum() * 0.5**3
    round_ends = 4 / 3 * np.pi * radius_mm**3 if radius_mm > 0.28 else 0.0
    expected = np.pi * radius_mm**2 * length_mm + round_ends
    assert volume_mm3 == pytest.approx(expected, rel=0.05)


def test_thick_tube_is_full_inside_and_empty_outside() -> None:
    fraction = rasterize([_line(2.0, (15.0, 12.0, 3.0), (15.0, 12.0, 17.0))], SHAPE, 0.5)
    x, y = np.indices(SHAPE[:2]) * 0.5
    away_mm = np.hypot(x - 15.0, y - 12.0)
    assert fraction[away_mm < 1.6, 15].min() == 1
    assert fraction[away_mm > 2.4].max() == 0


def test_a_point_is_a_ball() -> None:
    fraction = rasterize([Tube(np.array([[15.0, 12.0, 10.0]]), np.array([2.0]))], SHAPE, 0.5)
    assert fraction.sum() * 0.5**3 == pytest.approx(4 / 3 * np.pi * 8, rel=0.05)


def test_wide_steps_between_points_leave_no_gaps() -> None:
    along = rasterize([_line(0.2, (2.0, 10.0, 10.0), (28.0, 10.0, 10.0))], SHAPE, 0.5)
    assert along[6:54].sum(axis=(1, 2)).min() > 0.9 * along[6:54].sum(axis=(1, 2)).max()


def test_tubes_do_not_join_and_may_leave_the_grid() -> None:
    tubes = [
        _line(0.3, (-4.0, 5.0, 5.0), (4.0, 5.0, 5.0)),
        _line(1.5, (28.0, 20.0, 15.0), (40.0, 20.0, 15.0)),
    ]
    fraction = rasterize(tubes, SHAPE, 0.5)
    assert fraction[12:50].max() == 0
    assert fraction[0].max() > 0
    assert fraction[-1].max() == 1
    assert not rasterize([], SHAPE, 0.5).any()


def test_bent_tube_sets_out_towards_the_bend() -> None:
    start, bend, stop = np.array([[0.0, 0, 0], [10.0, 0, 0], [10.0, 10.0, 0]])
    tube = bent_tube(start, bend, stop, (0.2, 0.6))
    assert tube.points_mm[[0, -1]] == pytest.approx(np.stack([start, stop]))
    assert tube.radius_mm[[0, -1]] == pytest.approx([0.2, 0.6])
    first = tube.points_mm[1] - tube.points_mm[0]
    assert first[0] > 10 * first[1]
