"""What a zip or tar archive holds, member by member; nothing here writes to the disk.

Python's own readers do the parsing. Added here are refusals of what they let pass: members that
share bytes of the archive, encryption, links and devices, and headers that ask for much memory.
"""

from __future__ import annotations

import gzip
import io
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from CMBDetectorLib.errors import ModelError

# What the readers of the standard library raise for archives that are damaged.
DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    struct.error,
    EOFError,
    OverflowError,
    RuntimeError,
    ValueError,
)
_ZIP_MAGIC = {b"PK\3\4", b"PK\5\6"}
_GZIP_MAGIC = b"\x1f\x8b"
_LOCAL_HEADER = struct.Struct("<4s22xHH")
_ENCRYPTED = 0x1 | 0x40 | 0x2000
_TAR_BLOCK = 512
_MAX_TAR_READ = 16 * 2**20


@dataclass(frozen=True)
class Member:
    """A file or folder in an archive, with the size that the archive declares."""

    name: str
    size: int
    is_folder: bool
    open: Callable[[], IO[bytes]]


@contextmanager
def opened_archive(path: Path) -> Iterator[Iterator[Member]]:
    """Open a zip, tar or gzipped tar archive, told apart by content, and go through its members.

    Members can be opened while the context lasts. Only when all have been gone through is the
    archive as a whole known to be sound.

    Raises
    ------
    ModelError
        If a member is encrypted, neither file nor folder, or shares bytes with another.
    OSError
        If the file cannot be read.
    zipfile.BadZipFile, tarfile.TarError, ...
        One of ``DAMAGE`` if the file is damaged, or is no archive.
    """
    with path.open("rb") as stream:
        magic = stream.read(4)
        stream.seek(0)
        if magic in _ZIP_MAGIC:
            with zipfile.ZipFile(stream) as archive:
                yield _zip_members(path, archive, stream)
        else:
            is_gzip = magic.startswith(_GZIP_MAGIC)
            plain = _BoundedReader(gzip.GzipFile(fileobj=stream) if is_gzip else stream)
            with tarfile.open(fileobj=plain, mode="r:", encoding="utf-8") as tar:
                yield _tar_members(path, tar, plain)


def _zip_members(path: Path, archive: zipfile.ZipFile, stream: IO[bytes]) -> Iterator[Member]:
    for info in archive.infolist():
        # Not info.filename, which ends at a NUL and has other slashes on Windows.
        name = info.orig_filename
        is_folder = name.endswith("/")
        kinds = {0, stat.S_IFREG} | ({stat.S_IFDIR} if is_folder else set())
        if info.flag_bits & _ENCRYPTED:
            raise ModelError(
                f"{path}: the member {name[:80]!r} is encrypted, expected one without a password; "
                "unpack the archive yourself and give the folder"
            )
        if stat.S_IFMT(info.external_attr >> 16) not in kinds:
            raise _refusal(path, name, "is a link or a device", "files and folders only")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ModelError(
                f"{path}: the member {name[:80]!r} is compressed by method {info.compress_type}, "
                "expected stored or deflated; unpack the archive yourself and give the folder"
            )
        opener = partial(archive.open, info)
        yield Member(name.removesuffix("/"), info.file_size, is_folder, opener)
    _refuse_overlap(path, archive, stream)


def _refuse_overlap(path: Path, archive: zipfile.ZipFile, stream: IO[bytes]) -> None:
    end = 0
    for info in sorted(archive.infolist(), key=lambda info: info.header_offset):
        if info.header_offset < end:
            raise _refusal(path, info.orig_filename, "overlaps another", "members one by one")
        stream.seek(info.header_offset)
        magic, name_length, extra_length = _LOCAL_HEADER.unpack(stream.read(_LOCAL_HEADER.size))
        if magic != b"PK\3\4":
            raise zipfile.BadZipFile(f"no member at byte {info.header_offset}")
        end = stream.tell() + name_length + extra_length + info.compress_size
        if end > archive.start_dir:
            raise _refusal(path, info.orig_filename, "overlaps the list", "members before it")


class _BoundedReader(io.BufferedReader):
    """Reads little at a time: a header in a tar archive may claim a name of gigabytes."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= _MAX_TAR_READ:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return super().read(size)


def _tar_members(path: Path, archive: tarfile.TarFile, stream: IO[bytes]) -> Iterator[Member]:
    end = 0
    for info in archive:
        if not (info.isreg() or info.isdir()) or info.issparse():
            raise _refusal(path, info.name, "is a link or a device", "files and folders only")
        if info.size < 0:
            raise tarfile.ReadError(f"a member of {info.size} bytes")
        blocks = 0 if info.isdir() else -(-info.size // _TAR_BLOCK)
        end = info.offset_data + blocks * _TAR_BLOCK
        name = info.name.removeprefix("./")
        if name != "." or not info.isdir():
            yield Member(name, info.size, info.isdir(), partial(_open_in_tar, archive, info))
    # Python takes a broken header for the end. Reading on also checks the sum of a gzipped file.
    stream.seek(end)
    while block := stream.read(2**16):
        if block.strip(b"\0"):
            raise tarfile.ReadError(f"the list of members breaks off at byte {end}")


def _open_in_tar(archive: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    stream = archive.extractfile(info)
    assert stream is not None  # it is a file
    return stream


def _refusal(path: Path, name: str, found: str, expected: str) -> ModelError:
    return ModelError(
        f"{path}: the member {name[:80]!r} {found}, expected {expected}; get the archive again"
    )
