"""An anatomy network that is known by construction: it tells structures by brightness alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from CMBDetectorLib.anatomy.alignment import ATLAS_SHAPE
from CMBDetectorLib.anatomy.parcellation import CLASSES, N_CHANNELS
from CMBDetectorLib.models.anatomy_bundle import (
    CELL_VOXELS,
    INPUT_CHANNELS,
    AnatomyBundle,
    AnatomyManifest,
    write_anatomy_bundle,
)
from CMBDetectorLib.models.networks import build_network

LEVELS = {
    "background": 0.0,
    "soft tissue": 0.15,
    "cerebrospinal fluid": 0.3,
    "cerebral white matter": 0.6,  # left 0.5, right 0.7
    "brainstem": 1.0,
}
RIGHT_FROM = 0.6
STEEPNESS = 200.0
"""So much that neither the atlas's side nor the end of the atlas counts."""
NETWORK_DEF: dict[str, Any] = {
    "_target_": "monai.networks.nets.UNet",
    "spatial_dims": 3,
    "in_channels": len(INPUT_CHANNELS),
    "out_channels": CELL_VOXELS * N_CHANNELS,
    "channels": [CELL_VOXELS, CELL_VOXELS],
    "strides": [1],
    "num_res_units": 0,
    "norm": "BATCH",
    "act": "RELU",
}


def anatomy_manifest(**changes: Any) -> AnatomyManifest:
    values: dict[str, Any] = {
        "id": "brightness",
        "name": "Brightness",
        "version": "1.2.3",
        "description": "Tells structures by brightness.",
        "authors": "nobody",
        "copyright": "nobody",
        "license": "Apache-2.0",
        "network_def": NETWORK_DEF,
        "spacing_mm": 1.5,
    }
    return AnatomyManifest(**(values | changes))


def brightness_weights() -> dict[str, np.ndarray]:
    """Every voxel gets the class of the nearest level, whatever lies around it.

    Only the image, a channel for each voxel of a cell, has weights; the atlas, what it makes of the
    intensities, and the coordinates have none.
    """
    state = build_network(NETWORK_DEF).state_dict()
    weights = {name: tensor.numpy() * 0 for name, tensor in state.items()}
    for name, value in weights.items():
        if name.endswith(("running_var", "N.weight")):
            value[...] = 1
    names = [one.name for one in CLASSES]
    slope, offset = np.zeros(N_CHANNELS), np.full(N_CHANNELS, -1e4)
    border = 0.0
    for rank, (name, level) in enumerate(LEVELS.items()):
        number = names.index(name)
        if rank:
            previous = list(LEVELS.values())[rank - 1]
            border += (level + previous) / 2
        # The upper envelope of these lines changes at the borders between levels.
        slope[number], offset[number] = rank * STEEPNESS, -border * STEEPNESS
    slope[-1], offset[-1] = STEEPNESS, -RIGHT_FROM * STEEPNESS
    for voxel in range(CELL_VOXELS):
        weights["model.0.conv.weight"][voxel, voxel, 1, 1, 1] = 1.0
        weights["model.2.conv.weight"][voxel, voxel::CELL_VOXELS, 1, 1, 1] = slope
        weights["model.2.conv.bias"][voxel::CELL_VOXELS] = offset
    return weights


def uniform_atlas() -> np.ndarray:
    """Every class is as likely everywhere; together no less than certain, nothing is left over."""
    share = -(-255 // len(CLASSES))
    return np.full((len(CLASSES), *ATLAS_SHAPE), share, dtype=np.uint8)


def write_brightness_bundle(root: Path, **changes: Any) -> AnatomyBundle:
    return write_anatomy_bundle(
        root,
        anatomy_manifest(id=root.name, **changes),
        brightness_weights(),
        uniform_atlas(),
        model_card="# Brightness\n",
        license_text="Apache-2.0\n",
    )
