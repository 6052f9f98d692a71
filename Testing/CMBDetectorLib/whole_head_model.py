"""A whole-head model that is known by construction: it calls dark voxels microbleeds."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from CMBDetectorLib.models.graph import Graph, Node, graph_to_json
from CMBDetectorLib.models.whole_head_bundle import (
    WholeHeadBundle,
    WholeHeadManifest,
    write_whole_head_bundle,
)
from CMBDetectorLib.settings import ClusterRules, ConformSettings, MaskingKind

SHAPE = (160, 214, 176)
# Tissue, the 99th percentile, becomes 1 / 1.3.
DARKNESS = 0.4 / 1.3


def darkness_graph() -> Graph:
    """``sigmoid(gain * image + offset)``, voxel by voxel."""
    attributes = {
        "strides": [1, 1, 1],
        "dilations": [1, 1, 1],
        "padding": [[0, 0]] * 3,
        "groups": [1],
    }
    return Graph(
        (*SHAPE, 1),
        (
            Node("conv", "conv", ("image", "#gain", "#offset"), attributes),
            Node("sigmoid", "sigmoid", ("conv",)),
        ),
        "sigmoid",
    )


def darkness_tensors(steepness: float) -> dict[str, np.ndarray]:
    return {
        "gain": np.full((1, 1, 1, 1, 1), -steepness, dtype=np.float32),
        "offset": np.array([steepness * DARKNESS], dtype=np.float32),
    }


def write_darkness(
    root: Path, *, masking: MaskingKind = "output", steepnesses: tuple[float, ...] = (30.0, 20.0)
) -> WholeHeadBundle:
    manifest = WholeHeadManifest(
        id=root.name,
        name="Darkness of the head",
        version="2.0",
        description="Calls dark voxels microbleeds.",
        authors="nobody",
        copyright="nobody",
        license="CC0-1.0",
        network_def=graph_to_json(darkness_graph()),
        preprocessing=ConformSettings(masking=masking),
        rules=ClusterRules(),
        source={"format": "made", "files": [{"name": "a.h5", "md5": "0" * 32}], "citation": "none"},
    )
    members = [darkness_tensors(steepness) for steepness in steepnesses]
    return write_whole_head_bundle(
        root, manifest, members, model_card="# Darkness\n", license_text="CC0\n"
    )
