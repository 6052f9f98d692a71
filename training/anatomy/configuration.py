"""One JSON file describes the anatomy network and how it is trained."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from CMBDetectorLib.errors import UsageError
from training.anatomy.misalignment import Misalignment


@dataclass(frozen=True)
class PatchSettings:
    """Patches of about ``patch_voxels`` cubed on a grid of ``spacing_mm``.

    The other three are standard deviations of how far off the alignment with the atlas is.
    """

    spacing_mm: float
    patch_voxels: int
    shift_mm: float
    turn_deg: float
    size_share: float

    @property
    def misalignment(self) -> Misalignment:
        """As the patches' own type."""
        return Misalignment(self.shift_mm, self.turn_deg, self.size_share)


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
    coarse, fine
        Patches for finding where the head lies, and for the result. Training starts with coarse
        ones alone, up to ``coarse_until_share``; later ``coarse_share`` of the patches are coarse.
    heads, test_heads
        Numbers of the label maps to train on, and of those left alone.
    fixed_statistics_share
        From this share of the training on, normalization layers use their running statistics, as
        they will afterwards, so that the last part learns what inference computes.
    average_decay
        Of the exponential moving average of the weights.
    """

    name: str
    version: str
    description: str
    network_def: Mapping[str, Any]
    spacing_mm: float
    coarse: PatchSettings
    fine: PatchSettings
    coarse_until_share: float
    coarse_share: float
    heads: tuple[str, ...]
    test_heads: tuple[str, ...]
    steps: int
    learning_rate: float
    weight_decay: float
    warm_up_share: float
    fixed_statistics_share: float
    gradient_norm: float
    average_decay: float
    checkpoint_interval: int
    seed: int

    def patches(self, share: float, number: int) -> PatchSettings:
        """Settings of patch ``number``, drawn at a share of the training, 0 to 1."""
        if share < self.coarse_until_share:
            return self.coarse
        chance = np.random.default_rng((self.seed, number, 1)).random()
        return self.coarse if chance < self.coarse_share else self.fine


def read_anatomy_config(path: Path) -> AnatomyConfig:
    """Read a configuration.

    Raises
    ------
    UsageError
        If the file is unreadable, a key is missing or unknown, or a head serves two purposes.
    """
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read the configuration {path}: {error}") from error
    try:
        return parse_anatomy_config(plain)
    except UsageError as error:
        raise UsageError(f"the configuration {path}: {error}") from error


def parse_anatomy_config(plain: Any) -> AnatomyConfig:
    """The configuration from its plain JSON form; raises as :func:`read_anatomy_config`."""
    if not isinstance(plain, Mapping):
        raise UsageError("not a JSON object")
    known = {field.name for field in fields(AnatomyConfig)}
    unknown, missing = sorted(set(plain) - known), sorted(known - set(plain))
    if unknown or missing:
        raise UsageError(
            f"unknown keys: {', '.join(unknown) or 'none'}; missing keys: "
            f"{', '.join(missing) or 'none'}"
        )
    values: dict[str, Any] = {
        key: tuple(item) if isinstance(item, list) else item for key, item in plain.items()
    }
    try:
        for key in ("coarse", "fine"):
            values[key] = PatchSettings(**values[key])
    except TypeError as error:
        raise UsageError(f"{key}: {error}") from error
    config = AnatomyConfig(**values)
    if not isinstance(config.network_def, Mapping):
        raise UsageError("network_def is not a JSON object")
    both = sorted(set(config.heads) & set(config.test_heads))
    if both:
        raise UsageError(f"heads {', '.join(both)} serve two purposes; separate them")
    return config
