"""Simulated heads that the model has not learned from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

from CMBDetectorLib.errors import UsageError
from CMBDetectorLib.models.bundle import ModelBundle
from training.cases import case_folders, read_case
from training.counting import true_lesions
from training.measures.scans import MeasuredScan, PlannedScan, slice_class
from training.selection import spread


def plan_simulated(
    root: Path,
    heads: Sequence[str],
    bundle: ModelBundle,
    min_contrast_to_noise: float,
    limit: int | None = None,
) -> list[PlannedScan]:
    """The cases of these heads, at most ``limit`` of them.

    Raises
    ------
    InputError
        If there is no such case.
    UsageError
        If the model was trained on one of the heads.
    """
    learned = sorted(head for head in heads if _was_learned(head, bundle.training_data))
    if learned:
        raise UsageError(
            f"{bundle.id} was trained on the heads {', '.join(learned)}; measure others (--heads)"
        )
    return [
        PlannedScan("a", folder.name, partial(_load, folder, min_contrast_to_noise))
        for folder in spread(case_folders(root, heads), limit)
    ]


def _was_learned(head: str, data: Mapping[str, Any]) -> bool:
    """By the names and patterns of a bundle; what is for test or selection was not learned."""

    def is_among(*purposes: str) -> bool:
        patterns = [str(one) for purpose in purposes for one in data.get(purpose, ())]
        return any(fnmatchcase(head, pattern) for pattern in patterns)

    return is_among("training", "training_heads") and not is_among(
        "test", "test_heads", "selection", "selection_heads"
    )


def _load(folder: Path, min_contrast_to_noise: float) -> MeasuredScan:
    case = read_case(folder)
    return MeasuredScan(
        case.case_id,
        case.image,
        true_lesions(case, min_contrast_to_noise),
        {
            "head": case.head,
            "sequence": str(case.metadata["sequence"]),
            "image": str(case.metadata["sequence"]),
            "slice_class": slice_class(case.image),
        },
        case.truth,
    )
