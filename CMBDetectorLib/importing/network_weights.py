"""Whether weights are those of a network."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt

from CMBDetectorLib.errors import MissingDependencyError, ModelError
from CMBDetectorLib.models.bundle_files import Weights


def weights_of_network(
    network_def: Mapping[str, Any], weights: Weights, path: Path
) -> dict[str, npt.NDArray[Any]]:
    """Every tensor of a network once, under the first of its names.

    Parameters
    ----------
    network_def
        See :func:`~CMBDetectorLib.models.networks.build_network`.
    weights
        A state dictionary. A tensor that the network has under several names, as MONAI's DynUNet
        does, may be there under any of them.
    path
        Named in errors; the file the weights come from.

    Raises
    ------
    ModelError
        If the network cannot be built, a tensor is missing, is not of the network, or has another
        shape.
    MissingDependencyError
        If PyTorch or MONAI is not installed.
    """
    try:
        import torch

        from CMBDetectorLib.models.networks import build_network
    except ImportError as error:
        raise MissingDependencyError(
            "importing a network needs PyTorch and MONAI; install the extra 'inference'"
        ) from error
    # Shapes only: no memory is taken for the values of a network that may be absurdly large.
    with torch.device("meta"):
        state = build_network(network_def).state_dict(keep_vars=True)
    unknown = next((name for name in weights if name not in state), None)
    if unknown is not None:
        raise ModelError(
            f"{path}: the network has no tensor {unknown[:80]!r}, which is in the file; give the "
            "weights of the network that is described"
        )
    names: defaultdict[int, list[str]] = defaultdict(list)
    for name, tensor in state.items():
        names[id(tensor)].append(name)
    found = {}
    for first, *others in names.values():
        given = [name for name in (first, *others) if name in weights]
        if not given:
            raise ModelError(
                f"{path}: lacks the tensor {first!r} of the network; give the weights of the "
                "network that is described"
            )
        for name in given:
            expected, shape = tuple(state[name].shape), weights[name].shape
            if shape != expected:
                raise ModelError(
                    f"{path}: {name!r} has shape {shape}, the network expects {expected}; give the "
                    "weights of the network that is described"
                )
        found[first] = weights[given[0]]
    return found
