"""One JSON file describes a model from the grid it works on to the way it is trained."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from CMBDetectorLib.errors import UsageError
from CMBDetectorLib.settings import (
    GridSettings,
    NormalizationSettings,
    OperatingPoint,
    PreprocessingSettings,
    TilingSettings,
    TrainingRange,
)

Settings = TypeVar("Settings")


@dataclass(frozen=True)
class DataSettings:
    """Which simulated heads serve what, and what of a case is taught.

    Parameters
    ----------
    training_heads, selection_heads, test_heads
        Heads for learning, for choosing the operating point, and for the final figures.
    folds
        Per member of the ensemble, the training heads that it leaves out (its validation).
    min_contrast_to_noise
        Lesions fainter than this are neither taught nor counted as background: weight 0.
    found_mask_share
        Share of the cases prepared with the brain mask that the library finds by itself, as at
        inference; the others take the case's own.
    """

    training_heads: tuple[str, ...]
    selection_heads: tuple[str, ...]
    test_heads: tuple[str, ...]
    folds: tuple[tuple[str, ...], ...]
    min_contrast_to_noise: float
    found_mask_share: float


@dataclass(frozen=True)
class SamplingSettings:
    """Where patches come from.

    Parameters
    ----------
    patch_shape
        Voxels of the model grid: in plane, in plane (equal), slices.
    lesion_share, mimic_share
        Share of patches that hold a lesion, and a mimic, near their centre; the others are
        centred anywhere in the brain.
    jitter
        How far from the patch's centre the lesion may lie, as a share of half the patch.
    """

    patch_shape: tuple[int, int, int]
    batch_size: int
    lesion_share: float
    mimic_share: float
    jitter: float


@dataclass(frozen=True)
class AugmentationSettings:
    """Mild changes of intensity, each drawn uniformly; heavy ones are known to hurt.

    ``gain``, ``gamma``: ranges of the factor and of the exponent. ``bias``: largest coefficient of
    the logarithmic bias field's polynomial of order 2. ``noise``: largest standard deviation.
    ``blur_voxels``: largest in-plane standard deviation; ``blur_share``: how often.
    """

    gain: tuple[float, float]
    gamma: tuple[float, float]
    bias: float
    noise: float
    blur_voxels: float
    blur_share: float


@dataclass(frozen=True)
class LossSettings:
    """Weights of the sum of soft Dice and focal loss; channels are CMB and mimic."""

    channel_weights: tuple[float, float]
    dice_weight: float
    focal_weight: float
    focal_gamma: float
    focal_alpha: float


@dataclass(frozen=True)
class OptimizationSettings:
    """AdamW with linear warm-up and cosine decay over ``steps``.

    ``validation_batches`` fixed batches are looked at every ``validation_interval`` steps and a
    checkpoint is written every ``checkpoint_interval`` steps. ``init_from`` is a member's output
    folder whose averaged weights to start from, relative to the working folder.
    """

    seed: int
    steps: int
    learning_rate: float
    weight_decay: float
    warm_up_share: float
    gradient_norm: float
    ema_decay: float
    checkpoint_interval: int
    validation_interval: int
    validation_batches: int
    init_from: str | None = None


@dataclass(frozen=True)
class TrainingConfig:
    """Everything about a model but its weights.

    ``network_def`` goes unchanged to the library's ``build_network`` and into the bundle, so that
    there is one definition of the network.
    """

    name: str
    version: str
    description: str
    preprocessing: PreprocessingSettings
    tiling: TilingSettings
    operating_point: OperatingPoint
    training_range: TrainingRange
    network_def: dict[str, Any]
    probability_channel: int
    data: DataSettings
    sampling: SamplingSettings
    augmentation: AugmentationSettings
    loss: LossSettings
    optimization: OptimizationSettings


def read_json_object(path: Path) -> dict[str, Any]:
    """The content of a configuration file.

    Raises
    ------
    UsageError
        If the file is unreadable, or holds something else.
    """
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read the configuration {path}: {error}") from error
    if not isinstance(plain, dict):
        raise UsageError(f"the configuration {path} is not a JSON object")
    return plain


def read_config(path: Path) -> TrainingConfig:
    """Read and check a configuration.

    Raises
    ------
    UsageError
        If the file is unreadable, a key is missing or unknown, or a value makes no sense.
    """
    plain = read_json_object(path)
    try:
        config = parse_config(plain)
    except UsageError as error:
        raise UsageError(f"the configuration {path}: {error}") from error
    return config


def parse_config(plain: Mapping[str, Any]) -> TrainingConfig:
    """The configuration from its plain JSON form; raises UsageError as :func:`read_config`."""
    sections = {
        "tiling": TilingSettings,
        "operating_point": OperatingPoint,
        "training_range": TrainingRange,
        "data": DataSettings,
        "sampling": SamplingSettings,
        "augmentation": AugmentationSettings,
        "loss": LossSettings,
        "optimization": OptimizationSettings,
    }
    values: dict[str, Any] = dict(plain)
    preprocessing = values.get("preprocessing")
    if isinstance(preprocessing, Mapping):
        inner = dict(preprocessing)
        for key, kind in (("grid", GridSettings), ("normalization", NormalizationSettings)):
            if key in inner:
                inner[key] = _from_plain(kind, inner[key], f"preprocessing.{key}")
        values["preprocessing"] = _from_plain(PreprocessingSettings, inner, "preprocessing")
    for key, section in sections.items():
        if key in values:
            values[key] = _from_plain(section, values[key], key)
    network_def = values.get("network_def")
    config = _from_plain(TrainingConfig, values, "the top level")
    _check(config, network_def)
    return config


def _from_plain(kind: type[Settings], plain: object, where: str) -> Settings:
    """A settings dataclass from a JSON object, lists becoming tuples; every key must be known."""
    if not isinstance(plain, Mapping):
        raise UsageError(f"{where} is not a JSON object")
    unknown = sorted(set(plain) - {field.name for field in fields(kind)})  # type: ignore[arg-type]
    if unknown:
        raise UsageError(f"{where} has unknown keys {', '.join(unknown)}; remove them")
    try:
        return kind(**{key: _tuples(value) for key, value in plain.items()})
    except TypeError as error:
        raise UsageError(f"{where}: {error}; add the missing keys") from error


def _tuples(value: object) -> object:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def _check(config: TrainingConfig, network_def: object) -> None:
    if not isinstance(network_def, dict):
        raise UsageError("network_def is not a JSON object")
    data, sampling = config.data, config.sampling
    overlap = set(data.training_heads) & (set(data.selection_heads) | set(data.test_heads))
    overlap |= set(data.selection_heads) & set(data.test_heads)
    if overlap:
        raise UsageError(f"heads {', '.join(sorted(overlap))} serve two purposes; separate them")
    strangers = {head for fold in data.folds for head in fold} - set(data.training_heads)
    if strangers:
        raise UsageError(f"folds name heads {', '.join(sorted(strangers))} outside training_heads")
    if sampling.patch_shape[0] != sampling.patch_shape[1]:
        raise UsageError("sampling.patch_shape must be square in plane, for the transposition")
    if sampling.lesion_share + sampling.mimic_share > 1:
        raise UsageError("sampling.lesion_share and mimic_share add up to more than 1")
