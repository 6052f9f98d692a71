"""A bundle with the anatomy network, on disk; its files are those of every bundle.

The first member is the network, the second the atlas that guides it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from CMBDetectorLib.anatomy.alignment import ATLAS_SHAPE
from CMBDetectorLib.anatomy.parcellation import CLASSES, N_CHANNELS
from CMBDetectorLib.errors import ModelError
from CMBDetectorLib.models.bundle_files import (
    CheckedFiles,
    Weights,
    load_files,
    write_files,
)
from CMBDetectorLib.models.description import (
    OUR_KEY,
    ModelDescription,
    check_kind,
    common_metadata,
    parse_description,
)
from CMBDetectorLib.models.json_fields import JsonObject

CLASS_NAMES = tuple(one.name for one in CLASSES)
COORDINATES = ("right", "anterior", "superior")
CELL_VOXELS = 8
"""The network's places are cells of 2 x 2 x 2 voxels, see ``inference.atlas_guided``."""
INPUT_CHANNELS = (
    *(f"image, voxel {number} of the cell" for number in range(CELL_VOXELS)),
    *(f"atlas: {name}" for name in CLASS_NAMES),
    *(f"atlas and intensity: {name}" for name in CLASS_NAMES),
    *(f"{axis} in the atlas, 100 mm" for axis in COORDINATES),
)
ATLAS_TENSOR = "atlas"


@dataclass(frozen=True, kw_only=True)
class AnatomyManifest(ModelDescription):
    """Everything in a bundle with the anatomy network but its weights.

    Attributes
    ----------
    spacing_mm
        Of the isotropic grid on which the network labels the head.
    classes
        Names of the structures in the order of the channels, those of
        :data:`~CMBDetectorLib.anatomy.parcellation.CLASSES`. One more channel is the logit of
        the right side.
    """

    spacing_mm: float
    classes: tuple[str, ...] = CLASS_NAMES


@dataclass(frozen=True)
class AnatomyBundle(AnatomyManifest, CheckedFiles):
    """An anatomy network whose files have been checked."""


def load_anatomy_bundle(root: Path) -> AnatomyBundle:
    """Read a bundle's description after checking every one of its files; weights stay on disk.

    Raises
    ------
    ModelError
        As :func:`~CMBDetectorLib.models.bundle.load_bundle`; also if the classes are not those of
        this version.
    """
    return load_files(root, parse_anatomy_manifest, AnatomyBundle)


def write_anatomy_bundle(
    root: Path,
    manifest: AnatomyManifest,
    weights: Weights,
    atlas: npt.NDArray[np.uint8],
    *,
    model_card: str,
    license_text: str,
    overwrite: bool = False,
) -> AnatomyBundle:
    """Write a bundle, whole or not at all, and read it back.

    Parameters
    ----------
    root
        The bundle's folder; its name should be ``manifest.id``.
    weights
        The network's state dictionary as NumPy arrays. Tensors that the state has under several
        names, as MONAI's DynUNet does, are stored once.
    atlas
        Probability of each class times 255, (classes, x, y, z), on the grid of
        :mod:`CMBDetectorLib.anatomy.alignment`, the same on both sides: the right half is stored.
    model_card, license_text
        Contents of ``docs/README.md`` and ``LICENSE``.
    overwrite
        Replace a bundle that is already there.

    Raises
    ------
    ModelError
        If the folder exists and ``overwrite`` is not given, it cannot be written, the weights are
        not those of the network, the atlas is of another shape, or :func:`load_anatomy_bundle`
        would not accept the result.
    """
    from CMBDetectorLib.models.networks import without_repeated_names

    expected = (len(manifest.classes), *ATLAS_SHAPE)
    if atlas.dtype != np.uint8 or atlas.shape != expected:
        raise ModelError(
            f"the atlas is {atlas.dtype} of shape {atlas.shape}, expected uint8 of shape {expected}"
        )
    if (atlas != atlas[:, ::-1]).any():
        raise ModelError("the atlas differs between left and right; make it the same on both sides")
    right_half = np.ascontiguousarray(atlas[:, atlas.shape[1] // 2 :])
    return write_files(
        root,
        [without_repeated_names(manifest.network_def, weights), {ATLAS_TENSOR: right_half}],
        metadata_of=lambda names: anatomy_metadata(manifest, names),
        network_def=manifest.network_def,
        model_card=model_card,
        license_text=license_text,
        overwrite=overwrite,
        load=load_anatomy_bundle,
    )


def anatomy_metadata(manifest: AnatomyManifest, members: list[str]) -> dict[str, Any]:
    """The content of ``configs/metadata.json``."""
    names = [
        f"{name}, voxel {number} of the cell"
        for name in (*manifest.classes, "right side")
        for number in range(CELL_VOXELS)
    ]
    spatial = {"spatial_shape": ["8*n", "8*n", "8*n"], "dtype": "float32"}
    data_format = {
        "inputs": {
            "image": {
                "type": "image",
                "format": "magnitude",
                "modality": "MR",
                "num_channels": len(INPUT_CHANNELS),
                **spatial,
                "value_range": [0, 1],
                "is_patch_data": False,
                "channel_def": {str(n): name for n, name in enumerate(INPUT_CHANNELS)},
            }
        },
        "outputs": {
            "pred": {
                "type": "image",
                "format": "segmentation",
                "num_channels": len(names),
                **spatial,
                "value_range": [],
                "is_patch_data": False,
                "channel_def": {str(n): name for n, name in enumerate(names)},
            }
        },
    }
    return common_metadata(
        manifest,
        "anatomy",
        members,
        task="Regions of the brain and of the head on MR images of any contrast",
        data_format=data_format,
        own={"spacing_mm": manifest.spacing_mm, "classes": list(manifest.classes)},
    )


def parse_anatomy_manifest(metadata: JsonObject, inference: JsonObject) -> AnatomyManifest:
    """Read ``configs/metadata.json`` and ``configs/inference.json``, checking every value.

    Raises
    ------
    ModelError
        If it is another kind of model, the schema is newer than this version reads, a key is
        missing, a value is not what it must be, or the classes are not those of this version.
    """
    check_kind(metadata, "anatomy")
    ours = metadata.child(OUR_KEY)
    described = parse_description(metadata, inference)
    classes = ours.texts("classes")
    if classes != CLASS_NAMES:
        raise ours.error("classes", list(classes), f"the {len(CLASS_NAMES)} of this version")
    network_def = inference.child("network_def")
    expected = {"in_channels": len(INPUT_CHANNELS), "out_channels": CELL_VOXELS * N_CHANNELS}
    for key, number in expected.items():
        if network_def.data[key] != number:
            raise network_def.error(key, network_def.data[key], str(number))
    members = ours.texts("members")
    if len(members) != 2:
        raise ours.error("members", list(members), "two files, the network and its atlas")
    return AnatomyManifest(
        **described, spacing_mm=ours.number("spacing_mm", 0.5, 4), classes=classes
    )
