"""Several files written together: all of them or none."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from CMBDetectorLib.errors import OutputError
from CMBDetectorLib.progress import ProgressReporter

_DOUBLE_SUFFIXES = (".nii.gz", ".seg.nrrd")


def write_together(
    paths: Mapping[str, Path],
    write: Callable[[str, Path], None],
    *,
    reporter: ProgressReporter | None = None,
) -> None:
    """Make every file in a hidden folder beside its place, then move all of them.

    Files of the same names are replaced. If anything fails, what was there before is there again,
    and a folder that was made for the files is gone.

    Parameters
    ----------
    paths
        What each file is, and where it goes; at least one, all in one folder, made if missing.
    write
        Called with what a file is and the path to write it to.
    reporter
        Hears of each file, and may stop the writing between two of them.

    Raises
    ------
    OutputError
        If the operating system refuses: no permission, disk full.
    Cancelled
        If ``reporter`` was asked to stop.
    """
    folder = next(iter(paths.values())).parent
    with _staging(folder) as staging:
        staged = {path: staging / _short_name(name, path) for name, path in paths.items()}
        for done, (name, path) in enumerate(paths.items()):
            if reporter is not None:
                reporter.update(done / len(staged), f"writing {path.name}")
            with _errors_naming(staged[path], path):
                write(name, staged[path])
        if reporter is not None:
            reporter.raise_if_cancelled()
        _move_all(staged, staging / "replaced")


def _short_name(name: str, path: Path) -> str:
    """A name in the staging folder that is never longer than the final one."""
    doubles = (suffix for suffix in _DOUBLE_SUFFIXES if path.name.endswith(suffix))
    return name + next(doubles, path.suffix)


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
