"""The entries of a LevelDB table that is not compressed, such as the index of a checkpoint.

References
----------
LevelDB, ``doc/table_format.md`` and ``table/block_builder.cc``; TensorFlow writes the same format
(``tensorflow/core/lib/io/table_format.txt``).
"""

from __future__ import annotations

from collections.abc import Iterator

from CMBDetectorLib.errors import ModelError
from CMBDetectorLib.importing.crc32c import crc32c, unmasked
from CMBDetectorLib.importing.protobuf_wire import read_varint

MAX_ENTRIES = 50_000
MAX_KEY_BYTES = 1024
_MAGIC = 0xDB4775248B80FB57
_FOOTER_BYTES = 48
_TRAILER_BYTES = 5
_SNAPPY = 1

Entry = tuple[bytes, memoryview]


def read_table(data: memoryview) -> Iterator[Entry]:
    """Keys and values, in the order of the keys.

    Raises
    ------
    ModelError
        If it is no such table, a block is compressed, damaged or outside the data, or the keys do
        not rise.
    """
    footer = data[-_FOOTER_BYTES:]
    magic = int.from_bytes(footer[-8:], "little")
    if len(data) < _FOOTER_BYTES or magic != _MAGIC:
        raise ModelError(
            f"ends with {magic:#x} after {len(data)} bytes, expected the index of a TensorFlow "
            f"checkpoint, which ends with {_MAGIC:#x}; get the model again"
        )
    _, position = _read_handle(footer, 0)
    index, _ = _read_handle(footer, position)
    last, n_entries = None, 0
    for _, handle in _entries(_block(data, index)):
        for key, value in _entries(_block(data, _read_handle(handle, 0)[0])):
            n_entries += 1
            if (last is not None and key <= last) or n_entries > MAX_ENTRIES:
                raise ModelError(
                    f"the entry {n_entries}, {key[:40]!r}, does not follow {(last or b'')[:40]!r}, "
                    f"or is one of over {MAX_ENTRIES}; the file is damaged, get the model again"
                )
            last = key
            yield key, value


def _read_handle(data: memoryview, position: int) -> tuple[tuple[int, int], int]:
    """Offset and size of a block, and the position after them."""
    offset, position = read_varint(data, position)
    size, position = read_varint(data, position)
    return (offset, size), position


def _block(data: memoryview, handle: tuple[int, int]) -> memoryview:
    """The content of a block, whose checksum is right."""
    offset, size = handle
    end = offset + size
    if end + _TRAILER_BYTES > len(data):
        raise ModelError(
            f"a block of {size} bytes at {offset} in a file of {len(data)}; the file is cut off "
            "or damaged, get the model again"
        )
    if data[end] != 0:
        name = "Snappy" if data[end] == _SNAPPY else f"method {data[end]}"
        raise ModelError(
            f"a block is compressed ({name}), which TensorFlow does not do; save the model again"
        )
    stored = int.from_bytes(data[end + 1 : end + _TRAILER_BYTES], "little")
    if crc32c(data[offset : end + 1]) != unmasked(stored):
        raise ModelError(
            f"the checksum of the block at {offset} is wrong; the file is damaged, get it again"
        )
    return data[offset:end]


def _entries(block: memoryview) -> Iterator[Entry]:
    """Keys and values of a block; a key gives only what differs from that before it."""
    n_restarts = int.from_bytes(block[-4:], "little")
    end = len(block) - 4 * (n_restarts + 1)
    if end < 0:
        raise ModelError(f"a block of {len(block)} bytes is too short; get the model again")
    position, key = 0, b""
    while position < end:
        n_shared, position = read_varint(block, position)
        n_new, position = read_varint(block, position)
        n_value, position = read_varint(block, position)
        is_within = n_shared <= len(key) and n_new + n_value <= end - position
        if not is_within or n_shared + n_new > MAX_KEY_BYTES:
            raise ModelError(
                f"an entry shares {n_shared} bytes, has {n_new} and holds {n_value}, where "
                f"{end - position} are left; the file is damaged, get the model again"
            )
        key = key[:n_shared] + bytes(block[position : position + n_new])
        position += n_new
        yield key, block[position : position + n_value]
        position += n_value
