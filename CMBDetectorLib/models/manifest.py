"""What a model bundle says about itself, and its form as MONAI Bundle configuration files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any, get_args

from CMBDetectorLib.errors import ModelError
from CMBDetectorLib.models.architectures import check_network_def
from CMBDetectorLib.models.json_fields import JsonObject
from CMBDetectorLib.settings import (
    GridKind,
    GridSettings,
    NormalizationSettings,
    OperatingPoint,
    PreprocessingSettings,
    TilingSettings,
    TrainingRange,
)

SCHEMA_VERSION = 1
OUR_KEY = "cmbdetector"
_MONAI_SCHEMA = (
    "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/"
    "meta_schema_20240725.json"
)
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class BundleManifest:
    """Everything in a bundle but its weights.

    Attributes
    ----------
    id, name, version
        Identifier (letters, digits, ``._-``; also the folder's name), title, and version.
    description, authors, copyright, license
        For people; ``license`` is an SPDX expression.
    network_def
        ``{"_target_": "monai.networks.nets.UNet", ...}``, plain JSON values only.
    channels
        What each output channel of the network stands for; each is a sigmoid of its own.
    probability_channel
        The output channel that holds the probability of a microbleed.
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
    preprocessing: PreprocessingSettings
    tiling: TilingSettings
    operating_point: OperatingPoint
    training_range: TrainingRange
    network_def: Mapping[str, Any]
    channels: tuple[str, ...]
    probability_channel: int
    changelog: Mapping[str, str] = field(default_factory=dict)
    training_data: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)


def manifest_to_metadata(manifest: BundleManifest, members: list[str]) -> dict[str, Any]:
    """The content of ``configs/metadata.json``: MONAI's keys, and ours under ``cmbdetector``."""
    tile_shape = list(manifest.tiling.tile_shape)
    channel_def = {str(index): name for index, name in enumerate(manifest.channels)}
    return {
        "schema": _MONAI_SCHEMA,
        "name": manifest.name,
        "version": manifest.version,
        "changelog": dict(manifest.changelog) or {manifest.version: "first version"},
        "monai_version": _installed("monai"),
        "pytorch_version": _installed("torch"),
        "numpy_version": _installed("numpy"),
        "required_packages_version": {"safetensors": _installed("safetensors")},
        "task": "Detection of cerebral microbleeds on T2*-weighted GRE and SWI",
        "description": manifest.description,
        "authors": manifest.authors,
        "copyright": manifest.copyright,
        "intended_use": "Research only, not for clinical use",
        "network_data_format": {
            "inputs": {
                "image": {
                    "type": "image",
                    "format": "magnitude",
                    "modality": "MR",
                    "num_channels": 1,
                    "spatial_shape": tile_shape,
                    "dtype": "float32",
                    "value_range": list(manifest.preprocessing.normalization.clip),
                    "is_patch_data": True,
                    "channel_def": {"0": "T2*-weighted GRE or SWI magnitude"},
                }
            },
            "outputs": {
                "pred": {
                    "type": "image",
                    "format": "logits",
                    "num_channels": len(manifest.channels),
                    "spatial_shape": tile_shape,
                    "dtype": "float32",
                    "value_range": [],
                    "is_patch_data": True,
                    "channel_def": channel_def,
                }
            },
        },
        OUR_KEY: {
            "schema_version": SCHEMA_VERSION,
            "id": manifest.id,
            "license": manifest.license,
            "preprocessing": asdict(manifest.preprocessing),
            "tiling": asdict(manifest.tiling),
            "operating_point": asdict(manifest.operating_point),
            "training_range": asdict(manifest.training_range),
            "channels": list(manifest.channels),
            "probability_channel": manifest.probability_channel,
            "members": members,
            "training_data": dict(manifest.training_data),
            "metrics": dict(manifest.metrics),
        },
    }


