"""Candidates on disk: a file for each scan, the only place that knows its layout."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from CMBDetectorLib.errors import InputError, OutputError
from CMBDetectorLib.io.writing import write_text

INFO_NAME = "candidates.json"
_ARRAYS = ("detail", "probability", "surroundings", "peak", "slice_spacing_mm", "is_lesion")


@dataclass(frozen=True, eq=False)
class StoredCandidates:
    """Candidates of one scan or of many.

    Attributes
    ----------
    detail, probability, surroundings, peak, slice_spacing_mm
        As in :class:`CMBDetectorLib.inference.candidates.CandidatePatches`, the first two with
        margins in plane, the first three as float16.
    is_lesion
        bool, (n,).
    """

    detail: npt.NDArray[np.float16]
    probability: npt.NDArray[np.float16]
    surroundings: npt.NDArray[np.float16]
    peak: npt.NDArray[np.float32]
    slice_spacing_mm: npt.NDArray[np.float32]
    is_lesion: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.is_lesion)


def candidates_path(folder: Path, case_id: str) -> Path:
    """The file of a scan."""
    return folder / f"{case_id}.npz"


def write_candidates(path: Path, candidates: StoredCandidates) -> None:
    """Write a scan's candidates, whole or not at all; OutputError if that fails."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as stream:
            np.savez(stream, **{name: getattr(candidates, name) for name in _ARRAYS})
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OutputError(f"cannot write {path}: {error}; free space") from error


def write_candidates_info(folder: Path, info: Mapping[str, Any]) -> None:
    """Say which networks and settings the folder's candidates came from.

    Raises
    ------
    InputError
        If the folder holds candidates of others already.
    """
    path = folder / INFO_NAME
    if path.exists() and read_candidates_info(folder) != json.loads(json.dumps(info)):
        raise InputError(
            f"{folder} holds candidates of another model or other settings; choose another folder"
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(info, indent=1))


def read_candidates_info(folder: Path) -> dict[str, Any]:
    """What :func:`write_candidates_info` wrote; InputError if it cannot be read."""
    try:
        return dict(json.loads((folder / INFO_NAME).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            f"{folder} holds no candidates ({error}); make some with: python -m training "
            "second-stage-collect"
        ) from error


def read_candidates(*folders: Path) -> StoredCandidates:
    """All candidates in folders, in memory once.

    Raises
    ------
    InputError
        If a folder has none, a file is damaged, or the folders' candidates differ in size.
    """
    paths = [path for folder in folders for path in _paths(folder)]
    counts = []
    for path in paths:
        with _reading(path), np.load(path, allow_pickle=False) as stored:
            counts.append(len(stored["is_lesion"]))
    whole: dict[str, npt.NDArray[Any]] = {}
    ends = np.cumsum(counts).tolist()
    for path, count, end in zip(paths, counts, ends, strict=True):
        with _reading(path), np.load(path, allow_pickle=False) as stored:
            for name in _ARRAYS:
                part = stored[name]
                if name not in whole:
                    whole[name] = np.empty((ends[-1], *part.shape[1:]), dtype=part.dtype)
                whole[name][end - count : end] = part
    return StoredCandidates(**whole)


def _paths(folder: Path) -> list[Path]:
    """The files of a folder's scans; InputError if there are none."""
    paths = sorted(path for path in folder.glob("*.npz") if not path.name.startswith("."))
    if not paths:
        raise InputError(
            f"{folder} holds no candidates; make some with: python -m training second-stage-collect"
        )
    return paths


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise InputError(
            f"cannot read {path}: {error}; delete it and collect again, with the settings of the "
            "others"
        ) from error
