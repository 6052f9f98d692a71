"""Models of other software as bundles of this one, in the user's folder."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from CMBDetectorLib import preflight
from CMBDetectorLib.errors import ModelError, UsageError
from CMBDetectorLib.importing.archives import ARCHIVE_SUFFIXES, opened_source
from CMBDetectorLib.importing.import_graph import write_whole_head_model
from CMBDetectorLib.importing.import_weights import write_tile_model
from CMBDetectorLib.importing.model_info import check_archive
from CMBDetectorLib.importing.monai_bundle import stated_metadata
from CMBDetectorLib.importing.sources import ModelSource, find_source
from CMBDetectorLib.importing.terms import UNKNOWN_LICENSE, Terms, terms_of
from CMBDetectorLib.models.checksums import sha256_of
from CMBDetectorLib.models.library import DetectorBundle, is_installed, user_folder
from CMBDetectorLib.settings import MaskingKind

_NOT_IN_IDS = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST_ID = 64
_READERS = {"keras": ("h5py",)}
"""Packages that read a format, beside those that run networks."""


@dataclass(frozen=True)
class ImportRequest:
    """A model to import.

    Attributes
    ----------
    source
        A file, a folder or an archive.
    info_path
        SHIVA's ``model_info*.json``; by default the one that lies with the model.
    name
        Id of the model here; by default its own.
    like
        Id or path of the model whose preprocessing, tiles and threshold are taken over, for weights
        and MONAI bundles, which state none; by default the bundled model.
    masking
        For networks that see the whole head; see
        :class:`~CMBDetectorLib.settings.ConformSettings`.
    license
        SPDX expression, where the model states none or another is right.
    """

    source: Path
    info_path: Path | None = None
    name: str | None = None
    like: str | None = None
    masking: MaskingKind = "output"
    license: str | None = None


def import_model(
    request: ImportRequest,
    *,
    accept: Callable[[Terms], bool],
    on_step: Callable[[str], None] = lambda _: None,
) -> DetectorBundle:
    """Convert a model once, whole or not at all; nothing in its files is executed.

    Parameters
    ----------
    accept
        Asked once, before anything is converted, whether the model's terms are accepted.
    on_step
        Told what is being done.

    Raises
    ------
    ModelError
        If the files are damaged, not those that were published, or in no known format; the network
        has what is not supported; or a model of that id is installed already.
    UsageError
        If the terms are not accepted.
    MissingDependencyError
        If a package that reads or runs the format is not installed.
    """
    with _looked_at(request, on_step) as (source, terms, content):
        if not accept(terms):
            raise UsageError(
                f"the license of {terms.name} ({terms.license}) was not accepted, so nothing was "
                "imported; read it and pass --accept-license"
            )
        record = _record(source, terms, content)
        root = user_folder() / terms.id
        if source.format in ("keras", "saved_model"):
            return write_whole_head_model(
                root, source, terms, masking=request.masking, record=record, on_step=on_step
            )
        return write_tile_model(
            root, source, terms, like=request.like, record=record, on_step=on_step
        )


def terms_for(request: ImportRequest) -> tuple[Terms, tuple[str, ...]]:
    """What there is to accept, and the packages still missing to convert; nothing is converted.

    Raises
    ------
    ModelError, UsageError
        As :func:`import_model`, as far as it shows without reading the networks.
    """
    with _looked_at(request, lambda _: None) as (source, terms, _):
        needed = (*preflight.INFERENCE_PACKAGES, *_READERS.get(source.format, ()))
        return terms, tuple(name for name in needed if not preflight.is_installed(name))


@contextmanager
def _looked_at(
    request: ImportRequest, on_step: Callable[[str], None]
) -> Iterator[tuple[ModelSource, Terms, Path]]:
    """The networks, their terms, and the unpacked content, which lasts as long as the context."""
    source_path = request.source.expanduser()
    with opened_source(source_path) as content:
        on_step(f"looking at {source_path.name}")
        source = find_source(content, request.info_path)
        if source.info is not None and source_path.name.lower().endswith(ARCHIVE_SUFFIXES):
            check_archive(source.info, source_path)
        terms = _terms(request, source, source_path)
        _refuse_installed(terms.id)
        yield source, terms, content


def _terms(request: ImportRequest, source: ModelSource, source_path: Path) -> Terms:
    terms = terms_of(source.info, source.md5_sums, _as_id(source_path))
    if source.format == "monai_bundle":
        terms = _with_stated(terms, stated_metadata(source.networks[0]))
    if request.name is not None:
        terms = replace(terms, id=request.name)
    if _as_id(Path(terms.id)) != terms.id:
        raise UsageError(
            f"the name {terms.id[:80]!r} is not one for a model; use up to {_LONGEST_ID} letters, "
            "digits, '.', '_' and '-'"
        )
    if request.license is not None:
        if not request.license.strip():
            raise UsageError("the license is empty; give an SPDX expression such as CC-BY-4.0")
        notice = f"You say that the model is under {request.license}."
        if terms.license != UNKNOWN_LICENSE:
            notice += f" Its authors: {terms.notice}"
        terms = replace(terms, license=request.license, notice=notice)
    return terms


def _with_stated(terms: Terms, stated: Mapping[str, str]) -> Terms:
    """What a MONAI bundle says of itself."""
    license_ = stated.get("license")
    return replace(
        terms,
        name=stated.get("name", terms.name),
        version=stated.get("version", terms.version),
        authors=stated.get("authors", terms.authors),
        license=license_ or terms.license,
        notice=f"The bundle says: {license_}." if license_ else terms.notice,
    )


def _as_id(path: Path) -> str:
    """A model's id from the name of its file, without the endings."""
    name = path.name
    for suffix in (*ARCHIVE_SUFFIXES, ".h5", ".hdf5", ".pt", ".pth", ".ckpt", ".safetensors"):
        name = name.removesuffix(suffix)
    return _NOT_IN_IDS.sub("-", name).strip("-._")[:_LONGEST_ID] or "imported"


def _refuse_installed(model_id: str) -> None:
    if is_installed(model_id):
        raise ModelError(
            f"a model {model_id!r} is installed already; remove it with: cmbdetector models remove "
            f"{model_id}, or give the new one another id with --name"
        )


def _record(source: ModelSource, terms: Terms, content: Path) -> dict[str, Any]:
    """Where the model comes from, for its metadata."""
    files = []
    for path, md5 in zip(source.networks, source.md5_sums, strict=True):
        inside = path.is_relative_to(content) and path != content
        name = path.relative_to(content).as_posix() if inside else path.name
        entry = {"name": name, "md5": md5}
        if path.is_file():
            entry["sha256"] = sha256_of(path)
        files.append(entry)
    return {
        "format": source.format,
        "files": files,
        "release_date": source.info.release_date if source.info is not None else "",
        "architecture": (source.info.architecture if source.info is not None else None) or "",
        "url": terms.url,
        "citation": terms.citation,
    }
