"""Images with nothing but the brain, told by where the scalp should be; and the brain's outline."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from CMBDetectorLib.anatomy.alignment import ATLAS_SHAPE
from CMBDetectorLib.anatomy.parcellation import CLASSES, class_number
from CMBDetectorLib.inference.stripped import closed_brain, is_stripped, log_agreement, overlap

SCALP = torch.cat([torch.ones(100), torch.zeros(400)])


def seen(in_scalp: float) -> torch.Tensor:
    return torch.cat([torch.full((100,), in_scalp), torch.ones(400)])


def test_a_stripped_image_has_next_to_nothing_where_the_scalp_should_be() -> None:
    assert is_stripped(SCALP, seen(0.0), 1000)
    assert is_stripped(SCALP, seen(0.1), 1000)  # a rim of the brain, or what stripping left
    assert not is_stripped(SCALP, seen(0.3), 1000)
    assert not is_stripped(SCALP, seen(1.0), 1000)


def test_without_a_view_of_where_the_scalp_should_be_nothing_is_said() -> None:
    assert not is_stripped(SCALP, seen(0.0), 10)
    assert not is_stripped(0 * SCALP, seen(0.0), 1000)


def test_sulci_belong_to_the_closed_brain_and_what_is_around_does_not() -> None:
    index = np.stack(np.indices(ATLAS_SHAPE), axis=-1) - (np.array(ATLAS_SHAPE) - 1) / 2
    ball = np.linalg.norm(index, axis=-1) < 20
    sulcus = ball & (np.abs(index[..., 0]) < 1.5) & (index[..., 2] > 5)
    atlas = np.zeros((len(CLASSES), *ATLAS_SHAPE), dtype=np.float32)
    atlas[class_number("cerebral cortex"), ball & ~sulcus] = 0.6
    atlas[class_number("lateral ventricle"), ball & ~sulcus] = 0.4
    atlas[class_number("cerebrospinal fluid"), sulcus | ~ball] = 1
    found = closed_brain(torch.from_numpy(atlas))
    assert found.shape == (1, *ATLAS_SHAPE)
    by_scipy = ndimage.binary_closing(ball & ~sulcus, np.ones((5, 5, 5)))
    np.testing.assert_array_equal(found[0].numpy() > 0.5, by_scipy)
    assert by_scipy[sulcus].mean() > 0.8


def test_overlap_is_dice_of_what_each_place_stands_for() -> None:
    brain = torch.tensor([1.0, 1.0, 0.0, 0.0, 0.5])
    ones = torch.ones(5)
    assert float(overlap(brain, brain, ones)) == pytest.approx(1)
    assert float(overlap(brain, 1 - brain, ones)) == pytest.approx(2 * 0.5 / 5)
    is_seen = torch.tensor([1.0, 0.0, 1.0, 0.0, 0.5])
    counts = torch.tensor([1.0, 3.0, 2.0, 5.0, 4.0])
    repeated = torch.repeat_interleave(torch.arange(5), counts.long())
    expected = overlap(brain[repeated], is_seen[repeated], torch.ones(len(repeated)))
    assert float(overlap(brain, is_seen, counts)) == pytest.approx(float(expected))


def test_agreement_is_best_where_the_edges_are_the_same_and_never_infinite() -> None:
    brain = torch.tensor([1.0, 1.0, 0.0, 0.0])
    shifted = torch.tensor([1.0, 0.0, 0.0, 0.0])
    same, other, none = (float(log_agreement(brain, one)) for one in (brain, shifted, 1 - brain))
    assert same > other > none
    assert none == pytest.approx(math.log(0.05))
