"""Archives that lie about sizes, and archives that are damaged, some of them at random."""

from __future__ import annotations

import stat
import struct
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from crafted_archives import (
    BAD_NAMES,
    CENTRAL,
    CONTENT,
    assert_refused,
    files_below,
    one_member,
    raw_central,
    raw_local,
    raw_zip,
    special,
    tar_bytes,
    zip_bytes,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from CMBDetectorLib.errors import ModelError
from CMBDetectorLib.importing.archives import unpack

# Sizes


def test_bomb_of_zeros_is_refused(folder: Path) -> None:
    archive = zip_bytes({"ok": b"1", "zeros": bytes(40 * 2**20)})
    assert_refused(archive, folder, "'zeros'", f"at most {1000 * len(archive)}")
    archive = tar_bytes([("ok", b"1"), ("zeros", bytes(40 * 2**20))], "w:gz")
    assert_refused(archive, folder, "'zeros'", f"at most {1000 * len(archive)}")


def test_more_than_8_gib_are_refused(folder: Path) -> None:
    archive = zip_bytes({f"{index}": bytes(8 * 2**20) for index in range(3)}, zipfile.ZIP_STORED)
    archive = bytearray(archive)
    place = 0
    while (place := archive.find(CENTRAL, place + 1)) > 0:
        archive[place + 24 : place + 28] = b"\xfe\xff\xff\xff"
    assert_refused(bytes(archive), folder, f"at most {8 * 2**30} of")


def test_more_than_10000_members_are_refused(folder: Path) -> None:
    archive = zip_bytes({f"{index}": b"" for index in range(10_001)}, zipfile.ZIP_STORED)
    assert_refused(archive, folder, "more than 10000 members")


@pytest.mark.parametrize("size", [3, 5, 0, 1000])
def test_lying_size_is_refused(size: int, folder: Path) -> None:
    assert_refused(one_member("x", size=size), folder, "the member 'x'")


@pytest.mark.parametrize("size", [0, 99, 500, 100_000])
def test_lying_size_of_a_deflated_member_is_refused(size: int, folder: Path) -> None:
    archive = bytearray(zip_bytes({"first": b"1", "x": bytes(range(250)) * 2 + b"."}))
    place = archive.rfind(CENTRAL)
    archive[place + 24 : place + 28] = size.to_bytes(4, "little")
    assert_refused(bytes(archive), folder, "the member 'x'")


def test_size_beyond_the_end_is_refused(folder: Path) -> None:
    assert_refused(one_member("x", packed=100, size=100), folder, "'x' overlaps the list")


def test_wrong_checksum_is_refused(folder: Path) -> None:
    archive = zip_bytes(CONTENT, zipfile.ZIP_STORED)
    damaged = archive.replace(b"graphgraph", b"graphGraph", 1)
    assert_refused(damaged, folder, "saved_model.pb' is damaged", "CRC")
    assert_refused(one_member("x", b"", crc=1), folder, "'x' is damaged")
    damaged = tar_bytes([("x", b"data")], "w:gz")
    damaged = damaged[:-8] + b"\1\2\3\4" + damaged[-4:]
    assert_refused(damaged, folder, "CRC")


def test_member_within_another_is_refused(folder: Path) -> None:
    inner = raw_local(b"inner", b"kernel")
    outer = raw_local(b"outer", inner)
    offset = len(outer) - len(inner)
    entries = [raw_central(b"outer", inner, 0), raw_central(b"inner", b"kernel", offset)]
    assert_refused(raw_zip([outer], entries), folder, "'inner' overlaps another")
    assert_refused(raw_zip([outer], entries[::-1]), folder, "'inner' overlaps another")


def test_member_quoted_in_the_extra_field_of_another_is_refused(folder: Path) -> None:
    inner = raw_local(b"inner", b"")
    extra = struct.pack("<HH", 0x9999, len(inner)) + inner
    outer = raw_local(b"outer", b"", extra)
    offset = len(outer) - len(inner)
    entries = [raw_central(b"outer", b"", 0), raw_central(b"inner", b"", offset)]
    assert_refused(raw_zip([outer], entries), folder, "'inner' overlaps another")


def test_two_names_for_one_member_are_refused(folder: Path) -> None:
    entries = [raw_central(name, b"data", 0) for name in (b"one", b"two")]
    assert_refused(raw_zip([raw_local(b"one", b"data")], entries), folder, "overlaps another")


def test_tar_header_that_asks_for_much_memory_is_refused(folder: Path) -> None:
    info = special("././@LongLink", tarfile.GNUTYPE_LONGNAME)
    info.size = 2**30
    archive = tar_bytes([("ok", b"1"), info, ("x", b"data")])
    assert_refused(archive, folder, "header of")


def test_negative_size_in_a_tar_is_refused(folder: Path) -> None:
    header = bytearray(tar_bytes([("ok", b"1"), ("x", b"data")]))
    header[1024 + 124 : 1024 + 136] = b"\xff" * 10 + b"\xfc\x00"
    header[1024 + 148 : 1024 + 156] = b" " * 8
    header[1024 + 148 : 1024 + 156] = b"%06o\0 " % sum(header[1024:1536])
    assert_refused(bytes(header), folder)


# Damage


@pytest.mark.parametrize("kept", [0, 1, 4, 100, -1, -22, -60])
def test_truncated_zip_is_refused(kept: int, folder: Path) -> None:
    assert_refused(zip_bytes(CONTENT)[:kept], folder, "get the archive again")


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize("part", [0, 0.02, 0.2, 0.5])
def test_truncated_tar_is_refused(mode: str, part: float, folder: Path) -> None:
    archive = tar_bytes([(name, data * 50) for name, data in CONTENT.items()], mode)
    end = archive.rstrip(b"\0") if mode == "w" else archive
    assert_refused(archive[: int(part * len(end))], folder, "get the archive again")


def test_broken_header_within_a_tar_is_refused(folder: Path) -> None:
    archive = bytearray(tar_bytes([("a", b"1"), ("b", b"2"), ("c", b"3")]))
    archive[1024] ^= 1
    assert_refused(bytes(archive), folder, "breaks off at byte 1024")


@pytest.mark.parametrize(
    "content", [b"<!DOCTYPE html><title>404</title>", b"Rar!\x1a\7\1\0", b"7z\xbc\xaf'\x1c"]
)
def test_file_that_is_no_archive_is_refused(content: bytes, folder: Path) -> None:
    assert_refused(content * 50, folder, "expected a zip or tar archive")


def test_empty_archives_are_refused(folder: Path) -> None:
    assert_refused(zip_bytes({}), folder, "without any member")
    assert_refused(tar_bytes([]), folder, "without any member")


def test_archive_that_cannot_be_read_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"model\.zip cannot be read .*check the path"):
        unpack(tmp_path / "model.zip", folder)


