"""Dice, brain and surface distance, against simple bodies and MONAI."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from monai.metrics.hausdorff_distance import compute_hausdorff_distance

from CMBDetectorLib.anatomy.parcellation import CLASSES
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.volume import Volume
from training.anatomy.measures_overlap import (
    brain_with_sulci,
    by_majority,
    dice,
    dice_by_structure,
    mean_of,
    on_grid,
    parcellation_of,
    surface_distance_95_mm,
)


def volume(array: np.ndarray, spacing_mm: float = 1.0) -> Volume:
    return Volume(array, Geometry(array.shape, np.diag([spacing_mm] * 3 + [1.0])))


def test_head_labels_become_values_of_the_classes() -> None:
    labels = np.array([0, 2, 41, 136, 164, 25, 85, 77, 77, 515, 514, 506]).reshape(12, 1, 1)
    found = parcellation_of(volume(labels.astype(np.int16))).array.ravel()
    # 77 has no side of its own: rows 7 and 8 lie in the right half
    assert found.tolist() == [0, 2, 41, 4, 43, 2, 24, 41, 41, 165, 514, 259]
    known = {value for one in CLASSES for value in (one.left, one.right)}
    everything = np.arange(600, dtype=np.int16).reshape(600, 1, 1)
    assert set(np.unique(parcellation_of(volume(everything)).array)) <= known


def test_most_frequent_value_wins_on_another_grid() -> None:
    rng = np.random.default_rng(1)
    fine = rng.choice([0, 2, 3], size=(12, 15, 9), p=[0.2, 0.3, 0.5]).astype(np.int16)
    labels = volume(fine)
    coarse = by_majority(labels, labels.geometry.with_spacing((3.0, 3.0, 3.0)))
    blocks = fine.reshape(4, 3, 5, 3, 3, 3).transpose(0, 2, 4, 1, 3, 5).reshape(4, 5, 3, 27)
    counts = np.stack([(blocks == value).sum(axis=-1) for value in (0, 2, 3)], axis=-1)
    assert np.array_equal(coarse.array, np.array([0, 2, 3])[counts.argmax(axis=-1)])
    same = by_majority(labels, labels.geometry)
    assert np.array_equal(same.array, fine)
    beyond = by_majority(labels, labels.geometry.cropped((-2, 0, 0), (12, 15, 9)))
    assert not beyond.array[:2].any()


def test_dice_counts_sides_apart_and_leaves_out_what_is_hardly_there() -> None:
    true = np.zeros((20, 20, 20), dtype=np.int16)
    true[2:8, 2:12, 2:12], true[12:18, 2:12, 2:12] = 12, 51
    true[:3, 15:18, 15:18] = 13  # 27 mm3
    assert dice_by_structure(volume(true), volume(true)) == {"putamen": 1.0}
    mirrored = np.where(true == 12, 51, np.where(true == 51, 12, true))
    assert dice_by_structure(volume(mirrored), volume(true)) == {"putamen": 0.0}
    one_side = np.where(true == 51, 0, true)
    found = dice_by_structure(volume(one_side), volume(true))
    assert found == {"putamen": 0.5}
    assert mean_of(found, ("putamen", "caudate")) == 0.5
    assert math.isnan(mean_of(found, ("caudate",)))


def test_the_brain_has_its_sulci_and_no_rim() -> None:
    labels = np.zeros((70, 70, 70), dtype=np.int16)
    labels[10:60, 10:60, 10:60] = 24
    labels[12:35, 12:58, 12:58], labels[35:58, 12:58, 12:58] = 2, 41
    labels[12:58, 30:36, 40:58] = 24  # 6 mm wide, open at the top
    labels[30:40, 30:40, 20:30] = 4
    brain = brain_with_sulci(volume(labels)).array
    assert brain[35, 33, 45]
    assert brain[35, 35, 25]
    assert not brain[11].any()
    box = np.zeros_like(brain)
    box[12:58, 12:58, 12:58] = True
    assert dice(brain, box) > 0.99
    assert not brain_with_sulci(volume(np.zeros((9, 9, 9), np.int16))).array.any()


def test_a_cut_brain_is_closed_up_to_the_cut() -> None:
    labels = np.full((30, 30, 30), 2, dtype=np.int16)
    labels[:, 13:16] = 24
    labels[:, :5], labels[:, -5:] = 0, 0
    brain = brain_with_sulci(volume(labels)).array
    assert brain[0, 14, 0]
    assert brain[29, 14, 29]


@pytest.mark.parametrize("spacing_mm", [1.0, 1.5])
def test_surface_distance_is_monais(spacing_mm: float) -> None:
    rng = np.random.default_rng(3)
    one = np.zeros((30, 30, 30), dtype=bool)
    one[5:20, 6:22, 4:25] = True
    other = np.zeros_like(one)
    other[8:24, 6:20, 5:22] = True
    other[2:4, 2:4, 2:4] = rng.random((2, 2, 2)) > 0.3
    grid = volume(one, spacing_mm).geometry
    pair = [torch.from_numpy(mask)[None, None] for mask in (one, other)]
    expected = compute_hausdorff_distance(
        *pair, include_background=True, percentile=95, spacing=spacing_mm
    )
    assert surface_distance_95_mm(one, other, grid) == pytest.approx(float(expected), abs=1e-4)
    assert math.isnan(surface_distance_95_mm(one, np.zeros_like(one), grid))
    assert math.isnan(dice(np.zeros_like(one), np.zeros_like(one)))


def test_a_mask_on_another_grid_keeps_its_place() -> None:
    mask = np.zeros((20, 20, 20), dtype=bool)
    mask[4:16, 4:16, 4:16] = True
    source = volume(mask)
    turned = source.geometry.reoriented([[1, -1], [0, 1], [2, -1]]).with_spacing((2.0, 2.0, 2.0))
    found = on_grid(source, turned)
    assert found.sum() * 8 == mask.sum()
    center = turned.ijk_to_ras_mm(np.argwhere(found).mean(axis=0))
    assert center == pytest.approx([9.5, 9.5, 9.5])
