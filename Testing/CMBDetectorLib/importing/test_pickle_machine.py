"""Pickles made to run something or to exhaust the machine: refused, and nothing runs."""

from __future__ import annotations

import copyreg
import os
import pickle
import pickletools
import random
import struct
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from CMBDetectorLib.errors import ModelError
from CMBDetectorLib.importing import pickle_machine
from CMBDetectorLib.importing.pickle_machine import read_pickle
from CMBDetectorLib.importing.pickled_values import Opaque, PickledStorage, PickledTensor

PROTOCOL = b"\x80\x02"
MIB = 2**20


def text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def name(full: str) -> bytes:
    module, _, attribute = full.rpartition(".")
    return f"c{module}\n{attribute}\n".encode()


def storage(kind: str = "torch.FloatStorage", key: str = "0", numel: int = 6) -> bytes:
    place = text(key) + text("cpu") + b"J" + struct.pack("<i", numel)
    return b"(" + text("storage") + name(kind) + place + b"tQ"


def tensor(numbers: bytes = b"K\x00K\x06\x85K\x01\x85", rest: bytes = b"\x89}") -> bytes:
    return name("torch._utils._rebuild_tensor_v2") + b"(" + storage() + numbers + rest + b"tR"


def read_or_refused(content: bytes) -> None:
    """No other error, and an object for each byte at most."""
    message = "read"
    tracemalloc.start()
    try:
        read_pickle(content, "model.pt")
    except ModelError as error:
        message = str(error)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert message.isprintable()
    assert peak < 200 * len(content) + MIB


class Runs:
    """Makes a folder when it is pickled and loaded."""

    def __init__(self, marker: str, function: Callable[..., object] = eval) -> None:
        self.function = function
        self.argument = marker if function is os.mkdir else f"__import__('os').mkdir({marker!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, (self.argument,)


def with_inst(marker: str) -> bytes:
    return b"(" + text(marker) + b"ios\nmkdir\n."


def with_obj(marker: str) -> bytes:
    return b"(" + name("os.mkdir") + text(marker) + b"o."


def with_extension(marker: str) -> bytes:
    return PROTOCOL + b"\x82\xf0" + text(marker) + b"\x85R."


def with_names_on_the_stack(marker: str) -> bytes:
    return b"\x80\x04" + text("os") + text("mkdir") + b"\x93" + text(marker) + b"\x85R."


def below_a_state_dictionary(marker: str) -> bytes:
    run = name("os.mkdir") + text(marker) + b"\x85R"
    return PROTOCOL + b"}(" + text("a") + tensor() + text("b") + run + b"u."


def as_state(marker: str) -> bytes:
    run = name("os.mkdir") + text(marker) + b"\x85R"
    return PROTOCOL + name("collections.OrderedDict") + b")R}" + text("x") + run + b"sb."


@pytest.fixture
def extension() -> Iterator[None]:
    copyreg.add_extension("os", "mkdir", 240)
    yield
    copyreg.remove_extension("os", "mkdir", 240)


@pytest.mark.usefixtures("extension")
@pytest.mark.parametrize(
    ("make", "named"),
    [
        *[
            (lambda m, p=protocol: pickle.dumps(Runs(m), p), r"(__builtin__|builtins)\.eval")
            for protocol in range(6)
        ],
        (lambda m: pickle.dumps({"a": [Runs(m, os.mkdir)]}, 2), r"(posix|nt)\.mkdir"),
        (with_inst, r"os\.mkdir"),
        (with_obj, r"os\.mkdir"),
        (with_names_on_the_stack, r"os\.mkdir"),
        (below_a_state_dictionary, r"os\.mkdir"),
        (as_state, r"os\.mkdir"),
        (with_extension, "the instruction EXT1"),
    ],
)
def test_pickles_that_run_something_do_not(
    tmp_path: Path, make: Callable[[str], bytes], named: str
) -> None:
    marker = tmp_path / "marker"
    content = make(str(marker))
    with pytest.raises(ModelError, match=f"model.pt: holds code: {named}; .*save") as caught:
        read_pickle(content, "model.pt")
    assert "\n" not in str(caught.value)
    assert not marker.exists()
    # It was a real one.
    if b"torch" not in content:
        pickle.loads(content)
        assert marker.is_dir()


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (name("os.system") + b".", r"os\.system"),
        (name("torch.load") + b".", r"torch\.load"),
        (name("torch.storage._load_from_bytes") + b".", r"torch\.storage\._load_from_bytes"),
        (name("torch._utils._rebuild_tensor_v2.__globals__") + b".", r".*__globals__"),
        (text("torch.serialization") + text("os.system") + b"\x93.", r"torch\.serialization\.os"),
        (b"cos\\x2e\nsystem\n.", r"os\\\\x2e\.system"),
        ("cö\nsystém\n.".encode(), r"\\xf6\.syst\\xe9m"),
        (text("o\ns") + text("x" * 500) + b"\x93.", r"o\\ns\.x{116};"),
        (b"\x83\x60\x09.", "the instruction EXT2"),
        (b"\x84\x80\xa9\x03\x00.", "the instruction EXT4"),
        (b"P0\n.", "the instruction PERSID"),
        (text("storage") + b"\x85\x81.", "the instruction NEWOBJ"),
        (b"I1\n.", "the instruction INT"),
        (b"\x8a\x01\x01Q.", "a reference to something other than a storage"),
        (text("module") + b"\x85Q.", "a reference to something other than a storage"),
        (tensor(rest=b"\x89}" + text("k") + b"Ns"), "a tensor with hooks"),
        (tensor(rest=b"\x89}}" + text("neg") + b"\x88s"), "a tensor with hooks, or one to be"),
        (b"})Ns.", "a dictionary with keys of type tuple"),
        (b"}" + b"\x8a\x09" + bytes(8) + b"\x01Ns.", "a dictionary with keys of type int"),
    ],
)
def test_what_plain_data_does_not_need_is_named(content: bytes, named: str) -> None:
    with pytest.raises(ModelError, match=f"holds code: {named}.*save") as caught:
        read_pickle(PROTOCOL + content, "model.pt")
    assert str(caught.value).isprintable()


