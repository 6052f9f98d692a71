"""The variables of a TensorFlow checkpoint: an index and shards of plain numbers.

References
----------
TensorFlow, ``tensorflow/core/protobuf/tensor_bundle.proto`` and
``tensorflow/core/util/tensor_bundle/tensor_bundle.cc``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from CMBDetectorLib.errors import ModelError
from CMBDetectorLib.importing.crc32c import crc32c, unmasked
from CMBDetectorLib.importing.leveldb_table import read_table
from CMBDetectorLib.importing.protobuf_wire import Message, read_varint
from CMBDetectorLib.importing.tensorflow_types import (
    STRING,
    Array,
    array_from_bytes,
    bytes_per_value,
    numpy_type,
    shape_of,
)

INDEX_NAME = "variables.index"
MAX_INDEX_BYTES = 64 * 2**20
MAX_SHARDS = 1000
_MAX_VALUES = 2**40


@dataclass(frozen=True, slots=True)
class _Entry:
    """Where a tensor lies: type and shape, and place, length and checksum in its shard."""

    data_type: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    n_bytes: int
    checksum: int


class TensorBundle:
    """The tensors of a checkpoint by their keys; none is read before it is asked for.

    Parameters
    ----------
    folder
        That holds ``variables.index`` and the shards beside it.

    Raises
    ------
    ModelError
        If a file is missing or cannot be read, the index is damaged, or a tensor lies outside its
        shard. The errors name the files as they are called in the folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            entries = self._read_index()
        except ModelError as error:
            raise ModelError(f"{INDEX_NAME}: {error}") from error
        self._entries = entries
        self.n_bytes = sum(self._check_shard(number) for number in range(self._n_shards))

    def shape(self, key: str) -> tuple[int, ...]:
        """Shape of a tensor; :class:`ModelError` if there is none of that name."""
        return self._entry(key).shape

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the tensors."""
        return tuple(self._entries)

    def read(self, key: str) -> Array:
        """The values of a tensor, half precision as single.

        Raises
        ------
        ModelError
            If there is none of that name, it holds no numbers, or its checksum is wrong.
        """
        entry = self._entry(key)
        numpy_type(entry.data_type)
        data = self._read(entry)
        if crc32c(memoryview(data)) != unmasked(entry.checksum):
            raise ModelError(
                f"{self._shard_name(entry.shard)}: the checksum of {key[:80]!r} is wrong; the file "
                "is damaged, get the model again"
            )
        return array_from_bytes(data, entry.data_type, entry.shape)

    def read_text(self, key: str) -> bytes:
        """The only value of a tensor of texts: its length, a checksum of that, and itself.

        Raises
        ------
        ModelError
            If there is none of that name, or it is another kind of tensor.
        """
        entry = self._entry(key)
        data = self._read(entry)
        length, position = read_varint(data, 0)
        begin = position + 4
        if entry.data_type != STRING or entry.shape or length != len(data) - begin:
            raise ModelError(
                f"{self._shard_name(entry.shard)}: {key[:80]!r} is no single text; get it again"
            )
        return bytes(memoryview(data)[begin:])

    def _read(self, entry: _Entry) -> bytearray:
        name = self._shard_name(entry.shard)
        data = bytearray(entry.n_bytes)
        try:
            with (self._folder / name).open("rb") as stream:
                stream.seek(entry.offset)
                n_read = stream.readinto(data)
        except OSError as error:
            raise ModelError(f"{name}: cannot be read ({error.strerror})") from error
        if n_read != entry.n_bytes:
            raise ModelError(f"{name}: ends within a tensor; get the model again")
        return data

    def _entry(self, key: str) -> _Entry:
        if key not in self._entries:
            raise ModelError(f"{INDEX_NAME}: holds no {key[:80]!r}; get the model again")
        return self._entries[key]

    def _read_index(self) -> dict[str, _Entry]:
        path = self._folder / INDEX_NAME
        try:
            n_bytes = path.stat().st_size
            if n_bytes > MAX_INDEX_BYTES:
                raise ModelError(f"{n_bytes} bytes, expected at most {MAX_INDEX_BYTES}")
            data = memoryview(path.read_bytes())
        except OSError as error:
            raise ModelError(f"cannot be read ({error.strerror}); get the model again") from error
        entries = {}
        self._n_shards = 0
        for key, value in read_table(data):
            message = Message(value)
            if key == b"":
                self._read_header(message)
            else:
                name = key.decode("utf-8", errors="replace")
                entries[name] = self._parse_entry(name, message)
        if not self._n_shards:
            raise ModelError("holds no header; get the model again")
        return entries

    def _read_header(self, message: Message) -> None:
        self._n_shards = message.integer(1)
        if not 0 < self._n_shards <= MAX_SHARDS:
            raise ModelError(f"{self._n_shards} shards, expected 1 to {MAX_SHARDS}")
        if message.integer(2) != 0:
            raise ModelError("written high bytes first, expected low bytes first; save it again")

    def _parse_entry(self, name: str, message: Message) -> _Entry:
        shape = shape_of(message.message(2))
        entry = _Entry(
            message.integer(1),
            () if shape is None else shape,
            message.integer(3),
            message.integer(4),
            message.integer(5),
            message.fixed32(6),
        )
        if message.has(7):
            raise ModelError(f"{name[:80]!r} is stored in slices, expected whole; save it again")
        is_plain = min(entry.shape, default=0) >= 0 and len(entry.shape) <= 32
        n_values = math.prod(entry.shape) if is_plain else _MAX_VALUES
        is_text = entry.data_type == STRING
        n_bytes = entry.n_bytes if is_text else n_values * bytes_per_value(entry.data_type)
        is_placed = 0 <= entry.shard < self._n_shards and min(entry.offset, entry.n_bytes) >= 0
        if not is_plain or not is_placed or n_values > _MAX_VALUES or n_bytes != entry.n_bytes:
            raise ModelError(
                f"{name[:80]!r} of shape {str(entry.shape)[:60]} has {entry.n_bytes} bytes at "
                f"{entry.offset} in shard {entry.shard} of {self._n_shards}, expected {n_bytes} "
                "bytes; the file is damaged, get the model again"
            )
        return entry

    def _check_shard(self, number: int) -> int:
        """Bytes in a shard. Tensors lie within it, one after the other."""
        name = self._shard_name(number)
        try:
            size = (self._folder / name).stat().st_size
        except OSError as error:
            raise ModelError(f"{name}: cannot be read ({error.strerror}); get it again") from error
        places = [
            (entry.offset, entry.n_bytes)
            for entry in self._entries.values()
            if entry.shard == number and entry.n_bytes
        ]
        end = 0
        for offset, n_bytes in sorted(places):
            if offset < end or offset + n_bytes > size:
                raise ModelError(
                    f"{name}: {size} bytes, expected a tensor of {n_bytes} at {offset}, after "
                    f"that which ends at {end}; the file is cut off or damaged, get it again"
                )
            end = offset + n_bytes
        return size

    def _shard_name(self, number: int) -> str:
        return f"variables.data-{number:05d}-of-{self._n_shards:05d}"
