"""Heads on disk: what a label stands for, and what comes back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from CMBDetectorLib.anatomy.label_values import structures_in
from CMBDetectorLib.anatomy.parcellation import CLASSES
from CMBDetectorLib.errors import InputError
from training.anatomy.heads import (
    HEAD_MARGIN_MM,
    SPACING_MM,
    class_of_label,
    side_of_label,
    stored_heads,
)
from training.simulation.anatomy import deform, load_label_map
from training.simulation.subject import make_subject

BRAIN_LABELS = [
    *(2, 3, 4, 5, 7, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18, 24, 26, 28),
    *(41, 42, 43, 44, 46, 47, 49, 50, 51, 52, 53, 54, 58, 60),
]


def test_a_label_and_its_class_are_the_same_kind_of_tissue() -> None:
    table = class_of_label()
    classes = [CLASSES[table[label]] for label in BRAIN_LABELS]
    known = structures_in(BRAIN_LABELS)
    kinds = structures_in([one.left for one in CLASSES])
    assert [known[label].kind for label in BRAIN_LABELS] == [kinds[c.left].kind for c in classes]


def test_every_class_has_a_label() -> None:
    assert set(class_of_label().tolist()) == set(range(len(CLASSES)))


def test_sides_are_those_of_the_table_of_label_values() -> None:
    table = side_of_label()
    sides = {1: "right", 0: "left", -1: "none"}
    for label, structure in structures_in([*BRAIN_LABELS, 136, 137, 163, 164, 507]).items():
        assert sides[int(table[label])] == structure.side


def test_a_stored_head_is_the_head(heads_folder: Path, small_head_file: Path) -> None:
    [stored] = stored_heads(heads_folder, ("07",))
    rng = np.random.default_rng(9)
    anatomy = deform(load_label_map(small_head_file), SPACING_MM, HEAD_MARGIN_MM, rng)
    subject = make_subject(anatomy, rng, torch.device("cpu"))
    back = stored.subject()
    np.testing.assert_array_equal(back.anatomy.labels, subject.anatomy.labels)
    assert back.anatomy.geometry == subject.anatomy.geometry
    torch.testing.assert_close(
        back.r2_star_per_s.float(), subject.r2_star_per_s, rtol=1e-3, atol=1e-2
    )
    torch.testing.assert_close(back.tissues.t1_s, subject.tissues.t1_s)


def test_every_other_voxel_of_a_head(heads_folder: Path) -> None:
    [stored] = stored_heads(heads_folder, ("07",))
    whole, half = stored.subject(), stored.subject(2)
    np.testing.assert_array_equal(half.anatomy.labels, whole.anatomy.labels[::2, ::2, ::2])
    assert torch.equal(half.vein_fraction, whole.vein_fraction[::2, ::2, ::2])
    assert half.anatomy.geometry.spacing_mm == (2.0, 2.0, 2.0)


@pytest.mark.parametrize("seed", range(4))
def test_left_is_left_in_mirrored_heads_too(small_head_file: Path, seed: int) -> None:
    anatomy = deform(
        load_label_map(small_head_file), 2.0, HEAD_MARGIN_MM, np.random.default_rng(seed)
    )
    for left, right in ((2, 41), (4, 43), (12, 51)):
        x_left = np.argwhere(anatomy.labels == left)[:, 0].mean()
        assert x_left < np.argwhere(anatomy.labels == right)[:, 0].mean()


def test_heads_of_other_label_maps_are_not_taken(heads_folder: Path) -> None:
    with pytest.raises(InputError, match="anatomy-heads"):
        stored_heads(heads_folder, ("01", "02"))
