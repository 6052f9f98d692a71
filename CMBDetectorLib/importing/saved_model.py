"""Reading TensorFlow SavedModels without TensorFlow; nothing in them is run.

A SavedModel is a folder: ``saved_model.pb`` holds the graph, ``variables`` the numbers.

References
----------
TensorFlow guide, "Using the SavedModel format", and the messages named in
:mod:`~CMBDetectorLib.importing.tensorflow_graph`.
"""

from __future__ import annotations

from pathlib import Path

from CMBDetectorLib.errors import ModelError
from CMBDetectorLib.importing.graph_builder import DEFAULT_SHAPE, FloatArray, Value
from CMBDetectorLib.importing.simplify import simplify
from CMBDetectorLib.importing.tensor_bundle import TensorBundle
from CMBDetectorLib.importing.tensorflow_evaluator import Evaluator
from CMBDetectorLib.importing.tensorflow_graph import Endpoint, Reference, SavedGraph, Signature
from CMBDetectorLib.importing.tensorflow_network import Network
from CMBDetectorLib.importing.tensorflow_objects import object_keys
from CMBDetectorLib.importing.tensorflow_types import Array, is_float, type_name
from CMBDetectorLib.importing.tensorflow_variables import checkpoint_keys
from CMBDetectorLib.models.graph import Graph, graph_to_json, parse_graph

GRAPH_NAME = "saved_model.pb"
VARIABLES_NAME = "variables"
SIGNATURE = "serving_default"
MAX_GRAPH_BYTES = 512 * 2**20


def read_saved_model(
    folder: Path, image_shape: tuple[int, int, int] | None = None
) -> tuple[Graph, dict[str, FloatArray]]:
    """The network in a SavedModel, as it is when used.

    Parameters
    ----------
    folder
        That holds ``saved_model.pb``.
    image_shape
        Of the image the network is to be used on, (i, j, k). By default what the model says it
        takes, and :data:`DEFAULT_SHAPE` where it leaves that open.

    Returns
    -------
    graph, tensors
        As :class:`~CMBDetectorLib.models.graph_network.GraphNetwork` takes them, simplified.

    Raises
    ------
    ModelError
        If the folder is no SavedModel or damaged, the network does not take one image and give
        one, or it needs an operation that is not supported; the message names it.
    """
    try:
        return _read(folder, image_shape)
    except ModelError as error:
        raise ModelError(f"{folder}: {error}") from error


def _read(
    folder: Path, image_shape: tuple[int, int, int] | None
) -> tuple[Graph, dict[str, FloatArray]]:
    data = _graph_bytes(folder / GRAPH_NAME)
    try:
        graph = SavedGraph(data)
        signature = graph.signature(SIGNATURE)
    except ModelError as error:
        raise ModelError(f"{GRAPH_NAME}: {error}") from error
    image = _only_input(signature)
    variables = _Variables(graph, folder / VARIABLES_NAME)
    network = Network(_shape(image, image_shape), len(data) + variables.n_bytes)
    placeholder = Reference.parse(image.reference).node
    output = _only_output(signature)
    evaluator = Evaluator(graph, network, variables.read)
    result = evaluator.run(graph.main, {placeholder: network.image}, [output.reference])[0]
    if not isinstance(result, Value):
        raise ModelError("the result does not depend on the image; export the model again")
    smaller, tensors = simplify(*network.finish(result))
    return parse_graph(graph_to_json(smaller), GRAPH_NAME), tensors


class _Variables:
    """The values of a model's variables, each read once, when it is needed."""

    def __init__(self, graph: SavedGraph, folder: Path) -> None:
        self._bundle = TensorBundle(folder)
        self._graph = graph
        self._keys: dict[str, str] | None = None
        self._read: dict[str, Array] = {}
        self.n_bytes = self._bundle.n_bytes

    def read(self, name: str) -> Array:
        """By the name of the variable's node."""
        if self._keys is None:
            self._keys = checkpoint_keys(self._graph)
        if name not in self._keys:
            self._keys = object_keys(self._graph, self._bundle) | self._keys
        if name not in self._keys:
            raise ModelError(f"the variable {name[:80]!r} is never restored; get the model again")
        key = self._keys[name]
        if key not in self._read:
            self._read[key] = self._bundle.read(key)
        return self._read[key]


def _graph_bytes(path: Path) -> bytes:
    try:
        n_bytes = path.stat().st_size
        if n_bytes > MAX_GRAPH_BYTES:
            raise ModelError(f"{GRAPH_NAME}: {n_bytes} bytes, expected at most {MAX_GRAPH_BYTES}")
        return path.read_bytes()
    except OSError as error:
        raise ModelError(
            f"{GRAPH_NAME} cannot be read ({error.strerror}); is this the folder of a SavedModel?"
        ) from error


def _only_input(signature: Signature) -> Endpoint:
    """What the network takes: one image of real numbers."""
    names = ", ".join(name[:40] for name in sorted(signature.inputs)[:8])
    if len(signature.inputs) != 1:
        raise ModelError(
            f"takes {len(signature.inputs)} inputs ({names or 'none'}), expected one image"
        )
    image = next(iter(signature.inputs.values()))
    if image.shape is None or len(image.shape) != 5 or not is_float(image.data_type):
        shape = "open" if image.shape is None else str(image.shape)[:80]
        raise ModelError(
            f"the input {names} is of type {type_name(image.data_type)} and shape {shape}, "
            "expected real numbers of shape (batch, i, j, k, channels)"
        )
    return image


def _shape(image: Endpoint, image_shape: tuple[int, int, int] | None) -> tuple[int, int, int, int]:
    """The shape of the image without the batch, of which nothing is open any more."""
    assert image.shape is not None
    batch, *size, n_channels = image.shape
    wanted = image_shape or tuple(
        default if n < 0 else n for n, default in zip(size, DEFAULT_SHAPE, strict=True)
    )
    is_fitting = all(n in (-1, m) for n, m in zip(size, wanted, strict=True))
    if batch not in (-1, 1) or n_channels < 1 or not is_fitting or min(wanted) < 1:
        raise ModelError(
            f"takes an array of shape {str(image.shape)[:80]} (-1 is open), expected (1, "
            f"{', '.join(map(str, wanted))}, channels)"
        )
    return (wanted[0], wanted[1], wanted[2], n_channels)


def _only_output(signature: Signature) -> Endpoint:
    """What the network gives; of several of the same shape that whose name is first."""
    if not signature.outputs:
        raise ModelError("gives nothing; export the model again")
    if len({endpoint.shape for endpoint in signature.outputs.values()}) > 1:
        shapes = "; ".join(
            f"{name[:40]} {str(endpoint.shape)[:60]}"
            for name, endpoint in sorted(signature.outputs.items())[:8]
        )
        raise ModelError(f"gives several arrays ({shapes}), expected one image")
    return signature.outputs[min(signature.outputs)]
