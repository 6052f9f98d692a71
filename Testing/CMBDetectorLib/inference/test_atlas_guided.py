"""The atlas looked up through affine maps, against nibabel, and what is made of it."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from nibabel.affines import apply_affine
from nibabel.processing import resample_from_to
from scipy.spatial.transform import Rotation
from torch import nn

from CMBDetectorLib.anatomy.alignment import ATLAS_SPACING_MM
from CMBDetectorLib.anatomy.parcellation import CLASSES, N_CHANNELS
from CMBDetectorLib.inference import atlas_guided
from CMBDetectorLib.inference.atlas_guided import CELL, AtlasGuidedNetwork

SHAPE = (14, 18, 16)
IMAGE = (16, 32, 16)
CHANNELS = 8 + 2 * len(CLASSES) + 3
PUTAMEN = [one.name for one in CLASSES].index("putamen")
BONE = [one.name for one in CLASSES].index("bone")  # nowhere in these atlases


def to_atlas(
    spacing_mm: tuple[float, float, float], turn_deg: tuple[float, ...], order: tuple[int, ...]
) -> np.ndarray:
    """From the image's voxels to the atlas's frame; its middle a little off the origin.

    Millimeters are those of an atlas with voxels of 4 mm.
    """
    turn = Rotation.from_euler("xyz", turn_deg, degrees=True).as_matrix()
    result = np.eye(4)
    result[:3, :3] = (turn * spacing_mm)[:, order]
    result[:3, 3] = (3, -2, 1.5) - result[:3, :3] @ ((np.array(IMAGE) - 1) / 2)
    result[:3] *= ATLAS_SPACING_MM / 4
    return result


MAPS = {
    "upright": to_atlas((1.5, 1.5, 1.5), (0, 0, 0), (0, 1, 2)),
    "left-handed": to_atlas((-1.5, 1.2, 2.0), (0, 0, 0), (0, 1, 2)),
    "permuted": to_atlas((1.0, 1.5, 2.0), (0, 0, 0), (2, 0, 1)),
    "oblique": to_atlas((1.1, 1.4, 0.8), (20, -15, 33), (0, 1, 2)),
    "oblique left-handed": to_atlas((1.4, -1.1, 0.9), (-12, 25, 160), (1, 2, 0)),
    "beyond the atlas": to_atlas((6.0, 5.0, 7.0), (10, 5, -8), (0, 1, 2)),
}


@pytest.fixture(params=MAPS.values(), ids=MAPS)
def to_atlas_mm(request: pytest.FixtureRequest) -> np.ndarray:
    return request.param


def bright_block() -> np.ndarray:
    """Putamen in a block off the middle, sure inside and half as sure in its shell."""
    atlas = np.zeros((len(CLASSES), *SHAPE), dtype=np.uint8)
    atlas[PUTAMEN, 7:12, 5:12, 8:12] = 127
    atlas[PUTAMEN, 8:11, 6:11, 9:11] = 255
    atlas[0] = 255 - atlas[PUTAMEN]
    return atlas


def by_nibabel(row: np.ndarray, shape: tuple[int, ...], to_atlas_mm: np.ndarray) -> np.ndarray:
    affine = np.diag([ATLAS_SPACING_MM] * 3 + [1.0])
    affine[:3, 3] = -ATLAS_SPACING_MM * (np.array(SHAPE) - 1) / 2
    image = nib.Nifti1Image(row.astype(np.float32) / 255, affine)
    return np.asarray(resample_from_to(image, (shape, to_atlas_mm), order=1).dataobj)


def tensor(matrix: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(matrix.astype(np.float32))


class Answer(nn.Module):
    """A network that keeps what it is given, and answers one value everywhere."""

    def __init__(self, value: float = 0.0) -> None:
        super().__init__()
        self.value = value

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        self.features = features
        return torch.full((1, CELL**3 * N_CHANNELS, *features.shape[2:]), self.value)


def test_the_atlas_is_looked_up_at_the_right_place(to_atlas_mm: np.ndarray) -> None:
    atlas = bright_block()
    network = AtlasGuidedNetwork(Answer(), torch.from_numpy(atlas))
    classes = network.expectation(IMAGE, tensor(to_atlas_mm))
    assert classes.shape == (len(CLASSES), *IMAGE)
    expected = by_nibabel(atlas[PUTAMEN], IMAGE, to_atlas_mm)
    assert expected.max() > 0.6
    np.testing.assert_allclose(classes[PUTAMEN].numpy(), expected, atol=1e-4)
    np.testing.assert_allclose(classes.sum(dim=0).numpy(), 1, atol=1e-4)


def test_beyond_the_atlas_is_background() -> None:
    atlas = np.zeros((len(CLASSES), *SHAPE), dtype=np.uint8)
    atlas[PUTAMEN] = 255  # up to the very edge
    network = AtlasGuidedNetwork(Answer(), torch.from_numpy(atlas))
    away = MAPS["upright"].copy()
    away[0, 3] += 1000
    classes = network.expectation(IMAGE, tensor(away))
    assert torch.equal(classes[:1], torch.ones_like(classes[:1]))
    assert not bool(classes[1:].any())
    classes = network.expectation(IMAGE, tensor(MAPS["beyond the atlas"]))
    assert 0.1 < float((classes[0] == 1).float().mean()) < 0.9
    assert float((classes[PUTAMEN] > 0.99).float().mean()) > 0.05


def in_cells(to_atlas_mm: np.ndarray) -> np.ndarray:
    """From indices of cells of two voxels, at their middle, to the atlas's frame."""
    to_voxel = np.diag([2.0, 2.0, 2.0, 1.0])
    to_voxel[:3, 3] = 0.5
    return to_atlas_mm @ to_voxel