# At random

SMALL = {"a/b.pb": b"graph" * 20, "a/c/d": b"", "e.json": b"{}"}
SOUND: list[Callable[[], bytes]] = [
    lambda: zip_bytes(SMALL),
    lambda: zip_bytes(SMALL, zipfile.ZIP_STORED, ("a",)),
    lambda: raw_zip(
        [raw_local(b"x", b"data", b"\1\0\2\0ab"), raw_local(b"y/", b"")],
        [raw_central(b"x", b"data", 0), raw_central(b"y/", b"", 41)],
    ),
    lambda: tar_bytes(list(SMALL.items()))[:4608],
    lambda: tar_bytes(list(SMALL.items()), "w:gz"),
]


def unpack_anything(archive: bytes) -> dict[str, bytes] | None:
    """The files unpacked, None if refused; checks what must hold for every file of the world."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        path, folder = root / "x.zip", root / "inside" / "folder"
        path.write_bytes(archive)
        folder.mkdir(parents=True)
        try:
            unpack(path, folder)
        except ModelError:
            assert list(folder.iterdir()) == []
            return None
        finally:
            outside = {p for p in root.rglob("*") if folder not in p.parents}
            assert outside == {path, folder, folder.parent}
        assert not any(p.is_symlink() for p in folder.rglob("*"))
        return files_below(folder)


@pytest.mark.parametrize("make", SOUND)
def test_what_is_to_be_damaged_is_sound(make: Callable[[], bytes]) -> None:
    assert unpack_anything(make()) is not None


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damaged_archive_is_unpacked_or_refused(data: st.DataObject) -> None:
    archive = bytearray(data.draw(st.sampled_from(SOUND))())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(archive) - 1))
        values = data.draw(st.binary(max_size=4))
        removed = data.draw(st.sampled_from([len(values), len(values), 0, 4, len(archive)]))
        archive[place : place + removed] = values
        if not archive:
            break
    unpack_anything(bytes(archive))


NAMES = st.text(st.sampled_from("aA/.\\:é\0 "), min_size=1, max_size=6) | st.sampled_from(BAD_NAMES)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "mode": st.sampled_from([0, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFREG | 0o4777]),
        "flags": st.sampled_from([0, 0x800, 0x801, 0x808]),
        "method": st.sampled_from([0, 8, 12, 14]),
        "size": st.integers(0, 2**32 - 1),
        "packed": st.integers(0, 200),
        "crc": st.integers(0, 1),
    },
)
ENTRY = st.tuples(NAMES, st.binary(max_size=8), FIELDS, st.integers(-3, 3) | st.just(0))


@settings(max_examples=200, deadline=None)
@given(st.lists(ENTRY, min_size=1, max_size=4))
def test_lying_list_is_unpacked_or_refused(
    listed: list[tuple[str, bytes, dict[str, int], int]],
) -> None:
    members: list[bytes] = []
    entries: list[bytes] = []
    for text, data, fields, shift in listed:
        name = text.encode()
        offset = max(0, len(b"".join(members)) + shift)
        entries.append(raw_central(name, data, offset, **fields))
        members.append(raw_local(name, data, **{k: v for k, v in fields.items() if k != "crc"}))
    unpacked = unpack_anything(raw_zip(members, entries))
    if unpacked is not None:
        files = {name: data for name, data, _, _ in listed if not name.endswith("/")}
        assert unpacked.keys() == files.keys()
