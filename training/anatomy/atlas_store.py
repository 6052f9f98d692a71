"""The atlas of a folder of heads, made once: building it takes minutes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from CMBDetectorLib.models.anatomy_bundle import ATLAS_TENSOR
from training.anatomy.atlas import AlignedHead, build_atlas
from training.anatomy.groupwise import sharpen
from training.anatomy.heads import stored_heads
from training.checkpoint import write_tensors

STORE_NAME = "atlas.safetensors"
_HEADS_KEY = "heads"
_VERSION = "1"


def atlas_of_heads(data: Path, heads: tuple[str, ...]) -> tuple[Tensor, list[AlignedHead]]:
    """The atlas (uint8, classes first, symmetric) of heads, and how each of them lies in it.

    Kept in ``data`` as ``atlas.safetensors``, and taken from there as long as it is of these heads.

    Raises
    ------
    InputError
        If there is no such head.
    OutputError
        If it cannot be written.
    """
    affine, aligned = build_atlas(stored_heads(data, heads))
    path = data / STORE_NAME
    # What the tables hold depends on the affine maps, and these on the heads and on the method.
    key = json.dumps(
        [_VERSION, *([one.head.folder.name, *one.to_atlas_mm.round(3).ravel()] for one in aligned)]
    )
    tensors = _read(path, key)
    if tensors is None:
        atlas, bent = sharpen(affine, aligned)
        fields = {str(number): one.displacement_mm for number, one in enumerate(bent)}
        tensors = {ATLAS_TENSOR: atlas, **fields}
        write_tensors(path, tensors, {_HEADS_KEY: key})
    return tensors[ATLAS_TENSOR], [
        replace(one, displacement_mm=tensors[str(number)]) for number, one in enumerate(aligned)
    ]


def _read(path: Path, key: str) -> dict[str, Tensor] | None:
    """What is there, if it is of the heads of that key."""
    try:
        with safe_open(path, framework="pt") as file:
            if (file.metadata() or {}).get(_HEADS_KEY) != key:
                return None
        return dict(safetensors.torch.load_file(path))
    except (OSError, SafetensorError):
        return None
