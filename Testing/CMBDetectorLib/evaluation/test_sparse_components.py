from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import ndimage

from CMBDetectorLib.evaluation.sparse_components import find_components


@pytest.mark.parametrize("offset", list(itertools.product((-1, 0, 1), repeat=3)))
def test_two_voxels_touch_by_face_edge_or_corner(offset: tuple[int, int, int]) -> None:
    apart = sum(map(abs, offset))
    ijk = np.array(sorted({(5, 5, 5), tuple(np.add((5, 5, 5), offset).tolist())}))
    joined = [int(find_components(ijk, connectivity).max()) == 0 for connectivity in (6, 18, 26)]
    assert joined == [apart <= 1, apart <= 2, True]


@pytest.mark.parametrize("connectivity", [6, 18, 26])
def test_rows_do_not_run_into_the_next(connectivity: int) -> None:
    """The last voxel of a row and the first of the next are far apart."""
    ijk = np.argwhere(np.ones((4, 4, 6)))
    ends = ijk[(ijk[:, 2] == 0) & (ijk[:, 1] == 3) | (ijk[:, 2] == 5) & (ijk[:, 1] == 0)]
    component = find_components(ends, connectivity)
    assert component.max() == 1
    np.testing.assert_array_equal(component == component[0], ends[:, 2] == ends[0, 2])


@pytest.mark.parametrize(("rank", "connectivity"), [(1, 6), (2, 18), (3, 26)])
def test_only_voxels_of_one_value_touch(rank: int, connectivity: int) -> None:
    array = np.random.default_rng(rank).integers(0, 4, (12, 10, 14))
    ijk = np.argwhere(array)
    values = array[tuple(ijk.T)]
    component = find_components(ijk, connectivity, values)
    n_components = 0
    for value in (1, 2, 3):
        structure = ndimage.generate_binary_structure(3, rank)
        reference, number = ndimage.label(array == value, structure)
        mine = component[values == value]
        theirs = reference[tuple(ijk[values == value].T)]
        assert len(set(zip(mine.tolist(), theirs.tolist(), strict=True))) == number
        assert len(set(mine.tolist())) == number
        n_components += number
    assert sorted(set(component.tolist())) == list(range(n_components))


def test_nothing_has_no_component() -> None:
    assert find_components(np.empty((0, 3), dtype=np.int64), 26).shape == (0,)
