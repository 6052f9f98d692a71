"""Files of PyTorch that are damaged, or made to take much memory: refused, whatever they hold."""

from __future__ import annotations

import random
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from CMBDetectorLib.errors import ModelError
from CMBDetectorLib.importing import torch_archive
from CMBDetectorLib.importing.pickled_tensors import read_state_dict, read_tensors

MIB = 2**20
Members = dict[str, bytes]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "model.pt"
    weight = torch.arange(24.0).reshape(4, 6)
    torch.save({"weight": weight, "bias": weight[1], "half": torch.ones(3).half()}, path)
    return path


def members(path: Path) -> Members:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def written(path: Path, content: Members, compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


def test_the_numbers_may_be_shared(saved: Path) -> None:
    arrays = read_state_dict(saved)
    assert set(members(saved)) >= {"model/data/0", "model/data/1", "model/data.pkl"}
    assert "model/data/2" not in members(saved)
    np.testing.assert_array_equal(arrays["bias"], arrays["weight"][1])


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"model/data/0": bytes(95)}, "in a storage of 95 bytes, expected 96"),
        ({"model/data/0": bytes(97)}, "in a storage of 97 bytes, expected 96"),
        ({"model/data/1": None}, "the storage '1' is missing"),
        ({"model/data.pkl": None}, "0 members called data.pkl"),
        ({"other/data.pkl": b"N."}, "2 members called data.pkl"),
        ({"model/data.pkl": b""}, "its pickle is damaged"),
        ({"model/byteorder": b"middle"}, "its byte order is b'middle'"),
        ({"model/code/__torch__.py": b""}, "a TorchScript program"),
        ({"model/constants.pkl": b""}, "a TorchScript program"),
    ],
)
def test_wrong_members(
    saved: Path, tmp_path: Path, change: dict[str, bytes | None], problem: str
) -> None:
    changed = {name: data for name, data in (members(saved) | change).items() if data is not None}
    with pytest.raises(ModelError, match=problem):
        read_state_dict(written(tmp_path / "model.pt", changed))


def replaced(saved: Path, old: bytes, new: bytes) -> Members:
    content = members(saved)
    assert content["model/data.pkl"].count(old) == 1
    content["model/data.pkl"] = content["model/data.pkl"].replace(old, new)
    return content


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        # Shape (4, 6), strides (6, 1) and offset 6 of the tensors, as the pickle has them.
        (b"K\x04K\x06\x86", b"K\x05K\x06\x86", "ends at value 29 of a storage of 24"),
        (b"K\x04K\x06\x86", b"K\x04J\xff\xff\xff\x7f\x86", "ends at value"),
        (b"K\x06K\x01\x86", b"K\x07K\x01\x86", "ends at value 26 of a storage of 24"),
        (b"K\x06K\x01\x86", b"K\x06K\x03\x86", "ends at value 33 of a storage of 24"),
        (b"QK\x06K\x06\x85", b"QK\x13K\x06\x85", "ends at value 24 of a storage of 24"),
        (b"K\x04K\x06\x86", b"K\x00\x8a\x08" + 7 * b"\xff" + b"\x7f\x86", "its tensors take"),
        (b"K\x18t", b"K\x19t", "in a storage of 96 bytes, expected 100"),
        (b"K\x18t", b"\x8a\x07" + 6 * b"\xff" + b"\x7ft", "in a storage of 96 bytes, expected"),
        (b"K\x18t", b"J\xff\xff\xff\xfft", "its pickle is damaged"),
    ],
)
def test_tensors_that_run_out_of_their_storage(
    saved: Path, tmp_path: Path, old: bytes, new: bytes, problem: str
) -> None:
    content = members(saved)
    if content["model/data.pkl"].count(old) > 1:
        head, _, tail = content["model/data.pkl"].partition(old)
        content["model/data.pkl"] = head + new + tail
    else:
        content = replaced(saved, old, new)
    with pytest.raises(ModelError, match=problem):
        read_state_dict(written(tmp_path / "model.pt", content))


def bomb(path: Path) -> Path:
    """A file of 100 kB whose one storage would be 100 MiB."""
    torch.save({"a": torch.zeros(1)}, path)
    content = members(path)
    content["model/data.pkl"] = content["model/data.pkl"].replace(
        b"K\x01tq", b"J" + struct.pack("<i", 25 * MIB) + b"tq"
    )
    content["model/data/0"] = bytes(100 * MIB)
    return written(path, content, zipfile.ZIP_DEFLATED)


