"""Archives byte by byte, so that they can lie; and what must hold when one is refused."""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import pytest

from CMBDetectorLib.errors import ModelError
from CMBDetectorLib.importing.archives import unpack

CONTENT = {
    "SWI-CMB/fold_0/saved_model.pb": b"graph" * 100,
    "SWI-CMB/fold_0/variables/variables.index": b"",
    "SWI-CMB/fold 1/saved_model.pb": bytes(range(256)) * 8,
    "größe.json": b"{}",
}
BAD_NAMES = [
    "../out",
    "a/../../out",
    "a/..",
    "..",
    "..\\out",
    "a\\b",
    "/out",
    "//host/share/out",
    "C:/out",
    "C:out",
    "\\out",
    "file:stream",
    "a//b",
    "a/./b",
    ".",
    "",
    "NUL",
    "a/con.txt",
    "Com1",
    "ends. ",
    "ends./b",
    "line\nbreak",
    "\x1b[31mred",
    "what?",
    "n" * 256,
    "é" * 128,
    "/".join("n" * 501),
]
LOCAL, CENTRAL, END = b"PK\3\4", b"PK\1\2", b"PK\5\6"


def files_below(root: Path) -> dict[str, bytes]:
    """Content of every file by its path from ``root``."""
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def zip_bytes(
    content: dict[str, bytes],
    compression: int = zipfile.ZIP_DEFLATED,
    folders: tuple[str, ...] = (),
) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name in folders:
            archive.writestr(name + "/", b"")
        for name, data in content.items():
            archive.writestr(name, data)
    return stream.getvalue()


def raw_local(name: bytes, data: bytes, extra: bytes = b"", **fields: int) -> bytes:
    """A local header and stored data, of which any field may lie."""
    sizes = (fields.get("crc", zlib.crc32(data)), fields.get("packed", len(data)))
    declared = fields.get("size", len(data))
    return (
        LOCAL
        + struct.pack("<HHHHH", 20, fields.get("flags", 0x800), fields.get("method", 0), 0, 33)
        + struct.pack("<IIIHH", *sizes, declared, len(name), len(extra))
        + name
        + extra
        + data
    )


def raw_central(name: bytes, data: bytes, offset: int, **fields: int) -> bytes:
    sizes = (fields.get("crc", zlib.crc32(data)), fields.get("packed", len(data)))
    declared = fields.get("size", len(data))
    return (
        CENTRAL
        + struct.pack("<HHH", (3 << 8) | 20, 20, fields.get("flags", 0x800))
        + struct.pack("<HHH", fields.get("method", 0), 0, 33)
        + struct.pack("<IIIHHHHH", *sizes, declared, len(name), 0, 0, 0, 0)
        + struct.pack("<II", fields.get("mode", 0o100644) << 16, offset)
        + name
    )


def raw_zip(members: list[bytes], entries: list[bytes]) -> bytes:
    body, listing = b"".join(members), b"".join(entries)
    count = len(entries)
    return (
        body
        + listing
        + END
        + struct.pack("<HHHHIIH", 0, 0, count, count, len(listing), len(body), 0)
    )


def one_member(name: bytes | str, data: bytes = b"data", **fields: int) -> bytes:
    """A zip of one stored member whose list, but not whose local header, may lie."""
    name = name.encode() if isinstance(name, str) else name
    return raw_zip([raw_local(name, data)], [raw_central(name, data, 0, **fields)])


def tar_bytes(members: list[tarfile.TarInfo | tuple[str, bytes]], mode: str = "w") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:
        for member in members:
            info = member if isinstance(member, tarfile.TarInfo) else tarfile.TarInfo(member[0])
            data = b"" if isinstance(member, tarfile.TarInfo) else member[1]
            info.size = info.size or len(data)
            archive.addfile(info, io.BytesIO(data) if data else None)
    return stream.getvalue()


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def assert_refused(archive: bytes, folder: Path, *words: str) -> None:
    path = folder.parents[1] / "download"
    path.write_bytes(archive)
    with pytest.raises(ModelError) as caught:
        unpack(path, folder)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert message.startswith(str(path))
    assert message.isprintable()
    for word in words:
        assert word in message
    assert list(folder.iterdir()) == []
    assert set(folder.parents[1].rglob("*")) == {path, folder, folder.parent}
