"""One YAML file describes how the second stage is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from CMBDetectorLib.errors import UsageError
from training.yaml_file import check_keys, read_yaml_mapping


@dataclass(frozen=True)
class SecondStageConfig:
    """What ``second-stage-collect`` and ``second-stage-train`` follow.

    Attributes
    ----------
    lowest_probability
        Of the networks, where there is a candidate to learn from.
    most_per_scan
        The surest candidates of a scan; the centers of its lesions come on top.
    margin_voxels
        More voxels in plane around a candidate, to shift within.
    lesions_per_step, others_per_step
        Candidates of each kind in a step; of others the surer ones are drawn more often.
    label_smoothing
        A lesion is taught as 1 less half of this, another candidate as half of it.
    gain, gamma
        Ranges by which intensities are multiplied, and to whose power they are raised.
    noise
        Largest standard deviation of what is added to the detail.
    no_surroundings_share
        How often the surroundings are blank: simulated heads are few, and what a classifier learns
        of them by heart does not help on others.
    blur_share, blur_voxels
        How often the detail is blurred in plane, and the range of the standard deviation.
    probability_gain
        Range by which the networks' probability is multiplied.
    average_decay
        Of the exponential moving average of the weights.
    """

    lowest_probability: float
    most_per_scan: int
    margin_voxels: int
    lesions_per_step: int
    others_per_step: int
    label_smoothing: float
    gain: tuple[float, float]
    gamma: tuple[float, float]
    noise: float
    no_surroundings_share: float
    blur_share: float
    blur_voxels: tuple[float, float]
    probability_gain: tuple[float, float]
    steps: int
    learning_rate: float
    weight_decay: float
    warm_up_share: float
    gradient_norm: float
    average_decay: float
    checkpoint_interval: int
    seed: int


def read_second_stage_config(path: Path) -> SecondStageConfig:
    """Read a configuration.

    Raises
    ------
    UsageError
        If the file is unreadable, a key is missing or unknown, or a value is not of the kind or
        within the range it must be.
    """
    try:
        return parse_second_stage_config(read_yaml_mapping(path))
    except UsageError as error:
        raise UsageError(f"the configuration {path}: {error}") from error


def parse_second_stage_config(plain: Mapping[str, Any]) -> SecondStageConfig:
    """The configuration from its plain form; raises as :func:`read_second_stage_config`."""
    check_keys(plain, SecondStageConfig)
    kinds = {field.name: str(field.type) for field in fields(SecondStageConfig)}
    values = {name: _value(name, kind, plain[name]) for name, kind in kinds.items()}
    config = SecondStageConfig(**values)
    if not 0 < config.lowest_probability < 1:
        raise UsageError(
            f"lowest_probability is {config.lowest_probability}; expected a number between 0 and 1"
        )
    for name in ("most_per_scan", "lesions_per_step", "others_per_step", "checkpoint_interval"):
        if getattr(config, name) < 1:
            raise UsageError(f"{name} is {getattr(config, name)}; expected 1 or more")
    if config.margin_voxels < 0:
        raise UsageError(f"margin_voxels is {config.margin_voxels}; expected 0 or more")
    return config


def _value(name: str, kind: str, value: Any) -> Any:
    """A value of the kind that the field is declared with."""
    if kind.startswith("tuple"):
        if not (isinstance(value, list | tuple) and len(value) == 2 and all(map(_number, value))):
            raise UsageError(f"{name} is {value!r}; expected two numbers")
        return float(value[0]), float(value[1])
    if not _number(value) or (kind == "int" and not isinstance(value, int)):
        raise UsageError(
            f"{name} is {value!r}; expected a{' whole' if kind == 'int' else ''} number"
        )
    return float(value) if kind == "float" else value


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
