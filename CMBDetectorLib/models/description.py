"""What every kind of model says about itself, and its form in MONAI's metadata."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal, get_args

from CMBDetectorLib.errors import ModelError
from CMBDetectorLib.models.architectures import TARGET_KEY, check_network_def
from CMBDetectorLib.models.json_fields import JsonObject

BundleKind = Literal["detector", "anatomy"]

SCHEMA_VERSION = 2
"""The newest that is read; 2 has a second stage. Models are written with the oldest that does."""
OUR_KEY = "cmbdetector"
KIND_KEY = "kind"
VARIANT_KEY = "variant"
TILES = "tiles"
WHOLE_HEAD = "whole_head"
SECOND_STAGE_KEY = "second_stage"
CLASSIFIERS_KEY = "classifiers"
KIND_NAMES: Mapping[BundleKind, str] = {
    "detector": "detects microbleeds",
    "anatomy": "finds the regions of the brain",
}
"""What a model of each kind does, for messages."""
_MONAI_SCHEMA = (
    "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/"
    "meta_schema_20240725.json"
)
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, kw_only=True)
class ModelDescription:
    """What is the same for models of every kind.

    Attributes
    ----------
    id, name, version
        Identifier (letters, digits, ``._-``; also the folder's name), title, and version.
    description, authors, copyright, license
        For people; ``license`` is an SPDX expression.
    network_def
        ``{"_target_": "monai.networks.nets.UNet", ...}``, plain JSON values only.
    changelog
        Version to what changed.
    training_data, metrics
        Free JSON objects: what the model was trained on and how it did.
    """

    id: str
    name: str
    version: str
    description: str
    authors: str
    copyright: str
    license: str
    network_def: Mapping[str, Any]
    changelog: Mapping[str, str] = field(default_factory=dict)
    training_data: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)

    @property
    def architecture(self) -> str:
        """Full name of the network's class."""
        return str(self.network_def[TARGET_KEY])


def common_metadata(
    description: ModelDescription,
    kind: BundleKind,
    members: list[str],
    *,
    task: str,
    data_format: Mapping[str, Any],
    own: Mapping[str, Any],
    schema_version: int = 1,
) -> dict[str, Any]:
    """The content of ``configs/metadata.json``.

    Parameters
    ----------
    members
        Paths of the weights within the bundle.
    task, data_format
        MONAI's keys ``task`` and ``network_data_format``.
    own
        What this kind of model has of its own, put under ``cmbdetector``.
    schema_version
        The oldest that holds it, so that versions which read no newer one refuse the model.
    """
    return {
        "schema": _MONAI_SCHEMA,
        "name": description.name,
        "version": description.version,
        "changelog": dict(description.changelog) or {description.version: "first version"},
        "monai_version": _installed("monai"),
        "pytorch_version": _installed("torch"),
        "numpy_version": _installed("numpy"),
        "required_packages_version": {"safetensors": _installed("safetensors")},
        "task": task,
        "description": description.description,
        "authors": description.authors,
        "copyright": description.copyright,
        "intended_use": "Research only, not for clinical use",
        "network_data_format": dict(data_format),
        OUR_KEY: {
            "schema_version": schema_version,
            KIND_KEY: kind,
            "id": description.id,
            "license": description.license,
            **own,
            "members": members,
            "training_data": dict(description.training_data),
            "metrics": dict(description.metrics),
        },
    }


def parse_description(metadata: JsonObject, inference: JsonObject) -> dict[str, Any]:
    """The fields of :class:`ModelDescription`, each checked.

    Raises
    ------
    ModelError
        If a key is missing, a value is not of the kind it must be, or the network is unknown.
    """
    ours = metadata.child(OUR_KEY)
    network_def = inference.child("network_def")
    check_network_def(network_def.data, inference.path)
    bundle_id = ours.text("id")
    if not _ID.fullmatch(bundle_id):
        raise ours.error("id", bundle_id, "letters, digits, '.', '_' and '-' only")
    return {
        "id": bundle_id,
        "name": metadata.text("name"),
        "version": metadata.text("version"),
        "description": metadata.text("description"),
        "authors": metadata.text("authors"),
        "copyright": metadata.text("copyright"),
        "license": ours.text("license"),
        "network_def": dict(network_def.data),
        "changelog": dict(metadata.child("changelog").data),
        "training_data": dict(ours.child("training_data").data),
        "metrics": dict(ours.child("metrics").data),
    }


def check_kind(metadata: JsonObject, wanted: BundleKind) -> None:
    """Refuse a schema that is too new, and a model of another kind than is wanted.

    Raises
    ------
    ModelError
        In words for the user who gave the wrong model.
    """
    ours = metadata.child(OUR_KEY)
    found = ours.integer("schema_version", 1, 10**6)
    if found > SCHEMA_VERSION:
        raise ModelError(
            f"{ours.path}: the bundle has schema {found}, this version reads up to "
            f"{SCHEMA_VERSION}; update CMBDetector"
        )
    kind = kind_of(ours)
    if kind != wanted:
        raise ModelError(
            f"{ours.path.parent.parent}: this model {KIND_NAMES[kind]}; expected one that "
            f"{KIND_NAMES[wanted]}"
        )


def kind_of(ours: JsonObject) -> BundleKind:
    """The kind of a model from its keys under ``cmbdetector``.

    Raises
    ------
    ModelError
        If the kind is not known.
    """
    if KIND_KEY not in ours.data:  # models from before there were two kinds
        return "detector"
    kind = ours.text(KIND_KEY)
    if kind not in get_args(BundleKind):
        raise ours.error(KIND_KEY, kind, f"one of {', '.join(get_args(BundleKind))}")
    return "anatomy" if kind == "anatomy" else "detector"


def variant_of(ours: JsonObject) -> str:
    """How a detector goes about an image, from its keys under ``cmbdetector``.

    Raises
    ------
    ModelError
        If that is not known.
    """
    if VARIANT_KEY not in ours.data:  # models from before there were two
        return TILES
    variant = ours.text(VARIANT_KEY)
    if variant not in (TILES, WHOLE_HEAD):
        raise ours.error(VARIANT_KEY, variant, f"{TILES} or {WHOLE_HEAD}; update CMBDetector")
    return variant


def _installed(package: str) -> str:
    try:
        return version(package).split("+")[0]
    except PackageNotFoundError as error:
        raise ModelError(
            f"writing a model records the version of {package}, which is not installed; "
            "install the extra 'inference'"
        ) from error
