"""Unpacking a downloaded archive, of which nothing is trusted, whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from CMBDetectorLib.errors import ModelError
from CMBDetectorLib.importing.archive_members import DAMAGE, Member, opened_archive
from CMBDetectorLib.importing.member_names import MemberNames

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")
MAX_MEMBERS = 10_000
MAX_TOTAL_BYTES = 8 * 2**30
MAX_EXPANSION = 1000
_BLOCK_BYTES = 2**20


@contextmanager
def opened_source(path: Path) -> Iterator[Path]:
    """The path itself, or the content of an archive in a folder that lasts as long as the context.

    A file is an archive if its name says so (``ARCHIVE_SUFFIXES``): many files of weights, such as
    those of PyTorch, are zip files too.

    Raises
    ------
    ModelError
        If there is nothing at ``path``, or an archive cannot be unpacked; see :func:`unpack`.
    """
    if not path.exists():
        raise ModelError(f"{path}: no such file or folder; check the path")
    if path.is_dir() or not path.name.lower().endswith(ARCHIVE_SUFFIXES):
        yield path
        return
    try:
        scratch = tempfile.TemporaryDirectory(prefix="cmbdetector-", ignore_cleanup_errors=True)
    except OSError as error:
        raise ModelError(
            f"{path}: no folder could be made to unpack it into ({error.strerror or error}); "
            "unpack it yourself and give the folder"
        ) from error
    with scratch as folder:
        unpack(path, Path(folder))
        yield Path(folder)


def unpack(path: Path, folder: Path) -> None:
    """Unpack a zip, tar or gzipped tar archive into a folder that exists and is empty.

    All members are checked before the first is written, and their sizes and checksums while they
    are. Whatever fails, the folder is left empty. Permissions and dates are not taken over.

    Raises
    ------
    ModelError
        If the archive is damaged, encrypted or too large once unpacked; if a member has a name
        that leads out of the folder or that not every system can store, is neither a file nor a
        folder, or meets another on a system that does not tell capitals apart; if the folder is
        not empty or cannot be written to.
    """
    if not folder.is_dir() or any(folder.iterdir()):
        raise ModelError(f"{folder}: expected an empty folder to unpack {path.name} into")
    try:
        with _failures_named(path), opened_archive(path) as members:
            for member in _checked(path, members):
                with _failures_named(path, member.name):
                    _write(path, member, folder)
    except BaseException:
        _empty(folder)
        raise


@contextmanager
def _failures_named(path: Path, name: str | None = None) -> Iterator[None]:
    place = f"{path}" if name is None else f"{path}: the member {name[:80]!r}"
    try:
        yield
    except (OSError, *DAMAGE) as error:
        problem = " ".join((getattr(error, "strerror", None) or str(error)).split())[:160]
        is_system = isinstance(error, OSError) and error.errno is not None  # not one of gzip
        if is_system and name is None:
            raise ModelError(f"{place} cannot be read ({problem}); check the path") from error
        if is_system:
            raise ModelError(
                f"{place} cannot be written ({problem}); free some space, or unpack the archive "
                "yourself and give the folder"
            ) from error
        expected = ", expected a zip or tar archive" if name is None else ""
        raise ModelError(
            f"{place} is damaged ({problem}){expected}; get the archive again"
        ) from error


def _checked(path: Path, members: Iterable[Member]) -> tuple[Member, ...]:
    """All members; one by one, so that a list without end is not gone through to its end."""
    limit = min(MAX_TOTAL_BYTES, MAX_EXPANSION * path.stat().st_size)
    sound: list[Member] = []
    total = 0
    names = MemberNames(path)
    for member in members:
        if len(sound) == MAX_MEMBERS:
            raise ModelError(f"{path}: more than {MAX_MEMBERS} members; get the archive again")
        total += member.size
        if total > limit:
            raise ModelError(
                f"{path}: at least {total} bytes once unpacked at {member.name[:80]!r}, expected "
                f"at most {limit} of an archive of this size; get the archive again"
            )
        names.add(member.name, is_folder=member.is_folder)
        sound.append(member)
    if not sound:
        raise ModelError(f"{path}: an archive without any member; get the archive again")
    return tuple(sound)


def _write(path: Path, member: Member, folder: Path) -> None:
    target = folder / member.name
    if member.is_folder:
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    left = member.size
    with member.open() as source, target.open("xb") as copy:
        while block := source.read(_BLOCK_BYTES):
            left -= len(block)
            if left < 0:
                break
            copy.write(block)
    if left:
        raise ModelError(
            f"{path}: the member {member.name[:80]!r} holds {'more' if left < 0 else 'less'} than "
            f"the {member.size} bytes it declares; get the archive again"
        )


def _empty(folder: Path) -> None:
    for child in folder.iterdir():
        if child.is_dir():
            shutil.rmtree(child, ignore_errors=True)
        else:
            with suppress(OSError):
                child.unlink()
