"""An atlas is bent to a head whose structures lie elsewhere, whatever the contrast."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from CMBDetectorLib.anatomy.alignment import ATLAS_SHAPE, ATLAS_SPACING_MM, atlas_index_of_mm
from CMBDetectorLib.anatomy.parcellation import CLASSES
from CMBDetectorLib.inference.atlas_lookup import displaced, look_up
from CMBDetectorLib.inference.deformation import FRAME_MM, bend_atlas
from CMBDetectorLib.inference.likelihood import intensity_bins
from CMBDetectorLib.inference.stripped import closed_brain

NAMES = [one.name for one in CLASSES]
LAYERS = (("cerebrospinal fluid", 66), ("cerebral cortex", 60), ("cerebral white matter", 52))
CENTERS = {"putamen": (28, 8, 0), "thalamus": (10, -16, 6), "lateral ventricle": (14, 8, 24)}
RADIUS_MM = 10.0


def classes_at(place_mm: np.ndarray) -> np.ndarray:
    """Of places (3, ...): shells, and balls on both sides."""
    radius = np.sqrt((place_mm**2).sum(axis=0))
    result = np.full(radius.shape, NAMES.index("background"))
    for name, largest in LAYERS:
        result[radius < largest] = NAMES.index(name)
    folded = np.stack([np.abs(place_mm[0]), place_mm[1], place_mm[2]])
    for name, center in CENTERS.items():
        apart = folded - np.reshape(center, (3, *[1] * (folded.ndim - 1)))
        result[(apart**2).sum(axis=0) < RADIUS_MM**2] = NAMES.index(name)
    return result


@pytest.fixture(scope="module")
def atlas() -> torch.Tensor:
    to_index = atlas_index_of_mm()
    index = np.stack(np.indices(ATLAS_SHAPE))
    place_mm = (index - to_index[:3, 3].reshape(3, 1, 1, 1)) * ATLAS_SPACING_MM
    # Antialiased as an average of heads is.
    shares = np.zeros((len(CLASSES), *ATLAS_SHAPE), dtype=np.float32)
    rng = np.random.default_rng(0)
    for _ in range(8):
        shift = rng.uniform(-3, 3, (3, 1, 1, 1))
        found = classes_at(place_mm + shift)
        for number in np.unique(found):
            shares[number] += (found == number) / 8
    return torch.from_numpy(shares)


def places() -> torch.Tensor:
    axes = [np.arange(-80, 81, 3.0)] * 3
    return torch.from_numpy(np.stack(np.meshgrid(*axes, indexing="ij")).reshape(3, -1)).float()


def moved(place_mm: np.ndarray) -> np.ndarray:
    """Where the head has what the atlas has elsewhere: bent by up to 6 mm."""
    x, y, _ = place_mm
    bent = [6 * np.cos(y / 50), 5 * np.sin(x / 45), -5 * np.cos(x / 60) * np.cos(y / 60)]
    return place_mm + np.stack(bent)


def image(classes: np.ndarray, seed: int) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    levels = rng.permutation(np.linspace(0.2, 0.9, len(CLASSES)))
    levels[0] = 0.05
    values = levels[classes] + rng.normal(0, 0.03, classes.shape)
    return torch.from_numpy(np.clip(values, 1e-3, 1)).float()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_atlas_follows_the_head(atlas: torch.Tensor, seed: int) -> None:
    place_mm = places()
    classes = classes_at(moved(place_mm.numpy()))
    bins = intensity_bins(image(classes, seed)[None])
    field = bend_atlas(bins, place_mm, atlas)
    found = displaced(place_mm, field, FRAME_MM)
    true = torch.from_numpy(classes)
    inside = true > 0
    before = look_up(atlas, place_mm).argmax(dim=0) == true
    after = look_up(atlas, found).argmax(dim=0) == true
    assert float(before[inside].float().mean()) < 0.8
    wrong_before, wrong_after = (1 - one[inside].float().mean() for one in (before, after))
    assert float(wrong_after) < 0.6 * float(wrong_before)
    assert float(field.abs().max()) < 15


def test_the_edge_of_a_stripped_brain_is_followed(atlas: torch.Tensor) -> None:
    """By what is seen alone: the intensities tell nothing."""
    place_mm = places()
    is_brain = classes_at(moved(place_mm.numpy())) > NAMES.index("cerebrospinal fluid")
    seen = torch.from_numpy(is_brain).float()
    bins = intensity_bins(torch.full((1, len(is_brain)), 0.5))
    brain = closed_brain(atlas)

    def n_wrong(field: torch.Tensor) -> int:
        found = look_up(brain, displaced(place_mm, field, FRAME_MM))[0] > 0.5
        return int((found != (seen > 0.5)).sum())

    field = bend_atlas(bins, place_mm, atlas, seen)
    assert n_wrong(field) < 0.5 * n_wrong(torch.zeros_like(field))
    assert float(field.abs().max()) < 15


def test_where_nothing_is_to_be_gained_nothing_moves(atlas: torch.Tensor) -> None:
    place_mm = places()
    one_value = torch.full((1, place_mm.shape[1]), 0.5)
    assert float(bend_atlas(intensity_bins(one_value), place_mm, atlas).abs().max()) < 1
    far_mm = place_mm + 1000
    assert not bool(bend_atlas(intensity_bins(one_value), far_mm, atlas).any())
