"""Stands in for ``qt``, PythonQt's flat module of Qt: PySide6, adapted."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets
from standins import dialogs, pythonqt

_MODULES = (QtWidgets, QtGui, QtCore, QtUiTools)
# PySide6 fills its modules on demand, so vars() would show next to nothing. Names with a dot are
# those of classes within classes.
_CLASSES = {
    name: getattr(module, name)
    for module in reversed(_MODULES)
    for name in dir(module)
    if name.startswith("Q") and "." not in name and isinstance(getattr(module, name), type)
}
pythonqt.adapt([*_CLASSES.values()])
globals().update(_CLASSES)
Qt = QtCore.Qt
settingsFile = ""  # set by install(): tests must not touch the user's settings
customWidgets: dict[str, type] = {}


class QSettings(QtCore.QSettings):
    """The application's settings, in a file of the tests' own."""

    def __init__(self, *arguments: Any) -> None:
        if arguments:
            super().__init__(*arguments)
        else:
            super().__init__(settingsFile, QtCore.QSettings.Format.IniFormat)


class QUiLoader(QtUiTools.QUiLoader):
    """Reads .ui files and knows the widgets of CTK and Slicer."""

    def createWidget(self, className: str, parent: Any = None, name: str = "") -> Any:
        if className in customWidgets:
            widget = customWidgets[className](parent)
            widget.setObjectName(name)
            return widget
        if className not in self.availableWidgets():
            raise RuntimeError(f"the .ui file has a {className}, for which there is no stand-in")
        return super().createWidget(className, parent, name)

    def load(self, device: Any, parent: Any = None) -> Any:
        """Read the file; connections and sets of flags of stand-ins are beyond Qt's own reader."""
        root = ElementTree.fromstring(bytes(device.readAll().data()))
        connections = root.find("connections")
        wires = [] if connections is None else list(connections)
        if connections is not None:
            root.remove(connections)
        flags = _takeFlags(root)
        buffer = QtCore.QBuffer()
        buffer.setData(ElementTree.tostring(root))
        buffer.open(QtCore.QIODevice.OpenModeFlag.ReadOnly)
        widget = super().load(buffer, parent)
        for name, prop, value in flags:
            _named(widget, name).setProperty(prop, value)
        for wire in wires:
            texts = {part.tag: part.text or "" for part in wire}
            slot = getattr(_named(widget, texts["receiver"]), texts["slot"].split("(")[0])
            _named(widget, texts["sender"]).connect(texts["signal"], slot)
        return widget


def _named(widget: Any, name: str) -> Any:
    return widget if widget.objectName == name else widget.findChild(QtWidgets.QWidget, name)


def _takeFlags(root: ElementTree.Element) -> list[tuple[str, str, int]]:
    """Take out the flags that belong to stand-ins: widget, property, value."""
    flags = []
    for widget in root.iter("widget"):
        cls = customWidgets.get(widget.get("class", ""))
        for prop in widget.findall("property"):
            values = prop.find("set")
            if cls is not None and values is not None:
                names = (flag.split("::")[-1] for flag in (values.text or "").split("|"))
                value = sum(getattr(cls, flag) for flag in names)
                flags.append((widget.get("name", ""), prop.get("name", ""), value))
                widget.remove(prop)
    return flags


class QFileDialog(QtWidgets.QFileDialog):
    """Answers come from the test; like PythonQt, returns the path only."""

    @staticmethod
    def getExistingDirectory(_parent: Any = None, caption: str = "", *_rest: Any) -> str:
        return dialogs.answerPath(caption)

    @staticmethod
    def getOpenFileName(_parent: Any = None, caption: str = "", *_rest: Any) -> str:
        return dialogs.answerPath(caption)

    @staticmethod
    def getSaveFileName(_parent: Any = None, caption: str = "", *_rest: Any) -> str:
        return dialogs.answerPath(caption)
