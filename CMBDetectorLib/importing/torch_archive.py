"""The zip file that ``torch.save`` writes: a pickle, and the numbers of each storage.

::

    <root>/data.pkl      what was saved, with references to storages
    <root>/data/<key>    the numbers of a storage, as they lie in memory
    <root>/byteorder     "little" or "big"; older files, which are little, do not say

Members are stored as they are. A file in which one is compressed, or in which members claim more
bytes than the file has, is refused before any of them is read.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from CMBDetectorLib.errors import ModelError

MAX_PICKLE_BYTES = 16 * 2**20
MAX_DIRECTORY_BYTES = 8 * 2**20
_PICKLE_NAME = "/data.pkl"
_DAMAGE = (zipfile.BadZipFile, struct.error, EOFError, OverflowError, RuntimeError, ValueError)


@dataclass(frozen=True)
class TorchArchive:
    """An open file of ``torch.save``; sizes are those that its members really have."""

    path: Path
    size: int
    root: str
    byte_order: Literal["<", ">"]
    _zip: zipfile.ZipFile

    def pickle(self) -> bytes:
        """The pickle.

        Raises
        ------
        ModelError
            If it is damaged, or larger than ``MAX_PICKLE_BYTES``.
        """
        name = self.root + _PICKLE_NAME
        if self._zip.getinfo(name).file_size > MAX_PICKLE_BYTES:
            raise ModelError(
                f"{self.path}: its pickle is larger than {MAX_PICKLE_BYTES} bytes, too large for a "
                "state dictionary; save the state dictionary alone"
            )
        return self._read(name)

    def storage_size(self, key: str) -> int:
        """Bytes of a storage.

        Raises
        ------
        ModelError
            If the file has no such storage.
        """
        try:
            return self._zip.getinfo(f"{self.root}/data/{key}").file_size
        except KeyError as error:
            raise ModelError(
                f"{self.path}: the storage {ascii(key)[:80]} is missing; get the file again"
            ) from error

    def storage(self, key: str) -> bytes:
        """The numbers of a storage that is there.

        Raises
        ------
        ModelError
            If they are damaged.
        """
        return self._read(f"{self.root}/data/{key}")

    def _read(self, name: str) -> bytes:
        with _damage_refused(self.path):
            return self._zip.read(name)


@contextmanager
def open_torch_archive(path: Path) -> Iterator[TorchArchive]:
    """Open a file of ``torch.save`` and check the list of its members.

    Raises
    ------
    ModelError
        If the file cannot be read, is damaged, is compressed, is a TorchScript program, or is
        another zip file.
    """
    with ExitStack() as stack:
        with _damage_refused(path):
            size = path.stat().st_size
            stream = stack.enter_context(_BoundedReader(io.FileIO(path)))
            stream.limit = min(size, MAX_DIRECTORY_BYTES)
            archive = stack.enter_context(zipfile.ZipFile(stream))
            stream.limit = size
            root = _root(path, archive.namelist())
            _check_members(path, archive, size)
            order = _byte_order(path, archive, root)
        yield TorchArchive(path, size, root, order, archive)


class _BoundedReader(io.BufferedReader):
    """Refuses to read a long list of members, each of which takes much more room in memory."""

    limit = 0

    def read(self, size: int | None = -1, /) -> bytes:
        wanted = -1 if size is None else size
        if wanted > self.limit:
            raise zipfile.BadZipFile(f"a part of {wanted} bytes")
        return super().read(wanted if wanted >= 0 else self.limit)


def _root(path: Path, names: list[str]) -> str:
    if len(set(names)) < len(names):
        raise ModelError(f"{path}: holds two members of one name; get the file again")
    if any(name.split("/")[1:2] in (["code"], ["constants.pkl"]) for name in names):
        raise ModelError(
            f"{path}: a TorchScript program, expected tensors; load it with torch.jit.load and "
            "save its state_dict()"
        )
    roots = [name.removesuffix(_PICKLE_NAME) for name in names if name.endswith(_PICKLE_NAME)]
    if len(roots) != 1 or "/" in roots[0]:
        raise ModelError(
            f"{path}: a zip file with {len(roots)} members called data.pkl, expected one that "
            "torch.save wrote; give the file of the weights itself"
        )
    return roots[0]


def _check_members(path: Path, archive: zipfile.ZipFile, size: int) -> None:
    claimed = 0
    for member in archive.infolist():
        claimed += member.file_size
        is_plain = member.compress_type == zipfile.ZIP_STORED and not member.flag_bits & 1
        if not is_plain or member.compress_size != member.file_size:
            raise ModelError(
                f"{path}: the member {ascii(member.filename)[:80]} is compressed or encrypted, "
                "which torch.save does not do; save the weights again with torch.save"
            )
    if claimed > size:
        raise ModelError(
            f"{path}: its members claim {claimed} bytes, the file has {size}; get it again"
        )


def _byte_order(path: Path, archive: zipfile.ZipFile, root: str) -> Literal["<", ">"]:
    name = f"{root}/byteorder"
    text = archive.read(name) if name in archive.namelist() else b"little"
    if text == b"little":
        return "<"
    if text == b"big":
        return ">"
    raise ModelError(
        f"{path}: its byte order is {text[:20]!a}, expected little or big; get the file again"
    )


@contextmanager
def _damage_refused(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror or error})") from error
    except _DAMAGE as error:
        problem = ascii(str(error))[1:-1][:120]
        raise ModelError(f"{path}: damaged ({problem}); get the file again") from error
