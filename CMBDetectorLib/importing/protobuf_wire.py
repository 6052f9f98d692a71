"""Protocol Buffers without their schemas: the fields of a message, taken by number.

A message is never turned into objects as a whole; what is asked for is looked up in its bytes,
and what lies within it stays a view of them.

References
----------
Protocol Buffers documentation, "Encoding", https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from CMBDetectorLib.errors import ModelError

MAX_DEPTH = 64
MAX_FIELDS = 2**20
_MAX_VARINT_BYTES = 10
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_KINDS = {_VARINT: "a varint", _FIXED64: "64 bits", _LENGTH: "bytes", _FIXED32: "32 bits"}

Bytes = bytes | bytearray | memoryview


def read_varint(data: Bytes, position: int) -> tuple[int, int]:
    """A whole number of 64 bits, seven to a byte, and the position after it.

    Raises
    ------
    ModelError
        If it does not end within the data, or within ten bytes.
    """
    value = 0
    for number in range(_MAX_VARINT_BYTES):
        if position + number >= len(data):
            raise ModelError("ends within a number; the file is cut off, get the model again")
        byte = data[position + number]
        value |= (byte & 0x7F) << (7 * number)
        if byte < 0x80:
            return value & (2**64 - 1), position + number + 1
    raise ModelError("holds a number of more than ten bytes; the file is damaged, get it again")


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value


@dataclass(frozen=True, slots=True)
class Message:
    """A message of which only the bytes are kept.

    All methods raise :class:`ModelError` if the message is malformed or a field is of another kind
    than asked for. A field that is absent has its default: 0, nothing, or an empty message.

    Parameters
    ----------
    data
        The bytes of the message.
    depth
        How many messages it lies in.
    """

    data: memoryview
    depth: int = 0

    def fields(self) -> Iterator[tuple[int, int, int | memoryview]]:
        """Number, kind and content of each field, as they come."""
        position = 0
        for _ in range(MAX_FIELDS):
            if position == len(self.data):
                return
            key, position = read_varint(self.data, position)
            number, kind = key >> 3, key & 7
            if kind == _VARINT:
                value, position = read_varint(self.data, position)
                yield number, kind, value
            elif kind in _KINDS and number > 0:
                length = 4 if kind == _FIXED32 else 8
                if kind == _LENGTH:
                    length, position = read_varint(self.data, position)
                if length > len(self.data) - position:
                    raise ModelError(
                        f"a field of {length} bytes where {len(self.data) - position} are left; "
                        "the file is cut off or damaged, get the model again"
                    )
                yield number, kind, self.data[position : position + length]
                position += length
            else:
                raise ModelError(
                    f"a field of the unknown kind {kind} (number {number}); expected a protocol "
                    "buffer, get the model again"
                )
        if position < len(self.data):
            raise ModelError(f"a message of more than {MAX_FIELDS} fields; get the model again")

    def has(self, number: int) -> bool:
        """Whether the field is there, whatever it holds."""
        return any(found == number for found, _, _ in self.fields())

    def messages(self, number: int) -> Iterator[Message]:
        """Every message in a repeated field."""
        for value in self._of_kind(number, _LENGTH):
            yield self._within(value)

    def message(self, number: int) -> Message:
        """The message in a field; an empty one where it is absent."""
        found = None
        for value in self._of_kind(number, _LENGTH):
            if found is not None:
                raise ModelError(f"the field {number} is there twice; get the model again")
            found = value
        return self._within(memoryview(b"") if found is None else found)

    def entries(self, number: int) -> Iterator[tuple[str, Message]]:
        """Keys and messages of a map whose keys are texts."""
        for entry in self.messages(number):
            yield entry.text(1), entry.message(2)

    def content(self, number: int) -> memoryview:
        """The bytes in a field; the last where there are several."""
        value = memoryview(b"")
        for value in self._of_kind(number, _LENGTH):  # noqa: B007 (the last is wanted)
            pass
        return value

    def contents(self, number: int) -> Iterator[memoryview]:
        """The bytes in each field of a repeated one."""
        yield from self._of_kind(number, _LENGTH)

    def text(self, number: int) -> str:
        """The text in a field."""
        return _decoded(self.content(number))

    def texts(self, number: int) -> tuple[str, ...]:
        """Every text in a repeated field."""
        return tuple(_decoded(value) for value in self.contents(number))

    def integer(self, number: int) -> int:
        """A whole number, signed."""
        value: Any = 0
        for value in self._of_kind(number, _VARINT):  # noqa: B007 (the last is wanted)
            pass
        return _signed(value)

    def integers(self, number: int) -> npt.NDArray[np.int64]:
        """Whole numbers in a repeated field, packed or not."""
        values = array("q")
        for found, kind, value in self.fields():
            if found == number and isinstance(value, int):
                values.append(_signed(value))
            elif found == number and not isinstance(value, int):
                self._check(number, kind, _LENGTH)
                position = 0
                while position < len(value):
                    one, position = read_varint(value, position)
                    values.append(_signed(one))
        return np.array(values, dtype=np.int64)

    def fixed32(self, number: int) -> int:
        """A whole number stored in 32 bits, not signed."""
        return int.from_bytes(self._last_fixed(number, _FIXED32), "little")

    def float32(self, number: int) -> float:
        """A number of single precision."""
        return float(np.frombuffer(self._last_fixed(number, _FIXED32) or bytes(4), "<f4")[0])

    def floats(self, number: int) -> npt.NDArray[np.float32]:
        """Numbers of single precision in a repeated field, packed or not."""
        return np.frombuffer(self._packed(number, _FIXED32), "<f4")

    def doubles(self, number: int) -> npt.NDArray[np.float64]:
        """Numbers of double precision in a repeated field, packed or not."""
        return np.frombuffer(self._packed(number, _FIXED64), "<f8")

    def _last_fixed(self, number: int, kind: int) -> memoryview:
        value: Any = memoryview(b"")
        for value in self._of_kind(number, kind):  # noqa: B007 (the last is wanted)
            pass
        return value  # type: ignore[no-any-return]

    def _packed(self, number: int, kind: int) -> bytes | bytearray:
        joined = bytearray()
        for found, its_kind, value in self.fields():
            if found == number and not isinstance(value, int):
                if its_kind != kind:
                    self._check(number, its_kind, _LENGTH)
                joined += value
            elif found == number:
                self._check(number, its_kind, kind)
        if len(joined) % (4 if kind == _FIXED32 else 8):
            raise ModelError(f"the field {number} ends within a number; get the model again")
        return joined

    def _of_kind(self, number: int, kind: int) -> Iterator[Any]:
        for found, its_kind, value in self.fields():
            if found == number:
                self._check(number, its_kind, kind)
                yield value

    def _check(self, number: int, kind: int, expected: int) -> None:
        if kind != expected:
            raise ModelError(
                f"the field {number} holds {_KINDS[kind]}, expected {_KINDS[expected]}; "
                "get the model again"
            )

    def _within(self, data: memoryview) -> Message:
        if self.depth >= MAX_DEPTH:
            raise ModelError(f"messages within each other {MAX_DEPTH} deep; get the model again")
        return Message(data, self.depth + 1)


def _decoded(value: memoryview) -> str:
    try:
        return str(value, "utf-8")
    except UnicodeDecodeError as error:
        raise ModelError("a name that is not UTF-8; get the model again") from error