def of_cells(array: np.ndarray) -> np.ndarray:
    """Each cell's value at all of its voxels."""
    return np.kron(array, np.ones((2, 2, 2)))


def test_without_a_network_and_a_contrast_the_answer_is_the_atlas(to_atlas_mm: np.ndarray) -> None:
    """An image of one value tells nothing of the classes."""
    atlas = bright_block()
    network = AtlasGuidedNetwork(Answer(), torch.from_numpy(atlas))
    logits = network(torch.full((1, 1, *IMAGE), 0.5), tensor(to_atlas_mm))[0]
    assert logits.shape == (N_CHANNELS, *IMAGE)
    half = (IMAGE[0] // 2, IMAGE[1] // 2, IMAGE[2] // 2)
    expected = of_cells(by_nibabel(atlas[PUTAMEN], half, in_cells(to_atlas_mm)))
    floor = float(logits[BONE].exp().mean())
    assert 0 < floor < 0.05
    for row, share in ((PUTAMEN, expected), (0, 1 - expected), (BONE, 0)):
        np.testing.assert_allclose(logits[row].exp().numpy() - floor, share, atol=1e-3)
    cells = np.stack(np.indices(half), axis=-1)
    x_mm = of_cells(apply_affine(in_cells(to_atlas_mm), cells)[..., 0])
    np.testing.assert_allclose(logits[-1].numpy(), np.clip(x_mm / 4, -5, 5), atol=1e-4)


@pytest.mark.parametrize("name", ["upright", "left-handed", "permuted", "oblique"])
def test_the_image_tells_what_the_atlas_does_not(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two classes are as likely everywhere but at their cores, which show how bright they are.

    The image is smaller than what a receive profile is told from, so none is taken out.
    """
    monkeypatch.setattr(atlas_guided, "evened", lambda image, _: image)
    to_atlas_mm = MAPS[name]
    share = np.full(SHAPE, 128, dtype=np.uint8)
    share[:, 1::4], share[:, 3::4] = 255, 0
    atlas = np.zeros((len(CLASSES), *SHAPE), dtype=np.uint8)
    atlas[PUTAMEN], atlas[0] = share, 255 - share
    network = AtlasGuidedNetwork(Answer(), torch.from_numpy(atlas))
    bright = torch.rand(IMAGE) > 0.5
    expected = network.expectation(IMAGE, tensor(to_atlas_mm))[PUTAMEN]
    is_putamen = (expected > 0.8) | (bright & (expected > 0.2))
    image = torch.where(is_putamen, 0.8, 0.3)
    unsure = (expected > 0.4) & (expected < 0.6)
    assert int(unsure.sum()) > 50
    for seen in (image, 1.1 - image):
        logits = network(seen[None, None], tensor(to_atlas_mm))[0]
        is_right = (logits[PUTAMEN] > logits[0]) == is_putamen
        assert float(is_right[unsure].float().mean()) > 0.9


def test_the_network_corrects_the_atlas_and_is_told_what_it_expects() -> None:
    to_atlas_mm = MAPS["oblique left-handed"]
    atlas, image = torch.from_numpy(bright_block()), torch.rand(1, 1, *IMAGE)
    plain = AtlasGuidedNetwork(Answer(), atlas)(image, tensor(to_atlas_mm))
    network = AtlasGuidedNetwork(Answer(1.5), atlas)
    torch.testing.assert_close(network(image, tensor(to_atlas_mm)), plain + 1.5)
    features = network.network.features[0]
    half = tuple(n // 2 for n in IMAGE)
    assert features.shape == (8 + 2 * len(CLASSES) + 3, *half)
    assert torch.equal(features[3], image[0, 0, ::2, 1::2, 1::2])
    told = features[8 : 8 + len(CLASSES)]
    expected = network.expectation(half, tensor(in_cells(to_atlas_mm)))
    torch.testing.assert_close(told, expected)
    np.testing.assert_allclose(features[8 + len(CLASSES) : -3].sum(dim=0).numpy(), 1, atol=1e-4)
    place_mm = apply_affine(in_cells(to_atlas_mm), np.stack(np.indices(half), axis=-1))
    np.testing.assert_allclose(features[-3:].permute(1, 2, 3, 0).numpy(), place_mm / 100, atol=1e-4)


def test_some_voxels_of_the_cells_get_what_they_get_among_all() -> None:
    to_atlas_mm = tensor(MAPS["oblique"])
    network = AtlasGuidedNetwork(
        nn.Conv3d(CHANNELS, CELL**3 * N_CHANNELS, 1), torch.from_numpy(bright_block())
    )
    image = torch.rand(1, 1, *IMAGE)
    whole, some = network(image, to_atlas_mm), network.in_cells(image, to_atlas_mm, voxels=[5, 2])
    torch.testing.assert_close(some[:, :, 0], whole[:, :, 1::2, ::2, 1::2])
    torch.testing.assert_close(some[:, :, 1], whole[:, :, ::2, 1::2, ::2])


def test_a_displacement_moves_what_the_atlas_says() -> None:
    """The same everywhere: as if the image lay elsewhere."""
    network = AtlasGuidedNetwork(Answer(), torch.from_numpy(bright_block()))
    image, shift_mm = torch.rand(1, 1, *IMAGE), (4.0, -3.0, 2.0)
    to_atlas_mm = MAPS["oblique"]
    elsewhere = to_atlas_mm.copy()
    elsewhere[:3, 3] += shift_mm
    field = torch.tensor(shift_mm).view(3, 1, 1, 1).expand(3, 4, 5, 6)
    moved = network(image, tensor(to_atlas_mm), field)
    torch.testing.assert_close(moved, network(image, tensor(elsewhere)), atol=1e-3, rtol=1e-3)


def test_low_precision_changes_what_is_computed_little() -> None:
    atlas = torch.from_numpy(bright_block())
    network = AtlasGuidedNetwork(nn.Conv3d(CHANNELS, CELL**3 * N_CHANNELS, 1), atlas).eval()
    image, to_atlas_mm = torch.rand(1, 1, *IMAGE), tensor(MAPS["oblique"])
    with torch.inference_mode():
        full = network(image, to_atlas_mm)
        network.network.to(torch.bfloat16)
        reduced = network(image.to(torch.bfloat16), to_atlas_mm)
    assert reduced.dtype == torch.bfloat16
    assert float((reduced.float() - full).abs().mean()) < 0.05


@pytest.mark.parametrize("name", ["oblique left-handed", "permuted"])
def test_classes_are_those_of_the_highest_logits(name: str) -> None:
    """A network's answer differs from voxel to voxel; there are more rows than taken at a time."""

    class Random(nn.Module):
        def forward(self, features: torch.Tensor) -> torch.Tensor:
            generator = torch.Generator().manual_seed(4)
            shape = (1, CELL**3 * N_CHANNELS, *features.shape[2:])
            return 4 * torch.randn(shape, generator=generator)

    network = AtlasGuidedNetwork(Random(), torch.from_numpy(bright_block()))
    image, to_atlas_mm = torch.rand(1, 1, 32, 16, 16), tensor(MAPS[name])
    field = 6 * torch.randn(3, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    logits = network(image, to_atlas_mm, field)[0]
    classes, right = network.classify(image, to_atlas_mm, field)
    assert classes.dtype == torch.uint8
    assert classes.shape == right.shape == (32, 16, 16)
    assert torch.equal(classes.long(), logits[:-1].argmax(dim=0))
    assert torch.equal(right, logits[-1] > 0)
    assert len(classes.unique()) == len(CLASSES)
    assert 0.1 < float(right.float().mean()) < 0.9


def test_a_logit_that_is_not_finite_is_noticed() -> None:
    network = AtlasGuidedNetwork(Answer(float("nan")), torch.from_numpy(bright_block()))
    with pytest.raises(FloatingPointError):
        network.classify(torch.rand(1, 1, *IMAGE), tensor(MAPS["upright"]))


def test_what_must_be_within_is_not_scalp_bone_or_orbit() -> None:
    """The network answers bone everywhere; the right half of the image is within."""
    network = AtlasGuidedNetwork(Answer(), torch.from_numpy(bright_block()))
    bias = torch.zeros(N_CHANNELS, CELL**3, 1, 1, 1)
    bias[BONE], bias[BONE + 1] = 40, 39
    monkey = network.network.forward
    network.network.forward = lambda features: monkey(features) + bias.flatten(0, 1)[None]
    within = torch.zeros(1, 1, *IMAGE, dtype=torch.bool)
    within[..., 7:, :, :] = True
    classes, _ = network.classify(
        torch.rand(1, 1, *IMAGE), tensor(MAPS["upright"]), is_within=within
    )
    assert set(classes[:7].unique().tolist()) == {BONE}
    names = {CLASSES[number].name for number in classes[7:].unique().tolist()}
    assert names
    assert not names & {"soft tissue", "bone", "orbit"}
