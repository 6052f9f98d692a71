"""What a detection model says about itself, and its form as MONAI Bundle configuration files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, get_args

from CMBDetectorLib.errors import ModelError
from CMBDetectorLib.models.description import (
    CLASSIFIERS_KEY,
    OUR_KEY,
    SECOND_STAGE_KEY,
    TILES,
    ModelDescription,
    check_kind,
    common_metadata,
    parse_description,
    variant_of,
)
from CMBDetectorLib.models.json_fields import JsonObject
from CMBDetectorLib.settings import (
    GridKind,
    GridSettings,
    NormalizationSettings,
    OperatingPoint,
    PreprocessingSettings,
    SecondStageSettings,
    TilingSettings,
    TrainingRange,
)


@dataclass(frozen=True, kw_only=True)
class BundleManifest(ModelDescription):
    """Everything in a bundle with a detection model but its weights.

    Attributes
    ----------
    channels
        What each output channel of the network stands for; each is a sigmoid of its own.
    probability_channel
        The output channel that holds the probability of a microbleed.
    second_stage
        How classifiers judge what the networks find; None in a model without them.
    """

    preprocessing: PreprocessingSettings
    tiling: TilingSettings
    operating_point: OperatingPoint
    training_range: TrainingRange
    channels: tuple[str, ...]
    probability_channel: int
    second_stage: SecondStageSettings | None = None


def manifest_to_metadata(
    manifest: BundleManifest, members: list[str], classifiers: Sequence[str] = ()
) -> dict[str, Any]:
    """The content of ``configs/metadata.json``: MONAI's keys, and ours under ``cmbdetector``."""
    tile_shape = list(manifest.tiling.tile_shape)
    channel_def = {str(index): name for index, name in enumerate(manifest.channels)}
    data_format = {
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
    }
    own = {
        "preprocessing": asdict(manifest.preprocessing),
        "tiling": asdict(manifest.tiling),
        "operating_point": asdict(manifest.operating_point),
        "training_range": asdict(manifest.training_range),
        "channels": list(manifest.channels),
        "probability_channel": manifest.probability_channel,
    }
    if manifest.second_stage is not None:
        own[SECOND_STAGE_KEY] = asdict(manifest.second_stage) | {CLASSIFIERS_KEY: list(classifiers)}
    return common_metadata(
        manifest,
        "detector",
        members,
        task="Detection of cerebral microbleeds on T2*-weighted GRE and SWI",
        data_format=data_format,
        own=own,
        schema_version=1 if manifest.second_stage is None else 2,
    )


def parse_manifest(metadata: JsonObject, inference: JsonObject) -> BundleManifest:
    """Read ``configs/metadata.json`` and ``configs/inference.json``, checking every value.

    Raises
    ------
    ModelError
        If the schema is newer than this version reads, a key is missing, or a value is not of the
        kind or within the range it must be.
    """
    check_kind(metadata, "detector")
    ours = metadata.child(OUR_KEY)
    if variant_of(ours) != TILES:
        raise ModelError(
            f"{ours.path.parent.parent}: this model sees the whole head; expected one on tiles"
        )
    described = parse_description(metadata, inference)
    network_def = inference.child("network_def")
    if "out_channels" not in network_def.data:
        raise network_def.error("_target_", described["network_def"]["_target_"], "MONAI's")
    channels = ours.texts("channels")
    if network_def.data["out_channels"] != len(channels):
        raise network_def.error(
            "out_channels", network_def.data["out_channels"], f"{len(channels)}, as channels say"
        )
    if network_def.data["in_channels"] != 1:
        raise network_def.error("in_channels", network_def.data["in_channels"], "1")
    return BundleManifest(
        **described,
        preprocessing=_preprocessing(ours.child("preprocessing")),
        tiling=_tiling(ours.child("tiling")),
        operating_point=_operating_point(ours.child("operating_point")),
        training_range=_training_range(ours.child("training_range")),
        channels=channels,
        probability_channel=ours.integer("probability_channel", 0, len(channels) - 1),
        second_stage=_second_stage(ours),
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
        extent_threshold=(
            None
            if fields.data.get("extent_threshold") is None
            else fields.number("extent_threshold", 1e-6, 1)
        ),
    )


def _second_stage(ours: JsonObject) -> SecondStageSettings | None:
    if SECOND_STAGE_KEY not in ours.data:
        return None
    fields = ours.child(SECOND_STAGE_KEY)
    return SecondStageSettings(fields.number("candidate_threshold", 1e-6, 1))


def _training_range(fields: JsonObject) -> TrainingRange:
    return TrainingRange(
        in_plane_spacing_mm=fields.range("in_plane_spacing_mm", 0.01, 100),
        slice_spacing_mm=fields.range("slice_spacing_mm", 0.01, 100),
    )
