"""Where the brain may be in an image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from nibabel.affines import apply_affine
from scipy.spatial.transform import Rotation

from CMBDetectorLib.anatomy.alignment import ATLAS_SHAPE, atlas_index_of_mm
from CMBDetectorLib.anatomy.parcellation import CLASSES
from CMBDetectorLib.inference.atlas_guided import AtlasGuidedNetwork
from CMBDetectorLib.inference.brain_extent import LookedAt, brain_box

NAMES = [one.name for one in CLASSES]
BRAIN_MM, HEAD_MM = 60.0, 80.0
SHAPE, SPACING_MM = (111, 120, 113), 2.0
MIDDLE = (50, 64, 58)


@pytest.fixture(scope="module")
def network() -> AtlasGuidedNetwork:
    """A ball of white matter in a ball of soft tissue."""
    index = np.stack(np.indices(ATLAS_SHAPE), axis=-1)
    radius = np.linalg.norm(apply_affine(np.linalg.inv(atlas_index_of_mm()), index), axis=-1)
    atlas = np.zeros((len(CLASSES), *ATLAS_SHAPE), dtype=np.uint8)
    atlas[NAMES.index("soft tissue"), radius < HEAD_MM] = 255
    atlas[:, radius < BRAIN_MM] = 0
    atlas[NAMES.index("cerebral white matter"), radius < BRAIN_MM] = 255
    return AtlasGuidedNetwork(torch.nn.Identity(), torch.from_numpy(atlas))


def looked(network: AtlasGuidedNetwork, shape: tuple[int, int, int] = SHAPE) -> LookedAt:
    to_atlas_mm = np.diag([SPACING_MM] * 3 + [1.0])
    to_atlas_mm[:3, 3] = -SPACING_MM * np.array(MIDDLE)
    return LookedAt.of(shape, SPACING_MM, to_atlas_mm, network)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
@pytest.mark.parametrize("first", [1.0, -1.0])
def test_what_is_looked_at_is_in_the_middle_of_the_steps(
    network: AtlasGuidedNetwork, order: tuple[int, int, int], first: float
) -> None:
    """Against the atlas at every voxel; oblique, left-handed and permuted maps."""
    shape = (47, 41, 44)
    to_atlas_mm = np.eye(4)
    turn = Rotation.from_euler("xyz", (20, -35, 50), degrees=True).as_matrix()
    to_atlas_mm[:3, :3] = (turn * (first * SPACING_MM, SPACING_MM, SPACING_MM))[:, order]
    to_atlas_mm[:3, 3] = (30, -12, 8)  # at the edge of the brain
    look = LookedAt.of(shape, SPACING_MM, to_atlas_mm, network)
    assert look.step == 3
    everywhere = network.expectation(shape, torch.from_numpy(to_atlas_mm.astype(np.float32)))
    middles = everywhere[:, 1::3, 1::3, 1::3]
    i, j, k = middles.shape[1:]
    np.testing.assert_allclose(look.expected[:, :i, :j, :k], middles, atol=1e-4)
    assert 0.05 < float(middles[NAMES.index("cerebral white matter")].mean()) < 0.95


def test_the_box_holds_the_brain_and_little_more(network: AtlasGuidedNetwork) -> None:
    for margin in (0, 5):
        box = brain_box(looked(network), margin)
        for along, middle in zip(box, MIDDLE, strict=True):
            reach = BRAIN_MM / SPACING_MM + margin
            assert middle - reach - 6 <= along.start <= middle - reach + 1
            assert middle + reach - 1 <= along.stop <= middle + reach + 6


def test_the_box_of_no_brain_is_the_image(network: AtlasGuidedNetwork) -> None:
    far = np.eye(4)
    far[:3, 3] = 1000
    look = LookedAt.of((20, 30, 40), SPACING_MM, far, network)
    assert brain_box(look, 3) == (slice(0, 20), slice(0, 30), slice(0, 40))
