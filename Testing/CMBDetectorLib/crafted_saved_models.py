"""Checkpoints and SavedModels made byte by byte, to be as wrong as a test wants them."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from CMBDetectorLib.errors import ModelError
from CMBDetectorLib.importing.crc32c import crc32c
from CMBDetectorLib.importing.saved_model import read_saved_model

MAGIC = 0xDB4775248B80FB57
FLOAT, INT32, STRING, RESOURCE = 1, 3, 7, 20
Field = tuple[int, "int | float | bytes | str"]


def varint(value: int) -> bytes:
    value &= 2**64 - 1
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


def message(*fields: Field) -> bytes:
    """Whole numbers as varints, real ones in 32 bits, the rest as bytes."""
    encoded = b""
    for number, value in fields:
        if isinstance(value, int):
            encoded += varint(number << 3) + varint(value)
        elif isinstance(value, float):
            encoded += varint(number << 3 | 5) + struct.pack("<f", value)
        else:
            data = value.encode() if isinstance(value, str) else value
            encoded += varint(number << 3 | 2) + varint(len(data)) + data
    return encoded


# Checkpoints


def masked(checksum: int) -> int:
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _block(entries: Sequence[tuple[bytes, bytes]], compression: int) -> bytes:
    content = b"".join(
        varint(0) + varint(len(key)) + varint(len(value)) + key + value for key, value in entries
    )
    content += struct.pack("<II", 0, 1) + bytes([compression])
    return content + struct.pack("<I", masked(crc32c(content)))


def table(
    entries: Sequence[tuple[bytes, bytes]], *, compression: int = 0, magic: int = MAGIC
) -> bytes:
    """A LevelDB table of one block."""
    data = _block(entries, compression)
    index = _block([(b"\xff", varint(0) + varint(len(data) - 5))], 0)
    footer = varint(len(data)) + varint(0) + varint(len(data)) + varint(len(index) - 5)
    return data + index + footer.ljust(40, b"\0") + struct.pack("<Q", magic)


def shape(*lengths: int) -> bytes:
    return message(*((2, message((1, n))) for n in lengths))


def bundle_entry(
    array: np.ndarray, offset: int, *, lengths: Sequence[int] | None = None, **changed: int
) -> bytes:
    """Of a float32 tensor; ``changed`` are fields that lie."""
    data = array.tobytes()
    values = {"dtype": FLOAT, "shard": 0, "size": len(data)} | changed
    return message(
        (1, values["dtype"]),
        (2, shape(*(array.shape if lengths is None else lengths))),
        (3, values["shard"]),
        (4, offset),
        (5, values["size"]),
    ) + (varint(6 << 3 | 5) + struct.pack("<I", masked(crc32c(data))))


def write_bundle(
    folder: Path,
    entries: Mapping[str, bytes],
    data: bytes = b"",
    *,
    shards: int = 1,
    **table_is: int,
) -> Path:
    """``variables.index`` with these entries and one shard."""
    folder.mkdir(parents=True, exist_ok=True)
    listed = [(b"", message((1, shards)))]
    listed += sorted((key.encode(), entry) for key, entry in entries.items())
    (folder / "variables.index").write_bytes(table(listed, **table_is))
    (folder / f"variables.data-00000-of-{shards:05d}").write_bytes(data)
    return folder


# Graphs


def tensor(array: np.ndarray) -> bytes:
    """A TensorProto of float32 or int32."""
    data_type = FLOAT if array.dtype == np.float32 else INT32
    return message((1, data_type), (2, shape(*array.shape)), (4, array.tobytes()))


def node(name: str, op: str, *inputs: str, **attributes: bytes) -> bytes:
    """A NodeDef; attributes are encoded AttrValues."""
    entries = [(5, message((1, key), (2, value))) for key, value in attributes.items()]
    return message((1, name), (2, op), *((3, text) for text in inputs), *entries)


def const(name: str, values: object) -> bytes:
    array = np.asarray(values)
    array = array.astype(np.float32 if array.dtype.kind == "f" else np.int32)
    return node(name, "Const", value=message((8, tensor(array))))


def integers(*values: int) -> bytes:
    """An AttrValue that is a list of whole numbers."""
    return message((1, message((3, b"".join(map(varint, values))))))


def call(name: str, function: str, *inputs: str) -> bytes:
    return node(name, "PartitionedCall", *inputs, f=message((10, message((1, function)))))


def function(name: str, arguments: Sequence[str], result: str, *nodes: bytes) -> bytes:
    """A FunctionDef of one result."""
    signature = message(
        (1, name), *((2, message((1, argument))) for argument in arguments), (3, message((1, "y")))
    )
    returned = message((1, "y"), (2, result))
    return message((1, signature), *((3, one) for one in nodes), (4, returned))


def endpoint(reference: str, lengths: Sequence[int], data_type: int = FLOAT) -> bytes:
    return message((1, reference), (2, data_type), (3, shape(*lengths)))


def saved_model(
    nodes: Sequence[bytes],
    *,
    functions: Sequence[bytes] = (),
    inputs: Mapping[str, bytes] | None = None,
    outputs: Mapping[str, bytes] | None = None,
    tag: str = "serve",
    signature: str = "serving_default",
    restore: str = "",
) -> bytes:
    """A SavedModel from ``image``, (1, 4, 5, 6, 2), to the node ``out``."""
    inputs = {"image": endpoint("image:0", (1, 4, 5, 6, 2))} if inputs is None else inputs
    outputs = {"out": endpoint("out:0", (1, 4, 5, 6, 2))} if outputs is None else outputs
    library = message(*((1, one) for one in functions))
    graph = message((1, node("image", "Placeholder")), *((1, n) for n in nodes), (2, library))
    taken = [(1, message((1, name), (2, one))) for name, one in inputs.items()]
    given = [(2, message((1, name), (2, one))) for name, one in outputs.items()]
    described = message((1, signature), (2, message(*taken, *given)))
    meta = message((1, message((4, tag))), (2, graph), (3, message((3, restore))), (5, described))
    return message((1, 1), (2, meta))


def write_saved_model(folder: Path, data: bytes) -> Path:
    """The folder, with a checkpoint that holds nothing."""
    write_bundle(folder / "variables", {})
    (folder / "saved_model.pb").write_bytes(data)
    return folder


def assert_refused(folder: Path, *words: str) -> None:
    with pytest.raises(ModelError) as caught:
        read_saved_model(folder)
    problem = str(caught.value)
    assert problem.startswith(f"{folder}: ")
    assert "\n" not in problem
    for word in words:
        assert word in problem
