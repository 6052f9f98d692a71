"""The classes of the anatomy network against the table of label values."""

from __future__ import annotations

import numpy as np
import pytest

from CMBDetectorLib.anatomy.label_values import BRAIN, structures_in
from CMBDetectorLib.anatomy.parcellation import CLASSES, N_CHANNELS, class_number, values_of


def test_every_value_is_known_and_means_the_class_and_side() -> None:
    values = [value for one in CLASSES for value in (one.left, one.right)]
    known = structures_in(values)
    assert set(known) == set(values)
    for one in CLASSES:
        left, right = known[one.left], known[one.right]
        assert left.kind == right.kind
        if one.is_paired:
            assert (left.side, right.side) == ("left", "right")
        else:
            assert left.side == "none"


def test_a_class_is_found_by_its_name() -> None:
    assert [class_number(one.name) for one in CLASSES] == list(range(len(CLASSES)))
    with pytest.raises(KeyError):
        class_number("hypophysis")


def test_brain_classes_are_those_after_the_fluid() -> None:
    names = [one.name for one in CLASSES]
    first = names.index("cerebral white matter")
    known = structures_in([one.left for one in CLASSES])
    assert all(known[one.left].kind in BRAIN for one in CLASSES[first:])
    assert not any(known[one.left].kind in BRAIN for one in CLASSES[:first])


def test_values_of_classes_and_sides() -> None:
    putamen = next(n for n, one in enumerate(CLASSES) if one.name == "putamen")
    stem = next(n for n, one in enumerate(CLASSES) if one.name == "brainstem")
    classes = np.array([putamen, putamen, stem, stem], dtype=np.uint8)
    right = np.array([False, True, False, True])
    assert values_of(classes, right).tolist() == [12, 51, 16, 16]
    assert len(CLASSES) + 1 == N_CHANNELS
