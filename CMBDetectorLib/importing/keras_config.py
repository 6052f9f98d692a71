"""What a Keras model says about its layers, in the forms of Keras 2 and Keras 3."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from CMBDetectorLib.errors import ModelError

MAX_LAYERS = 5000
_MAX_DEPTH = 12

Source = tuple[str, int, int]
"""A tensor: the layer that makes it, which of its calls, and which of its results."""


@dataclass(frozen=True)
class Layer:
    """A layer; ``calls`` holds, for each time it is used, the tensors it is given."""

    name: str
    class_name: str
    config: Mapping[str, Any]
    calls: tuple[tuple[Source, ...], ...]


@dataclass(frozen=True)
class KerasModel:
    """Layers by name, and the one input and the one output of the model."""

    layers: Mapping[str, Layer]
    input: Source
    output: Source


def parse_model(config: Any, path: Path) -> KerasModel:
    """Read the ``model_config`` of a file.

    Raises
    ------
    ModelError
        If it is not a functional or sequential model with one input and one output.
    """
    if not isinstance(config, dict) or not isinstance(config.get("config"), dict):
        raise ModelError(f"{path}: the model's configuration is not one of Keras; export it again")
    kind, inner = config.get("class_name"), config["config"]
    raw_layers = inner.get("layers")
    if not isinstance(raw_layers, list) or not 0 < len(raw_layers) <= MAX_LAYERS:
        raise ModelError(
            f"{path}: the model's configuration has no list of layers; export it again"
        )
    if kind == "Sequential":
        return _sequential(raw_layers, path)
    if kind not in ("Functional", "Model"):
        raise ModelError(
            f"{path}: a Keras model of the class {str(kind)[:60]!r}, expected Functional or "
            "Sequential; export it as a functional model"
        )
    layers: dict[str, Layer] = {}
    for raw in raw_layers:
        layer = _layer(raw, path)
        if layer.name in layers:
            raise ModelError(f"{path}: two layers are called {layer.name[:60]!r}; export it again")
        layers[layer.name] = layer
    return KerasModel(
        layers,
        _only(inner.get("input_layers"), "input", path),
        _only(inner.get("output_layers"), "output", path),
    )


def _sequential(raw_layers: list[Any], path: Path) -> KerasModel:
    layers: dict[str, Layer] = {}
    last: Source | None = None
    for raw in raw_layers:
        bare = _layer({**raw, "inbound_nodes": []} if isinstance(raw, dict) else raw, path)
        shape = bare.config.get("batch_input_shape", bare.config.get("batch_shape"))
        if last is None and bare.class_name != "InputLayer":
            entry = Layer(f"{bare.name} input", "InputLayer", {"batch_shape": shape}, ())
            layers[entry.name] = entry
            last = (entry.name, 0, 0)
        calls = () if last is None else ((last,),)
        layers[bare.name] = Layer(bare.name, bare.class_name, bare.config, calls)
        last = (bare.name, 0, 0)
    first = (next(iter(layers)), 0, 0)
    return KerasModel(layers, first, last or first)


def _layer(raw: Any, path: Path) -> Layer:
    if not isinstance(raw, dict) or not isinstance(raw.get("config"), dict):
        raise ModelError(
            f"{path}: a layer is {str(raw)[:60]}, expected an object with its settings"
        )
    name = raw.get("name", raw["config"].get("name"))
    class_name, nodes = raw.get("class_name"), raw.get("inbound_nodes")
    if not isinstance(name, str) or not isinstance(class_name, str) or not isinstance(nodes, list):
        raise ModelError(f"{path}: the layer {str(name)[:60]!r} is not described as Keras does")
    calls = tuple(_sources(node, path) for node in nodes)
    return Layer(name, class_name, raw["config"], calls)


def _sources(node: Any, path: Path) -> tuple[Source, ...]:
    """The tensors of one call, in order."""
    found: list[Source] = []
    if isinstance(node, dict):  # Keras 3
        _collect_tensors(node.get("args"), found, 0)
        _collect_tensors(node.get("kwargs"), found, 0)
    elif isinstance(node, list):  # Keras 2: [[layer, call, result, {...}], ...]
        entries = [node] if node and isinstance(node[0], str) else node
        for entry in entries:
            if isinstance(entry, list) and len(entry) > 3 and _holds_tensor(entry[3]):
                raise ModelError(
                    f"{path}: a layer is given tensors by keyword, which is not supported; "
                    "please report it with the model's name"
                )
            found.append(_source(entry, path))
    else:
        raise ModelError(f"{path}: a layer's inputs are {str(node)[:60]}; export the model again")
    return tuple(found)


def _collect_tensors(value: Any, found: list[Source], depth: int) -> None:
    if depth > _MAX_DEPTH:
        return
    if isinstance(value, dict) and value.get("class_name") == "__keras_tensor__":
        history = value.get("config", {}).get("keras_history")
        if isinstance(history, list) and _is_source(history):
            found.append((history[0], history[1], history[2]))
    elif isinstance(value, dict):
        for item in value.values():
            _collect_tensors(item, found, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _collect_tensors(item, found, depth + 1)


def _holds_tensor(arguments: Any) -> bool:
    """Keras 2 spells a tensor given by keyword as a list that begins with a layer's name."""
    if not isinstance(arguments, dict):
        return False
    return any(isinstance(value, list) and _is_source(value[:3]) for value in arguments.values())


def _is_source(entry: list[Any]) -> bool:
    is_named = len(entry) >= 3 and isinstance(entry[0], str)
    return is_named and all(isinstance(n, int) and 0 <= n < MAX_LAYERS for n in entry[1:3])


def _source(entry: Any, path: Path) -> Source:
    if not isinstance(entry, list) or not _is_source(entry):
        raise ModelError(f"{path}: a layer's input is {str(entry)[:60]}; export the model again")
    return entry[0], entry[1], entry[2]


def _only(entries: Any, what: str, path: Path) -> Source:
    if isinstance(entries, list) and len(entries) == 3 and isinstance(entries[0], str):
        entries = [entries]  # Keras 3 spells a single one without the outer list
    if not isinstance(entries, list) or len(entries) != 1:
        number = len(entries) if isinstance(entries, list) else "no"
        raise ModelError(
            f"{path}: the model has {number} {what}s, expected one; models of several images are "
            "not supported"
        )
    return _source(entries[0], path)
