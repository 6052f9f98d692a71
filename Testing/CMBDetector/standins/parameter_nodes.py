"""Stands in for ``slicer.parameterNodeWrapper``: typed access to a parameter node.

Types: bool, int, float, str, MRML node classes and unions of these; ``Annotated`` with ``Default``,
``WithinRange``, ``Minimum``, ``Maximum`` or ``Choice``. As in Slicer, a bound spin box takes the
bounds of its parameter, the widest there are without any, and values are kept as text in the node,
nodes as node references.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import slicer
import vtk
from standins import ctk, qmrml, qt

__all__ = ["Choice", "Default", "Maximum", "Minimum", "WithinRange", "parameterNodeWrapper"]


@dataclass
class Default:
    value: Any


@dataclass
class WithinRange:
    minimum: float
    maximum: float


@dataclass
class Minimum:
    minimum: float


@dataclass
class Maximum:
    maximum: float


class Choice:
    def __init__(self, choices: Any) -> None:
        self.choices = choices


class _Parameter:
    """One attribute of a wrapper."""

    def __init__(self, name: str, annotation: Any, owner: type) -> None:
        self.name = name
        self.annotations: tuple[Any, ...] = ()
        if typing.get_origin(annotation) is typing.Annotated:
            annotation, *rest = typing.get_args(annotation)
            self.annotations = tuple(rest)
        if isinstance(annotation, types.UnionType):
            raise TypeError(f"{name}: Slicer's wrapper knows typing.Union, not |")
        self.types = typing.get_args(annotation) or (annotation,)
        self.types = tuple(t for t in self.types if t is not type(None))
        self.isNode = all(issubclass(t, slicer.vtkMRMLNode) for t in self.types)
        if not self.isNode and self.types[0] not in (bool, int, float, str):
            raise TypeError(f"{name}: the stand-in knows no parameters of {annotation}")
        given = self.annotation(Default)
        if hasattr(owner, name):
            self.default = getattr(owner, name)
        elif given is not None:
            self.default = given.value
        else:
            self.default = None if self.isNode else self.types[0]()

    def annotation(self, kind: type) -> Any:
        return next((a for a in self.annotations if isinstance(a, kind)), None)

    def read(self, node: Any) -> Any:
        if self.isNode:
            return node.GetNodeReference(self.name)
        text = node.GetParameter(self.name)
        if self.types[0] is bool:
            return text == "True"
        return self.types[0](text)

    def write(self, node: Any, value: Any) -> None:
        if self.isNode:
            if value is not None and not isinstance(value, self.types):
                raise TypeError(f"{self.name}: expected a node of {self.types}, got {value!r}")
            # None is a value, too: an empty parameter of the same name says that it was set.
            node.SetParameter(self.name, "")
            node.SetNodeReferenceID(self.name, value.GetID() if value is not None else None)
            return
        kind = self.types[0]
        accepted = (int, float) if kind is float else (kind,)
        if not isinstance(value, accepted) or isinstance(value, bool) != (kind is bool):
            raise TypeError(f"{self.name}: expected {kind.__name__}, got {value!r}")
        value = kind(value)
        self._validate(value)
        node.SetParameter(self.name, str(value))

    def isIn(self, node: Any) -> bool:
        return self.name in node.GetParameterNames()

    def bounds(self) -> tuple[Any, Any]:
        both = self.annotation(WithinRange)
        lower, upper = self.annotation(Minimum), self.annotation(Maximum)
        widest = 2**31 if self.types[0] is int else float("inf")
        return (
            both.minimum if both else lower.minimum if lower else -widest,
            both.maximum if both else upper.maximum if upper else widest - (widest == 2**31),
        )

    def _validate(self, value: Any) -> None:
        choice = self.annotation(Choice)
        if choice is not None and value not in choice.choices:
            raise ValueError(f"{self.name}: {value!r} is none of {choice.choices}")
        if self.types[0] in (int, float):
            lower, upper = self.bounds()
            if not lower <= value <= upper:
                raise ValueError(f"{self.name}: {value} is not within {lower} to {upper}")


def parameterNodeWrapper(cls: type) -> type:
    """Make the annotated attributes parameters of the node that the class is made with."""
    hints = typing.get_type_hints(cls, include_extras=True)
    parameters = {name: _Parameter(name, hint, cls) for name, hint in hints.items()}
    for parameter in parameters.values():
        setattr(cls, parameter.name, _property(parameter))
    methods: dict[str, Any] = {
        "allParameters": parameters,
        "__init__": _init,
        "connectGui": _connectGui,
        "disconnectGui": _disconnectGui,
        "StartModify": lambda self: self.parameterNode.StartModify(),
        "EndModify": lambda self, was: self.parameterNode.EndModify(was),
        "AddObserver": lambda self, *arguments: self.parameterNode.AddObserver(*arguments),
        "RemoveObserver": lambda self, tag: self.parameterNode.RemoveObserver(tag),
        "Modified": lambda self: self.parameterNode.Modified(),
    }
    for name, method in methods.items():
        setattr(cls, name, method)
    return cls


def _property(parameter: _Parameter) -> property:
    def write(self: Any, value: Any) -> None:
        parameter.write(self.parameterNode, value)

    return property(lambda self: parameter.read(self.parameterNode), write)


def _init(self: Any, parameterNode: Any) -> None:
    self.parameterNode = parameterNode
    self._bindings = {}
    self._isUpdating = False
    for parameter in self.allParameters.values():
        if not parameter.isIn(parameterNode):
            parameter.write(parameterNode, parameter.default)


def _connectGui(self: Any, gui: Any) -> int:
    """Bind every widget that has the dynamic property ``SlicerParameterName``."""
    widgets = gui.findChildren(qt.QWidget) if isinstance(gui, qt.QWidget) else vars(gui).values()
    bindings = [
        _Binding(self, self.allParameters[name], widget)
        for widget in widgets
        if (name := widget.property("SlicerParameterName"))
    ]
    tag = len(self._bindings)
    observer = self.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: _updateGui(self))
    self._bindings[tag] = (bindings, observer)
    for binding in bindings:
        binding.connect()
    return tag


def _disconnectGui(self: Any, tag: int) -> None:
    bindings, observer = self._bindings.pop(tag)
    self.RemoveObserver(observer)
    for binding in bindings:
        binding.disconnect()


def _updateGui(self: Any) -> None:
    if self._isUpdating:
        return
    self._isUpdating = True
    try:
        for bindings, _observer in self._bindings.values():
            for binding in bindings:
                binding.write()
    finally:
        self._isUpdating = False


_Kind = tuple[str, Callable[[Any], Any], Callable[[Any, Any], None]]


class _Binding:
    """A widget and the parameter it shows."""

    # class of widget -> (signal, how to read, how to write)
    _KINDS: ClassVar[dict[type, _Kind]] = {
        qt.QCheckBox: ("stateChanged(int)", lambda w: w.checked, lambda w, v: w.setChecked(v)),
        qt.QPushButton: ("toggled(bool)", lambda w: w.checked, lambda w, v: w.setChecked(v)),
        qt.QSpinBox: ("valueChanged(int)", lambda w: w.value, lambda w, v: w.setValue(v)),
        qt.QDoubleSpinBox: ("valueChanged(double)", lambda w: w.value, lambda w, v: w.setValue(v)),
        qt.QLineEdit: ("textChanged(QString)", lambda w: w.text, lambda w, v: w.setText(v)),
        ctk.ctkPathLineEdit: (
            "currentPathChanged(QString)",
            lambda w: w.currentPath,
            lambda w, v: w.setCurrentPath(v),
        ),
        qmrml.qMRMLNodeComboBox: (
            "currentNodeChanged(vtkMRMLNode*)",
            lambda w: w.currentNode(),
            lambda w, v: w.setCurrentNode(v),
        ),
    }

    def __init__(self, wrapper: Any, parameter: _Parameter, widget: Any) -> None:
        if type(widget) not in self._KINDS:
            raise TypeError(f"the stand-in cannot bind a {type(widget).__name__} to a parameter")
        self._wrapper, self._parameter, self._widget = wrapper, parameter, widget
        self._signal, self._read, self._write = self._KINDS[type(widget)]
        if isinstance(widget, qt.QSpinBox | qt.QDoubleSpinBox):
            widget.setRange(*parameter.bounds())

    def connect(self) -> None:
        self.write()
        self._widget.connect(self._signal, self._onChanged)

    def disconnect(self) -> None:
        self._widget.disconnect(self._signal, self._onChanged)

    def write(self) -> None:
        self._write(self._widget, self._parameter.read(self._wrapper.parameterNode))

    def _onChanged(self) -> None:
        if not self._wrapper._isUpdating:
            self._parameter.write(self._wrapper.parameterNode, self._read(self._widget))
