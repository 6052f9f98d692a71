"""The network that comes with the software: whole, and one that training can go on from."""

from __future__ import annotations

from pathlib import Path

import torch

from CMBDetectorLib.models.library import find_anatomy_bundle
from CMBDetectorLib.models.networks import load_atlas, load_member
from training.anatomy.configuration import read_anatomy_config

ROOT = Path(__file__).parents[3]


def test_training_can_go_on_from_it() -> None:
    bundle = find_anatomy_bundle()
    config = read_anatomy_config(ROOT / "training" / "configs" / "anatomy.yaml")
    assert dict(bundle.network_def) == dict(config.network_def)
    assert bundle.spacing_mm == config.spacing_mm
    assert bundle.license == "Apache-2.0"
    assert not set(bundle.training_data["training_heads"]) & set(config.test_heads)
    assert sum(path.stat().st_size for path in bundle.members) < 16e6
    load_member(bundle, bundle.members[0])
    atlas = load_atlas(bundle)
    assert torch.equal(atlas, atlas.flip(1))
    assert int(atlas.max()) > 250
    assert abs(float(atlas.float().sum(dim=0).mean()) / 255 - 1) < 0.01
