from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from CMBDetectorLib.models.bundle import ModelBundle, write_bundle
from CMBDetectorLib.models.bundle_files import Weights
from CMBDetectorLib.models.manifest import BundleManifest
from CMBDetectorLib.models.networks import build_network
from CMBDetectorLib.settings import (
    GridSettings,
    NormalizationSettings,
    OperatingPoint,
    PreprocessingSettings,
    TilingSettings,
    TrainingRange,
)

NETWORK_DEF: dict[str, Any] = {
    "_target_": "monai.networks.nets.UNet",
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 2,
    "channels": [4, 6, 8],
    "strides": [[2, 2, 1], [2, 2, 2]],
    "num_res_units": 2,
    "norm": "BATCH",
    "act": ["LEAKYRELU", {"negative_slope": 0.01, "inplace": True}],
    "kernel_size": 3,
    "up_kernel_size": 3,
}


def manifest(**changes: Any) -> BundleManifest:
    values: dict[str, Any] = {
        "id": "tiny",
        "name": "Tiny",
        "version": "1.2.3",
        "description": "Random weights",
        "authors": "Nobody",
        "copyright": "Nobody",
        "license": "Apache-2.0",
        "preprocessing": PreprocessingSettings(
            GridSettings("in_plane", 0.5, 1.0), NormalizationSettings(99.0, (0.0, 1.5)), 4.0
        ),
        "tiling": TilingSettings((32, 32, 16), 0.25, 4),
        "operating_point": OperatingPoint(0.5, 2.0),
        "training_range": TrainingRange((0.4, 1.0), (0.8, 6.0)),
        "network_def": NETWORK_DEF,
        "channels": ("microbleed", "mimic"),
        "probability_channel": 0,
        "training_data": {"heads": 12},
        "metrics": {"f1": 0.5},
    }
    return BundleManifest(**(values | changes))


def random_state(seed: int, network_def: dict[str, Any] = NETWORK_DEF) -> dict[str, np.ndarray]:
    """A network's state with norms that do something, so that folding them can go wrong."""
    generator = torch.Generator().manual_seed(seed)
    network = build_network(network_def)
    for module in network.modules():
        if isinstance(module, torch.nn.Conv3d | torch.nn.ConvTranspose3d):
            module.weight.data.normal_(0, 0.15, generator=generator)
        if isinstance(module, torch.nn.BatchNorm3d):
            module.running_mean.normal_(generator=generator)
            module.running_var.uniform_(0.2, 3.0, generator=generator)
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.normal_(generator=generator)
    return {name: tensor.numpy() for name, tensor in network.state_dict().items()}


@pytest.fixture
def make_bundle(tmp_path: Path) -> Callable[..., ModelBundle]:
    def make(
        folder: Path | None = None,
        members: int = 2,
        overwrite: bool = False,
        classifiers: Sequence[Weights] = (),
        **changes: Any,
    ) -> ModelBundle:
        described = manifest(**changes)
        root = (folder or tmp_path / "models") / described.id
        states = [random_state(seed, dict(described.network_def)) for seed in range(members)]
        return write_bundle(
            root,
            described,
            states,
            model_card="# Tiny\n",
            license_text="Apache-2.0\n",
            overwrite=overwrite,
            classifiers=classifiers,
        )

    return make


@pytest.fixture
def tiny(make_bundle: Callable[..., ModelBundle]) -> ModelBundle:
    return make_bundle()


@pytest.fixture
def resign() -> Callable[[Path], None]:
    """Recompute SHA256SUMS as whoever tampers with a bundle would."""

    def rewrite(root: Path) -> None:
        sums = root / "SHA256SUMS"
        files = sorted(p for p in root.rglob("*") if p.is_file() and p != sums)
        sums.write_text(
            "".join(
                f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.relative_to(root).as_posix()}\n"
                for p in files
            ),
            encoding="utf-8",
        )

    return rewrite
