"""From a bundle whose network is a graph to networks that are ready to run."""

from __future__ import annotations

from pathlib import Path

import torch

from CMBDetectorLib.errors import ModelError
from CMBDetectorLib.models.graph import parse_graph
from CMBDetectorLib.models.graph_network import GraphNetwork
from CMBDetectorLib.models.tensors import read_tensors
from CMBDetectorLib.models.whole_head_bundle import WholeHeadBundle


def load_graph_member(
    bundle: WholeHeadBundle, path: Path, device: str | torch.device = "cpu"
) -> GraphNetwork:
    """One member of the ensemble: float32, evaluation mode.

    Raises
    ------
    ModelError
        If the file is no longer the one that was checked, is not a safetensors file, or its tensors
        are not those of the graph.
    """
    graph = parse_graph(bundle.network_def, bundle.root)
    tensors = {name: tensor.float() for name, tensor in read_tensors(bundle, path).items()}
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise ModelError(f"{path}: {name} holds values that are not finite; get it again")
    try:
        network = GraphNetwork(graph, tensors)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    network.eval().requires_grad_(requires_grad=False)
    target = torch.device(device)
    network.to(target)
    if target.type in {"cpu", "cuda"}:
        # The arrays of a graph have their channels innermost; so should its kernels.
        network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return network
