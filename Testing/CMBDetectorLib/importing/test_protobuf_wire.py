"""Protocol buffers: every kind of field, and bytes that are none."""

from __future__ import annotations

import contextlib
import struct
import tracemalloc

import numpy as np
import pytest
from crafted_saved_models import message, varint
from hypothesis import given
from hypothesis import strategies as st

from CMBDetectorLib.errors import ModelError
from CMBDetectorLib.importing.protobuf_wire import MAX_DEPTH, Message, read_varint


def parsed(data: bytes) -> Message:
    return Message(memoryview(data))


@given(st.integers(0, 2**64 - 1))
def test_varint_round_trip(value: int) -> None:
    data = varint(value)

    assert read_varint(b"\x80" + data, 1) == (value, len(data) + 1)


@given(st.integers(-(2**63), 2**63 - 1))
def test_whole_numbers_are_signed(value: int) -> None:
    read = parsed(message((3, value), (4, "x")))

    assert read.integer(3) == value
    assert read.integers(3).tolist() == [value]
    assert read.text(4) == "x"


def test_absent_fields_have_their_defaults() -> None:
    read = parsed(b"")

    assert (read.integer(1), read.text(1), read.texts(1), read.float32(1)) == (0, "", (), 0.0)
    assert (len(read.floats(1)), len(read.integers(1)), read.fixed32(1)) == (0, 0, 0)
    assert read.message(1).text(2) == ""
    assert not read.has(1)


def test_of_several_values_the_last_counts() -> None:
    assert parsed(message((1, 5), (2, "a"), (1, 6), (2, "b"))).integer(1) == 6
    assert parsed(message((2, "a"), (2, "b"))).text(2) == "b"


def test_repeated_numbers_packed_or_not() -> None:
    packed = message((1, varint(3) + varint(-4)), (2, struct.pack("<3f", 1, 2, 3)))
    packed += message((3, struct.pack("<2d", 0.1, 0.2)))
    single = message((1, 3), (1, -4), (2, 1.0), (2, 2.0), (2, 3.0))

    for read in (parsed(packed), parsed(single)):
        assert read.integers(1).tolist() == [3, -4]
        assert read.floats(2).tolist() == [1, 2, 3]
    assert parsed(packed).doubles(3).tolist() == [0.1, 0.2]
    assert parsed(single).float32(2) == 3


def test_maps_and_repeated_messages() -> None:
    entries = [message((1, key), (2, message((1, n)))) for n, key in enumerate("ab")]
    read = parsed(message((5, entries[0]), (9, 1), (5, entries[1])))

    assert [(key, value.integer(1)) for key, value in read.entries(5)] == [("a", 0), ("b", 1)]
    with pytest.raises(ModelError, match="there twice"):
        read.message(5)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"\x08", "cut off"),
        (b"\x08" + b"\xff" * 10, "more than ten bytes"),
        (b"\x0a\x05abcd", "a field of 5 bytes where 4 are left"),
        (b"\x0d\0\0", "a field of 4 bytes where 2 are left"),
        (b"\x0a" + varint(2**63) + b"x", f"a field of {2**63} bytes"),
        (b"\x0b\x0c", "unknown kind 3"),
        (b"\x0e", "unknown kind 6"),
        (b"\x02\x00", "number 0"),
        (message((1, 7)), "holds a varint, expected bytes"),
        (message((1, 2.0)), "holds 32 bits, expected bytes"),
        (message((1, b"\xff\xfe")), "not UTF-8"),
    ],
)
def test_malformed_is_refused(data: bytes, problem: str) -> None:
    with pytest.raises(ModelError, match=problem) as caught:
        parsed(data).text(1)
    assert "\n" not in str(caught.value)


def test_numbers_of_another_kind_are_refused() -> None:
    for read in (parsed(message((1, "abc"))), parsed(message((1, 2)))):
        with pytest.raises(ModelError):
            read.floats(1)
    with pytest.raises(ModelError, match="expected a varint"):
        parsed(message((1, "abc"))).integer(1)
    with pytest.raises(ModelError, match="expected bytes"):
        parsed(message((1, 1.0))).integers(1)


def test_depth_is_limited() -> None:
    read = Message(memoryview(message((1, b""))), MAX_DEPTH)

    with pytest.raises(ModelError, match="within each other"):
        read.message(1)


def test_many_numbers_take_little_memory() -> None:
    data = message((1, b"\x01" * 2**14))
    tracemalloc.start()
    numbers = parsed(data).integers(1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert len(numbers) == 2**14
    assert peak < 30 * len(data)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    read = parsed(data)
    accessors = (read.integer, read.integers, read.floats, read.doubles, read.text, read.texts)
    for accessor in (*accessors, read.fixed32, read.float32, lambda n: list(read.entries(n))):
        for number in (1, 2):
            with contextlib.suppress(ModelError):
                accessor(number)


def test_content_is_a_view() -> None:
    data = message((1, b"content"))

    content = parsed(data).content(1)

    assert np.shares_memory(np.frombuffer(content, np.uint8), np.frombuffer(data, np.uint8))
