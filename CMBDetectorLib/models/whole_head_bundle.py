"""A bundle with networks that see the whole head at once, as SHIVA's do, on disk.

Its files are those of every bundle; the network is a graph (:mod:`CMBDetectorLib.models.graph`),
the same for all members.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_args

from CMBDetectorLib.errors import ModelError
from CMBDetectorLib.models.bundle_files import (
    CheckedFiles,
    Weights,
    load_files,
    write_files,
)
from CMBDetectorLib.models.description import (
    OUR_KEY,
    VARIANT_KEY,
    WHOLE_HEAD,
    ModelDescription,
    check_kind,
    common_metadata,
    parse_description,
    variant_of,
)
from CMBDetectorLib.models.graph import GRAPH_TARGET
from CMBDetectorLib.models.json_fields import JsonObject
from CMBDetectorLib.settings import (
    ClusterRules,
    ConformSettings,
    MaskingKind,
    OperatingPoint,
    TrainingRange,
)


@dataclass(frozen=True, kw_only=True)
class WholeHeadManifest(ModelDescription):
    """Everything in a bundle with such networks but their weights.

    Attributes
    ----------
    preprocessing, rules
        From the image to the networks, and from their outputs to lesions.
    source
        Where the model comes from: file names and hashes, format, citation.
    """

    preprocessing: ConformSettings
    rules: ClusterRules
    source: Mapping[str, Any] = field(default_factory=dict)

    @property
    def operating_point(self) -> OperatingPoint:
        """The rules in the terms of other models; a voxel of the networks' grid has 1 mm³."""
        return OperatingPoint(self.rules.threshold, float(self.rules.min_voxels))

    @property
    def training_range(self) -> TrainingRange | None:
        """None: which voxel sizes such a model was trained on is not known."""
        return None


@dataclass(frozen=True)
class WholeHeadBundle(WholeHeadManifest, CheckedFiles):
    """A model that sees the whole head, whose files have been checked."""


def load_whole_head_bundle(root: Path) -> WholeHeadBundle:
    """Read a bundle's description after checking every one of its files; weights stay on disk.

    Raises
    ------
    ModelError
        As :func:`~CMBDetectorLib.models.bundle.load_bundle`.
    """
    return load_files(root, parse_whole_head_manifest, WholeHeadBundle)


def write_whole_head_bundle(
    root: Path,
    manifest: WholeHeadManifest,
    members: Sequence[Weights],
    *,
    model_card: str,
    license_text: str,
    overwrite: bool = False,
) -> WholeHeadBundle:
    """Write a bundle, whole or not at all, and read it back; weights keep their precision.

    Raises
    ------
    ModelError
        If the folder exists and ``overwrite`` is not given, it cannot be written, or what was
        written would not be accepted by :func:`load_whole_head_bundle`.
    """
    return write_files(
        root,
        members,
        metadata_of=lambda names: whole_head_metadata(manifest, names),
        network_def=manifest.network_def,
        model_card=model_card,
        license_text=license_text,
        overwrite=overwrite,
        load=load_whole_head_bundle,
        exact=True,
    )


def whole_head_metadata(manifest: WholeHeadManifest, members: list[str]) -> dict[str, Any]:
    """The content of ``configs/metadata.json``."""
    image = {
        "type": "image",
        "num_channels": 1,
        "spatial_shape": list(manifest.preprocessing.shape),
        "dtype": "float32",
        "value_range": [0, 1],
        "is_patch_data": False,
    }
    data_format = {
        "inputs": {
            "image": {
                **image,
                "format": "magnitude",
                "modality": "MR",
                "channel_def": {"0": "SWI or T2*-weighted GRE magnitude"},
            }
        },
        "outputs": {"pred": {**image, "format": "probability", "channel_def": {"0": "microbleed"}}},
    }
    return common_metadata(
        manifest,
        "detector",
        members,
        task="Detection of cerebral microbleeds on SWI and T2*-weighted GRE",
        data_format=data_format,
        own={
            VARIANT_KEY: WHOLE_HEAD,
            "preprocessing": asdict(manifest.preprocessing),
            "rules": asdict(manifest.rules),
            "source": dict(manifest.source),
        },
    )


def parse_whole_head_manifest(metadata: JsonObject, inference: JsonObject) -> WholeHeadManifest:
    """Read ``configs/metadata.json`` and ``configs/inference.json``, checking every value.

    Raises
    ------
    ModelError
        If it is another kind of model, the schema is newer than this version reads, a key is
        missing, or a value is not what it must be.
    """
    check_kind(metadata, "detector")
    ours = metadata.child(OUR_KEY)
    if variant_of(ours) != WHOLE_HEAD:
        raise ModelError(f"{ours.path.parent.parent}: this model works on tiles, not on the head")
    described = parse_description(metadata, inference)
    network_def = inference.child("network_def")
    if network_def.text("_target_") != GRAPH_TARGET:
        raise network_def.error("_target_", network_def.data["_target_"], GRAPH_TARGET)
    preprocessing = _preprocessing(ours.child("preprocessing"))
    expected = [*preprocessing.shape, 1]
    if network_def.value("image_shape") != expected:
        raise network_def.error("image_shape", network_def.data["image_shape"], str(expected))
    return WholeHeadManifest(
        **described,
        preprocessing=preprocessing,
        rules=_rules(ours.child("rules")),
        source=dict(ours.child("source").data),
    )


def _preprocessing(fields_: JsonObject) -> ConformSettings:
    masking = fields_.text("masking")
    if masking not in get_args(MaskingKind):
        raise fields_.error("masking", masking, f"one of {', '.join(get_args(MaskingKind))}")
    return ConformSettings(
        shape=fields_.shape("shape", 1, 256),
        percentile=fields_.number("percentile", 1, 100),
        clip=fields_.number("clip", 1e-6, 1e6),
        masking="input" if masking == "input" else "output",
    )


def _rules(fields_: JsonObject) -> ClusterRules:
    return ClusterRules(
        threshold=fields_.number("threshold", 1e-6, 1),
        min_voxels=fields_.integer("min_voxels", 1, 10**6),
        max_outside_share=fields_.number("max_outside_share", 0, 1),
        fold_floor=fields_.number("fold_floor", 0, 1),
    )
