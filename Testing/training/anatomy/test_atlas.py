"""The atlas of heads of balls that lie turned, displaced and of other sizes in their images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from nibabel.affines import apply_affine
from scipy.spatial.transform import Rotation
from torch import Tensor

from CMBDetectorLib.anatomy.alignment import ATLAS_SHAPE, atlas_index_of_mm
from CMBDetectorLib.anatomy.parcellation import CLASSES
from training.anatomy.atlas import AlignedHead, build_atlas
from training.anatomy.heads import StoredHead, class_of_label, stored_heads, write_head

SHAPE = (112, 120, 104)
# Label, center (x, y, z) and radius in mm: larger ones first.
BALLS = [
    (24, (0, 0, 0), 46),
    *[(label, (x, 0, 0), 16) for label, x in ((2, -24), (41, 24))],
    *[(label, (x, 8, -4), 7) for label, x in ((12, -27), (51, 27))],
    *[(label, (x, 26, 12), 7) for label, x in ((11, -12), (50, 12))],
    *[(label, (x, -16, -24), 8) for label, x in ((17, -20), (53, 20))],
    (16, (0, -14, -30), 9),
    (14, (0, 4, 24), 7),
]
HEADS = [
    ((0, 0, 8), (4, -3, 2), (1.0, 1.0, 1.0)),
    ((3, 0, -8), (-6, 2, 0), (0.9, 0.95, 0.9)),
    ((-3, 0, 0), (2, 1, -3), (1.1, 1.05, 1.1)),
]


def from_index(
    turn_deg: tuple[float, ...], shift_mm: tuple[float, ...], sizes: tuple[float, ...]
) -> np.ndarray:
    """From a head's voxels to the frame in which the balls are described."""
    lies = np.eye(4)
    turn = Rotation.from_euler("xyz", turn_deg, degrees=True).as_matrix()
    lies[:3, :3] = turn @ np.diag(sizes)
    lies[:3, 3] = np.array(shift_mm) + (np.array(SHAPE) - 1) / 2
    return np.linalg.inv(lies)


@pytest.fixture(scope="module")
def heads(heads_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[StoredHead]:
    subject = stored_heads(heads_folder, ("07",))[0].subject(8)
    folder = tmp_path_factory.mktemp("balls")
    index = np.stack(np.indices(SHAPE, dtype=np.float32), axis=-1)
    for number, (turn_deg, shift_mm, sizes) in enumerate(HEADS, start=1):
        place = apply_affine(from_index(turn_deg, shift_mm, sizes), index)
        labels = np.zeros(SHAPE, dtype=np.int16)
        for label, center, radius in BALLS:
            labels[((place - center) ** 2).sum(axis=-1) <= radius**2] = label
        changed = replace(subject, anatomy=replace(subject.anatomy, labels=labels))
        write_head(folder / f"head{number:02d}", changed, f"{number:02d}", number)
    return stored_heads(folder, ("01", "02", "03"))


@pytest.fixture(scope="module")
def built(heads: list[StoredHead]) -> tuple[Tensor, list[AlignedHead]]:
    return build_atlas(heads)


def test_the_atlas_is_symmetric_and_whole(built: tuple[Tensor, list[AlignedHead]]) -> None:
    atlas, _ = built
    assert atlas.shape == (len(CLASSES), *ATLAS_SHAPE)
    assert atlas.dtype == torch.uint8
    difference = (atlas.int() - atlas.flip(1).int()).abs()
    assert int(difference.max()) <= 1  # rounded
    sums = atlas.int().sum(dim=0)
    assert int((sums - 255).abs().max()) <= len(CLASSES) // 2
    assert float((sums == 255).float().mean()) > 0.5
    assert atlas[:, 0, 0, 0].tolist() == [255, *[0] * (len(CLASSES) - 1)]


def test_structures_of_aligned_heads_coincide(built: tuple[Tensor, list[AlignedHead]]) -> None:
    _, aligned = built
    assert [one.head.head for one in aligned] == ["01", "02", "03"]
    for _, center, _ in BALLS[1:]:
        places_mm = np.stack(
            [
                apply_affine(one.to_atlas_mm @ np.linalg.inv(from_index(*lies)), center)
                for one, lies in zip(aligned, HEADS, strict=True)
            ]
        )
        assert np.ptp(places_mm, axis=0).max() < 1.5
        mean_mm = places_mm.mean(axis=0)
        assert center[0] == 0 or np.sign(mean_mm[0]) == np.sign(center[0])


def test_the_atlas_has_the_structures_where_the_heads_have_them(
    built: tuple[Tensor, list[AlignedHead]],
) -> None:
    atlas, aligned = built
    for label, center, _ in BALLS[3:]:
        place_mm = apply_affine(
            aligned[0].to_atlas_mm @ np.linalg.inv(from_index(*HEADS[0])), center
        )
        i, j, k = np.rint(apply_affine(atlas_index_of_mm(), place_mm)).astype(int)
        assert int(atlas[class_of_label()[label], i, j, k]) > 0.6 * 255


def test_a_frame_in_millimeters_of_the_average_head(
    built: tuple[Tensor, list[AlignedHead]],
) -> None:
    """Sizes average to 1; the origin is the middle of the structures."""
    _, aligned = built
    sizes = [np.cbrt(np.linalg.det(one.to_atlas_mm[:3, :3])) for one in aligned]
    assert np.mean(1 / np.array(sizes)) == pytest.approx(1.0, abs=0.02)
    assert sizes[1] > sizes[0] > sizes[2]
    centers = np.array([center for _, center, _ in BALLS[1:]])
    matrix = aligned[0].to_atlas_mm @ np.linalg.inv(from_index(*HEADS[0]))
    paired = centers[centers[:, 0] != 0]
    assert abs(apply_affine(matrix, paired).mean(axis=0)[0]) < 0.5


def test_a_structure_that_a_head_lacks_does_not_matter(
    heads: list[StoredHead], tmp_path: Path
) -> None:
    """The brainstem is beyond the field of view of one head."""
    subject = heads[0].subject()
    labels = np.where(subject.anatomy.labels == 16, 0, subject.anatomy.labels)
    changed = replace(subject, anatomy=replace(subject.anatomy, labels=labels.astype(np.int16)))
    write_head(tmp_path / "cut", changed, "01", 1)
    _, aligned = build_atlas([StoredHead(tmp_path / "cut", "01"), *heads[1:]])
    places_mm = np.stack(
        [
            apply_affine(one.to_atlas_mm @ np.linalg.inv(from_index(*lies)), (-27, 8, -4))
            for one, lies in zip(aligned, HEADS, strict=True)
        ]
    )
    assert np.isfinite(places_mm).all()
    assert np.ptp(places_mm, axis=0).max() < 4