def test_setstate_is_data_like_any_other() -> None:
    content = name("collections.OrderedDict") + b")R}" + text("__setstate__") + b"K\x01sb."
    assert read_pickle(PROTOCOL + content, "model.pt") == {}
    content = name("numpy.dtype") + b")R}b."
    assert read_pickle(PROTOCOL + content, "model.pt") == Opaque("numpy.dtype")


def test_a_tensor_is_a_description() -> None:
    expected = PickledTensor(PickledStorage("0", "float32", 6), "float32", 0, (6,), (1,))
    assert read_pickle(PROTOCOL + tensor() + b".", "model.pt") == expected
    parameter = name("torch._utils._rebuild_parameter") + b"(" + tensor() + b"\x88}tR."
    assert read_pickle(PROTOCOL + parameter, "model.pt") == expected


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b".",
        b"NN.",
        b"(.",
        b"N(.",
        b"t.",
        b"a.",
        b"NNa.",
        b"}Ns.",
        b"](N}u.",
        b"}(NNNu.",
        b"\x87.",
        b"h\x05.",
        b"X\xff\xff\xff\xffab.",
        b"\x8a\xff\x01.",
        b"ccollections\nOrderedDict",
        b"c\xff\nx\n.",
        b"NNR.",
        b"NN\x93.",
        b"Nb.",
        b"N}b.",
        name("collections.OrderedDict") + b"NR.",
        name("collections.OrderedDict") + b"N\x85R.",
        name("torch.FloatStorage") + b")R.",
        name("torch._utils._rebuild_tensor_v2") + b")R.",
        name("torch._utils._rebuild_tensor_v3") + b")R.",
        name("torch._utils._rebuild_parameter") + b")R.",
        name("torch._utils._rebuild_parameter") + b"N\x85R.",
        tensor(b"J\xff\xff\xff\xffK\x06\x85K\x01\x85") + b".",
        tensor(b"K\x00J\xff\xff\xff\xff\x85K\x01\x85") + b".",
        tensor(b"K\x00K\x06\x85J\xff\xff\xff\xff\x85") + b".",
        tensor(b"K\x00K\x06\x85\x8a\x09" + bytes(8) + b"\x01\x85") + b".",
        tensor(b"K\x00K\x06\x85)") + b".",
        tensor(b"K\x00K\x06K\x01\x85") + b".",
        tensor(b"K\x00\x88\x85K\x01\x85") + b".",
        tensor(b"K\x00(" + 33 * b"K\x01" + b"t(" + 33 * b"K\x01" + b"t") + b".",
        tensor() + b"}b.",
        storage("torch.float32") + b".",
        storage("collections.OrderedDict") + b".",
        storage(numel=-1) + b".",
        text("storage") + b"\x85Q.",
    ],
)
def test_damaged_pickles_are_refused(content: bytes) -> None:
    with pytest.raises(ModelError, match=r"model.pt: its pickle is damaged before byte \d+; get"):
        read_pickle(PROTOCOL + content, "model.pt")


def test_work_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickle_machine, "MAX_INSTRUCTIONS", 1000)
    read_pickle(b"](" + 996 * b"N" + b"e.", "model.pt")
    with pytest.raises(ModelError, match="more than 1000 instructions"):
        read_pickle(b"](" + 997 * b"N" + b"e.", "model.pt")


@pytest.mark.parametrize(
    "content",
    [
        b")" + 50_000 * b"\x85" + b".",
        50_000 * b"(" + 50_000 * b"t" + b".",
        50_000 * b"]" + 49_999 * b"a" + b".",
        # Lists of ten times the one before: a thousand million million values if gone through.
        b"]q\x00" + 15 * (b"](" + 10 * b"h\x00" + b"eq\x00") + b".",
        b"]q\x00h\x00a.",
        b"(" + 50_000 * b"N" + b"t.",
    ],
    ids=["tuples", "marks", "lists", "laughs", "itself", "wide"],
)
def test_nesting_costs_nothing(content: bytes) -> None:
    read_or_refused(PROTOCOL + content)


VALID = (
    PROTOCOL
    + name("collections.OrderedDict")
    + b"q\x00)Rq\x01("
    + text("weight")
    + tensor(b"K\x00K\x02K\x03\x86K\x03K\x01\x86")
    + text("bias")
    + tensor()
    + b"u}"
    + text("_metadata")
    + b"h\x00)Rsb."
)
CODES = [instruction.code.encode("latin-1") for instruction in pickletools.opcodes]
PARTS = st.sampled_from(
    [*CODES, storage(), tensor(), text("a"), name("collections.OrderedDict"), name("numpy.dtype")]
)


@settings(max_examples=200, deadline=None)
@given(st.lists(PARTS, max_size=40).map(b"".join))
def test_any_pickle_is_read_or_refused(content: bytes) -> None:
    read_or_refused(PROTOCOL + content + b".")


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 8))
def test_any_damage_is_read_or_refused(seed: int, n_changes: int) -> None:
    content, generator = bytearray(VALID), random.Random(seed)
    for _ in range(n_changes):
        content[generator.randrange(len(content))] = generator.choice([*b"".join(CODES), 0, 255])
    read_or_refused(bytes(content[: generator.randrange(len(content) + 1)]))
    read_or_refused(bytes(content))
