"""Patches to train on: repeatable, and their truth is that of the head."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from nibabel.affines import apply_affine

from CMBDetectorLib.anatomy.parcellation import CLASSES
from training.anatomy.atlas import AlignedHead
from training.anatomy.contrasts import part_of, random_contrast, susceptibility
from training.anatomy.heads import class_of_label
from training.anatomy.misalignment import Misalignment
from training.anatomy.patches import FIRST_BRAIN_CLASS, Patch, numbered_patch

EVERYTHING = (slice(None), slice(None), slice(None))
PUTAMEN = [one.name for one in CLASSES].index("putamen")
BRAINSTEM = [one.name for one in CLASSES].index("brainstem")
EXACT = Misalignment(0.0, 0.0, 0.0)
N_PATCHES = 16

pytestmark = pytest.mark.usefixtures("one_thread")


def draw(
    head: AlignedHead, number: int, spacing_mm: float = 3.0, misalignment: Misalignment = EXACT
) -> Patch:
    return numbered_patch(
        [head], number, size_voxels=32, spacing_mm=spacing_mm, misalignment=misalignment, seed=5
    )


@pytest.fixture(scope="module")
def patches(aligned_head: AlignedHead) -> list[Patch]:
    return [draw(aligned_head, number) for number in range(N_PATCHES)]


def test_patches_are_repeatable_and_differ(aligned_head: AlignedHead, patches: list[Patch]) -> None:
    again = draw(aligned_head, 3)
    first, other = patches[3], patches[4]
    for name in ("image", "classes", "right", "to_atlas_mm", "displacement_mm"):
        assert torch.equal(getattr(first, name), getattr(again, name))
    assert first.image.shape != other.image.shape or not torch.equal(first.image, other.image)


def test_patches_fit_the_network(aligned_head: AlignedHead, patches: list[Patch]) -> None:
    for patch in [*patches, draw(aligned_head, 99, spacing_mm=1.5)]:
        assert all(n % 16 == 0 for n in patch.image.shape)
        assert patch.image.shape == patch.classes.shape == patch.right.shape
        assert patch.image.dtype == patch.to_atlas_mm.dtype == torch.float32
        assert patch.to_atlas_mm.shape == (4, 4)
        assert 0 <= float(patch.image.min()) <= float(patch.image.max()) <= 1
        assert set(patch.right.unique().tolist()) <= {-1, 0, 1}
        assert not bool((patch.right >= 0)[patch.classes < FIRST_BRAIN_CLASS].any())
    assert len({tuple(patch.image.shape) for patch in patches}) > 1


def test_the_two_sides_lie_side_by_side(patches: list[Patch]) -> None:
    """In mirrored patches, too, the right putamen lies to the right: higher indices."""
    seen = 0
    for patch in patches:
        left, right = (_places(patch, PUTAMEN, side) for side in (0, 1))
        if min(len(left), len(right)) >= 5:
            assert right.mean(axis=0)[0] > left.mean(axis=0)[0]
            seen += 1
    assert seen >= 5


def test_what_is_left_out_is_background(patches: list[Patch]) -> None:
    stripped = 0
    for patch in patches:
        if float((patch.image == 0).float().mean()) > 0.3:
            stripped += 1
            brain = patch.classes >= FIRST_BRAIN_CLASS
            assert float((patch.image[brain] > 0).float().mean()) > 0.6
    assert stripped >= 3


@pytest.mark.parametrize("spacing_mm", [3.0, 1.9])  # of every other voxel of the head, of all
def test_a_structure_lies_in_the_atlas_where_its_head_has_it(
    aligned_head: AlignedHead, patches: list[Patch], spacing_mm: float
) -> None:
    """Patches are bent by some millimeters and voxels have a size; on the average they agree."""
    if spacing_mm != 3.0:
        patches = [draw(aligned_head, number, spacing_mm) for number in range(N_PATCHES)]
    labels = aligned_head.head.subject().anatomy.labels
    handedness = set()
    for number, side, label in ((PUTAMEN, 0, 12), (PUTAMEN, 1, 51), (BRAINSTEM, -1, 16)):
        assert class_of_label()[label] == number
        center = np.argwhere(labels == label).mean(axis=0)
        expected_mm = apply_affine(aligned_head.to_atlas_mm, center)
        assert side < 0 or abs(expected_mm[0]) > 8
        whole_mm3 = np.count_nonzero(labels == label)
        off_mm = []
        for patch in patches:
            places, matrix = _places(patch, number, side), patch.to_atlas_mm.numpy()
            handedness.add(float(np.linalg.det(matrix[:3, :3])) > 0)
            if len(places) * spacing_mm**3 > 0.75 * whole_mm3:
                off_mm.append(apply_affine(matrix, places.mean(axis=0)) - expected_mm)
        assert len(off_mm) >= 3
        assert np.linalg.norm(off_mm, axis=1).max() < 8
        assert np.linalg.norm(np.median(off_mm, axis=0)) < 2.5
    assert handedness == {True}


def test_a_misalignment_moves_the_place_in_the_atlas_only(
    aligned_head: AlignedHead, patches: list[Patch]
) -> None:
    moved = draw(aligned_head, 2, misalignment=Misalignment(12.0, 7.0, 0.07))
    exact = patches[2]
    assert torch.equal(moved.image, exact.image)
    assert torch.equal(moved.classes, exact.classes)
    assert float((moved.to_atlas_mm - exact.to_atlas_mm)[:3, 3].abs().max()) > 1


def test_what_the_atlas_is_bent_by_is_a_share_of_the_heads_own(aligned_head: AlignedHead) -> None:
    """Of all of it, and mirrored where the patch is."""
    field = torch.randn(3, 5, 6, 7, generator=torch.Generator().manual_seed(3))
    bent = replace(aligned_head, displacement_mm=field)
    other = field.flip(1) * torch.tensor([-1.0, 1.0, 1.0]).view(3, 1, 1, 1)
    shares, kinds = [], set()
    for number in range(N_PATCHES // 2):
        patch = draw(bent, number)
        assert torch.equal(patch.image, draw(aligned_head, number).image)
        ratios = [(patch.displacement_mm / one).flatten() for one in (field, other)]
        kind = int(ratios[1].std() < ratios[0].std())
        assert float(ratios[kind].std()) < 1e-4
        kinds.add(kind)
        shares.append(float(ratios[kind].mean()))
        matrix = patch.to_atlas_mm.numpy()
        assert np.linalg.det(matrix[:3, :3]) > 0
    assert kinds == {0, 1}
    assert 0.4 <= min(shares) < 0.7 < max(shares) <= 1
    assert draw(aligned_head, 0).displacement_mm.abs().max() == 0


def test_a_random_contrast_is_the_same_on_both_sides(aligned_head: AlignedHead) -> None:
    """But for the noise, which has a grain of up to 20 voxels."""
    part = part_of(aligned_head.head.subject(2), EVERYTHING)
    labels = part.anatomy.labels
    of_two: dict[int, list[float]] = {2: [], 12: []}
    for seed in range(6):
        image = random_contrast(part, np.random.default_rng(seed)).numpy()
        for left, right, tolerance in ((2, 41, 0.05), (12, 51, 0.15)):
            values = [float(np.median(image[labels == label])) for label in (left, right)]
            assert abs(values[0] - values[1]) < tolerance
            of_two[left].append(values[0])
    assert np.ptp(of_two[2]) > 0.2
    assert abs(np.corrcoef(of_two[2], of_two[12])[0, 1]) < 0.99


def test_susceptibility_has_both_signs_and_no_air(aligned_head: AlignedHead) -> None:
    part = part_of(aligned_head.head.subject(2), EVERYTHING)
    chi = susceptibility(part, np.random.default_rng(0)).numpy()
    assert chi.min() < -0.005
    assert chi.max() > 0.005
    assert np.abs(chi).max() < 1.5


def _places(patch: Patch, number: int, side: int) -> np.ndarray:
    return np.argwhere((patch.classes.numpy() == number) & (patch.right.numpy() == side))
