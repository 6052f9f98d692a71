"""A brain of ellipsoids in FreeSurfer's values, in places as in MNI space, on any grid."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.volume import Volume

# Of the right side: value, center and semi-axes in mm; later ones lie over earlier ones.
STRUCTURES = [
    (46, (25, -62, -40), (26, 24, 18)),
    (53, (28, -24, -14), (6, 14, 5)),
    (54, (23, -4, -19), (6, 6, 6)),
    (43, (9, -4, 15), (5, 28, 6)),
    (44, (35, -26, -13), (2, 12, 3)),
    (49, (11, -19, 4), (7, 11, 6)),
    (50, (15, 12, 8), (4, 12, 8)),
    (51, (27, 1, 0), (5, 15, 9)),
    (52, (20, -3, -1), (3, 8, 5)),
    (58, (9, 12, -8), (4, 4, 4)),
    (60, (11, -15, -10), (6, 6, 4)),
]
OTHER_SIDE = {
    **dict(zip(range(41, 45), range(2, 6), strict=True)),
    **{46: 7, 47: 8, 49: 10, 50: 11, 51: 12, 52: 13, 53: 17, 54: 18, 58: 26, 60: 28},
}
MakeBrain = Callable[..., Volume]


def label_points(ras_mm: np.ndarray) -> np.ndarray:
    """The value at points (..., 3)."""
    x, y, z = np.moveaxis(ras_mm, -1, 0)
    side = np.abs(x)

    def inside(center: tuple[float, ...], semi_axes: tuple[float, ...]) -> np.ndarray:
        parts = [
            ((a - c) / s) ** 2 for a, c, s in zip((side, y, z), center, semi_axes, strict=True)
        ]
        return np.sum(parts, axis=0) <= 1

    labels = np.zeros(side.shape, dtype=np.int16)
    cerebrum = ((0, -17, 16), (68, 87, 62))
    labels[inside(cerebrum[0], (70, 89, 64))] = 24
    labels[inside(*cerebrum)] = 42
    labels[inside(cerebrum[0], (64, 83, 58)) & (side > 4)] = 41
    # The hemispheres are apart but for the corpus callosum.
    labels[(side < 1.6) & (labels > 24)] = 24
    arch = (np.abs(z - 24) <= 4) & (y > -36) & (y < 28) & (side < 10)
    labels[arch] = 41
    # The insula: cortex beside the putamen, and the fissure beside it.
    beside = (np.abs(y) < 20) & (np.abs(z) < 14)
    labels[beside & (side > 37) & (side <= 41)] = 42
    labels[beside & (side > 41) & (side <= 45)] = 24
    for value, center, semi_axes in STRUCTURES:
        labels[inside(center, semi_axes)] = value
    labels[inside((25, -62, -40), (26, 24, 18)) & ~inside((25, -62, -40), (20, 18, 12))] = 47
    left = np.arange(100)
    left[list(OTHER_SIDE)] = list(OTHER_SIDE.values())
    labels = np.where(x < 0, left[labels], labels)
    labels[inside((0, -8, 4), (2, 10, 6))] = 14
    labels[inside((0, -29, -36), (11, 9, 26))] = 16
    return labels.astype(np.int16)


def grid(affine: np.ndarray) -> Geometry:
    """A grid in the directions of the affine that holds the brain."""
    corners = np.array(np.meshgrid((-75, 75), (-110, 75), (-70, 82))).reshape(3, -1).T
    index = (corners - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T
    low, high = np.floor(index.min(axis=0)), np.ceil(index.max(axis=0))
    moved = affine.copy()
    moved[:3, 3] = affine[:3, :3] @ low + affine[:3, 3]
    n = (high - low).astype(int) + 1
    return Geometry((n[0], n[1], n[2]), moved)


@pytest.fixture(scope="session")
def make_brain() -> MakeBrain:
    """The brain on the grid of an affine (default: 3 mm voxels, canonical axes)."""

    def make(affine: np.ndarray | None = None) -> Volume:
        geometry = grid(np.diag([3.0, 3.0, 3.0, 1]) if affine is None else affine)
        index = np.stack(np.meshgrid(*map(np.arange, geometry.shape), indexing="ij"), axis=-1)
        return Volume(label_points(geometry.ijk_to_ras_mm(index)), geometry)

    return make


@pytest.fixture(scope="session")
def brain(make_brain: MakeBrain) -> Volume:
    return make_brain()


def parcellated(brain: Volume) -> Volume:
    """Gyri instead of the cortex: frontal, parietal and insular ones by simple planes."""
    index = np.stack(np.meshgrid(*map(np.arange, brain.geometry.shape), indexing="ij"), axis=-1)
    x, y, _ = np.moveaxis(brain.geometry.ijk_to_ras_mm(index), -1, 0)
    gyrus = np.where(y > 0, 28, 29)  # superior frontal, superior parietal
    gyrus[(np.abs(x) <= 41) & (np.abs(x) > 36) & (np.abs(y) < 20)] = 35
    labels = brain.array.copy()
    for cortex, base in ((3, 1000), (42, 2000)):
        labels[brain.array == cortex] = base + gyrus[brain.array == cortex]
    return brain.with_array(labels)


@pytest.fixture(scope="session")
def parcellated_brain(brain: Volume) -> Volume:
    return parcellated(brain)
