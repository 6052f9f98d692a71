"""Let PySide6 behave as PythonQt, 3D Slicer's binding of Qt, does.

What PythonQt does differently, and what this file therefore changes in PySide6's classes themselves
(so that objects made by Qt, such as a table's header, behave alike):

- Qt properties are attributes: ``label.text = "x"``, ``button.enabled``; setters remain methods.
- ``name`` is ``objectName``.
- Objects of Qt's own classes take no new attributes: a misspelled property is an error.
- ``sender.connect("clicked(bool)", slot)`` and ``disconnect``; a Python function is called with as
  many of the signal's arguments as it declares, defaults included, and other callables with all.
- ``delete()`` destroys the object.

A signal that does not exist is an error here; PythonQt only prints a warning.
"""

from __future__ import annotations

import enum
import inspect
import types
import weakref
from collections.abc import Callable
from typing import Any

import shiboken6
from PySide6 import QtCore

_CONNECTIONS: weakref.WeakKeyDictionary[Any, list[tuple[str, Callable[..., Any], Any]]] = (
    weakref.WeakKeyDictionary()
)
# What Qt declares of each class, inherited ones included: names of properties, signatures of
# signals.
# Kept from before the classes are changed; some versions of PySide6 lose it then.
DECLARED: dict[type, tuple[frozenset[str], frozenset[str]]] = {}
# Virtual functions: C++ asks Python for them by name, so they have to stay functions.
_VIRTUAL = {"sizeHint", "minimumSizeHint"}


class QtProperty:
    """A Qt property as an attribute; on the class, the function that had its name."""

    def __init__(self, name: str, getter: Any, setter: Any, function: Any) -> None:
        self.name, self._getter, self._setter, self._function = name, getter, setter, function

    def __get__(self, instance: Any, owner: Any) -> Any:
        if instance is None:
            return self if self._function is None else self._function.__get__(None, owner)
        if self._getter is None:
            return _PROPERTY(instance, self.name)
        return self._getter(instance)

    def __set__(self, instance: Any, value: Any) -> None:
        if self._setter is None:
            raise AttributeError(
                f"property '{self.name}' of {type(instance).__name__} is not writable"
            )
        self._setter(instance, value)


_PROPERTY = QtCore.QObject.property
_SET_PROPERTY = QtCore.QObject.setProperty


def adapt(classes: list[type]) -> None:
    """Change the classes in place; bases come first."""
    objects = [c for c in classes if issubclass(c, QtCore.QObject)]
    for cls in sorted(objects, key=lambda c: len(c.__mro__)):
        _adaptClass(cls)
    QtCore.QObject.name = QtCore.QObject.__dict__["objectName"]
    # PySide6 looks these two up past the class's own attributes.
    QtCore.QObject.__getattribute__ = _getAttribute
    QtCore.QObject.delete = _delete
    QtCore.QObject.className = _className
    for cls in classes:
        if "__setattr__" in cls.__dict__ and not issubclass(cls, enum.Enum):
            cls.__setattr__ = _setAttribute


def _adaptClass(cls: Any) -> None:
    meta = cls.staticMetaObject
    properties = frozenset(meta.property(index).name() for index in range(meta.propertyCount()))
    DECLARED[cls] = properties, frozenset(_signatures(meta))
    for index in range(meta.propertyCount()):
        declared = meta.property(index)
        name = declared.name()
        own = cls.__dict__.get(name)
        isNew = index >= meta.propertyOffset()
        if name in _VIRTUAL or isinstance(own, QtProperty) or not (isNew or own is not None):
            continue
        setattr(cls, name, QtProperty(name, _getter(cls, name), _setter(cls, declared), own))


def _getter(cls: Any, name: str) -> Any:
    capital = name[0].upper() + name[1:]
    for candidate in (name, f"is{capital}"):
        function = inspect.getattr_static(cls, candidate, None)
        # Not isinstance: PySide6 6.12 miscounts the references to False there, which ends Python.
        if type(function) in (QtProperty, QtCore.Signal):
            continue
        if function is not None and not isinstance(function, staticmethod):
            bound = getattr(cls, candidate)
            if callable(bound) and name not in _PROPERTY_ONLY:
                return bound
    return None


# QTimer.singleShot is a static function, too.
_PROPERTY_ONLY = {"singleShot"}


