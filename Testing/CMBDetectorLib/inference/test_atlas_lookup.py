"""Places of the atlas's frame, looked up and moved, against SciPy."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage

from CMBDetectorLib.anatomy.alignment import ATLAS_SHAPE, atlas_index_of_mm
from CMBDetectorLib.inference.atlas_lookup import (
    LookupTable,
    displaced,
    look_up,
    with_background,
)

RNG = np.random.default_rng(7)
PLACES_MM = RNG.uniform(-130, 130, (3, 4, 50))


def test_maps_are_linear_between_voxels_and_0_beyond() -> None:
    maps = RNG.random((2, *ATLAS_SHAPE)).astype(np.float32)
    found = look_up(torch.from_numpy(maps), torch.from_numpy(PLACES_MM).float())
    assert found.shape == (2, 4, 50)
    to_index = atlas_index_of_mm()
    index = np.einsum("ij,j...->i...", to_index[:3, :3], PLACES_MM) + to_index[:3, 3, None, None]
    padded = np.pad(maps, [(0, 0), (2, 2), (2, 2), (2, 2)])
    for row, expected in zip(found.numpy(), padded, strict=True):
        by_scipy = ndimage.map_coordinates(expected, index + 2, order=1, mode="constant")
        np.testing.assert_allclose(row, by_scipy, atol=1e-3)
    assert (found == 0).any()


def test_what_is_found_changes_with_the_place_as_differences_say() -> None:
    table = LookupTable.of(torch.from_numpy(RNG.random((5, 9, 8, 7))))
    near_mm = torch.from_numpy(RNG.uniform(-18, 18, (3, 40))).requires_grad_()  # some beyond it
    assert torch.autograd.gradcheck(table.at, (near_mm,))


def test_places_move_as_the_knots_say() -> None:
    """Knots on the faces of the box: linear between them, the nearest beyond."""
    size_mm = np.array([200.0, 180.0, 160.0])
    field = RNG.normal(0, 5, (3, 5, 4, 6)).astype(np.float32)
    moved = displaced(
        torch.from_numpy(PLACES_MM).float(),
        torch.from_numpy(field),
        torch.from_numpy(size_mm).float(),
    )
    knots = np.array(field.shape[1:])
    at = (PLACES_MM / size_mm[:, None, None] + 0.5) * (knots - 1)[:, None, None]
    expected = [ndimage.map_coordinates(row, at, order=1, mode="nearest") for row in field]
    np.testing.assert_allclose(moved.numpy() - PLACES_MM, np.stack(expected), atol=1e-3)


def test_what_no_class_claims_is_background() -> None:
    found = torch.tensor([[0.1, 0.0, 0.3], [0.4, 0.0, 0.7]])
    torch.testing.assert_close(
        with_background(found), torch.tensor([[0.6, 1.0, 0.3], [0.4, 0.0, 0.7]])
    )
