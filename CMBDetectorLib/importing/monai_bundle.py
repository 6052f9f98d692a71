"""The network, weights and description in a MONAI Bundle, of which nothing is executed.

::

    <folder>/
      configs/metadata.json     name, version, authors and more, as texts
      configs/inference.json    "network_def": the network; all else is left alone
      models/model.pt           its state dictionary

The format: https://docs.monai.io/en/stable/mb_specification.html, and for references, ``_desc_``
and the like https://docs.monai.io/en/stable/config_syntax.html. A configuration may hold Python
code in texts that begin with ``$``. A network that needs any is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from CMBDetectorLib.errors import ModelError
from CMBDetectorLib.importing.network_weights import weights_of_network
from CMBDetectorLib.importing.pickled_tensors import read_tensors
from CMBDetectorLib.models.architectures import ARCHITECTURES, TARGET_KEY, check_network_def
from CMBDetectorLib.models.bundle_files import INFERENCE_NAME, METADATA_NAME, Weights
from CMBDetectorLib.models.json_fields import JsonObject, read_json_object

_NETWORK_KEYS = ("network_def", "network", "net")
_METADATA_KEYS = ("name", "version", "description", "authors", "copyright", "license")
_WEIGHTS_NAMES = ("models/model.pt", "models/model.safetensors")
_NETS = "monai.networks.nets"
_MODULES = {
    "UNet": "unet",
    "BasicUNet": "basic_unet",
    "SegResNet": "segresnet",
    "DynUNet": "dynunet",
}
_MAX_VALUES = 10_000
_MAX_DEPTH = 50


@dataclass(frozen=True)
class ImportedNetwork:
    """A network that others published.

    Attributes
    ----------
    network_def
        Accepted by :func:`~CMBDetectorLib.models.architectures.check_network_def`.
    weights
        Every tensor of the network once, under the first of its names, of the right shape.
    metadata
        What the publisher says, as far as it does: ``name``, ``version``, ``description``,
        ``authors``, ``copyright``, ``license``. Texts of others, to be shown and not trusted.
    """

    network_def: Mapping[str, Any]
    weights: Weights
    metadata: Mapping[str, str]


def read_monai_bundle(folder: Path) -> ImportedNetwork:
    """Read a MONAI Bundle.

    Raises
    ------
    ModelError
        If the folder lacks a file of a MONAI Bundle or has its configuration as YAML; the network
        is not one of :data:`~CMBDetectorLib.models.architectures.ARCHITECTURES`, or is not said in
        plain values and references to such; or the weights are not accepted by
        :func:`~CMBDetectorLib.importing.pickled_tensors.read_tensors` or are not the network's.
    MissingDependencyError
        If PyTorch or MONAI is not installed, or the package safetensors and the weights need it.
    """
    if not folder.is_dir():
        raise ModelError(f"{folder}: not a folder; a MONAI Bundle is a folder with configs/")
    metadata = stated_metadata(folder)
    network_def = _network_def(read_json_object(_inference_path(folder)))
    path = _weights_path(folder)
    return ImportedNetwork(
        network_def, weights_of_network(network_def, read_tensors(path), path), metadata
    )


def stated_metadata(folder: Path) -> dict[str, str]:
    """Name, version, authors and the like, as far as a MONAI Bundle states them.

    Raises
    ------
    ModelError
        If its ``configs/metadata.json`` cannot be read.
    """
    return _metadata(read_json_object(folder / METADATA_NAME))


def _inference_path(folder: Path) -> Path:
    path = folder / INFERENCE_NAME
    for suffix in (".yaml", ".yml"):
        other = path.with_suffix(suffix)
        if other.exists() and not path.exists():
            raise ModelError(
                f"{other}: YAML, expected {path.name}; convert it to JSON and put it beside it"
            )
    return path


def _weights_path(folder: Path) -> Path:
    for name in _WEIGHTS_NAMES:
        if (folder / name).exists():
            return folder / name
    raise ModelError(
        f"{folder}: has no weights, expected {' or '.join(_WEIGHTS_NAMES)}; download them into it"
    )


def _metadata(document: JsonObject) -> dict[str, str]:
    found = {}
    for key in _METADATA_KEYS:
        value = document.data.get(key)
        if isinstance(value, list):
            found[key] = ", ".join(document.texts(key)) if value else ""
        elif value not in (None, ""):
            found[key] = document.text(key)
    return {key: text for key, text in found.items() if text.strip()}


def _network_def(document: JsonObject) -> dict[str, Any]:
    stated_keys = [key for key in _NETWORK_KEYS if key in document.data]
    if not stated_keys:
        raise ModelError(
            f"{document.path}: describes no network, expected one of the keys "
            f"{', '.join(_NETWORK_KEYS)}; give a bundle that says its network"
        )
    # Templates of MONAI have "network_def", and code under "network" that moves it to the GPU.
    plain_keys = [key for key in stated_keys if not _is_code(document.data[key])]
    key = (plain_keys or stated_keys)[0]
    stated = _PlainValues(document).resolve(document.data[key], key)
    if not isinstance(stated, dict):
        raise document.error(key, stated, f"an object with {TARGET_KEY}")
    network_def = _without_controls(JsonObject(document.path, stated, key))
    network_def[TARGET_KEY] = _full_target(network_def.get(TARGET_KEY))
    check_network_def(network_def, document.path)
    return network_def


def _is_code(value: Any) -> bool:
    return isinstance(value, str) and value.lstrip()[:1] in {"$", "%"}


def _full_target(target: Any) -> Any:
    """A network's name as in ``ARCHITECTURES``, or what was given if it is not one of these."""
    for known in ARCHITECTURES:
        name = known.rsplit(".", 1)[1]
        if target in (name, known, f"{_NETS}.{_MODULES[name]}.{name}"):
            return known
    return target


