"""A head of blobs, moved in known ways, is found again."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from nibabel.affines import apply_affine
from scipy.spatial.transform import Rotation

from CMBDetectorLib.anatomy.parcellation import CLASSES
from CMBDetectorLib.inference.head_alignment import (
    HEAD_HEIGHT_MM,
    TOP_TO_MIDDLE_MM,
    Probabilities,
    align_head,
    by_side,
    first_guess,
)

SPACING_MM = 5.0
SHAPE = (36, 42, 30)
BLOB_SD_MM = 7.0
BLOBS_MM = np.array(
    [(side * x, y, z) for side in (-1, 1) for x, y, z in ((35, 20, 25), (22, -10, 0), (30, -50, 5))]
    + [(-25, 5, -25), (25, 5, -25), (0, -15, -10), (0, -28, -45), (-20, -60, -35), (20, -60, -35)]
)


def head(
    shift_mm: tuple[float, ...] = (0, 0, 0),
    turn_deg: tuple[float, ...] = (0, 0, 0),
    sizes: tuple[float, ...] = (1, 1, 1),
) -> np.ndarray:
    """From voxel indices to the atlas's frame of a head that lies like this in the image."""
    lies = np.eye(4)
    turn = Rotation.from_euler("xyz", turn_deg, degrees=True).as_matrix()
    lies[:3, :3] = turn @ np.diag(sizes)
    lies[:3, 3] = shift_mm
    centered = np.diag([SPACING_MM] * 3 + [1.0])
    centered[:3, 3] = -SPACING_MM * (np.array(SHAPE) - 1) / 2
    return np.linalg.inv(lies) @ centered


def blobs(to_atlas_mm: np.ndarray, shape: tuple[int, ...]) -> torch.Tensor:
    place_mm = apply_affine(to_atlas_mm, np.stack(np.indices(shape), axis=-1))
    squares = ((place_mm[None] - BLOBS_MM[:, None, None, None]) ** 2).sum(axis=-1)
    return torch.from_numpy(np.exp(-squares / (2 * BLOB_SD_MM**2)))


def sees(truth: np.ndarray, shape: tuple[int, ...] = SHAPE, n: int | None = None) -> Probabilities:
    """A network that finds the first ``n`` structures where they are, whatever it is told."""
    found = blobs(truth, shape)
    if n is not None:
        found[n:] = 0
    return lambda guess: (found, blobs(guess, shape))


def error_mm(found: np.ndarray, truth: np.ndarray, shape: tuple[int, ...] = SHAPE) -> float:
    """The largest distance by which a structure in the image is missed."""
    index = apply_affine(np.linalg.inv(truth), BLOBS_MM)
    inside = ((index >= 0) & (index <= np.array(shape) - 1)).all(axis=1)
    assert inside.sum() >= 4
    missed = apply_affine(found, index[inside]) - BLOBS_MM[inside]
    return float(np.linalg.norm(missed, axis=1).max())


@pytest.mark.parametrize(
    "truth",
    [
        head(),
        head(shift_mm=(14, -11, 12)),
        head(turn_deg=(18, -12, 15)),
        head(sizes=(0.82, 0.85, 0.8)),
        head(sizes=(1.15, 1.1, 1.18)),
        head((-8, 10, -6), (-12, 8, 14), (0.9, 1.1, 0.95)),
    ],
    ids=["as it is", "displaced", "turned", "small", "large", "all of it"],
)
def test_a_moved_head_is_found(truth: np.ndarray) -> None:
    assert error_mm(align_head(SHAPE, SPACING_MM, sees(truth)), truth) < 3


@pytest.mark.parametrize("kept", [slice(0, 19), slice(11, 30), slice(8, 22)], ids=str)
def test_a_part_of_a_head_is_found(kept: slice) -> None:
    """Without its top, without its base, a slab: what is left is laid in its place."""
    whole = head(shift_mm=(6, -5, 4), turn_deg=(8, 4, -6), sizes=(0.95, 1.0, 0.93))
    start = np.eye(4)
    start[2, 3] = kept.start
    truth, shape = whole @ start, (*SHAPE[:2], kept.stop - kept.start)
    before = error_mm(first_guess(shape, SPACING_MM), truth, shape)
    found = align_head(shape, SPACING_MM, sees(truth, shape))
    assert error_mm(found, truth, shape) < min(6.0, before / 2)


def test_no_head_is_made_a_third_smaller_or_larger_or_mirrored() -> None:
    mirrored = head() @ np.diag([-1.0, 1, 1, 1])
    mirrored[0, 3] = head()[0, 3] + SPACING_MM * (SHAPE[0] - 1)
    for truth in (head(sizes=(0.4, 0.4, 0.4)), head(sizes=(1, 1, 0.5)), mirrored):
        found = align_head(SHAPE, SPACING_MM, sees(truth))
        sizes = np.linalg.svd(found[:3, :3] / SPACING_MM, compute_uv=False)
        assert np.abs(np.log(sizes)).max() < 0.35
        assert np.linalg.det(found[:3, :3]) > 0


@pytest.mark.parametrize("n", [0, 2])
def test_with_next_to_nothing_in_sight_the_first_guess_stays(n: int) -> None:
    found = align_head(SHAPE, SPACING_MM, sees(head(shift_mm=(10, 0, 0)), n=n))
    np.testing.assert_array_equal(found, first_guess(SHAPE, SPACING_MM))


def test_the_first_guess_is_upright_and_knows_necks() -> None:
    low = first_guess((40, 40, 28), SPACING_MM)
    np.testing.assert_allclose(apply_affine(low, (19.5, 19.5, 13.5)), 0)
    np.testing.assert_allclose(low[:3, :3], SPACING_MM * np.eye(3))
    tall = (40, 40, int(HEAD_HEIGHT_MM / SPACING_MM) + 10)
    top_mm = apply_affine(first_guess(tall, SPACING_MM), (19.5, 19.5, tall[2] - 1))
    np.testing.assert_allclose(top_mm, (0, 0, TOP_TO_MIDDLE_MM))


def test_paired_structures_are_told_apart_by_side() -> None:
    probabilities = torch.rand(1, len(CLASSES), 4, 3, 2)
    right = torch.zeros(1, 1, 4, 3, 2)
    right[:, :, 2:] = 1
    rows = by_side(probabilities, right)
    number = [one.name for one in CLASSES].index("cerebral white matter")
    structures = CLASSES[number:]
    assert len(rows) == sum(1 + one.is_paired for one in structures)
    assert torch.equal(rows[0, :2], probabilities[0, number, :2])
    assert not bool(rows[0, 2:].any())
    assert torch.equal(rows[0] + rows[1], probabilities[0, number])
    torch.testing.assert_close(rows.sum(dim=0), probabilities[0, number:].sum(dim=0))
