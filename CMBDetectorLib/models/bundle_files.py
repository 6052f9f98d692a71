"""The files of a model bundle of any kind, checked when read and written whole or not at all.

::

    <id>/
      configs/metadata.json     MONAI's keys, and ours under "cmbdetector"
      configs/inference.json    "network_def": the network as plain JSON
      models/member_1.safetensors ...
      models/classifier_1.safetensors ...   of the second stage, if there is one
      docs/README.md            model card
      LICENSE
      SHA256SUMS                every file but itself; check with: sha256sum -c SHA256SUMS
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy.typing as npt

from CMBDetectorLib.errors import ModelError
from CMBDetectorLib.models.checksums import safe_relative_path, verify_sums, write_sums
from CMBDetectorLib.models.description import CLASSIFIERS_KEY, OUR_KEY, SECOND_STAGE_KEY
from CMBDetectorLib.models.json_fields import JsonObject, read_json_object, refuse_expressions
from CMBDetectorLib.models.weights import read_weights_header, write_weights

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

METADATA_NAME = "configs/metadata.json"
INFERENCE_NAME = "configs/inference.json"
CARD_NAME = "docs/README.md"
LICENSE_NAME = "LICENSE"
_REQUIRED_NAMES = (METADATA_NAME, INFERENCE_NAME, CARD_NAME, LICENSE_NAME)

Weights = Mapping[str, npt.NDArray[Any]]
Bundle = TypeVar("Bundle")


@dataclass(frozen=True, kw_only=True)
class CheckedFiles:
    """A bundle's files after they have been checked.

    Attributes
    ----------
    root
        The bundle's folder.
    members
        Weights of each member of the ensemble.
    sha256
        Hash of every file, by its path relative to ``root`` with forward slashes.
    metadata
        The whole of ``configs/metadata.json``.
    classifiers
        Weights of the second stage; none in a model without one.
    """

    root: Path
    members: tuple[Path, ...]
    sha256: Mapping[str, str]
    metadata: Mapping[str, Any]
    classifiers: tuple[Path, ...] = ()

    @property
    def card(self) -> Path:
        """The model card, Markdown."""
        return self.root / CARD_NAME


@dataclass(frozen=True)
class Configurations:
    """The two configuration files of a bundle whose hashes are right."""

    metadata: JsonObject
    inference: JsonObject
    sha256: Mapping[str, str]


def load_files(
    root: Path,
    parse: Callable[[JsonObject, JsonObject], DataclassInstance],
    bundle_type: Callable[..., Bundle],
) -> Bundle:
    """A bundle of one kind, after checking every one of its files; weights stay on disk.

    Parameters
    ----------
    parse
        Makes the manifest of that kind from ``metadata.json`` and ``inference.json``.
    bundle_type
        Has the manifest's fields and those of :class:`CheckedFiles`.

    Raises
    ------
    ModelError
        As :func:`read_configurations`, :func:`checked_files` and ``parse``.
    """
    read = read_configurations(root)
    manifest = parse(read.metadata, read.inference)
    values = {f.name: getattr(manifest, f.name) for f in fields(manifest)}
    return bundle_type(**values, **checked_files(root, read))


def read_configurations(root: Path) -> Configurations:
    """Check every file against its hash and read the configuration files.

    Raises
    ------
    ModelError
        If the folder is not a bundle; a file is missing, changed or not listed in SHA256SUMS; or
        a configuration is not JSON, or holds expressions.
    """
    if not root.is_dir():
        raise ModelError(f"{root}: not a folder; a model bundle is a folder with SHA256SUMS")
    sha256 = verify_sums(root)
    for name in _REQUIRED_NAMES:
        if name not in sha256:
            raise ModelError(f"{root}: {name} is missing; get the model again")
    metadata = read_json_object(root / METADATA_NAME)
    inference = read_json_object(root / INFERENCE_NAME)
    refuse_expressions(metadata)
    refuse_expressions(inference)
    return Configurations(metadata, inference, sha256)


def checked_files(root: Path, read: Configurations) -> dict[str, Any]:
    """The fields of :class:`CheckedFiles`, after a look at each member's header.

    Raises
    ------
    ModelError
        If a member is missing, lies outside the bundle, or is not a safetensors file.
    """
    ours = read.metadata.child(OUR_KEY)
    members = _weights_paths(root, ours, "members", read.sha256)
    classifiers: tuple[Path, ...] = ()
    if SECOND_STAGE_KEY in ours.data:
        second_stage = ours.child(SECOND_STAGE_KEY)
        classifiers = _weights_paths(root, second_stage, CLASSIFIERS_KEY, read.sha256)
    for path in members + classifiers:
        read_weights_header(path)
    return {
        "root": root,
        "members": members,
        "classifiers": classifiers,
        "sha256": read.sha256,
        "metadata": dict(read.metadata.data),
    }


def write_files(
    root: Path,
    members: Sequence[Weights],
    *,
    metadata_of: Callable[[list[str]], dict[str, Any]],
    network_def: Mapping[str, Any],
    model_card: str,
    license_text: str,
    overwrite: bool,
    load: Callable[[Path], Bundle],
    exact: bool = False,
    classifiers: Sequence[Weights] = (),
) -> Bundle:
    """Write a bundle, whole or not at all, and read it back.

    Parameters
    ----------
    metadata_of
        Makes the content of ``configs/metadata.json`` from the members' paths in the bundle.
    load
        Reads a bundle of this kind. Also called with the finished folder before that gets its
        name; refuses it by raising ModelError.
    exact
        Store weights in single precision, not in half.
    classifiers
        Of the second stage; ``metadata_of`` names them as :func:`classifier_names` does.

    Raises
    ------
    ModelError
        If the folder exists and ``overwrite`` is not given, it cannot be written, or ``load``
        refuses it.
    """
    if not members:
        raise ModelError(f"{root}: a bundle needs at least one member")
    if root.exists() and not overwrite:
        raise ModelError(f"{root}: exists already; remove it or choose another folder")
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{root.name}-", dir=root.parent) as scratch:
            draft = Path(scratch) / root.name
            names = _write_members(draft, members, exact=exact)
            for name, tensors in zip(classifier_names(len(classifiers)), classifiers, strict=True):
                write_weights(tensors, draft / name, exact=exact)
            _write_json(draft / METADATA_NAME, metadata_of(names))
            _write_json(draft / INFERENCE_NAME, {"network_def": dict(network_def)})
            _write_text(draft / CARD_NAME, model_card)
            _write_text(draft / LICENSE_NAME, license_text)
            write_sums(draft)
            load(draft)
            if root.exists():
                root.replace(Path(scratch) / "replaced")
            draft.replace(root)
    except OSError as error:
        raise ModelError(f"{root}: cannot be written ({error.strerror})") from error
    return load(root)


def classifier_names(number: int) -> list[str]:
    """Paths of the second stage's weights in a bundle."""
    return [f"models/classifier_{n}.safetensors" for n in range(1, number + 1)]


def _write_members(root: Path, members: Sequence[Weights], *, exact: bool) -> list[str]:
    for folder in ("configs", "models", "docs"):
        (root / folder).mkdir(parents=True)
    names = [f"models/member_{number}.safetensors" for number in range(1, len(members) + 1)]
    for name, tensors in zip(names, members, strict=True):
        write_weights(tensors, root / name, exact=exact)
    return names


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    _write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _write_text(path: Path, content: str) -> None:
    path.write_text(content, encoding="utf-8", newline="\n")


def _weights_paths(
    root: Path, fields: JsonObject, key: str, sha256: Mapping[str, str]
) -> tuple[Path, ...]:
    names = fields.texts(key)
    for name in names:
        path = safe_relative_path(name, fields.path)
        if path.suffix != ".safetensors":
            raise fields.error(key, name, "files called .safetensors")
        if name not in sha256:
            raise ModelError(f"{root / name}: these weights are missing; get the model again")
    return tuple(root / name for name in names)
