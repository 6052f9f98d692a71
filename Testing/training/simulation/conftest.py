"""A head of blocks that holds every structure objects are placed in, on both sides."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from training.simulation.anatomy import Anatomy, brain_labels, fine_geometry

COARSE_MM = 4.0


@pytest.fixture(scope="session")
def block_head() -> Anatomy:
    """Voxels of 1 mm; x to the right, the middle between x = 55 and 56."""
    shape = (112, 128, 112)
    labels = np.zeros(shape, dtype=np.int16)

    def fill(
        x: tuple[int, int], y: tuple[int, int], z: tuple[int, int], left: int, right: int
    ) -> None:
        """A block of the right half and its mirror image; ``x`` from the middle outwards."""
        labels[56 + x[0] : 56 + x[1], slice(*y), slice(*z)] = right
        labels[56 - x[1] : 56 - x[0], slice(*y), slice(*z)] = left

    fill((0, 54), (2, 126), (2, 110), 24, 24)
    fill((2, 48), (8, 120), (44, 104), 3, 42)
    fill((5, 45), (11, 117), (47, 101), 2, 41)
    fill((5, 10), (24, 100), (76, 90), 4, 43)
    fill((6, 10), (24, 30), (76, 82), 31, 63)
    fill((10, 16), (64, 92), (70, 86), 11, 50)
    fill((20, 30), (56, 92), (56, 80), 12, 51)
    fill((14, 20), (58, 84), (56, 74), 13, 52)
    fill((4, 13), (44, 64), (58, 74), 10, 49)
    fill((0, 3), (40, 70), (58, 72), 14, 14)
    fill((2, 12), (50, 66), (48, 57), 28, 60)
    fill((0, 12), (44, 62), (12, 44), 16, 16)
    fill((4, 40), (10, 42), (10, 42), 8, 47)
    fill((8, 32), (14, 38), (14, 38), 7, 46)
    brain = brain_labels(labels)
    coarse = labels[1::4, 1::4, 1::4]
    ventricle = np.isin(coarse, (4, 43))
    depth = ndimage.distance_transform_edt(brain_labels(coarse), sampling=COARSE_MM)
    to_ventricle = ndimage.distance_transform_edt(~ventricle, sampling=COARSE_MM)
    return Anatomy(
        labels,
        fine_geometry(shape, 1.0),
        brain,
        COARSE_MM,
        depth.astype(np.float32),
        to_ventricle.astype(np.float32),
    )
