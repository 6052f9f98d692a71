"""Keras models in ``.h5`` files as graphs; nothing in them is executed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from CMBDetectorLib.errors import ModelError
from CMBDetectorLib.importing.graph_builder import DEFAULT_SHAPE, GraphBuilder, Value
from CMBDetectorLib.importing.hdf5_content import Weights
from CMBDetectorLib.importing.hdf5_reading import read_safely
from CMBDetectorLib.importing.keras_config import KerasModel, Layer, Source, parse_model
from CMBDetectorLib.importing.keras_layers import LayerCall
from CMBDetectorLib.importing.keras_more_layers import LAYERS, unsupported_reason
from CMBDetectorLib.importing.simplify import simplify
from CMBDetectorLib.models.graph import Graph

_LARGEST_LENGTH = 1024


def read_keras_h5(
    path: Path, shape: tuple[int, int, int] | None = None
) -> tuple[Graph, dict[str, npt.NDArray[np.float32]]]:
    """Read a functional Keras model.

    What a policy of mixed precision says is left aside: weights are stored in single precision,
    and computed with.

    Parameters
    ----------
    shape
        Of the images, where the model leaves it open; by default 160 x 214 x 176.

    Returns
    -------
    graph, tensors
        See :mod:`CMBDetectorLib.models.graph`.

    Raises
    ------
    ModelError
        If the file is damaged, a layer is not supported (it is named), or the model does not take
        images of that shape.
    MissingDependencyError
        If h5py is not installed.
    """
    config, weights = read_safely(path)
    try:
        return build_graph(parse_model(config, path), weights, shape)
    except ModelError as error:
        if str(path) in str(error):
            raise
        raise ModelError(f"{path}: {error}") from error


def build_graph(
    model: KerasModel, weights: Weights, shape: tuple[int, int, int] | None
) -> tuple[Graph, dict[str, npt.NDArray[np.float32]]]:
    """The graph of a model that has been parsed; see :func:`read_keras_h5`."""
    builder = GraphBuilder(_image_shape(model.layers.get(model.input[0]), shape))
    values: dict[Source, Value] = {(model.input[0], 0, 0): builder.image}
    for source in _in_order(model):
        if source not in values:
            values[source] = _call(builder, model.layers[source[0]], source, values, weights)
    output = values[model.output]
    if output.name == builder.image.name:
        raise ModelError("the model computes nothing from its image; export it again")
    return simplify(builder.graph(output), builder.tensors)


def _call(
    builder: GraphBuilder,
    layer: Layer,
    source: Source,
    values: Mapping[Source, Value],
    weights: Weights,
) -> Value:
    build = LAYERS.get(layer.class_name)
    if build is None:
        reason = unsupported_reason(layer.class_name)
        raise ModelError(f"the layer {layer.name[:60]!r} {reason}")
    inputs = [values[one] for one in layer.calls[source[1]]]
    own = weights.get(layer.name, {})
    return build(LayerCall(builder, layer.name, layer.config, own, inputs))


def _in_order(model: KerasModel) -> list[Source]:
    """The tensors that the output needs, each after those it is made of."""
    order: list[Source] = []
    done: set[Source] = {(model.input[0], 0, 0)}
    open_: set[Source] = set()
    pending = [model.output]
    while pending:
        source = pending[-1]
        if source in done:
            pending.pop()
            continue
        missing = [one for one in _inputs(model, source) if one not in done]
        if not missing:
            pending.pop()
            done.add(source)
            order.append(source)
        elif source in open_:
            raise ModelError(f"the layer {source[0][:60]!r} depends on itself; export it again")
        else:
            open_.add(source)
            pending.extend(missing)
    return order


def _inputs(model: KerasModel, source: Source) -> tuple[Source, ...]:
    layer = model.layers.get(source[0])
    if layer is None or source[1] >= len(layer.calls) or source[2] != 0:
        raise ModelError(f"the model uses {source[0][:60]!r}, which is not one of its layers")
    if not layer.calls[source[1]]:
        raise ModelError(f"the layer {source[0][:60]!r} is given nothing; export the model again")
    return layer.calls[source[1]]


def _image_shape(
    layer: Layer | None, shape: tuple[int, int, int] | None
) -> tuple[int, int, int, int]:
    config: Mapping[str, Any] = {} if layer is None else layer.config
    stated = config.get("batch_input_shape", config.get("batch_shape"))
    if layer is None or not isinstance(stated, list) or len(stated) != 5:
        raise ModelError(
            f"the model takes arrays of shape {str(stated)[:60]}, expected (batch, i, j, k, "
            "channels)"
        )
    given = shape or DEFAULT_SHAPE
    i, j, k = (n if n is not None else m for n, m in zip(stated[1:4], given, strict=True))
    channels = stated[4]
    lengths = (i, j, k, channels)
    if not all(isinstance(n, int) and 1 <= n <= _LARGEST_LENGTH for n in lengths):
        raise ModelError(f"the model takes images of shape {str(lengths)[:60]}")
    if shape is not None and (i, j, k) != shape:
        raise ModelError(f"the model takes images of {i}x{j}x{k} voxels, expected {shape}")
    return lengths