def _setter(cls: Any, declared: Any) -> Any:
    if not declared.isWritable():
        return None
    name = declared.name()
    function = getattr(cls, f"set{name[0].upper()}{name[1:]}", None)
    if callable(function):
        return function

    def setProperty(instance: Any, value: Any) -> None:
        if not _SET_PROPERTY(instance, name, value):
            raise TypeError(f"property '{name}' does not take {value!r}")

    return setProperty


_GET_ATTRIBUTE = QtCore.QObject.__getattribute__


def _delete(self: Any) -> None:
    shiboken6.delete(self)


def _className(self: Any) -> str:
    return str(self.metaObject().className())


def _getAttribute(self: Any, name: str) -> Any:
    if name == "connect":
        return types.MethodType(_connect, self)
    if name == "disconnect":
        return types.MethodType(_disconnect, self)
    return _GET_ATTRIBUTE(self, name)


def _setAttribute(self: Any, name: str, value: Any) -> None:
    cls = type(self)
    declared = inspect.getattr_static(cls, name, None)
    if hasattr(type(declared), "__set__"):
        declared.__set__(self, value)
    elif isinstance(declared, QtCore.Property):
        _SET_PROPERTY(self, name, value)
    elif isinstance(value, QtCore.SignalInstance):
        self.__dict__[name] = value  # PySide6 keeps signals of objects made by Qt
    elif cls.__module__.startswith("PySide6.") and not isinstance(value, QtCore.SignalInstance):
        raise AttributeError(
            f"'{name}' is no property of {cls.__name__}, and PythonQt creates no new attributes on "
            "objects of Qt's own classes"
        )
    else:
        self.__dict__[name] = value


def _connect(self: Any, signature: str, slot: Callable[..., Any], *_type: Any) -> bool:
    signal = signalOf(self, signature)
    if not callable(slot):
        raise TypeError(f"expected a callable for {signature}, got {slot!r}")
    adapted = _adaptedSlot(slot)
    signal.connect(adapted)
    _CONNECTIONS.setdefault(self, []).append((_normalized(signature), slot, adapted))
    return True


def _disconnect(self: Any, signature: str, slot: Callable[..., Any]) -> bool:
    connections = _CONNECTIONS.get(self, [])
    for connection in connections:
        if connection[:2] == (_normalized(signature), slot):
            signalOf(self, signature).disconnect(connection[2])
            connections.remove(connection)
            return True
    return False


def _normalized(signature: str) -> str:
    return bytes(QtCore.QMetaObject.normalizedSignature(signature).data()).decode()


def signalOf(sender: Any, signature: str) -> Any:
    """The bound signal of exactly that signature; AttributeError if the class has none.

    A signal with default arguments exists without them, too, as in C++.
    """
    wanted = _normalized(signature)
    name, types_ = wanted[:-1].split("(", 1)
    alias = getattr(sender, "SIGNALS", {}).get(wanted)
    if alias is not None:
        return getattr(sender, alias)
    meta = sender.metaObject()
    overloads = [s for s in _signatures(meta) if s.startswith(f"{name}(")]
    if meta.indexOfSignal(wanted) < 0:
        raise AttributeError(
            f"{type(sender).__name__} has no signal '{wanted}', "
            f"only {overloads or sorted(_signatures(meta))}"
        )
    signal = getattr(sender, name)
    return signal if len(overloads) == 1 else signal[types_] if types_ else signal[()]


def _signatures(meta: Any) -> list[str]:
    methods = (meta.method(index) for index in range(meta.methodCount()))
    return [
        bytes(m.methodSignature().data()).decode()
        for m in methods
        if m.methodType() == QtCore.QMetaMethod.MethodType.Signal
    ]


def _adaptedSlot(slot: Callable[..., Any]) -> Callable[..., Any]:
    """The slot as PythonQt calls it. Being a function, it also keeps the slot's object alive."""
    count: int | None = None
    function = slot.__func__ if isinstance(slot, types.MethodType) else slot
    if isinstance(function, types.FunctionType):
        code = function.__code__
        if not code.co_flags & inspect.CO_VARARGS:
            count = code.co_argcount - isinstance(slot, types.MethodType)

    def call(*arguments: Any) -> None:
        slot(*arguments[:count])

    return call
