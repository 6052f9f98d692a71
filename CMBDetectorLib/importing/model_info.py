"""``model_info_*.json``: which files a published model consists of, and their checksums.

The format is that of the SHIVA models and of SHiVAi, the pipeline that runs them
(https://github.com/pboutinaud/SHiVAi). Versions 1 and 2 of SHIVA-CMB come with such a file.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from CMBDetectorLib.errors import ModelError
from CMBDetectorLib.models.checksums import safe_relative_path, sha256_of
from CMBDetectorLib.models.json_fields import JsonObject, read_json_object

TARGET = "CMB"
INFO_PATTERN = "model_info*.json"
SEARCH_DEPTH = 3
_COPIES_BY_MACOS = "__MACOSX"  # in archives, a folder of the same names without the content
_LEFT_BY_FILE_MANAGERS = re.compile(r"\._.*|\.DS_Store|Thumbs\.db|desktop\.ini")
_MAX_FILES = 100
_MAX_TEXT = 500


@dataclass(frozen=True)
class ModelFile:
    """A file, or a folder of files, by its path with forward slashes, and its md5."""

    name: str
    md5: str


@dataclass(frozen=True)
class ModelInfo:
    """What a model_info file says; texts that it leaves out are empty, other things None.

    ``raw`` is the whole file, whose further keys are not checked.
    """

    version: str
    release_date: str
    author: str
    url: str | None
    target: str
    modalities: tuple[str, ...]
    architecture: str | None
    sha256_zip: str | None
    files: tuple[ModelFile, ...]
    raw: Mapping[str, Any] = field(repr=False, compare=False)


def find_model_info(folder: Path) -> Path | None:
    """The model_info file in a folder or in one directly below it, None without any.

    Raises
    ------
    ModelError
        If there are several, or the folder cannot be read.
    """
    try:
        inner = [path for path in folder.iterdir() if path.is_dir()]
        named = [path for place in (folder, *inner) for path in place.glob(INFO_PATTERN)]
        found = sorted(path for path in named if path.is_file())
    except OSError as error:
        raise ModelError(f"{folder}: cannot be read ({error.strerror}); check the path") from error
    if len(found) > 1:
        names = ", ".join(path.relative_to(folder).as_posix() for path in found)
        raise ModelError(
            f"{folder}: holds {len(found)} model_info files, expected one ({names}); "
            "say which with --info"
        )
    return found[0] if found else None


def read_model_info(path: Path) -> ModelInfo:
    """Read a model_info file.

    Raises
    ------
    ModelError
        If the file cannot be read, something in it is missing or of another kind, it is for a model
        that does not find microbleeds, or names a Python script that the model needs.
    """
    document = read_json_object(path)
    target = document.text("target")
    if target != TARGET:
        raise ModelError(
            f"{path}: a model for {target[:40]!r}, expected {TARGET!r}: this software finds "
            "microbleeds; give the model_info file of a model for those"
        )
    if "script" in document.data:
        raise ModelError(
            f"{path}: the model needs the Python code that 'script' names, expected a model "
            "without; nothing in a model is executed, ask its authors for another format"
        )
    modalities = document.texts("modalities")
    if not all(_is_plain(name) and name for name in modalities):
        raise document.error("modalities", list(modalities), 'names such as "swi"')
    no_hash = document.data.get("sha256_zip") is None
    return ModelInfo(
        version=_text(document, "version"),
        release_date=_text(document, "release date"),
        author=_text(document, "author"),
        url=_text(document, "url") or None,
        target=target,
        modalities=modalities,
        architecture=_text(document, "architecture") or None,
        sha256_zip=None if no_hash else _hash(document, "sha256_zip", 64),
        files=_files(document),
        raw=document.data,
    )


def check_archive(info: ModelInfo, path: Path) -> None:
    """Check the downloaded archive against the sum in the model_info file, where there is one.

    Raises
    ------
    ModelError
        If the archive is another one, or cannot be read.
    """
    if info.sha256_zip is None:
        return
    try:
        found = sha256_of(path)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    if found != info.sha256_zip:
        raise ModelError(
            f"{path}: wrong hash, sha256 {found[:12]}…, expected {info.sha256_zip[:12]}…; the "
            "file is damaged or of another version, download it again"
        )


def locate_files(info: ModelInfo, folder: Path) -> tuple[Path, ...]:
    """Where the files of a model are, in the order of the model_info file, with their md5 checked.

    A name counts from the folder, or from the one above if it begins with the folder's own name.
    What is not there is looked for by the last part of its name, ``SEARCH_DEPTH`` folders deep.

    Raises
    ------
    ModelError
        If files are missing, found more than once or damaged; all of them are named.
    """
    places = {file.name: _place(file.name, folder) for file in info.files}
    if None in places.values():
        nearby = tuple(_below(folder, SEARCH_DEPTH))
        places = {name: place or _by_last_part(name, nearby) for name, place in places.items()}
    located = {name: place for name, place in places.items() if place is not None}
    missing = [name for name in places if name not in located]
    if missing:
        raise ModelError(
            f"{folder}: {len(missing)} of {len(places)} files of the model are missing "
            f"({', '.join(missing)}); give the folder or archive that holds them"
        )
    wrong = [
        f"{file.name}: md5 {found[:8]}…, expected {file.md5[:8]}…"
        for file in info.files
        if (found := _md5_for(file.md5, located[file.name])) != file.md5
    ]
    if wrong:
        raise ModelError(
            f"{folder}: {len(wrong)} of {len(places)} files are damaged or of another version "
            f"({'; '.join(wrong)}); download the model again"
        )
    return tuple(located[file.name] for file in info.files)


def md5_of(path: Path) -> str:
    """The md5 of a file, or that of a folder by SHiVAi's rule.

    The rule: the bytes of all files below the folder one after the other, without their names, in
    the order in which Python sorts their paths on Linux.

    Raises
    ------
    ModelError
        If there is neither file nor folder, or it cannot be read.
    """
    return _md5(_content(path))


def _content(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise ModelError(f"{path}: neither a file nor a folder; check the path")
    files = (inner for inner in path.rglob("*") if inner.is_file())
    return sorted(files, key=lambda inner: inner.relative_to(path).parts)


def _md5(paths: Iterable[Path]) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    for path in paths:
        try:
            with path.open("rb") as stream:
                while block := stream.read(2**20):
                    digest.update(block)
        except OSError as error:
            raise ModelError(f"{path}: cannot be read ({error.strerror})") from error
    return digest.hexdigest()


def _md5_for(expected: str, path: Path) -> str:
    """The md5; of a folder, rather without what looking at it may have left there."""
    files = _content(path)
    found = _md5(files)
    published = [inner for inner in files if not _LEFT_BY_FILE_MANAGERS.fullmatch(inner.name)]
    if found != expected and published != files:
        return _md5(published)
    return found


def _place(name: str, folder: Path) -> Path | None:
    places = [folder / name]
    if PurePosixPath(name).parts[0] == folder.absolute().name:
        places.append(folder.absolute().parent / name)
    return next((place for place in places if place.exists()), None)


def _by_last_part(name: str, nearby: Iterable[Path]) -> Path | None:
    found = [path for path in nearby if path.name == PurePosixPath(name).name]
    if len(found) > 1:
        raise ModelError(
            f"{name}: found {len(found)} of that name ({', '.join(map(str, found))}), expected "
            "one; give the folder that holds only the one that is meant"
        )
    return found[0] if found else None


def _below(folder: Path, depth: int) -> Iterator[Path]:
    try:
        children = sorted(folder.iterdir())
    except OSError:
        return  # others' folders beside the model
    for child in children:
        if child.name != _COPIES_BY_MACOS:
            yield child
            if depth > 1 and child.is_dir() and not child.is_symlink():
                yield from _below(child, depth - 1)


def _files(document: JsonObject) -> tuple[ModelFile, ...]:
    entries = document.value("files")
    if not isinstance(entries, list) or not 0 < len(entries) <= _MAX_FILES:
        raise document.error("files", entries, f"a list of 1 to {_MAX_FILES} files")
    files: dict[str, ModelFile] = {}
    for index, raw in enumerate(entries):
        if not isinstance(raw, dict):
            raise document.error(f"files[{index}]", raw, "an object with name and md5")
        entry = JsonObject(document.path, raw, f"files[{index}]")
        name = str(safe_relative_path(entry.text("name").removesuffix("/"), document.path))
        if not _is_plain(name) or name in files:
            raise entry.error("name", name, "a short plain name that is not there twice")
        files[name] = ModelFile(name, _hash(entry, "md5", 32))
    return tuple(files.values())


def _text(document: JsonObject, key: str) -> str:
    value = document.data.get(key)
    if value is None:
        return ""
    if not isinstance(value, str) or not _is_plain(value):
        raise document.error(key, value, f"a text of at most {_MAX_TEXT} characters on one line")
    return value


def _hash(document: JsonObject, key: str, digits: int) -> str:
    value = document.text(key)
    if re.fullmatch(f"[0-9a-fA-F]{{{digits}}}", value) is None:
        raise document.error(key, value, f"{digits} hexadecimal digits")
    return value.lower()


def _is_plain(text: str) -> bool:
    return text.isprintable() and len(text) <= _MAX_TEXT
