"""An atlas of heads whose structures no affine map brings together, and where it is kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from CMBDetectorLib.anatomy.alignment import ATLAS_SHAPE, atlas_index_of_mm
from CMBDetectorLib.anatomy.parcellation import CLASSES, class_number
from CMBDetectorLib.errors import InputError, OutputError
from CMBDetectorLib.inference.atlas_lookup import displaced, look_up
from CMBDetectorLib.inference.deformation import FRAME_MM
from training.anatomy import atlas_store, groupwise
from training.anatomy.atlas import AlignedHead, build_atlas
from training.anatomy.atlas_store import STORE_NAME, atlas_of_heads
from training.anatomy.groupwise import mirrored, sharpen
from training.anatomy.heads import class_of_label, stored_heads, write_head

SHAPE = (100, 108, 100)
LAYERS = ((24, 24, 46), (3, 42, 42), (2, 41, 34))
# Label, center in mm (x of the right side) and radius, and how far it lies off along y and z.
BALLS = {
    "putamen": (12, 51, (22, 6, 0), 6.5),
    "caudate": (11, 50, (9, 12, 12), 5.5),
    "thalamus": (10, 49, (8, -14, 4), 6.5),
    "hippocampus": (17, 53, (20, -18, -12), 6.0),
}
MOVED = {"01": (1, 0), "02": (-1, 1), "03": (0, -1)}
OFF_MM = {"putamen": 4.5, "caudate": -4.5, "thalamus": 4.0, "hippocampus": -4.0}

pytestmark = pytest.mark.usefixtures("one_thread")


def labels_of(head: str) -> np.ndarray:
    """Balls in a head of shells, those of one head off in another way than those of the next."""
    place = (np.indices(SHAPE).T - (np.array(SHAPE) - 1) / 2).T
    x, y, z = place
    labels = np.zeros(SHAPE, dtype=np.int16)
    for left, right, radius in LAYERS:
        inside = (place**2).sum(axis=0) <= radius**2
        labels[inside] = np.where(x < 0, left, right)[inside]
    for name, (left, right, (at_x, at_y, at_z), radius) in BALLS.items():
        along_y, along_z = (OFF_MM[name] * share for share in MOVED[head])
        off = (np.abs(x) - at_x) ** 2 + (y - at_y - along_y) ** 2 + (z - at_z - along_z) ** 2
        labels[off <= radius**2] = np.where(x < 0, left, right)[off <= radius**2]
    return labels


@pytest.fixture(scope="module")
def folder(heads_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    subject = stored_heads(heads_folder, ("07",))[0].subject(8)
    result = tmp_path_factory.mktemp("balls")
    for head in MOVED:
        changed = replace(subject, anatomy=replace(subject.anatomy, labels=labels_of(head)))
        write_head(result / f"head{head}", changed, head, 1)
    return result


@pytest.fixture(scope="module")
def affine(folder: Path) -> tuple[Tensor, list[AlignedHead]]:
    return build_atlas(stored_heads(folder, tuple(MOVED)))


@pytest.fixture(scope="module")
def sharp(affine: tuple[Tensor, list[AlignedHead]]) -> tuple[Tensor, list[AlignedHead]]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(groupwise, "ROUNDS", 2)
        return sharpen(*affine)


def centers_mm(heads: list[AlignedHead], name: str) -> np.ndarray:
    """Where the right one of each head lies in the frame of the atlas, (heads, 3)."""
    rows = []
    for one in heads:
        points = np.argwhere(one.head.subject().anatomy.labels == BALLS[name][1])
        place_mm = torch.from_numpy(
            (one.to_atlas_mm[:3, :3] @ points.T + one.to_atlas_mm[:3, 3:]).astype(np.float32)
        )
        place_mm = displaced(place_mm, one.displacement_mm, FRAME_MM)
        rows.append(place_mm.numpy().mean(axis=1))
    return np.stack(rows)


def test_structures_come_together(
    affine: tuple[Tensor, list[AlignedHead]], sharp: tuple[Tensor, list[AlignedHead]]
) -> None:
    before, after = (
        np.mean([np.ptp(centers_mm(heads, name), axis=0).max() for name in BALLS])
        for heads in (affine[1], sharp[1])
    )
    assert before > 4
    assert after < 0.65 * before


def test_the_atlas_gets_sharper_and_stays_where_it_was(
    affine: tuple[Tensor, list[AlignedHead]], sharp: tuple[Tensor, list[AlignedHead]]
) -> None:
    to_mm = np.linalg.inv(atlas_index_of_mm())
    for name in BALLS:
        blurred, clear = (
            one[0][class_number(name), ATLAS_SHAPE[0] // 2 :] for one in (affine, sharp)
        )
        assert int(clear.max()) > 1.1 * int(blurred.max())
        centers = []
        for shares in (blurred, clear):
            weight = shares.double().numpy()
            index = [np.average(axis, weights=weight) for axis in np.indices(weight.shape)]
            index[0] += ATLAS_SHAPE[0] // 2
            centers.append(to_mm[:3, :3] @ index + to_mm[:3, 3])
        assert np.linalg.norm(centers[0] - centers[1]) < 2


def test_what_the_bent_atlas_expects_is_what_the_head_has(
    affine: tuple[Tensor, list[AlignedHead]], sharp: tuple[Tensor, list[AlignedHead]]
) -> None:
    for before, after in zip(affine[1], sharp[1], strict=True):
        labels = before.head.subject().anatomy.labels[::2, ::2, ::2]
        index = np.stack(np.indices(labels.shape)).reshape(3, -1) * 2
        matrix = before.to_atlas_mm
        place_mm = torch.from_numpy((matrix[:3, :3] @ index + matrix[:3, 3:]).astype(np.float32))
        moved_mm = displaced(place_mm, after.displacement_mm, FRAME_MM)
        truth = torch.from_numpy(class_of_label()[labels].ravel().astype(np.int64))
        deep = torch.isin(truth, torch.tensor([class_number(name) for name in BALLS]))
        hits = [
            float((look_up(atlas.float(), at)[:, deep].argmax(dim=0) == truth[deep]).float().mean())
            for atlas, at in ((affine[0], place_mm), (sharp[0], moved_mm))
        ]
        assert hits[1] > max(0.25, 2 * hits[0])


def test_the_sharp_atlas_is_whole_and_the_same_on_both_sides(
    sharp: tuple[Tensor, list[AlignedHead]],
) -> None:
    atlas, _ = sharp
    assert atlas.shape == (len(CLASSES), *ATLAS_SHAPE)
    assert atlas.dtype == torch.uint8
    assert torch.equal(atlas, atlas.flip(1))
    assert int((atlas.int().sum(dim=0) - 255).abs().max()) <= len(CLASSES) // 2
    assert atlas[:, 0, 0, 0].tolist() == [255, *[0] * (len(CLASSES) - 1)]


def test_a_mirrored_displacement_leads_to_the_mirrored_place() -> None:
    generator = torch.Generator().manual_seed(0)
    field = torch.randn(3, 6, 7, 5, generator=generator)
    place_mm = 40 * torch.randn(3, 20, generator=generator)
    across = torch.tensor([-1.0, 1.0, 1.0])[:, None]
    torch.testing.assert_close(
        displaced(across * place_mm, mirrored(field), FRAME_MM),
        across * displaced(place_mm, field, FRAME_MM),
    )
    assert torch.equal(mirrored(mirrored(field)), field)


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts how often an atlas is sharpened, in one round."""
    calls: list[int] = []

    def counted(atlas: Tensor, heads: list[AlignedHead]) -> tuple[Tensor, list[AlignedHead]]:
        calls.append(len(heads))
        return sharpen(atlas, heads)

    monkeypatch.setattr(groupwise, "ROUNDS", 1)
    monkeypatch.setattr(atlas_store, "sharpen", counted)
    return calls


