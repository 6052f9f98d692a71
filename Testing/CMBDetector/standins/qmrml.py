"""Stands in for Slicer's MRML widgets, over the real scene."""

from __future__ import annotations

from typing import Any, ClassVar

import vtk
from PySide6.QtCore import Property, Signal
from PySide6.QtWidgets import QComboBox, QHBoxLayout, QWidget
from standins import qt

_SCENE_EVENTS = ("EndBatchProcessEvent", "EndImportEvent", "EndCloseEvent", "EndRestoreEvent")


class qMRMLWidget(QWidget):
    """A widget that passes the scene on to its children."""

    SIGNALS: ClassVar = {"mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged"}
    mrmlSceneChanged = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._scene: Any = None

    def mrmlScene(self) -> Any:
        return self._scene

    def setMRMLScene(self, scene: Any) -> None:
        if scene is not self._scene:
            self._scene = scene
            self.mrmlSceneChanged.emit(scene)


def _option(name: str, kind: type, default: Any) -> Any:
    """A Qt property of the combo box that changes which nodes are listed."""
    attribute = f"_{name}"

    def read(self: Any) -> Any:
        return getattr(self, attribute, default)

    def write(self: Any, value: Any) -> None:
        setattr(self, attribute, value)
        self._update()

    return Property("QStringList" if kind is list else kind, read, write)


class qMRMLNodeComboBox(QWidget):
    """A choice of the scene's nodes of some types.

    Without ``noneEnabled`` the first node that comes is chosen by itself, as in Slicer.
    """

    SIGNALS: ClassVar = {
        "currentNodeChanged(vtkMRMLNode*)": "currentNodeChanged",
        "currentNodeChanged(bool)": "currentNodeIsValid",
        "nodeActivated(vtkMRMLNode*)": "nodeActivated",
    }
    currentNodeChanged = Signal(object)
    currentNodeIsValid = Signal(bool)
    currentNodeIDChanged = Signal(str)
    nodeActivated = Signal(object)

    nodeTypes = _option("nodeTypes", list, [])
    noneEnabled = _option("noneEnabled", bool, False)
    noneDisplay = _option("noneDisplay", str, "None")
    showChildNodeTypes = _option("showChildNodeTypes", bool, True)
    showHidden = _option("showHidden", bool, False)
    addEnabled = _option("addEnabled", bool, True)
    removeEnabled = _option("removeEnabled", bool, True)
    renameEnabled = _option("renameEnabled", bool, False)
    editEnabled = _option("editEnabled", bool, False)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._scene: Any = None
        self._current: Any = None
        self._listed: list[Any] = []
        self._attributes: list[tuple[str, str, str | None]] = []
        self._tags: list[tuple[Any, int]] = []
        self._combo = QComboBox()
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._combo)
        self.setEnabled(False)
        self._combo.connect("activated(int)", self._onActivated)
        tags = self._tags
        self.connect("destroyed()", lambda: _unobserve(tags))

    def mrmlScene(self) -> Any:
        return self._scene

    def setMRMLScene(self, scene: Any) -> None:
        if scene is self._scene:
            return
        _unobserve(self._tags)
        self._scene = scene
        self.setEnabled(scene is not None)
        if scene is not None:
            for event in (scene.NodeAddedEvent, scene.NodeRemovedEvent):
                self._tags.append((scene, scene.AddObserver(event, self._onSceneEvent)))
            for name in _SCENE_EVENTS:
                event = getattr(scene, name)
                self._tags.append((scene, scene.AddObserver(event, self._onSceneEvent)))
        self._update()

    def addAttribute(self, nodeType: str, name: str, value: str | None = None) -> None:
        self._attributes.append((nodeType, name, value))
        self._update()

    def currentNode(self) -> Any:
        return self._current

    def setCurrentNode(self, node: Any) -> None:
        self._update(wanted=node)

    def _currentId(self) -> str:
        return str(self._current.GetID() or "") if self._current is not None else ""

    def setCurrentNodeID(self, nodeId: str) -> None:
        self.setCurrentNode(self._scene.GetNodeByID(nodeId) if self._scene and nodeId else None)

    currentNodeID = Property(str, _currentId, setCurrentNodeID)

    def nodeCount(self) -> int:
        return len(self._listed)

    def nodeFromIndex(self, index: int) -> Any:
        return self._listed[index] if 0 <= index < len(self._listed) else None

    def nodes(self) -> list[Any]:
        return list(self._listed)

    def setCurrentNodeIndex(self, index: int) -> None:
        self.setCurrentNode(self.nodeFromIndex(index))

    def _accepts(self, node: Any) -> bool:
        types = self.nodeTypes
        isType = any(
            node.IsA(name) if self.showChildNodeTypes else node.GetClassName() == name
            for name in types
        )
        if not isType or (node.GetHideFromEditors() and not self.showHidden):
            return False
        return all(
            node.GetAttribute(name) is not None
            and (value is None or node.GetAttribute(name) == value)
            for kind, name, value in self._attributes
            if node.IsA(kind)
        )

    def _onSceneEvent(self, scene: Any, _event: str) -> None:
        if not scene.IsBatchProcessing():
            self._update()

    def _onNodeModified(self, _node: Any, _event: str) -> None:
        self._update()

    def _onActivated(self, index: int) -> None:
        row = index - bool(self.noneEnabled)
        self._update(wanted=self.nodeFromIndex(row))
        self.nodeActivated.emit(self._current)

    _KEEP = object()

    def _update(self, wanted: Any = _KEEP) -> None:
        scene = self._scene
        before = self._current
        candidates = []
        if scene is not None:
            every = [scene.GetNthNode(index) for index in range(scene.GetNumberOfNodes())]
            candidates = [n for n in every if any(n.IsA(name) for name in self.nodeTypes)]
        self._watch(candidates)
        self._listed = [node for node in candidates if self._accepts(node)]
        chosen = before if wanted is self._KEEP else wanted
        if chosen not in self._listed:
            chosen = self._listed[0] if self._listed and not self.noneEnabled else None
        self._current = chosen
        names = ([self.noneDisplay] if self.noneEnabled else []) + [
            node.GetName() or "" for node in self._listed
        ]
        self._combo.clear()
        self._combo.addItems(names)
        if chosen is not None:
            self._combo.setCurrentIndex(self._listed.index(chosen) + bool(self.noneEnabled))
        elif not self.noneEnabled:
            self._combo.setCurrentIndex(-1)
        if chosen is not before:
            self.currentNodeChanged.emit(chosen)
            self.currentNodeIsValid.emit(chosen is not None)
            self.currentNodeIDChanged.emit(self.currentNodeID)

    def _watch(self, nodes: list[Any]) -> None:
        """Names and attributes of the candidates may change."""
        watched = [subject for subject, _tag in self._tags if subject is not self._scene]
        if watched == nodes:
            return
        ofScene = [pair for pair in self._tags if pair[0] is self._scene]
        _unobserve([pair for pair in self._tags if pair not in ofScene])
        self._tags[:] = ofScene
        event = vtk.vtkCommand.ModifiedEvent
        self._tags += [(node, node.AddObserver(event, self._onNodeModified)) for node in nodes]


def _unobserve(tags: list[tuple[Any, int]]) -> None:
    """Widgets go away, the scene stays."""
    for subject, tag in tags:
        subject.RemoveObserver(tag)
    tags.clear()


qt.customWidgets |= {c.__name__: c for c in (qMRMLWidget, qMRMLNodeComboBox)}
