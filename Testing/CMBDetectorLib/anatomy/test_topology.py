"""Labels with mistakes put into them: what is taken out again, and what has to stay."""

from __future__ import annotations

import numpy as np
import pytest

from CMBDetectorLib.anatomy.parcellation import CLASSES
from CMBDetectorLib.anatomy.sides import separate_sides
from CMBDetectorLib.anatomy.topology import clean_parcellation

NUMBER = {one.name: number for number, one in enumerate(CLASSES)}
BONE, SOFT = NUMBER["bone"], NUMBER["soft tissue"]
FLUID, WHITE = NUMBER["cerebrospinal fluid"], NUMBER["cerebral white matter"]
CORTEX, THALAMUS = NUMBER["cerebral cortex"], NUMBER["thalamus"]
HIPPOCAMPUS, STEM = NUMBER["hippocampus"], NUMBER["brainstem"]
VENTRICLE = NUMBER["lateral ventricle"]
SPACING_MM = 2.0
SHAPE = (64, 72, 60)
MIDDLE = 32


def ball(center: tuple[float, ...], radius: float) -> np.ndarray:
    place = np.moveaxis(np.indices(SHAPE), 0, -1)
    return np.linalg.norm(place - center, axis=-1) <= radius


@pytest.fixture
def head() -> tuple[np.ndarray, np.ndarray]:
    """Classes and sides without a mistake."""
    classes = np.zeros(SHAPE, dtype=np.uint8)
    for number, radius in ((SOFT, 29), (BONE, 27), (FLUID, 25), (CORTEX, 23), (WHITE, 20)):
        classes[ball((31.5, 36, 30), radius)] = number
    for x in (26, 37):
        classes[ball((x, 36, 30), 3)] = THALAMUS
    for x in (20, 43):
        classes[ball((x, 30, 25), 3)] = HIPPOCAMPUS
    classes[ball((31.5, 34, 12), 4)] = STEM
    right = np.broadcast_to(np.arange(SHAPE[0])[:, None, None] >= MIDDLE, SHAPE).copy()
    return classes, right


def cleaned(head: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    return clean_parcellation(*head, SPACING_MM)


def assert_same(found: tuple[np.ndarray, np.ndarray], truth: tuple[np.ndarray, np.ndarray]) -> None:
    np.testing.assert_array_equal(found[0], truth[0])
    paired = np.array([one.is_paired for one in CLASSES])[truth[0]]
    np.testing.assert_array_equal(found[1][paired], truth[1][paired])


def copied(head: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    return head[0].copy(), head[1].copy()


def test_a_head_without_mistakes_stays_as_it_is(head) -> None:
    before = copied(head)
    assert_same(cleaned(head), before)
    assert_same(head, before)  # and the input is not changed


@pytest.mark.parametrize(
    ("center", "radius", "number"),
    [
        ((31, 36, 58), 0.5, CORTEX),  # brain in the scalp
        ((31, 36, 2), 0.5, FLUID),  # fluid in the scalp
        ((24, 24, 40), 2.0, BONE),  # a lesion without signal
        ((31, 60, 30), 0.5, NUMBER["cerebellar cortex"]),  # a vein in the fluid
        ((44, 40, 36), 1.5, THALAMUS),
        ((44, 40, 36), 1.5, STEM),
        ((44, 40, 36), 1.0, NUMBER["third ventricle"]),
    ],
)
def test_islands_take_the_label_around_them(head, center, radius, number) -> None:
    classes, right = copied(head)
    if number == NUMBER["third ventricle"]:
        for one in (classes, head[0]):
            one[ball((31.5, 28, 30), 3)] = number
    assert len(np.unique(classes[ball(center, radius)])) == 1
    classes[ball(center, radius)] = number
    assert (classes != head[0]).any()
    assert_same(cleaned((classes, right)), head)


def test_what_a_ventricle_encloses_belongs_to_it(head) -> None:
    """White matter that touches the rest by an edge alone is no bridge; a larger piece is real."""
    classes, _ = head
    classes[ball((45, 36, 38), 4)] = VENTRICLE
    truth = copied(head)
    classes[44:47, 35:38, 37:40] = WHITE
    edge = np.argwhere(ball((45, 36, 38), 4) & (np.indices(SHAPE)[2] == 38))
    x, y, z = edge[edge[:, 0].argmax()]
    classes[47:x, y, z] = WHITE  # a bridge that ends a voxel before the wall
    assert_same(cleaned(head), truth)
    bridged = copied(head)
    bridged[0][47 : x + 2, y, z] = WHITE
    assert_same(cleaned(bridged), bridged)
    large = copied(truth)
    large[0][ball((45, 36, 38), 9)] = VENTRICLE
    large[0][ball((45, 36, 38), 5)] = CORTEX
    assert_same(cleaned(large), large)


def test_a_second_head_stays_for_others_to_complain_about(head) -> None:
    two = tuple(np.concatenate([one, one]) for one in head)
    found = cleaned(two)
    np.testing.assert_array_equal(found[0] >= WHITE, two[0] >= WHITE)


def test_nothing_and_no_brain(head) -> None:
    classes, right = head
    for some in (np.zeros_like(classes), np.minimum(classes, FLUID)):
        np.testing.assert_array_equal(cleaned((some, right))[0], some)


@pytest.mark.parametrize(
    ("center", "radius"), [((15, 40, 36), 4), ((31.5, 36, 45), 2), ((50, 36, 30), 6)]
)
def test_wrong_sides_are_put_right(head, center, radius) -> None:
    classes, right = copied(head)
    right[ball(center, radius)] ^= True
    found = cleaned((classes, right))[1]
    paired = np.array([one.is_paired for one in CLASSES])[classes]
    assert np.mean(found[paired] != head[1][paired]) < 0.003


def test_noise_in_the_sides_goes(head) -> None:
    classes, right = copied(head)
    wrong = np.random.default_rng(0).random(SHAPE) < 0.08
    found = cleaned((classes, right ^ wrong))[1]
    paired = np.array([one.is_paired for one in CLASSES])[classes]
    assert np.mean(found[paired] != right[paired]) < 0.01


def test_a_displaced_midline_stays_displaced(head) -> None:
    """By 8 mm over a part of the brain, as a mass does."""
    classes, right = copied(head)
    right[MIDDLE : MIDDLE + 4, 30:44, 25:45] = False
    found = cleaned((classes, right))[1]
    assert not found[MIDDLE : MIDDLE + 3, 33:41, 34:42][
        classes[MIDDLE : MIDDLE + 3, 33:41, 34:42] == WHITE
    ].any()


def test_a_deep_structure_lies_on_one_side(head) -> None:
    """A thalamus that touches the midline, of which one edge is said to be on the other side."""
    classes, right = copied(head)
    right[:, 36, 33] = True  # a line of wrong voxels
    found_classes, found = cleaned((classes, right))
    left = (found_classes == THALAMUS) & (np.arange(SHAPE[0])[:, None, None] < MIDDLE)
    assert left.any()
    assert not found[left].any()


def test_sides_of_half_a_head_stay() -> None:
    paired = np.ones((20, 20, 20), dtype=bool)
    assert separate_sides(paired, paired, 1.5).all()
    assert not separate_sides(~paired, paired, 1.5).any()
    assert not separate_sides(paired, ~paired, 1.5).any()
