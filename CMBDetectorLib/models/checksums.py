"""``SHA256SUMS``: every file of a folder with its hash, in the format of ``sha256sum``."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path, PurePosixPath, PureWindowsPath

from CMBDetectorLib.errors import ModelError

SUMS_NAME = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")
_LEFT_BY_FILE_MANAGERS = {".DS_Store", "Thumbs.db", "desktop.ini"}


def sha256_of(path: Path) -> str:
    """Hash of a file's content, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def safe_relative_path(name: str, source: Path) -> PurePosixPath:
    """A path within the bundle.

    Raises
    ------
    ModelError
        If ``name`` is absolute, climbs out of the folder, or is not spelled with single slashes.
    """
    path = PurePosixPath(name)
    windows = PureWindowsPath(name)
    is_absolute = path.is_absolute() or bool(windows.drive or windows.root)
    is_plain = str(path) == name and "\\" not in name and "\0" not in name
    if is_absolute or ".." in path.parts or not is_plain or name == ".":
        raise ModelError(
            f"{source}: {name[:80]!r} is not a path within the bundle, such as models/a.safetensors"
        )
    return path


def write_sums(root: Path) -> None:
    """List every file below ``root`` with its hash."""
    lines = [f"{sha256_of(root / name)}  {name}\n" for name in _files_below(root)]
    (root / SUMS_NAME).write_text("".join(lines), encoding="utf-8", newline="\n")


def verify_sums(root: Path) -> dict[str, str]:
    """Check that the files below ``root`` are exactly those listed, and unchanged.

    Returns
    -------
    dict
        Relative path (with forward slashes) to hash.

    Raises
    ------
    ModelError
        If the list is missing or malformed, or a file is missing, changed or not listed.
    """
    listed = _read_sums(root / SUMS_NAME)
    for name in _files_below(root):
        if name not in listed:
            raise ModelError(f"{root / name}: not listed in {SUMS_NAME}; get the model again")
    for name, expected in listed.items():
        path = root / name
        if not path.is_file():
            raise ModelError(f"{path}: missing, though listed in {SUMS_NAME}; get the model again")
        found = _hash_or_error(path)
        if found != expected:
            raise ModelError(
                f"{path}: wrong hash, sha256 {found[:12]}…, expected {expected[:12]}…; "
                "the file is damaged or changed, get the model again"
            )
    return listed


def _hash_or_error(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from error


def _files_below(root: Path) -> list[str]:
    return sorted(
        path.relative_to(root).as_posix()
        for path in root.rglob("*")
        if path.is_file() and path.name not in _LEFT_BY_FILE_MANAGERS and path != root / SUMS_NAME
    )


def _read_sums(path: Path) -> dict[str, str]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ModelError(
            f"{path}: cannot be read ({error.strerror}); is {path.parent} a model bundle?"
        ) from error
    except UnicodeDecodeError as error:
        raise ModelError(f"{path}: not a text file; get the model again") from error
    listed: dict[str, str] = {}
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        if match is None or match[2] in listed:
            raise ModelError(f"{path}: unexpected line {line[:80]!r}; get the model again")
        listed[str(safe_relative_path(match[2], path))] = match[1]
    return listed
