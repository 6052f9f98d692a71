"""Patches: where they are centred, how they are turned, and that they can be repeated."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from CMBDetectorLib.errors import InputError
from training.augmentation import Augmentation
from training.prepared_case import PreparedCase, prepared_folders, write_prepared
from training.sampling import Batch, PatchSampler, prefetched
from training.targets import LESION, VEIN

CLIP = (0.0, 1.5)


def test_same_number_same_batch(prepared_root: Path, tiny_config) -> None:
    folders = prepared_folders(prepared_root)
    make = [
        PatchSampler(folders, tiny_config.sampling, tiny_config.augmentation, CLIP, (1, seed))
        for seed in (7, 7, 8)
    ]
    first, again, other = (sampler.batch(5) for sampler in make)
    np.testing.assert_array_equal(first.images, again.images)
    np.testing.assert_array_equal(first.labels, again.labels)
    assert not np.array_equal(first.images, other.images)
    assert not np.array_equal(first.images, make[0].batch(6).images)
    assert first.images.shape == (4, 32, 32, 8)
    assert first.images.dtype == np.float32
    assert first.images.min() >= CLIP[0]
    assert first.images.max() <= CLIP[1]


@pytest.mark.parametrize(
    ("shares", "bit"), [((1.0, 0.0), LESION), ((0.0, 1.0), VEIN)], ids=["lesion", "mimic"]
)
def test_patches_hold_what_they_are_centred_on(
    shares, bit, prepared_root: Path, tiny_config
) -> None:
    settings = replace(
        tiny_config.sampling, lesion_share=shares[0], mimic_share=2 * shares[1] / 2, batch_size=12
    )
    sampler = PatchSampler(
        prepared_folders(prepared_root), settings, tiny_config.augmentation, CLIP, (1,)
    )
    held = [(labels & bit).any() for labels in sampler.batch(0).labels]
    # The cases have no other mimic than veins; those draws fall back on the brain.
    assert all(held) if bit == LESION else sum(held) >= 4


def test_labels_turn_with_the_image(tmp_path: Path, tiny_config) -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random((40, 40, 12)) < 0.3).astype(np.uint8) * LESION
    image = np.where(labels > 0, 0.3, 1.0).astype(np.float16)
    _write(tmp_path / "a", image, labels)
    calm = replace(
        tiny_config.augmentation, noise=0.0, blur_share=0.0, low_resolution_share=0.0, bias=0.0
    )
    batch = PatchSampler([tmp_path / "a"], tiny_config.sampling, calm, CLIP, (1,)).batch(3)
    for patch, patch_labels in zip(batch.images, batch.labels, strict=True):
        assert patch[patch_labels > 0].max() < patch[patch_labels == 0].min()


def test_volumes_smaller_than_a_patch_are_padded_with_zeros(tmp_path: Path, tiny_config) -> None:
    labels = np.zeros((40, 40, 3), np.uint8)
    labels[20, 20, 1] = LESION
    _write(tmp_path / "a", np.ones(labels.shape, np.float16), labels, points=[[20, 20, 1]])
    settings = replace(tiny_config.sampling, lesion_share=1.0, mimic_share=0.0)
    batch = PatchSampler([tmp_path / "a"], settings, tiny_config.augmentation, CLIP, (1,)).batch(0)
    assert ((batch.labels == LESION).sum(axis=(1, 2, 3)) == 1).all()
    assert ((batch.images > 0).any(axis=(1, 2)).sum(axis=1) == 3).all()


def test_empty_background_stays_empty(tmp_path: Path, tiny_config) -> None:
    labels = np.zeros((32, 32, 8), np.uint8)
    labels[16, 16, 4] = LESION
    image = np.ones(labels.shape, np.float16)
    image[:8] = 0
    _write(tmp_path / "a", image, labels, points=[[16, 16, 4]])
    batch = PatchSampler(
        [tmp_path / "a"], tiny_config.sampling, tiny_config.augmentation, CLIP, (1,)
    ).batch(1)
    assert (np.abs((batch.images == 0).mean(axis=(1, 2, 3)) - 0.25) < 0.06).all()


def test_patches_are_drawn_around_hard_negatives(tmp_path: Path, tiny_config) -> None:
    labels = np.zeros((96, 96, 8), np.uint8)
    labels[16, 16, 4] = LESION
    image = np.full(labels.shape, 0.5, np.float16)
    image[80, 20, 4] = 1.0
    for name in ("a", "b"):
        _write(tmp_path / name, image, labels, points=[[16, 16, 4]])
    settings = replace(
        tiny_config.sampling,
        batch_size=8,
        lesion_share=0.0,
        mimic_share=0.0,
        hard_negative_share=1.0,
        jitter=0.5,
    )
    sampler = PatchSampler([tmp_path / "a", tmp_path / "b"], settings, None, CLIP, (1,))
    anywhere = (sampler.batch(0).images == 1.0).any(axis=(1, 2, 3))
    assert not anywhere.all(), "as long as there is none"
    sampler.set_hard_negatives(np.array([[1, 80, 20, 4]]))
    assert (sampler.batch(0).images == 1.0).any(axis=(1, 2, 3)).all()
    sampler.set_hard_negatives(np.zeros((0, 4), int))
    assert ((sampler.batch(0).images == 1.0).any(axis=(1, 2, 3)) == anywhere).all()


def test_scans_with_more_hard_negatives_are_drawn_from_more(tmp_path: Path, tiny_config) -> None:
    labels = np.zeros((96, 96, 8), np.uint8)
    labels[16, 16, 4] = LESION
    for name, value in (("few", 0.25), ("many", 0.75)):
        image = np.full(labels.shape, value, np.float16)
        _write(tmp_path / name, image, labels, points=[[16, 16, 4]])
    settings = replace(
        tiny_config.sampling,
        batch_size=200,
        patch_shape=(8, 8, 4),
        lesion_share=0.0,
        mimic_share=0.0,
        hard_negative_share=1.0,
    )
    sampler = PatchSampler([tmp_path / "few", tmp_path / "many"], settings, None, CLIP, (1,))
    many = [[1, 48, 8 + j, 4] for j in range(9)]
    sampler.set_hard_negatives(np.array([[0, 48, 48, 4], *many]))
    share = (sampler.batch(0).images.mean(axis=(1, 2, 3)) > 0.5).mean()
    assert share == pytest.approx(0.9, abs=0.06)


def test_turns_and_distortions_move_lesions_with_the_image(tiny_config) -> None:
    settings = replace(
        tiny_config.augmentation,
        rotation_share=1.0,
        distortion_share=1.0,
        noise=0.0,
        bias=0.0,
        gain=(1.0, 1.0),
        gamma=(1.0, 1.0),
        blur_share=0.0,
        low_resolution_share=0.0,
    )
    change = Augmentation(settings, CLIP)
    labels = np.zeros((48, 48, 8), np.uint8)
    labels[10:18, 12:22, 2:6] = LESION
    image = np.where(labels > 0, 0.2, 1.0).astype(np.float32)
    rng = np.random.default_rng(0)
    moved = [change(image, labels, rng) for _ in range(5)]
    for new_image, new_labels in moved:
        assert set(np.unique(new_labels)) == {0, LESION}
        inside = new_image[new_labels > 0]
        assert (inside < 0.6).mean() > 0.85
        assert (new_image[new_labels == 0] < 0.4).mean() < 0.01
    assert any(not np.array_equal(moved[0][1], labels) for _, labels in moved[1:])


def test_cases_without_any_lesion_are_refused(tmp_path: Path, tiny_config) -> None:
    labels = np.zeros((32, 32, 8), np.uint8)
    _write(tmp_path / "a", np.ones(labels.shape, np.float16), labels, points=[])
    with pytest.raises(InputError, match="none of the 1 prepared cases has a lesion"):
        PatchSampler([tmp_path / "a"], tiny_config.sampling, None, CLIP, (1,))


def test_prefetching_keeps_the_order_and_passes_errors_on() -> None:
    def make(number: int) -> Batch:
        if number == 7:
            raise InputError("no more")
        return Batch(np.full((1, 1, 1, 1), number, np.float32), np.zeros((1, 1, 1, 1), np.uint8))

    batches = prefetched(make, 3)
    assert [int(next(batches).images[0, 0, 0, 0]) for _ in range(4)] == [3, 4, 5, 6]
    with pytest.raises(InputError, match="no more"):
        next(batches)


def _write(folder: Path, image, labels, points=None) -> None:
    lesions = np.argwhere(labels == LESION) if points is None else np.array(points).reshape(-1, 3)
    none = np.zeros((0, 3), np.int16)
    brain = np.argwhere(image > 0).astype(np.int16)
    info = {"case_id": folder.name, "group": "01", "taught": [], "ignored": []}
    prepared = PreparedCase(
        image=image,
        labels=labels,
        mask=image > 0,
        lesion_points=lesions.astype(np.int16),
        vein_points=none,
        mimic_points=none,
        brain_points=brain,
        info=info,
    )
    write_prepared(folder, prepared, "x")
