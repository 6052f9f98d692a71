"""A head of ellipsoids, in contrasts that nobody told of, is found in the frame of its atlas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from nibabel.affines import apply_affine
from scipy import ndimage
from scipy.spatial.transform import Rotation

from CMBDetectorLib.anatomy.alignment import ATLAS_SHAPE, atlas_index_of_mm
from CMBDetectorLib.anatomy.parcellation import CLASSES
from CMBDetectorLib.inference.intensity_alignment import Alignment, align_by_intensities

NAMES = [one.name for one in CLASSES]
SPACING_MM = 3.0
SHAPE = (64, 76, 60)
# From the outside in: the class, the center and the radii, in mm of the atlas's frame.
ELLIPSOIDS = (
    ("soft tissue", (0, 4, -4), (82, 98, 92)),
    ("bone", (0, 2, 0), (76, 90, 82)),
    ("cerebrospinal fluid", (0, 0, 4), (69, 83, 71)),
    ("cerebral cortex", (0, 0, 6), (66, 80, 66)),
    ("cerebral white matter", (0, 0, 6), (58, 70, 56)),
    ("cerebellar cortex", (0, -48, -44), (46, 28, 24)),
    ("brainstem", (0, -22, -48), (13, 13, 30)),
    ("lateral ventricle", (13, 4, 18), (8, 32, 9)),
    ("lateral ventricle", (-13, 4, 18), (8, 32, 9)),
    ("putamen", (25, 8, 2), (6, 18, 10)),
    ("putamen", (-25, 8, 2), (6, 18, 10)),
    ("thalamus", (11, -14, 6), (9, 13, 9)),
    ("thalamus", (-11, -14, 6), (9, 13, 9)),
    ("orbit", (31, 76, -36), (13, 13, 13)),
    ("orbit", (-31, 76, -36), (13, 13, 13)),
)
BRAIN_MM = np.array([(x, y, z) for x in (-50, 0, 50) for y in (-60, 0, 60) for z in (-30, 10, 50)])


def classes_at(place_mm: np.ndarray) -> np.ndarray:
    result = np.zeros(place_mm.shape[:-1], dtype=np.uint8)
    for name, center, radii in ELLIPSOIDS:
        result[(((place_mm - center) / radii) ** 2).sum(axis=-1) <= 1] = NAMES.index(name)
    return result


@pytest.fixture(scope="module")
def atlas() -> torch.Tensor:
    to_mm = np.linalg.inv(atlas_index_of_mm())
    found = classes_at(apply_affine(to_mm, np.stack(np.indices(ATLAS_SHAPE), axis=-1)))
    shares = [ndimage.gaussian_filter((found == n).astype(float), 1.0) for n in range(len(CLASSES))]
    return torch.from_numpy(np.stack(shares)).float()


def lies(
    shift_mm: tuple[float, ...] = (0, 0, 0),
    turn_deg: tuple[float, ...] = (0, 0, 0),
    sizes: tuple[float, ...] = (1, 1, 1),
) -> np.ndarray:
    """From voxel indices to the atlas's frame, of a head that lies like this in the image."""
    head = np.eye(4)
    turn = Rotation.from_euler("xyz", turn_deg, degrees=True).as_matrix()
    head[:3, :3] = turn @ np.diag(sizes)
    head[:3, 3] = shift_mm
    centered = np.diag([SPACING_MM] * 3 + [1.0])
    centered[:3, 3] = -SPACING_MM * (np.array(SHAPE) - 1) / 2
    return np.linalg.inv(head) @ centered


def image_of(truth: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """In a contrast of its own, with noise and a bright side; and the classes."""
    rng = np.random.default_rng(seed)
    index = np.stack(np.indices(SHAPE), axis=-1)
    classes = classes_at(apply_affine(truth, index))
    levels = rng.permutation(np.linspace(0.15, 0.95, len(CLASSES)))
    levels[0] = 0.03
    bright_side = np.exp(0.3 * (index[..., 1] / SHAPE[1] - 0.5))
    image = levels[classes] * bright_side + rng.normal(0, 0.03, SHAPE)
    return np.clip(image, 1e-3, 1).astype(np.float32), classes


def error_mm(found: np.ndarray, truth: np.ndarray) -> float:
    """Root mean square distance by which points of the brain are missed."""
    missed = apply_affine(found, apply_affine(np.linalg.inv(truth), BRAIN_MM)) - BRAIN_MM
    return float(np.sqrt((missed**2).sum(axis=-1).mean()))


def align(image: np.ndarray, atlas: torch.Tensor) -> Alignment:
    return align_by_intensities(image, image > 0, SPACING_MM, atlas)


MOVED = {
    "as it is": lies(),
    "displaced": lies(shift_mm=(6, -14, 12)),
    "turned": lies(turn_deg=(-14, 5, 9)),
    "small": lies(sizes=(0.9, 0.88, 0.92)),
    "all of it": lies((-4, 9, -8), (10, -6, -5), (1.06, 0.98, 1.02)),
}


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("truth", MOVED.values(), ids=MOVED)
def test_a_head_is_found_in_any_contrast(atlas: torch.Tensor, truth: np.ndarray, seed: int) -> None:
    image, _ = image_of(truth, seed)
    found = align(image, atlas)
    assert error_mm(found.to_atlas_mm, truth) < 7
    assert not found.is_stripped


@pytest.mark.parametrize("kept", [slice(0, 42), slice(16, 60)], ids=["no top", "no base"])
def test_a_part_of_a_head_is_found(atlas: torch.Tensor, kept: slice) -> None:
    whole = lies((3, -5, 4), (6, 3, -4))
    image, _ = image_of(whole, 3)
    start = np.eye(4)
    start[2, 3] = kept.start
    found = align(image[:, :, kept], atlas)
    assert error_mm(found.to_atlas_mm, whole @ start) < 8
    assert not found.is_stripped


@pytest.mark.parametrize("outside", [0.0, 0.4])
@pytest.mark.parametrize("seed", [4, 5, 6])
def test_a_stripped_brain_is_found_by_its_outline(
    atlas: torch.Tensor, seed: int, outside: float
) -> None:
    """What was 0 need not be 0 when scaled: susceptibility maps have values on both sides of it."""
    truth = lies((5, -8, 6), (-8, 4, 3), (0.95, 0.97, 0.95))
    image, classes = image_of(truth, seed)
    is_brain = classes > NAMES.index("cerebrospinal fluid")
    image[~is_brain] = outside
    found = align_by_intensities(image, is_brain, SPACING_MM, atlas)
    assert found.is_stripped
    assert error_mm(found.to_atlas_mm, truth) < 5


def test_twice_the_same(atlas: torch.Tensor) -> None:
    image, _ = image_of(MOVED["turned"], 1)
    first, again = (align(image, atlas).to_atlas_mm for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_without_contrast_the_head_is_taken_to_lie_straight_in_the_middle(
    atlas: torch.Tensor,
) -> None:
    image = np.full(SHAPE, 0.5, dtype=np.float32)
    np.testing.assert_allclose(align(image, atlas).to_atlas_mm, lies(), atol=1)


def test_where_nothing_is_seen_an_alignment_is_given_nevertheless(atlas: torch.Tensor) -> None:
    found = align(np.zeros(SHAPE, dtype=np.float32), atlas)
    assert np.isfinite(found.to_atlas_mm).all()
