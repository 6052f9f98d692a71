"""What is found wrongly on training scans becomes places to learn from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from CMBDetectorLib.settings import OperatingPoint
from CMBDetectorLib.volume import Volume
from training.distributed import Processes
from training.hard_negatives import (
    MOST_PER_SCAN,
    false_places,
    mine_hard_negatives,
    mining_point,
    no_places,
)
from training.prepared_case import PreparedCase, read_prepared

POINT = OperatingPoint(0.5, 0.0)
ALONE = Processes(0, 1, torch.device("cpu"))


@dataclass
class Marks:
    """Finds every taught lesion and, falsely, single voxels."""

    false_ijk: list[tuple[int, int, int]]

    def probability(self, case: PreparedCase) -> Volume:
        found = np.zeros(case.image.shape, np.float32)
        for number, place in enumerate(self.false_ijk):
            found[place] = 0.95 - 0.001 * number
        for place in case.lesion_points:
            found[tuple(place)] = 0.6
        return Volume(found, case.geometry)


@pytest.fixture
def folders(prepared_root: Path) -> list[Path]:
    return [prepared_root / name for name in ("01-0", "01-1", "02-0")]


def test_lesions_are_no_hard_negatives(folders) -> None:
    case = read_prepared(folders[0])
    assert len(case.lesion_points) == 3
    places = false_places(Marks([(5, 6, 7), (40, 6, 20)]), case, POINT)
    assert places.tolist() == [[5, 6, 7], [40, 6, 20]]
    assert false_places(Marks([]), case, POINT).shape == (0, 3)


def test_places_are_taken_below_the_operating_point(folders, tiny_config) -> None:
    point = OperatingPoint(0.97, 0.0)
    config = replace(tiny_config, operating_point=point)
    assert mining_point(config) == point
    case, marks = read_prepared(folders[0]), Marks([(5, 6, 7)])
    assert len(false_places(marks, case, mining_point(config))) == 0
    settings = replace(config.validation, hard_negative_threshold=0.3)
    lower = mining_point(replace(config, validation=settings))
    assert false_places(marks, case, lower).tolist() == [[5, 6, 7]]


def test_the_surest_are_kept(folders) -> None:
    grid = [(i, j, 1) for i in range(1, 60, 4) for j in (1, 5, 9)]
    places = false_places(Marks(grid), read_prepared(folders[0]), POINT)
    assert places.tolist() == [list(place) for place in grid[:MOST_PER_SCAN]]


def test_what_was_mined_before_is_replaced_scan_by_scan(folders) -> None:
    options = {"number": 2, "point": POINT, "seed": (1, 2), "processes": ALONE}
    first = mine_hard_negatives(Marks([(5, 6, 7)]), folders, no_places(), **options)
    assert first[:, 1:].tolist() == [[5, 6, 7]] * 2
    searched = sorted(first[:, 0].tolist())
    (other,) = {0, 1, 2} - set(searched)
    known = np.concatenate([first, [[other, 9, 9, 9]]])
    again = mine_hard_negatives(Marks([(7, 7, 7)]), folders, known, **options)
    assert sorted(again[again[:, 0] != other, 0].tolist()) == searched
    assert again[again[:, 0] != other, 1:].tolist() == [[7, 7, 7]] * 2
    assert again[again[:, 0] == other].tolist() == [[other, 9, 9, 9]]
    searched = {
        tuple(sorted(mined[:, 0].tolist()))
        for seed in range(8)
        for mined in [
            mine_hard_negatives(
                Marks([(1, 1, 1)]), folders, no_places(), **options | {"seed": (seed,)}
            )
        ]
    }
    assert len(searched) > 1, "the seed decides"


def test_empty_results_stay_empty(folders) -> None:
    mined = mine_hard_negatives(
        Marks([]), folders, no_places(), number=9, point=POINT, seed=(1,), processes=ALONE
    )
    assert mined.shape == (0, 4)
