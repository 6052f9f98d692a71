"""Hard negatives: places that the network takes for lesions, and that are none.

Shrivastava et al., "Training region-based object detectors with online hard example mining",
CVPR 2016, on whole scans: once in a while some training scans are searched, and patches are then
also drawn around what was found wrongly.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from CMBDetectorLib.postprocessing.lesions import find_lesions
from CMBDetectorLib.settings import OperatingPoint
from training.distributed import Processes
from training.prepared_case import PreparedCase, read_prepared
from training.scan_validation import Searcher
from training.settings import TrainingConfig
from training.targets import IGNORE, LESION

MOST_PER_SCAN = 40

Places = npt.NDArray[np.int64]
"""Rows of a case's number and a voxel (i, j, k) of it."""


def no_places() -> Places:
    """No hard negatives, shape (0, 4)."""
    return np.zeros((0, 4), dtype=np.int64)


def mining_point(config: TrainingConfig) -> OperatingPoint:
    """Where probability becomes a hard negative.

    A threshold below the operating point's gives more places, and such as may yet cross it.
    """
    threshold = config.validation.hard_negative_threshold
    if threshold is None:
        return config.operating_point
    return OperatingPoint(threshold, config.operating_point.min_volume_mm3)


def mine_hard_negatives(
    searcher: Searcher,
    folders: Sequence[Path],
    known: Places,
    *,
    number: int,
    point: OperatingPoint,
    seed: Sequence[int],
    processes: Processes,
) -> Places:
    """Search some training scans; what is known of these is replaced, that of others is kept.

    Parameters
    ----------
    folders
        Prepared cases to learn from; places refer to their numbers here.
    number
        How many are searched; they are divided among the processes, and all get the same places.
    point
        Where probability becomes a detection.
    seed
        Decides which are searched.
    """
    rng = np.random.default_rng(tuple(seed))
    chosen = rng.choice(len(folders), min(number, len(folders)), replace=False)
    # Rows of zeros are empty: a case's number is stored plus 1.
    table = np.zeros((len(chosen) * MOST_PER_SCAN, 4), dtype=np.int64)
    for rank in range(processes.rank, len(chosen), processes.count):
        case = int(chosen[rank])
        found = false_places(searcher, read_prepared(folders[case]), point)
        rows = slice(rank * MOST_PER_SCAN, rank * MOST_PER_SCAN + len(found))
        table[rows, 0], table[rows, 1:] = case + 1, found
    table = processes.summed(torch.from_numpy(table)).numpy()
    mined = table[table[:, 0] > 0] - (1, 0, 0, 0)
    kept = known[~np.isin(known[:, 0], chosen)]
    return np.concatenate([kept, mined])


def false_places(searcher: Searcher, case: PreparedCase, point: OperatingPoint) -> npt.NDArray[Any]:
    """Centers (n, 3) of the surest detections that touch no lesion, in voxels of the case."""
    detections, label_map = find_lesions(searcher.probability(case), point)
    lesion = (np.asarray(case.labels) & (LESION | IGNORE)) > 0
    right = set(np.unique(label_map.array[lesion]).tolist())
    centers = [found.center_ijk for found in detections if found.label not in right]
    return np.round(np.array(centers[:MOST_PER_SCAN]).reshape(-1, 3)).astype(np.int64)
