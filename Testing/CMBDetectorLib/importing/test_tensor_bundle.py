"""TensorFlow's checkpoints: what TensorFlow wrote, and what nobody should."""

from __future__ import annotations

import contextlib
import random
import struct
import tempfile
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from crafted_saved_models import (
    bundle_entry,
    masked,
    message,
    shape,
    table,
    varint,
    write_bundle,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from CMBDetectorLib.errors import ModelError
from CMBDetectorLib.importing.crc32c import crc32c, unmasked
from CMBDetectorLib.importing.leveldb_table import read_table
from CMBDetectorLib.importing.protobuf_wire import Message
from CMBDetectorLib.importing.tensor_bundle import TensorBundle
from CMBDetectorLib.importing.tensorflow_types import array_from_bytes, array_from_message

STANDINS = Path(__file__).parent / "standins"
VALUES = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """The variables of a small SavedModel."""
    with zipfile.ZipFile(STANDINS / "saved_plain_module.zip") as archive:
        archive.extractall(tmp_path)
    return tmp_path / "plain_module" / "variables"


def refused(folder: Path, problem: str, key: str = "a") -> None:
    with pytest.raises(ModelError, match=problem) as caught:
        TensorBundle(folder).read(key)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("variables.")


# Checksums


@pytest.mark.parametrize(
    ("data", "expected"),
    [(b"", 0), (b"123456789", 0xE3069283), (bytes(32), 0x8A9136AA), (b"\xff" * 32, 0x62A8AB43)],
)
def test_crc32c_of_rfc_3720(data: bytes, expected: int) -> None:
    assert crc32c(data) == expected
    assert unmasked(masked(expected)) == expected


@pytest.mark.parametrize("n", [1, 2, 3, 63, 64, 65, 1000, 2**16 + 1, 2**20, 2**20 + 7])
def test_crc32c_in_lanes_is_that_byte_by_byte(n: int) -> None:
    data = random.Random(n).randbytes(n)
    expected, table_of = 0xFFFFFFFF, []
    for first in range(256):
        remainder = first
        for _ in range(8):
            remainder = remainder >> 1 ^ (0x82F63B78 if remainder & 1 else 0)
        table_of.append(remainder)
    for byte in data:
        expected = expected >> 8 ^ table_of[(expected ^ byte) & 0xFF]

    assert crc32c(data) == expected ^ 0xFFFFFFFF


# What TensorFlow wrote


def test_types_of_numbers(written: Path) -> None:
    bundle = TensorBundle(written)

    def read(name: str) -> np.ndarray:
        return bundle.read(f"{name}/.ATTRIBUTES/VARIABLE_VALUE")

    kernel, half, brain = read("kernel"), read("half"), read("brain")
    assert kernel.shape == (3, 3, 3, 1, 4)
    assert bundle.shape("kernel/.ATTRIBUTES/VARIABLE_VALUE") == kernel.shape
    assert kernel.dtype == half.dtype == brain.dtype == np.float32
    np.testing.assert_array_equal(half, kernel[:, 0, 0, 0, 0].astype(np.float16))
    np.testing.assert_allclose(brain, kernel[:, 0, 0, 0, 1], rtol=2**-8)
    assert np.all(brain.view(np.uint32) & 0xFFFF == 0)
    assert read("double").dtype == np.float64
    assert read("unused") == 1
    assert read("unused").dtype == np.int64


def test_text(written: Path) -> None:
    text = TensorBundle(written).read_text("_CHECKPOINTABLE_OBJECT_GRAPH")

    assert b"kernel/.ATTRIBUTES/VARIABLE_VALUE" in text


def test_one_tensor_for_another(written: Path) -> None:
    bundle = TensorBundle(written)

    with pytest.raises(ModelError, match="the type string"):
        bundle.read("_CHECKPOINTABLE_OBJECT_GRAPH")
    with pytest.raises(ModelError, match="no single text"):
        bundle.read_text("kernel/.ATTRIBUTES/VARIABLE_VALUE")
    with pytest.raises(ModelError, match="holds no 'nothing'"):
        bundle.read("nothing")


def test_bfloat16_and_bool() -> None:
    assert array_from_bytes(b"\x80\x3f\x00\xc0", 14, (2,)).tolist() == [1, -2]
    assert array_from_bytes(b"\x00\x02", 10, (2,)).tolist() == [False, True]
    with pytest.raises(ModelError, match="2 bytes for values of type float32"):
        array_from_bytes(b"\x00\x02", 1, (2,))
    with pytest.raises(ModelError, match="complex64"):
        array_from_bytes(b"\x00\x02", 8, (2,))


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        (message((1, 1), (5, struct.pack("<2f", 1, 2))), [1, 2, 2, 2]),
        (message((1, 1), (5, 3.0)), [3, 3, 3, 3]),
        (message((1, 3), (7, -1), (7, 5)), [-1, 5, 5, 5]),
        (message((1, 9), (10, 2**40)), [2**40] * 4),
        (message((1, 10), (11, 1), (11, 0)), [True, False, False, False]),
        (message((1, 19), (13, 0x3C00)), [1, 1, 1, 1]),
        (message((1, 14), (13, 0x3F80)), [1, 1, 1, 1]),
        (message((1, 2), (6, struct.pack("<d", 0.1))), [0.1] * 4),
        (message((1, 1)), [0, 0, 0, 0]),
    ],
)
def test_constants_that_repeat_their_last_value(field: bytes, expected: list[float]) -> None:
    proto = Message(memoryview(field + message((2, shape(2, 2)))))

    assert array_from_message(proto).ravel().tolist() == expected


