"""Weights of PyTorch networks as a bundle that works on tiles, with another model's settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from CMBDetectorLib.errors import ModelError
from CMBDetectorLib.importing.cards import license_text, model_card
from CMBDetectorLib.importing.monai_bundle import read_monai_bundle
from CMBDetectorLib.importing.network_weights import weights_of_network
from CMBDetectorLib.importing.pickled_tensors import read_tensors
from CMBDetectorLib.importing.sources import ModelSource
from CMBDetectorLib.importing.terms import Terms
from CMBDetectorLib.models.bundle import ModelBundle, write_bundle
from CMBDetectorLib.models.bundle_files import Weights
from CMBDetectorLib.models.library import find_bundle
from CMBDetectorLib.models.manifest import BundleManifest


def write_tile_model(
    root: Path,
    source: ModelSource,
    terms: Terms,
    *,
    like: str | None,
    record: dict[str, Any],
    on_step: Callable[[str], None],
) -> ModelBundle:
    """Read weights, or a MONAI bundle, and write them as a bundle.

    Raises
    ------
    ModelError, MissingDependencyError
        As :func:`~CMBDetectorLib.importing.import_model.import_model`.
    """
    model = find_bundle(like)
    values = {f.name: getattr(model, f.name) for f in fields(BundleManifest)}
    manifest = BundleManifest(**values)
    on_step(f"reading {source.networks[0].name}")
    members: list[Weights]
    if source.format == "monai_bundle":
        network = read_monai_bundle(source.networks[0])
        manifest = _with_network(manifest, dict(network.network_def), source.networks[0])
        members = [network.weights]
    else:
        members = [
            weights_of_network(manifest.network_def, read_tensors(path), path)
            for path in source.networks
        ]
    preparation = (
        f"Its preprocessing, tiles, threshold and channels are those of {model.id} "
        f"{model.version}; they were not measured with these weights."
    )
    manifest = replace(
        manifest,
        id=terms.id,
        name=terms.name,
        version=terms.version,
        description=f"Imported weights. {preparation}",
        authors=terms.authors,
        copyright=f"{terms.authors}; see LICENSE",
        license=terms.license,
        changelog={},
        training_data={"source": record},
        metrics={},
        # It was trained on what the other weights take for lesions.
        second_stage=None,
    )
    on_step(f"writing {root}")
    return write_bundle(
        root,
        manifest,
        members,
        model_card=model_card(manifest, record, terms, preparation),
        license_text=license_text(source, terms),
        exact=True,
    )


def _with_network(
    manifest: BundleManifest, network_def: dict[str, Any], path: Path
) -> BundleManifest:
    channels = network_def["out_channels"]
    if network_def["in_channels"] != 1:
        raise ModelError(f"{path}: the network takes {network_def['in_channels']} channels, not 1")
    if channels == len(manifest.channels):
        return replace(manifest, network_def=network_def)
    if channels == 1:
        return replace(
            manifest, network_def=network_def, channels=("microbleed",), probability_channel=0
        )
    raise ModelError(
        f"{path}: the network gives {channels} channels, expected 1 (microbleeds), or the "
        f"{len(manifest.channels)} of {manifest.id} ({', '.join(manifest.channels)})"
    )
