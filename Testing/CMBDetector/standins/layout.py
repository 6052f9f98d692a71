"""Stands in for the layout manager: the views of rendering.py under Slicer's names."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import Property, QObject, Signal
from rendering import SliceViews, View


class qMRMLLayoutManager(QObject):
    """Three slice views and one 3D view."""

    layoutChanged = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self.views = SliceViews()

    def sliceViewNames(self) -> list[str]:
        return self.views.names

    def sliceWidget(self, name: str) -> qMRMLSliceWidget | None:
        if name not in self.views.names:
            return None
        return qMRMLSliceWidget(self.views.view(name))

    def mrmlSliceLogics(self) -> Any:
        return self.views.logics

    def _threeDViewCount(self) -> int:
        return 1

    threeDViewCount = Property(int, _threeDViewCount)

    def threeDWidget(self, index: int) -> qMRMLThreeDWidget | None:
        return qMRMLThreeDWidget(self.views.view3D()) if index == 0 else None


class qMRMLSliceWidget:
    """One slice view with its controls."""

    def __init__(self, view: View) -> None:
        self._view = view

    def sliceView(self) -> qMRMLSliceView:
        return qMRMLSliceView(self._view)

    def sliceLogic(self) -> Any:
        return self._view.logic

    def mrmlSliceNode(self) -> Any:
        return self._view.node


class qMRMLSliceView:
    """What is drawn of a slice view; ``interactor`` gets the mouse."""

    def __init__(self, view: View) -> None:
        self._view = view

    def interactor(self) -> Any:
        return self._view.interactor

    def renderWindow(self) -> Any:
        return self._view.window

    def mrmlSliceNode(self) -> Any:
        return self._view.node


class qMRMLThreeDWidget:
    """The 3D view with its controls."""

    def __init__(self, view: View) -> None:
        self._view = view

    def threeDView(self) -> qMRMLThreeDView:
        return qMRMLThreeDView(self._view)

    def mrmlViewNode(self) -> Any:
        return self._view.node


class qMRMLThreeDView:
    """What is drawn of the 3D view."""

    def __init__(self, view: View) -> None:
        self._view = view

    def resetFocalPoint(self) -> None:
        self._view.renderer.ResetCamera()