def patched(path: Path, offset: int, code: str, value: int, name: bytes = b"data/0") -> Path:
    """The entry of a member in the list of members, with another value at this place."""
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"model/" + name) - 46
    assert content[entry : entry + 4] == b"PK\1\2"
    struct.pack_into(code, content, entry + offset, value)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (bomb, "the member 'model/data.pkl' is compressed"),
        (lambda path: patched(path, 10, "<H", 8), "is compressed or encrypted"),
        (lambda path: patched(path, 10, "<H", 99), "is compressed or encrypted"),
        (lambda path: patched(path, 8, "<H", 1), "is compressed or encrypted"),
        (lambda path: patched(path, 24, "<I", 2**30), "is compressed or encrypted"),
        (
            lambda path: patched(patched(path, 20, "<I", 2**31), 24, "<I", 2**31),
            "its members claim 2147[0-9]+ bytes",
        ),
        (lambda path: patched(path, 16, "<I", 5), "damaged .Bad CRC-32"),
        (lambda path: patched(path, 42, "<I", 5), "damaged"),
    ],
)
def test_lists_of_members_that_lie(
    saved: Path, tmp_path: Path, make: Callable[[Path], Path], problem: str
) -> None:
    path = make(written(tmp_path / "model.pt", members(saved)))
    tracemalloc.start()
    with pytest.raises(ModelError, match=problem):
        read_state_dict(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * MIB


def test_members_that_share_bytes_are_refused(saved: Path, tmp_path: Path) -> None:
    path = written(tmp_path / "model.pt", members(saved) | {"model/data/2": bytes(MIB)})
    content = bytearray(path.read_bytes())
    start = content.rindex(b"model/data/2") - 46
    entry = content[start : start + 58]
    end = content.rindex(b"PK\5\6")
    for number in range(3, 9):
        entry[-1:] = str(number).encode()
        content[end:end] = entry
        end += len(entry)
    struct.pack_into("<HHI", content, end + 8, *2 * [len(members(path)) + 6], 0)
    struct.pack_into("<I", content, end + 12, end - content.index(b"PK\1\2"))
    path.write_bytes(content)
    assert len(zipfile.ZipFile(path).namelist()) == len(members(saved)) + 7
    with pytest.raises(ModelError, match=r"its members claim 7\d+ bytes"):
        read_state_dict(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name_are_refused(saved: Path, tmp_path: Path) -> None:
    path = written(tmp_path / "model.pt", members(saved))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("model/data/0", bytes(96))
    with pytest.raises(ModelError, match="two members of one name"):
        read_state_dict(path)


def test_long_parts_are_not_read(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_archive, "MAX_PICKLE_BYTES", 100)
    with pytest.raises(ModelError, match="its pickle is larger than 100 bytes"):
        read_state_dict(saved)
    many = written(tmp_path / "many.pt", {f"x/{n}": b"" for n in range(10_000)})
    monkeypatch.setattr(torch_archive, "MAX_DIRECTORY_BYTES", 100_000)
    tracemalloc.start()
    with pytest.raises(ModelError, match=r"damaged \(a part of [0-9]+ bytes"):
        read_state_dict(many)
    assert tracemalloc.get_traced_memory()[1] < MIB
    tracemalloc.stop()


def test_truncated_files_are_refused(saved: Path, tmp_path: Path) -> None:
    content = saved.read_bytes()
    path = tmp_path / "model.pt"
    for end in range(0, len(content) - 1, 5):
        path.write_bytes(content[:end])
        with pytest.raises(ModelError, match=r"model\.pt: .*; (give|get)"):
            read_tensors(path)


def read_or_refused(path: Path) -> None:
    """No other error, little memory, and little to read."""
    message, n_bytes = "", 0
    tracemalloc.start()
    try:
        arrays = read_tensors(path)
    except ModelError as error:
        message = str(error)
    else:
        n_bytes = sum(array.nbytes for array in arrays.values())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * path.stat().st_size + 2 * MIB
    assert "\n" not in message
    assert n_bytes <= 4 * path.stat().st_size


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 6), st.booleans())
def test_any_damage_to_the_file_is_read_or_refused(
    saved: Path, seed: int, n_changes: int, is_cut: bool
) -> None:
    generator, content = random.Random(seed), bytearray(saved.read_bytes())
    for _ in range(n_changes):
        # Most of the file is padding, so half of the changes go to the list of members.
        first = generator.choice([0, content.index(b"PK\1\2")])
        content[generator.randrange(first, len(content))] = generator.randrange(256)
    if is_cut:
        del content[generator.randrange(len(content)) :]
    path = saved.with_name("damaged.pt")
    path.write_bytes(content)
    read_or_refused(path)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 4))
def test_any_damage_to_the_pickle_is_read_or_refused(
    saved: Path, seed: int, n_changes: int
) -> None:
    generator, content = random.Random(seed), members(saved)
    changed = bytearray(content["model/data.pkl"])
    for _ in range(n_changes):
        changed[generator.randrange(len(changed))] = generator.choice([0, 1, 127, 255, *b"K().R"])
    content["model/data.pkl"] = bytes(changed)
    read_or_refused(written(saved.with_name("changed.pt"), content))