def test_an_atlas_is_made_once_for_the_same_heads(
    heads_folder: Path, tmp_path: Path, builds: list[int]
) -> None:
    subject = stored_heads(heads_folder, ("07",))[0].subject()
    for head in ("01", "02"):
        write_head(tmp_path / f"head{head}", subject, head, 1)
    atlas, heads = atlas_of_heads(tmp_path, ("01", "02"))
    again, same = atlas_of_heads(tmp_path, ("01", "02"))
    assert builds == [2]
    assert torch.equal(again, atlas)
    for one, other in zip(heads, same, strict=True):
        assert one.head == other.head
        assert torch.equal(one.displacement_mm, other.displacement_mm)
    atlas_of_heads(tmp_path, ("01",))
    assert builds == [2, 1]
    (tmp_path / STORE_NAME).write_bytes(b"cut off")
    atlas_of_heads(tmp_path, ("01",))
    assert builds == [2, 1, 1]
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_an_atlas_that_cannot_be_kept_is_an_error(
    heads_folder: Path, tmp_path: Path, builds: list[int]
) -> None:
    subject = stored_heads(heads_folder, ("07",))[0].subject()
    write_head(tmp_path / "head01", subject, "01", 1)
    (tmp_path / STORE_NAME).mkdir()
    with pytest.raises(OutputError, match=r"atlas\.safetensors"):
        atlas_of_heads(tmp_path, ("01",))
    with pytest.raises(InputError, match="no head made of label maps 05"):
        atlas_of_heads(tmp_path, ("05",))
    assert builds == [1]