def _without_controls(stated: JsonObject) -> dict[str, Any]:
    """The definition without the keys that tell MONAI how to make an object from it."""
    disabled = stated.data.get("_disabled_", False)
    if str(disabled).strip().lower() not in ("false", "0"):
        raise stated.error("_disabled_", disabled, "false; give a bundle whose network is used")
    mode = stated.data.get("_mode_", "default")
    if mode != "default":
        raise stated.error("_mode_", mode, "'default'; give a bundle that builds its network")
    required = stated.data.get("_requires_")
    if required:
        raise stated.error("_requires_", required, "nothing; take it out if it is not needed")
    controls = {"_disabled_", "_mode_", "_requires_", "_desc_"}
    return {key: value for key, value in stated.data.items() if key not in controls}


class _PlainValues:
    """Follows references from value to value of a document, of which it copies a limited number."""

    def __init__(self, document: JsonObject) -> None:
        self.document = document
        self.n_values = 0

    def resolve(self, value: Any, where: str, depth: int = 0) -> Any:
        self.n_values += 1
        if self.n_values > _MAX_VALUES or depth > _MAX_DEPTH:
            raise self.error(where, "too large or refers to itself, expected a small definition")
        if isinstance(value, dict):
            return {k: self.resolve(v, f"{where}.{k}", depth + 1) for k, v in value.items()}
        if isinstance(value, list):
            return [self.resolve(v, where, depth + 1) for v in value]
        if _is_code(value):
            found = f"the expression {value[:80]!r}"
            raise self.error(where, f"{found}, expected a plain value, nothing is executed")
        if isinstance(value, str) and value.startswith("@"):
            return self.resolve(self.referred(value, where), where, depth + 1)
        return value

    def referred(self, reference: str, where: str) -> Any:
        value: Any = self.document.data
        for step in reference[1:].replace("::", "#").split("#"):
            if isinstance(value, dict) and step in value:
                value = value[step]
            elif isinstance(value, list) and step in map(str, range(len(value))):
                value = value[int(step)]
            else:
                found = f"the reference {reference[:80]!r}"
                raise self.error(where, f"{found}, expected one to a value in this file")
        return value

    def error(self, where: str, found: str) -> ModelError:
        place = " ".join(where.split())[:80]
        return ModelError(f"{self.document.path}: {place} is {found}; write the value out")