def parse_manifest(metadata: JsonObject, inference: JsonObject) -> BundleManifest:
    """Read ``configs/metadata.json`` and ``configs/inference.json``, checking every value.

    Raises
    ------
    ModelError
        If the schema is newer than this version reads, a key is missing, or a value is not of the
        kind or within the range it must be.
    """
    ours = metadata.child(OUR_KEY)
    _check_schema(ours)
    network_def = inference.child("network_def")
    check_network_def(network_def.data, inference.path)
    channels = ours.texts("channels")
    if network_def.data["out_channels"] != len(channels):
        raise network_def.error(
            "out_channels", network_def.data["out_channels"], f"{len(channels)}, as channels say"
        )
    if network_def.data["in_channels"] != 1:
        raise network_def.error("in_channels", network_def.data["in_channels"], "1")
    bundle_id = ours.text("id")
    if not _ID.fullmatch(bundle_id):
        raise ours.error("id", bundle_id, "letters, digits, '.', '_' and '-' only")
    return BundleManifest(
        id=bundle_id,
        name=metadata.text("name"),
        version=metadata.text("version"),
        description=metadata.text("description"),
        authors=metadata.text("authors"),
        copyright=metadata.text("copyright"),
        license=ours.text("license"),
        preprocessing=_preprocessing(ours.child("preprocessing")),
        tiling=_tiling(ours.child("tiling")),
        operating_point=_operating_point(ours.child("operating_point")),
        training_range=_training_range(ours.child("training_range")),
        network_def=dict(network_def.data),
        channels=channels,
        probability_channel=ours.integer("probability_channel", 0, len(channels) - 1),
        changelog=dict(metadata.child("changelog").data),
        training_data=dict(ours.child("training_data").data),
        metrics=dict(ours.child("metrics").data),
    )


def _check_schema(ours: JsonObject) -> None:
    found = ours.integer("schema_version", 1, 10**6)
    if found > SCHEMA_VERSION:
        raise ModelError(
            f"{ours.path}: the bundle has schema {found}, this version reads up to "
            f"{SCHEMA_VERSION}; update CMBDetector"
        )


def _preprocessing(fields: JsonObject) -> PreprocessingSettings:
    grid = fields.child("grid")
    kinds = get_args(GridKind)
    kind = grid.text("kind")
    if kind not in kinds:
        raise grid.error("kind", kind, f"one of {', '.join(kinds)}")
    has_minimum = grid.value("min_slice_spacing_mm") is not None
    normalization = fields.child("normalization")
    return PreprocessingSettings(
        grid=GridSettings(
            kind="isotropic" if kind == "isotropic" else "in_plane",
            spacing_mm=grid.number("spacing_mm", 0.05, 10),
            min_slice_spacing_mm=(
                grid.number("min_slice_spacing_mm", 0.05, 20) if has_minimum else None
            ),
        ),
        normalization=NormalizationSettings(
            percentile=normalization.number("percentile", 1, 100),
            clip=normalization.range("clip", -1e6, 1e6),
        ),
        crop_margin_mm=fields.number("crop_margin_mm", 0, 1000),
    )


def _tiling(fields: JsonObject) -> TilingSettings:
    return TilingSettings(
        tile_shape=fields.shape("tile_shape", 1, 1024),
        overlap=fields.number("overlap", 0, 0.95),
        batch_size=fields.integer("batch_size", 1, 1024),
    )


def _operating_point(fields: JsonObject) -> OperatingPoint:
    return OperatingPoint(
        threshold=fields.number("threshold", 1e-6, 1),
        min_volume_mm3=fields.number("min_volume_mm3", 0, 1e6),
    )


def _training_range(fields: JsonObject) -> TrainingRange:
    return TrainingRange(
        in_plane_spacing_mm=fields.range("in_plane_spacing_mm", 0.01, 100),
        slice_spacing_mm=fields.range("slice_spacing_mm", 0.01, 100),
    )


def _installed(package: str) -> str:
    try:
        return version(package).split("+")[0]
    except PackageNotFoundError as error:
        raise ModelError(
            f"writing a model records the version of {package}, which is not installed; "
            "install the extra 'inference'"
        ) from error
