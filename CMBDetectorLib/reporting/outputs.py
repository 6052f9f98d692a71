"""The files of one result, written together: all of them or none.

``CMBDetectorLib.io`` is a base layer like ``geometry`` and ``volume``: the stages may write
through it, it knows none of them.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from CMBDetectorLib.errors import OutputError, UsageError
from CMBDetectorLib.io.writing import write_nifti, write_text
from CMBDetectorLib.progress import ProgressReporter
from CMBDetectorLib.reporting.document import format_document
from CMBDetectorLib.reporting.montage import write_montage
from CMBDetectorLib.reporting.tables import format_csv
from CMBDetectorLib.results import DetectionResult
from CMBDetectorLib.volume import Volume

_IMAGE_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".hdr", ".img.gz", ".img")


@dataclass(frozen=True)
class OutputPaths:
    """Where the results of one image go; ``probability`` is None unless it was asked for."""

    labels: Path
    table: Path
    document: Path
    picture: Path
    probability: Path | None

    def named(self) -> dict[str, Path]:
        """What each file is, and its path, in a fixed order."""
        paths = {
            "labels": self.labels,
            "table": self.table,
            "document": self.document,
            "picture": self.picture,
        }
        return paths if self.probability is None else paths | {"probability": self.probability}

    def all_paths(self) -> tuple[Path, ...]:
        """All files, in a fixed order."""
        return tuple(self.named().values())


def output_stem(input_path: Path) -> str:
    """The image's file name without the ending of its format.

    >>> output_stem(Path("scans/sub-01.T2S.nii.gz"))
    'sub-01.T2S'
    """
    name = input_path.name
    for suffix in _IMAGE_SUFFIXES:
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return name


def planned_outputs(input_path: Path, output_dir: Path, *, save_probability: bool) -> OutputPaths:
    """The files that a run on ``input_path`` writes; touches nothing."""
    stem = output_stem(input_path)
    return OutputPaths(
        labels=output_dir / f"{stem}_cmb_labels.nii.gz",
        table=output_dir / f"{stem}_cmb.csv",
        document=output_dir / f"{stem}_cmb.json",
        picture=output_dir / f"{stem}_cmb.png",
        probability=output_dir / f"{stem}_cmb_probability.nii.gz" if save_probability else None,
    )


def write_outputs(
    result: DetectionResult,
    image: Volume,
    paths: OutputPaths,
    *,
    reporter: ProgressReporter | None = None,
) -> None:
    """Write label map, table, document and picture, and the probability map if it has a path.

    Files of the same names are replaced; to refuse that is up to the caller, before the run. The
    files are made in a hidden folder beside their places and then moved. If anything fails, what
    was there before is there again, and a folder that was made for the results is gone.

    Parameters
    ----------
    image
        The input on its own grid, for the picture.
    paths
        All in one folder, made if missing.
    reporter
        Hears of each file, and may stop the writing between two of them.

    Raises
    ------
    OutputError
        If the operating system refuses: no permission, disk full.
    Cancelled
        If ``reporter`` was asked to stop.
    UsageError
        If a probability map is to be written and the result has none.
    """
    if paths.probability is not None and result.probability is None:
        raise UsageError(
            f"the result has no probability map to write to {paths.probability}; "
            "run the detection with save_probability"
        )
    with _staging(paths.document.parent) as staging:
        staged = {path: staging / _short_name(name, path) for name, path in paths.named().items()}
        for done, (name, path) in enumerate(paths.named().items()):
            if reporter is not None:
                reporter.update(done / len(staged), f"writing {path.name}")
            with _errors_naming(staged[path], path):
                _write(name, result, image, paths, staged[path])
        if reporter is not None:
            reporter.raise_if_cancelled()
        _move_all(staged, staging / "replaced")


def _write(
    name: str, result: DetectionResult, image: Volume, paths: OutputPaths, target: Path
) -> None:
    if name == "labels":
        write_nifti(result.label_map, target)
    elif name == "table":
        write_text(target, format_csv(result.detections))
    elif name == "document":
        names = {name: path.name for name, path in paths.named().items() if name != "document"}
        write_text(target, format_document(result, names))
    elif name == "picture":
        write_montage(result, image, target)
    elif result.probability is not None:
        write_nifti(result.probability, target)


def _short_name(name: str, path: Path) -> str:
    """A name in the staging folder that is never longer than the final one."""
    return name + (".nii.gz" if path.name.endswith(".nii.gz") else path.suffix)


@contextlib.contextmanager
def _staging(folder: Path) -> Iterator[Path]:
    """A hidden folder inside ``folder``, which is made if missing; gone in the end."""
    made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    staging = folder / f".cmb-{os.getpid()}-{secrets.token_hex(6)}"
    finished = False
    try:
        try:
            staging.mkdir(parents=True)
        except OSError as error:
            raise OutputError(
                f"cannot write to the folder {folder}: {error.strerror}; "
                "choose another output folder"
            ) from error
        yield staging
        finished = True
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        if not finished:
            with contextlib.suppress(OSError):
                for parent in made:
                    parent.rmdir()


@contextlib.contextmanager
def _errors_naming(staged: Path, path: Path) -> Iterator[None]:
    """Errors say the name that the user knows, not the temporary one."""
    try:
        yield
    except OutputError as error:
        raise OutputError(str(error).replace(str(staged), str(path))) from error
    except OSError as error:
        raise OutputError(
            f"{path}: could not be written: {error.strerror or error}; choose another output folder"
        ) from error


def _move_all(staged: dict[Path, Path], backup: Path) -> None:
    """Move every staged file to its place; after a failure put everything back."""
    undo: list[tuple[Path, Path]] = []
    path = backup
    try:
        backup.mkdir()
        for path, source in staged.items():
            if path.is_dir():
                raise OutputError(
                    f"{path} is a folder, a file is to be written there; move it away"
                )
            if path.exists():
                kept = backup / source.name
                undo.append((kept, path))
                path.replace(kept)
            undo.append((path, source))
            source.replace(path)
    except BaseException as error:
        for current, former in reversed(undo):
            if current.exists():
                current.replace(former)
        if isinstance(error, OSError):
            raise OutputError(
                f"{path}: could not be written: {error.strerror}; close programs that have the "
                "file open, or choose another output folder"
            ) from error
        raise
