"""One YAML file describes the anatomy network and how it is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from CMBDetectorLib.errors import UsageError
from training.anatomy.misalignment import Misalignment
from training.yaml_file import check_keys, read_yaml_mapping


@dataclass(frozen=True)
class AnatomyConfig:
    """What ``anatomy-train`` and ``anatomy-export`` follow.

    Attributes
    ----------
    network_def
        As in a model bundle: see
        :class:`~CMBDetectorLib.inference.atlas_guided.AtlasGuidedNetwork` for its channels.
    spacing_mm
        Of the isotropic grid that the network is used on.
    patch_voxels
        Patches have about this number to the power of three.
    misalignment
        How far off the alignment with the atlas is in training.
    heads, test_heads
        Numbers of the label maps to train on, and of those left alone.
    average_decay
        Of the exponential moving average of the weights.
    """

    name: str
    version: str
    description: str
    network_def: Mapping[str, Any]
    spacing_mm: float
    patch_voxels: int
    misalignment: Misalignment
    heads: tuple[str, ...]
    test_heads: tuple[str, ...]
    steps: int
    learning_rate: float
    weight_decay: float
    warm_up_share: float
    gradient_norm: float
    average_decay: float
    checkpoint_interval: int
    seed: int


def read_anatomy_config(path: Path) -> AnatomyConfig:
    """Read a configuration.

    Raises
    ------
    UsageError
        If the file is unreadable, a key is missing or unknown, or a head serves two purposes.
    """
    plain = read_yaml_mapping(path)
    try:
        return parse_anatomy_config(plain)
    except UsageError as error:
        raise UsageError(f"the configuration {path}: {error}") from error


def parse_anatomy_config(plain: Any) -> AnatomyConfig:
    """The configuration from its plain form; raises as :func:`read_anatomy_config`."""
    if not isinstance(plain, Mapping):
        raise UsageError("not keys and values")
    check_keys(plain, AnatomyConfig)
    values: dict[str, Any] = {
        key: tuple(item) if isinstance(item, list) else item for key, item in plain.items()
    }
    try:
        values["misalignment"] = Misalignment(**values["misalignment"])
    except TypeError as error:
        raise UsageError(f"misalignment: {error}") from error
    config = AnatomyConfig(**values)
    if not isinstance(config.network_def, Mapping):
        raise UsageError("network_def does not hold keys and values")
    both = sorted(set(config.heads) & set(config.test_heads))
    if both:
        raise UsageError(f"heads {', '.join(both)} serve two purposes; separate them")
    return config
