"""The loss: what it rewards, what it ignores, and that lesions of ten voxels are heard."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from training.loss import detection_loss, targets_of
from training.targets import IGNORE, LESION, MIMIC, NO_MIMICS, VEIN

SHAPE = (2, 16, 16, 8)


@pytest.fixture
def labels() -> torch.Tensor:
    bits = np.zeros(SHAPE, np.uint8)
    bits[0, 4:6, 4:6, 3] = LESION
    bits[1, 10, :, 2] = VEIN
    bits[1, 2:4, 2:4, 2:4] = MIMIC
    return torch.from_numpy(bits)


def test_channels_are_lesion_and_mimic(labels) -> None:
    targets, weight = targets_of(labels)
    assert targets.shape == (2, 2, 16, 16, 8)
    assert targets[:, 0].sum() == 4
    assert targets[:, 1].sum() == 16 + 8
    assert weight.min() == 1


def test_the_truth_is_the_best_answer(labels, tiny_config) -> None:
    targets, _ = targets_of(labels)
    right = detection_loss(20 * (2 * targets - 1), labels, tiny_config.loss)
    silent = detection_loss(torch.full_like(targets, -20), labels, tiny_config.loss)
    assert float(right.total) == pytest.approx(0, abs=1e-3)
    assert float(silent.total) > 1
    assert float(right.total) == pytest.approx(float(right.dice + right.focal))


def test_each_lesion_voxel_pulls_harder_than_all_correct_background(labels, tiny_config) -> None:
    logits = torch.full((2, 2, 16, 16, 8), -4.0, requires_grad=True)
    detection_loss(logits, labels, tiny_config.loss).total.backward()
    lesion = labels == LESION
    pull = logits.grad[:, 0]
    assert (pull[lesion] < 0).all()
    assert pull[lesion].abs().min() > pull[~lesion].abs().max()


def test_faint_lesions_have_no_say(labels, tiny_config) -> None:
    labels[0, 12:14, 12:14, 5] = IGNORE
    logits = torch.full((2, 2, 16, 16, 8), -4.0)
    before = detection_loss(logits, labels, tiny_config.loss)
    logits[0, :, 12:14, 12:14, 5] = 6.0
    after = detection_loss(logits, labels, tiny_config.loss)
    assert float(after.total) == pytest.approx(float(before.total))


def test_layout_of_the_logits_does_not_matter(labels, tiny_config) -> None:
    logits = torch.randn(2, 2, 16, 16, 8, generator=torch.Generator().manual_seed(0))
    last = logits.contiguous(memory_format=torch.channels_last_3d)
    plain = detection_loss(logits, labels, tiny_config.loss)
    assert float(detection_loss(last, labels, tiny_config.loss).total) == float(plain.total)


def test_mimics_are_not_taught_where_nobody_knows_them(labels, tiny_config) -> None:
    labels[0] |= NO_MIMICS
    _, weight = targets_of(labels)
    assert weight[0, 0].min() == 1
    assert weight[0, 1].max() == 0
    assert weight[1].min() == 1
    logits = torch.full((2, 2, 16, 16, 8), -4.0, requires_grad=True)
    detection_loss(logits, labels, tiny_config.loss).total.backward()
    assert (logits.grad[0, 1] == 0).all()
    assert (logits.grad[0, 0] != 0).any()