def test_constant_of_one_value_takes_no_memory() -> None:
    proto = Message(memoryview(message((1, 1), (2, shape(2**20, 2**20)), (5, 2.0))))

    assert array_from_message(proto).strides == (0, 0)


@pytest.mark.parametrize(
    ("proto", "problem"),
    [
        (message((1, 1), (2, shape(-1))), "shape"),
        (message((1, 1), (2, shape(*[2**40] * 3)), (5, 1.0)), "too large"),
        (message((1, 1), (2, shape(2**30)), (5, struct.pack("<2f", 1, 2))), "2 values"),
        (message((1, 1), (2, shape(1)), (5, struct.pack("<2f", 1, 2))), "2 values"),
        (message((1, 1), (2, shape(4)), (4, b"abc")), "3 bytes"),
        (message((1, 20)), "type 20"),
        (message((1, 7), (8, "x")), "string"),
    ],
)
def test_constants_that_lie(proto: bytes, problem: str) -> None:
    with pytest.raises(ModelError, match=problem):
        array_from_message(Message(memoryview(proto)))


# What nobody should write


def test_crafted_bundle_is_read(tmp_path: Path) -> None:
    entries = {"a": bundle_entry(VALUES, 4), "b": bundle_entry(VALUES + 1, 28)}
    folder = write_bundle(tmp_path, entries, b"....%b%b" % (VALUES.data, (VALUES + 1).data))

    np.testing.assert_array_equal(TensorBundle(folder).read("a"), VALUES)
    np.testing.assert_array_equal(TensorBundle(folder).read("b"), VALUES + 1)


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        (bundle_entry(VALUES, 0, lengths=(2**31,)), "expected 8589934592 bytes"),
        (bundle_entry(VALUES, 0, lengths=(2**30,), size=2**32), "expected a tensor of 4294967296"),
        (bundle_entry(VALUES, 0, lengths=(-1, -6)), "of shape"),
        (bundle_entry(VALUES, 0, lengths=[2**62] * 8), "of shape"),
        (bundle_entry(VALUES, 0, lengths=[1] * 40), "of shape"),
        (bundle_entry(VALUES, 1), "expected a tensor of 24 at 1"),
        (bundle_entry(VALUES, -24), "at -24"),
        (bundle_entry(VALUES, 2**62), "expected a tensor"),
        (bundle_entry(VALUES, 0, shard=1), "in shard 1 of 1"),
        (bundle_entry(VALUES, 0, shard=-1), "in shard -1 of 1"),
        (bundle_entry(VALUES, 0, dtype=8), "complex64"),
        (bundle_entry(VALUES, 0, dtype=21), "type 21"),
        (bundle_entry(VALUES, 0, dtype=7, size=-1), "-1 bytes"),
        (bundle_entry(VALUES, 0) + message((7, b"")), "stored in slices"),
        (bundle_entry(VALUES + 1, 0), "checksum of 'a'"),
    ],
)
def test_entries_that_lie(entry: bytes, problem: str, tmp_path: Path) -> None:
    refused(write_bundle(tmp_path, {"a": entry}, VALUES.tobytes()), problem)


