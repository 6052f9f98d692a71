"""Sound archives, and ones whose members have bad names or are no files."""

from __future__ import annotations

import errno
import stat
import tarfile
import tempfile
import zipfile
from pathlib import Path

import pytest
from crafted_archives import (
    BAD_NAMES,
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

from CMBDetectorLib.errors import ModelError
from CMBDetectorLib.importing import archives
from CMBDetectorLib.importing.archives import opened_source, unpack

# Sound archives


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("folders", [(), ("SWI-CMB", "SWI-CMB/fold_0", "empty")])
def test_zip_is_unpacked(
    compression: int, folders: tuple[str, ...], folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "model.zip"
    path.write_bytes(zip_bytes(CONTENT, compression, folders))
    unpack(path, folder)
    assert files_below(folder) == CONTENT
    assert all((folder / name).is_dir() for name in folders)


@pytest.mark.parametrize(("suffix", "mode"), [(".tar", "w"), (".tar.gz", "w:gz"), (".tgz", "w:gz")])
@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tar_is_unpacked(
    suffix: str, mode: str, whole: bool, form: int, folder: Path, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    content = CONTENT | {f"{'long' * 30}/{'name' * 40}": b"x" * 1000}
    for name, data in content.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(data)
    path = tmp_path / f"model{suffix}"
    with tarfile.open(path, mode, format=form) as archive:
        for child in [source] if whole else source.iterdir():
            archive.add(child, child.relative_to(source).as_posix())
    unpack(path, folder)
    assert files_below(folder) == content


def test_permissions_are_not_taken_over(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.zip"
    path.write_bytes(one_member("run.sh", mode=0o104777))
    unpack(path, folder)
    assert not (folder / "run.sh").stat().st_mode & (stat.S_ISUID | stat.S_IXUSR)


@pytest.mark.parametrize("name", ["model.zip", "MODEL.ZIP"])
def test_source_that_is_an_archive_is_unpacked_while_needed(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(zip_bytes(CONTENT))
    with opened_source(tmp_path / name) as source:
        assert files_below(source) == CONTENT
    assert not source.exists()


def test_scratch_folder_is_removed_after_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    (tmp_path / "model.zip").write_bytes(zip_bytes(CONTENT)[:-30])
    with pytest.raises(ModelError), opened_source(tmp_path / "model.zip"):
        pass
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("name", ["weights.pt", "weights.h5", "folder", "folder.zip"])
def test_source_that_is_not_named_an_archive_is_itself(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name.startswith("folder"):
        path.mkdir()
    else:
        path.write_bytes(zip_bytes(CONTENT))
    with opened_source(path) as source:
        assert source == path
    assert path.exists()


@pytest.mark.parametrize("name", ["model.zip", "model"])
def test_source_that_is_not_there_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file or folder"), opened_source(tmp_path / name):
        pass


# Where the archive goes


def test_folder_that_is_not_empty_is_left_alone(folder: Path, tmp_path: Path) -> None:
    (folder / "mine").write_bytes(b"mine")
    (tmp_path / "model.zip").write_bytes(zip_bytes(CONTENT))
    with pytest.raises(ModelError, match="expected an empty folder"):
        unpack(tmp_path / "model.zip", folder)
    assert files_below(folder) == {"mine": b"mine"}


def test_full_disk_leaves_the_folder_empty(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = Path.open

    def full(self: Path, mode: str = "r", **options: object) -> object:
        if mode == "xb" and self.name == "größe.json":
            raise OSError(errno.ENOSPC, "No space left on device")
        return usual(self, mode, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", full)
    assert_refused(zip_bytes(CONTENT), folder, "größe.json", "No space left", "free some space")


def test_interruption_leaves_the_folder_empty(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = archives._write

    def interrupted(path: Path, member: archives.Member, folder: Path) -> None:
        usual(path, member, folder)
        if "fold 1" in member.name:
            raise KeyboardInterrupt

    monkeypatch.setattr(archives, "_write", interrupted)
    (tmp_path / "model.zip").write_bytes(zip_bytes(CONTENT))
    with pytest.raises(KeyboardInterrupt):
        unpack(tmp_path / "model.zip", folder)
    assert list(folder.iterdir()) == []


# Names


@pytest.mark.parametrize("name", BAD_NAMES)
def test_bad_name_in_a_zip_is_refused(name: str, folder: Path) -> None:
    assert_refused(one_member(name), folder)


@pytest.mark.parametrize("name", [name for name in BAD_NAMES if name not in ("", "a//b")])
def test_bad_name_in_a_tar_is_refused(name: str, folder: Path) -> None:
    assert_refused(tar_bytes([("ok", b"1"), (name, b"data")]), folder)


def test_nul_in_a_name_is_refused(folder: Path) -> None:
    assert_refused(one_member(b"weights.h5\0.txt"), folder, r"'weights.h5\x00.txt'")


def test_name_that_is_not_utf8_is_refused(folder: Path) -> None:
    assert_refused(one_member(b"\xff\xfe"), folder)
    stored = tar_bytes([("ab", b"data")], "w").replace(b"ab\0", b"\xff\xfe\0", 1)
    header = bytearray(stored)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header[:512])
    assert_refused(bytes(header), folder, r"\udcff")


@pytest.mark.parametrize(
    ("names", "word"),
    [
        (["a/x", "a/x"], "twice"),
        (["a/", "a/"], "twice"),
        (["a/x", "a/X"], "capitals"),
        (["a/x", "A/y"], "capitals"),
        (["A/", "a/y"], "capitals"),
        (["\u00e9", "e\u0301"], "capitals"),
        (["straße", "STRASSE"], "capitals"),
        (["a", "a/x"], "a file and a folder"),
        (["a/x", "a"], "a file and a folder"),
        (["a/b/c", "a/b"], "a file and a folder"),
        (["a", "a/"], "twice"),
    ],
)
def test_names_in_the_way_of_each_other_are_refused(
    names: list[str], word: str, folder: Path
) -> None:
    members: list[bytes] = []
    entries: list[bytes] = []
    for name in names:
        data = b"" if name.endswith("/") else b"data"
        entries.append(raw_central(name.encode(), data, len(b"".join(members))))
        members.append(raw_local(name.encode(), data))
    assert_refused(raw_zip(members, entries), folder, word)


def test_folder_after_what_it_holds_is_accepted(folder: Path, tmp_path: Path) -> None:
    members = [raw_local(b"a/b/x", b"data"), raw_local(b"a/", b""), raw_local(b"a/b/", b"")]
    places = [0, len(members[0]), len(members[0] + members[1])]
    entries = [
        raw_central(b"a/b/x", b"data", places[0]),
        raw_central(b"a/", b"", places[1], mode=stat.S_IFDIR | 0o755),
        raw_central(b"a/b/", b"", places[2], mode=0),
    ]
    (tmp_path / "model.zip").write_bytes(raw_zip(members, entries))
    unpack(tmp_path / "model.zip", folder)
    assert files_below(folder) == {"a/b/x": b"data"}


# Kinds of members


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFDIR])
def test_zip_member_that_is_no_file_is_refused(kind: int, folder: Path) -> None:
    assert_refused(one_member("x", b"/etc/passwd", mode=kind | 0o777), folder, "'x' is a link")


def test_symbolic_link_to_write_through_is_refused(folder: Path) -> None:
    link, file = raw_local(b"link", b".."), raw_local(b"link/out", b"data")
    entries = [
        raw_central(b"link", b"..", 0, mode=stat.S_IFLNK | 0o777),
        raw_central(b"link/out", b"data", len(link)),
    ]
    assert_refused(raw_zip([link, file], entries), folder, "'link'")


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, b"Z"],
)
@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_tar_member_that_is_no_file_is_refused(kind: bytes, mode: str, folder: Path) -> None:
    archive = tar_bytes([("ok", b"1"), special("x", kind, "ok")], mode)
    assert_refused(archive, folder, "'x' is a link or a device")


@pytest.mark.parametrize("flag", [0x1, 0x40, 0x2000])
def test_encrypted_member_is_refused(flag: int, folder: Path) -> None:
    assert_refused(one_member("x", flags=0x800 | flag), folder, "'x' is encrypted")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, 99])
def test_other_compression_is_refused(method: int, folder: Path) -> None:
    assert_refused(one_member("x", method=method), folder, f"method {method}")
