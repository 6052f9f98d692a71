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
from CMBDetectorLib.inference.atlas_guided import AtlasGuidedNetwork

SHAPE = (14, 18, 16)
IMAGE = (16, 32, 16)
PUTAMEN = [one.name for one in CLASSES].index("putamen")
BONE = [one.name for one in CLASSES].index("bone")  # nowhere in these atlases


def to_atlas(
    spacing_mm: tuple[float, float, float], turn_deg: tuple[float, ...], order: tuple[int, ...]
) -> np.ndarray:
    """From the image's voxels to the atlas's frame; its middle a little off the origin."""
    turn = Rotation.from_euler("xyz", turn_deg, degrees=True).as_matrix()
    result = np.eye(4)
    result[:3, :3] = (turn * spacing_mm)[:, order]
    result[:3, 3] = (3, -2, 1.5) - result[:3, :3] @ ((np.array(IMAGE) - 1) / 2)
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
        return torch.full((1, N_CHANNELS, *features.shape[2:]), self.value)


def test_the_atlas_is_looked_up_at_the_right_place(to_atlas_mm: np.ndarray) -> None:
    atlas = bright_block()
    network = AtlasGuidedNetwork(Answer(), torch.from_numpy(atlas))
    classes, right = network.expectation(IMAGE, tensor(to_atlas_mm))
    assert classes.shape == (1, len(CLASSES), *IMAGE)
    expected = by_nibabel(atlas[PUTAMEN], IMAGE, to_atlas_mm)
    assert expected.max() > 0.6
    np.testing.assert_allclose(classes[0, PUTAMEN].numpy(), expected, atol=1e-4)
    np.testing.assert_allclose(classes.sum(dim=1).numpy(), 1, atol=1e-4)
    x_mm = apply_affine(to_atlas_mm, np.stack(np.indices(IMAGE), axis=-1))[..., 0]
    is_right = right[0, 0].numpy() > 0.5
    clear = np.abs(x_mm) > 0.01
    np.testing.assert_array_equal(is_right[clear], (x_mm > 0)[clear])


def test_beyond_the_atlas_is_background() -> None:
    atlas = np.zeros((len(CLASSES), *SHAPE), dtype=np.uint8)
    atlas[PUTAMEN] = 255  # up to the very edge
    network = AtlasGuidedNetwork(Answer(), torch.from_numpy(atlas))
    away = MAPS["upright"].copy()
    away[0, 3] += 1000
    classes, right = network.expectation(IMAGE, tensor(away))
    assert torch.equal(classes[:, :1], torch.ones_like(classes[:, :1]))
    assert not bool(classes[:, 1:].any())
    assert 0.99 < float(right.min()) <= float(right.max()) < 1
    classes, _ = network.expectation(IMAGE, tensor(MAPS["beyond the atlas"]))
    assert 0.1 < float((classes[0, 0] == 1).float().mean()) < 0.9
    assert float((classes[0, PUTAMEN] > 0.99).float().mean()) > 0.05


def test_without_a_network_the_answer_is_the_atlas(to_atlas_mm: np.ndarray) -> None:
    atlas = bright_block()
    network = AtlasGuidedNetwork(Answer(), torch.from_numpy(atlas))
    logits = network(torch.rand(1, 1, *IMAGE), tensor(to_atlas_mm))[0]
    assert logits.shape == (N_CHANNELS, *IMAGE)
    expected = by_nibabel(atlas[PUTAMEN], IMAGE, to_atlas_mm)
    floor = float(logits[BONE].exp().mean())
    assert 0 < floor < 0.05
    for row, share in ((PUTAMEN, expected), (0, 1 - expected), (BONE, 0)):
        np.testing.assert_allclose(logits[row].exp().numpy() - floor, share, atol=1e-4)
    x_mm = apply_affine(to_atlas_mm, np.stack(np.indices(IMAGE), axis=-1))[..., 0]
    np.testing.assert_allclose(logits[-1].numpy(), np.clip(x_mm / 4, -5, 5), atol=1e-4)


def test_the_network_corrects_the_atlas_and_is_told_what_it_expects() -> None:
    to_atlas_mm = MAPS["oblique left-handed"]
    atlas, image = torch.from_numpy(bright_block()), torch.rand(1, 1, *IMAGE)
    plain = AtlasGuidedNetwork(Answer(), atlas)(image, tensor(to_atlas_mm))
    network = AtlasGuidedNetwork(Answer(1.5), atlas)
    torch.testing.assert_close(network(image, tensor(to_atlas_mm)), plain + 1.5)
    features = network.network.features[0]
    assert features.shape == (1 + len(CLASSES) + 3, *IMAGE)
    assert torch.equal(features[:1], image[0])
    told = (features[1:-3] + plain[0, BONE].exp().mean()).log()
    torch.testing.assert_close(told, plain[0, : len(CLASSES)])
    place_mm = apply_affine(to_atlas_mm, np.stack(np.indices(IMAGE), axis=-1))
    np.testing.assert_allclose(features[-3:].permute(1, 2, 3, 0).numpy(), place_mm / 100, atol=1e-4)


def test_low_precision_changes_what_is_computed_little() -> None:
    atlas = torch.from_numpy(bright_block())
    network = AtlasGuidedNetwork(nn.Conv3d(26, N_CHANNELS, 1), atlas).eval()
    image, to_atlas_mm = torch.rand(1, 1, *IMAGE), tensor(MAPS["oblique"])
    with torch.inference_mode():
        full = network(image, to_atlas_mm)
        network.network.to(torch.bfloat16)
        reduced = network(image.to(torch.bfloat16), to_atlas_mm)
    assert reduced.dtype == torch.bfloat16
    assert float((reduced.float() - full).abs().mean()) < 0.05
