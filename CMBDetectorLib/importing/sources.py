"""What is to be imported: which files hold networks, and in which format."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from CMBDetectorLib.errors import ModelError
from CMBDetectorLib.importing.model_info import (
    ModelInfo,
    find_model_info,
    locate_files,
    md5_of,
    read_model_info,
)
from CMBDetectorLib.models.checksums import SUMS_NAME

Format = Literal["keras", "saved_model", "state_dict", "monai_bundle"]

_HDF5_SUFFIXES = (".h5", ".hdf5")
_STATE_SUFFIXES = (".pt", ".pth", ".ckpt", ".safetensors")
_SAVED_MODEL_NAME = "saved_model.pb"
_MOST_MEMBERS = 32


@dataclass(frozen=True)
class ModelSource:
    """Where the networks lie, the md5 of each, and ``info``, which may come with them."""

    format: Format
    networks: tuple[Path, ...]
    md5_sums: tuple[str, ...]
    info: ModelInfo | None


def find_source(content: Path, info_path: Path | None) -> ModelSource:
    """Look at a file or a folder, unpacked if it was an archive.

    Parameters
    ----------
    info_path
        A ``model_info*.json``; by default the one in the folder, if there is one.

    Raises
    ------
    ModelError
        If it holds no networks in a known format, or not those that the info lists.
    """
    if content.is_dir() and _is_own_bundle(content):
        raise ModelError(
            f"{content.name}: a model bundle of this software; unpack it, if it is an archive, and "
            "add its folder with: cmbdetector models add"
        )
    monai_root = _monai_root(content) if content.is_dir() else None
    if monai_root is not None:
        return ModelSource("monai_bundle", (monai_root,), (md5_of(monai_root),), None)
    if info_path is None and content.is_dir() and not (content / _SAVED_MODEL_NAME).is_file():
        info_path = find_model_info(content)
    if info_path is not None:
        info = read_model_info(info_path)
        networks = locate_files(info, content if content.is_dir() else content.parent)
        sums = tuple(file.md5 for file in info.files)
        return ModelSource(_format_of(networks), networks, sums, info)
    networks = _networks_in(content)
    sums = tuple(md5_of(path) for path in networks)
    return ModelSource(_format_of(networks), networks, sums, None)


def _is_own_bundle(folder: Path) -> bool:
    places = [folder, *(one for one in folder.iterdir() if one.is_dir())]
    return any((place / SUMS_NAME).is_file() for place in places)


def _monai_root(folder: Path) -> Path | None:
    places = [folder, *(one for one in sorted(folder.iterdir()) if one.is_dir())]
    found = [one for one in places if (one / "configs" / "metadata.json").is_file()]
    return found[0] if len(found) == 1 else None


def _networks_in(content: Path) -> tuple[Path, ...]:
    if content.is_file():
        return (content,)
    if (content / _SAVED_MODEL_NAME).is_file():
        return (content,)
    saved = sorted(path.parent for path in content.rglob(_SAVED_MODEL_NAME))
    files = sorted(path for path in content.rglob("*") if path.suffix.lower() in _HDF5_SUFFIXES)
    found = saved or files
    if not found or (saved and files) or len(found) > _MOST_MEMBERS:
        raise ModelError(
            f"{content}: holds {len(saved)} SavedModel folders and {len(files)} .h5 files; "
            f"expected one or the other, up to {_MOST_MEMBERS}, or a MONAI bundle; name one of them"
        )
    return tuple(found)


def _format_of(networks: tuple[Path, ...]) -> Format:
    formats = {_one_format(path) for path in networks}
    if len(formats) != 1:
        raise ModelError(
            f"{networks[0].parent}: networks in different formats ({', '.join(sorted(formats))}); "
            "import them one by one"
        )
    return formats.pop()


def _one_format(path: Path) -> Format:
    if path.is_dir():
        if (path / _SAVED_MODEL_NAME).is_file():
            return "saved_model"
        raise ModelError(f"{path}: a folder without {_SAVED_MODEL_NAME}; expected a SavedModel")
    suffix = path.suffix.lower()
    if suffix in _HDF5_SUFFIXES:
        return "keras"
    if suffix in _STATE_SUFFIXES:
        return "state_dict"
    if suffix == ".keras":
        raise ModelError(
            f"{path}: Keras 3's own format is not read; save the model as .h5, or with "
            "model.export(folder)"
        )
    known = ", ".join((*_HDF5_SUFFIXES, *_STATE_SUFFIXES, ".zip"))
    raise ModelError(
        f"{path}: a file ending in {suffix or 'nothing'}; expected {known}, or a folder with a "
        "SavedModel or a MONAI bundle"
    )