def test_tensors_that_overlap_are_refused(tmp_path: Path) -> None:
    entries = {name: bundle_entry(VALUES, 0) for name in "ab"}

    refused(write_bundle(tmp_path, entries, VALUES.tobytes()), "after that which ends at 24")


@pytest.mark.parametrize(
    ("table_is", "problem"),
    [
        ({"magic": 0xDB4775248B80FB58}, "expected the index"),
        ({"compression": 1}, "Snappy"),
        ({"compression": 4}, "method 4"),
        ({"shards": 0}, "0 shards"),
        ({"shards": 99999}, "99999 shards"),
        ({"shards": 2}, "variables.data-00001-of-00002"),
    ],
)
def test_wrong_index(table_is: dict[str, int], problem: str, tmp_path: Path) -> None:
    refused(write_bundle(tmp_path, {}, **table_is), problem)


def test_without_header_or_of_big_endian(tmp_path: Path) -> None:
    (tmp_path / "variables.index").write_bytes(table([(b"a", bundle_entry(VALUES, 0))]))
    refused(tmp_path, "shard 0 of 0")
    (tmp_path / "variables.index").write_bytes(table([]))
    refused(tmp_path, "no header")
    (tmp_path / "variables.index").write_bytes(table([(b"", message((1, 1), (2, 1)))]))
    refused(tmp_path, "low bytes first")


def test_keys_that_do_not_rise(tmp_path: Path) -> None:
    (tmp_path / "variables.index").write_bytes(table([(b"b", b""), (b"b", b"")]))

    with pytest.raises(ModelError, match="does not follow b'b'"):
        list(read_table(memoryview((tmp_path / "variables.index").read_bytes())))


def test_missing_and_cut_files(written: Path) -> None:
    shard = written / "variables.data-00000-of-00001"
    data = shard.read_bytes()
    shard.write_bytes(data[:-1])
    refused(written, "cut off")
    shard.unlink()
    refused(written, "No such file")
    (written / "variables.index").unlink()
    refused(written, "No such file")


def test_index_cut_anywhere(written: Path) -> None:
    index = written / "variables.index"
    data = index.read_bytes()
    for n in range(0, len(data), 7):
        index.write_bytes(data[:n])
        refused(written, "expected the index")


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_index_is_refused(data: st.DataObject) -> None:
    with zipfile.ZipFile(STANDINS / "saved_plain_module.zip") as archive:
        original = archive.read("plain_module/variables/variables.index")
        shard = archive.read("plain_module/variables/variables.data-00000-of-00001")
    changed = bytearray(original)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        _repair_checksums(changed)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "variables.index").write_bytes(changed)
        (folder / "variables.data-00000-of-00001").write_bytes(shard)
        tracemalloc.start()
        with contextlib.suppress(ModelError):
            bundle = TensorBundle(folder)
            for key in bundle.names:
                bundle.read_text(key) if key.startswith("_") else bundle.read(key)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 20 * len(shard) + 2**20


def _repair_checksums(data: bytearray) -> None:
    """So that what is wrong within the blocks is met, not only that they are damaged."""
    footer = bytes(data[-48:])
    sizes, position = [], 0
    for _ in range(4):
        value = shift = 0
        while position < 40:
            byte = footer[position]
            position += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        sizes.append(value)
    for end in (sizes[0] - 5, sizes[2] + sizes[3]):
        if 0 <= end <= len(data) - 53:
            begin = 0 if end < sizes[2] else sizes[2]
            checksum = masked(crc32c(bytes(data[begin : end + 1])))
            data[end + 1 : end + 5] = struct.pack("<I", checksum)


def test_varints_of_keys_are_limited() -> None:
    long_key = varint(0) + varint(5000) + varint(0) + bytes(5000)
    content = long_key + struct.pack("<II", 0, 1) + b"\0"
    block = content + struct.pack("<I", masked(crc32c(content)))
    crafted = table([])
    footer = varint(0) * 2 + varint(0) + varint(len(content) - 1)
    crafted = block + footer.ljust(40, b"\0") + crafted[-8:]

    with pytest.raises(ModelError, match="has 5000 and holds 0"):
        list(read_table(memoryview(crafted)))
