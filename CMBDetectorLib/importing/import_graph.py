"""Networks of Keras and TensorFlow as a bundle that goes about an image as SHIVA does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from CMBDetectorLib.errors import ModelError
from CMBDetectorLib.importing.cards import license_text, model_card
from CMBDetectorLib.importing.keras_h5 import read_keras_h5
from CMBDetectorLib.importing.same_network import Tensors, as_ensemble
from CMBDetectorLib.importing.saved_model import read_saved_model
from CMBDetectorLib.importing.sources import ModelSource
from CMBDetectorLib.importing.terms import Terms
from CMBDetectorLib.models.graph import Graph, graph_to_json
from CMBDetectorLib.models.whole_head_bundle import (
    WholeHeadBundle,
    WholeHeadManifest,
    write_whole_head_bundle,
)
from CMBDetectorLib.settings import ClusterRules, ConformSettings, MaskingKind

_PREPARATION = (
    "Its images are prepared, and lesions are made of its outputs, as SHiVAi 0.5.9 does: 1 mm, 160 "
    "x 214 x 176 voxels around the brain, divided by the brain's 99th percentile, mean of the "
    "networks above .5 within the brain. Lesions are then brought to the image's own grid."
)


def write_whole_head_model(
    root: Path,
    source: ModelSource,
    terms: Terms,
    *,
    masking: MaskingKind,
    record: dict[str, Any],
    on_step: Callable[[str], None],
) -> WholeHeadBundle:
    """Read the networks and write them as one bundle.

    Raises
    ------
    ModelError, MissingDependencyError
        As :func:`~CMBDetectorLib.importing.import_model.import_model`.
    """
    read = read_keras_h5 if source.format == "keras" else read_saved_model
    preprocessing = ConformSettings(masking=masking)
    networks = []
    for number, path in enumerate(source.networks, start=1):
        on_step(f"reading network {number} of {len(source.networks)}: {path.name}")
        graph, tensors = read(path)
        _check(graph, tensors, preprocessing.shape, path)
        networks.append((graph, tensors))
    graph, members = as_ensemble(networks, [path.name for path in source.networks])
    manifest = WholeHeadManifest(
        id=terms.id,
        name=terms.name,
        version=terms.version,
        description=f"Imported from {record['format']} files. {_PREPARATION}",
        authors=terms.authors,
        copyright=f"{terms.authors}; see LICENSE",
        license=terms.license,
        network_def=graph_to_json(graph),
        preprocessing=preprocessing,
        rules=ClusterRules(),
        source=record,
    )
    on_step(f"writing {root}")
    return write_whole_head_bundle(
        root,
        manifest,
        members,
        model_card=model_card(manifest, record, terms, _PREPARATION),
        license_text=license_text(source, terms),
    )


def _check(graph: Graph, tensors: Tensors, shape: tuple[int, int, int], path: Path) -> None:
    """A network that this way of preparing images suits."""
    expected = (*shape, 1)
    if graph.image_shape != expected:
        raise ModelError(
            f"{path}: takes images of {_spelled(graph.image_shape)} (voxels and channels), "
            f"expected {_spelled(expected)} as SHIVA's networks for microbleeds; it is another "
            "kind of model"
        )
    last = next(node for node in graph.nodes if node.name == graph.output)
    if last.op != "sigmoid":
        raise ModelError(
            f"{path}: ends in {last.op}, expected sigmoid; its values would be no probabilities"
        )
    import torch

    from CMBDetectorLib.models.graph_network import GraphNetwork

    arrays = {name: torch.from_numpy(array) for name, array in tensors.items()}
    channels = GraphNetwork(graph, arrays).output_shape[-1]
    if channels != 1:
        raise ModelError(f"{path}: gives {channels} channels, expected 1")


def _spelled(shape: tuple[int, ...]) -> str:
    return "x".join(str(n) for n in shape)
