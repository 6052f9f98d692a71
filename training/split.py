"""Which prepared cases a training learns from, and which it is validated on."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from CMBDetectorLib.errors import InputError, UsageError
from training.datasets.splits import assign_splits, same_person_groups
from training.prepared_case import read_info
from training.settings import DataSettings


@dataclass(frozen=True)
class Split:
    """Cases of a training; no group serves both sides.

    Attributes
    ----------
    learning, validation
        Folders of prepared cases, in the order they were given.
    left_out
        Groups of the validation cases.
    sources
        How many cases to learn from each source has: "simulated", "real".
    sha256
        Of who is where: names, groups and contents of the cases of each side.
    """

    learning: tuple[Path, ...]
    validation: tuple[Path, ...]
    left_out: tuple[str, ...]
    sources: dict[str, int]
    sha256: str


@dataclass(frozen=True)
class _Entry:
    folder: Path
    info: dict[str, Any]

    @property
    def group(self) -> str:
        return str(self.info["group"])

    def is_in(self, patterns: Collection[str]) -> bool:
        own_split = f"split:{self.info['split']}"
        return any(fnmatchcase(self.group, p) or p == own_split for p in patterns)


def make_split(folders: Sequence[Path], data: DataSettings, member: int | None, seed: int) -> Split:
    """The cases of one member of the ensemble.

    Parameters
    ----------
    member
        Leaves out its fold. None, or any number where there are no folds: all training groups are
        learned from, the selection groups validate.
    seed
        Of the folds, where the configuration has only their number.

    Raises
    ------
    UsageError
        If there is no such member.
    InputError
        If there is nothing to learn from or to validate on, or one image is on both sides.
    """
    entries = [_Entry(folder, read_info(folder)) for folder in folders]
    rest = [entry for entry in entries if not entry.is_in(data.test)]
    selection = [entry for entry in rest if entry.is_in(data.selection)]
    others = [entry for entry in rest if not entry.is_in(data.selection)]
    training = [entry for entry in others if entry.is_in(data.training)]
    folds = _folds(training, data, seed)
    if member is not None and member < 0:
        raise UsageError(f"--member {member}: members are counted from 0")
    if member is None or not folds:
        learning, validation = training, selection
        left_out = data.selection
    else:
        if member >= len(folds):
            raise UsageError(
                f"--member {member}: the configuration has members 0 to {len(folds) - 1}"
            )
        left_out = folds[member]
        learning = [entry for entry in training if entry.group not in left_out]
        validation = [entry for entry in training if entry.group in left_out]
    if not learning or not validation:
        raise InputError(
            f"{len(learning)} cases to learn from and {len(validation)} to validate on (heads or "
            f"participants {', '.join(left_out)}); both are needed: prepare cases of more, or "
            "change the section data of the configuration"
        )
    _check_images(learning, validation)
    kinds = [str(entry.info["source"]) for entry in learning]
    return Split(
        learning=tuple(entry.folder for entry in learning),
        validation=tuple(entry.folder for entry in validation),
        left_out=tuple(sorted({entry.group for entry in validation})),
        sources={kind: kinds.count(kind) for kind in sorted(set(kinds))},
        sha256=_hash({"learning": learning, "validation": validation}),
    )


def _folds(training: list[_Entry], data: DataSettings, seed: int) -> tuple[tuple[str, ...], ...]:
    if not isinstance(data.folds, int):
        return data.folds
    n_folds = data.folds
    with_lesions = {entry.group for entry in training if entry.info["taught"]}
    strata = {
        entry.group: "with lesions" if entry.group in with_lesions else "without"
        for entry in training
    }
    if len(strata) < n_folds:
        raise InputError(
            f"{len(strata)} heads or participants cannot make {n_folds} folds; lower data.folds"
        )
    same = same_person_groups((e.group, str(e.info.get("image_sha256", ""))) for e in training)
    names = [str(number) for number in range(n_folds)]
    dealt = assign_splits(strata, dict.fromkeys(names, 1 / n_folds), seed, same_person=same)
    return tuple(
        tuple(sorted(group for group, name in dealt.items() if name == wanted)) for wanted in names
    )


def _check_images(learning: list[_Entry], validation: list[_Entry]) -> None:
    seen = {str(e.info.get("image_sha256", "")): e for e in learning}
    for entry in validation:
        digest = str(entry.info.get("image_sha256", ""))
        if digest and digest in seen:
            raise InputError(
                f"{entry.folder.name} and {seen[digest].folder.name} are the same image, one to "
                "validate on and one to learn from; put both into one group"
            )


def _hash(sides: dict[str, list[_Entry]]) -> str:
    lines = [
        f"{side}\t{entry.info['case_id']}\t{entry.group}\t{entry.info['content_sha256']}\n"
        for side, entries in sides.items()
        for entry in entries
    ]
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()
