"""The part of the input section that says where the anatomy comes from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from CMBDetectorSlicer.anatomy_input import AUTOMATIC, FILE, NODE, NONE, AnatomyChoice

_TEXTS = {
    AUTOMATIC: "Find automatically",
    NONE: "Do not use",
    NODE: "From a segmentation or label map",
    FILE: "From a file",
}


class AnatomySection:
    """A mode, and the node or file where the mode asks for one; kept in the parameter node.

    ``onChanged`` is called when something else was chosen.
    """

    def __init__(self, ui: Any, onChanged: Callable[[], None]) -> None:
        self._ui, self._onChanged = ui, onChanged
        self._parameters: Any = None
        ui.anatomyModeSelector.clear()
        for mode, text in _TEXTS.items():
            ui.anatomyModeSelector.addItem(text, mode)
        ui.anatomyModeSelector.connect("currentIndexChanged(int)", self._onModeChanged)
        ui.anatomyFileEdit.connect("currentPathChanged(QString)", self._onFileChanged)
        ui.anatomySelector.connect("currentNodeChanged(vtkMRMLNode*)", self._onNodeChanged)
        self._showMode()

    def choice(self) -> AnatomyChoice:
        """What is chosen now."""
        ui = self._ui
        return AnatomyChoice(self._mode(), ui.anatomySelector.currentNode(), self._file())

    def setParameters(self, parameters: Any) -> None:
        """Show what a parameter node holds, and keep choices in it; None to let go of it."""
        self._parameters = None
        if parameters is not None:
            # The node selector is bound to its parameter by name, in the .ui file.
            index = self._ui.anatomyModeSelector.findData(parameters.anatomyMode)
            self._ui.anatomyModeSelector.currentIndex = max(index, 0)
            self._ui.anatomyFileEdit.currentPath = parameters.anatomyFile
        self._parameters = parameters

    def _mode(self) -> str:
        selector = self._ui.anatomyModeSelector
        return str(selector.itemData(selector.currentIndex))

    def _file(self) -> str:
        return str(self._ui.anatomyFileEdit.currentPath)

    def _showMode(self) -> None:
        mode = self._mode()
        self._ui.anatomySelector.visible = mode == NODE
        self._ui.anatomyFileEdit.visible = mode == FILE

    def _onModeChanged(self, *_: Any) -> None:
        self._showMode()
        if self._parameters is not None:
            self._parameters.anatomyMode = self._mode()
        self._onChanged()

    def _onFileChanged(self, *_: Any) -> None:
        if self._parameters is not None:
            self._parameters.anatomyFile = self._file()
        self._onChanged()

    def _onNodeChanged(self, *_: Any) -> None:
        self._onChanged()
