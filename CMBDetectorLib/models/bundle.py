"""A model bundle on disk: MONAI Bundle layout, safetensors weights, every file with its hash.

::

    <id>/
      configs/metadata.json     MONAI's keys, and ours under "cmbdetector"
      configs/inference.json    "network_def": the network as plain JSON
      models/member_1.safetensors ...
      docs/README.md            model card
      LICENSE
      SHA256SUMS                every file but itself; check with: sha256sum -c SHA256SUMS
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy.typing as npt

from CMBDetectorLib.errors import ModelError
from CMBDetectorLib.models.architectures import TARGET_KEY
from CMBDetectorLib.models.checksums import safe_relative_path, verify_sums, write_sums
from CMBDetectorLib.models.json_fields import JsonObject, read_json_object, refuse_expressions
from CMBDetectorLib.models.manifest import (
    OUR_KEY,
    BundleManifest,
    manifest_to_metadata,
    parse_manifest,
)
from CMBDetectorLib.models.weights import read_weights_header, write_weights

METADATA_NAME = "configs/metadata.json"
INFERENCE_NAME = "configs/inference.json"
CARD_NAME = "docs/README.md"
LICENSE_NAME = "LICENSE"
_REQUIRED_NAMES = (METADATA_NAME, INFERENCE_NAME, CARD_NAME, LICENSE_NAME)


@dataclass(frozen=True)
class ModelBundle(BundleManifest):
    """A bundle whose files have been checked.

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
    """

    root: Path = field(kw_only=True)
    members: tuple[Path, ...] = field(kw_only=True)
    sha256: Mapping[str, str] = field(kw_only=True)
    metadata: Mapping[str, Any] = field(kw_only=True)

    @property
    def architecture(self) -> str:
        """Full name of the network's class."""
        return str(self.network_def[TARGET_KEY])

    @property
    def card(self) -> Path:
        """The model card, Markdown."""
        return self.root / CARD_NAME


def load_bundle(root: Path) -> ModelBundle:
    """Read a bundle's description after checking every one of its files; weights stay on disk.

    Raises
    ------
    ModelError
        If the folder is not a bundle; a file is missing, changed or not listed in SHA256SUMS; a
        configuration is malformed, of a newer schema, or names an unknown architecture; or a
        member is missing or not a safetensors file.
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
    manifest = parse_manifest(metadata, inference)
    members = _member_paths(root, metadata.child(OUR_KEY), sha256)
    for member in members:
        read_weights_header(member)
    values = {f.name: getattr(manifest, f.name) for f in fields(BundleManifest)}
    return ModelBundle(
        **values, root=root, members=members, sha256=sha256, metadata=dict(metadata.data)
    )


def write_bundle(
    root: Path,
    manifest: BundleManifest,
    members: Sequence[Mapping[str, npt.NDArray[Any]]],
    *,
    model_card: str,
    license_text: str,
    overwrite: bool = False,
) -> ModelBundle:
    """Write a bundle, whole or not at all, and read it back.

    Parameters
    ----------
    root
        The bundle's folder; its name should be ``manifest.id``.
    members
        The state dictionary of each member of the ensemble as NumPy arrays.
    model_card, license_text
        Contents of ``docs/README.md`` and ``LICENSE``.
    overwrite
        Replace a bundle that is already there.

    Raises
    ------
    ModelError
        If the folder exists and ``overwrite`` is not given, it cannot be written, or what was
        written would not be accepted by :func:`load_bundle`.
    """
    if not members:
        raise ModelError(f"{root}: a bundle needs at least one member")
    if root.exists() and not overwrite:
        raise ModelError(f"{root}: exists already; remove it or choose another folder")
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{root.name}-", dir=root.parent) as scratch:
            draft = Path(scratch) / root.name
            _write_files(draft, manifest, members, model_card, license_text)
            load_bundle(draft)
            if root.exists():
                root.replace(Path(scratch) / "replaced")
            draft.replace(root)
    except OSError as error:
        raise ModelError(f"{root}: cannot be written ({error.strerror})") from error
    return load_bundle(root)


def _write_files(
    root: Path,
    manifest: BundleManifest,
    members: Sequence[Mapping[str, npt.NDArray[Any]]],
    model_card: str,
    license_text: str,
) -> None:
    for folder in ("configs", "models", "docs"):
        (root / folder).mkdir(parents=True)
    names = [f"models/member_{number}.safetensors" for number in range(1, len(members) + 1)]
    for name, tensors in zip(names, members, strict=True):
        write_weights(tensors, root / name)
    _write_json(root / METADATA_NAME, manifest_to_metadata(manifest, names))
    _write_json(root / INFERENCE_NAME, {"network_def": dict(manifest.network_def)})
    _write_text(root / CARD_NAME, model_card)
    _write_text(root / LICENSE_NAME, license_text)
    write_sums(root)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    _write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _write_text(path: Path, content: str) -> None:
    path.write_text(content, encoding="utf-8", newline="\n")


def _member_paths(root: Path, ours: JsonObject, sha256: Mapping[str, str]) -> tuple[Path, ...]:
    names = ours.texts("members")
    for name in names:
        path = safe_relative_path(name, ours.path)
        if path.suffix != ".safetensors":
            raise ours.error("members", name, "files called .safetensors")
        if name not in sha256:
            raise ModelError(f"{root / name}: this member is missing; get the model again")
    return tuple(root / name for name in names)
