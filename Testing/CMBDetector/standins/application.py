"""Stands in for ``slicer.app``, ``slicer.modules`` and the main window."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from PySide6.QtCore import QObject, Signal
from PySide6.QtWidgets import QApplication, QMainWindow, QToolBar
from standins import qt


class qSlicerApplication(QApplication):
    """The application, without a display."""

    startupCompleted = Signal()

    def __init__(self, scene: Any, applicationLogic: Any, folder: Path) -> None:
        super().__init__(["Slicer", "-platform", "offscreen"])
        self.setApplicationName("Slicer")
        self.setQuitOnLastWindowClosed(False)
        self._scene, self._logic = scene, applicationLogic
        self._layoutManager: Any = None
        self.exitCodes: list[int] = []
        self.slicerHome = str(folder / "home")
        self.temporaryPath = str(folder / "temporary")
        self.majorVersion, self.minorVersion, self.revision = 5, 12, "0"
        self._commandOptions = SimpleNamespace(runPythonAndExit=False)
        Path(self.temporaryPath).mkdir(parents=True)

    def mrmlScene(self) -> Any:
        return self._scene

    def applicationLogic(self) -> Any:
        return self._logic

    def layoutManager(self) -> Any:
        if self._layoutManager is None:
            # Views are made when somebody wants to see something.
            from standins.layout import qMRMLLayoutManager

            self._layoutManager = qMRMLLayoutManager()
        return self._layoutManager

    @property
    def hasViews(self) -> bool:
        """For tests: whether views were made."""
        return self._layoutManager is not None

    def moduleManager(self) -> Any:
        return _moduleManager

    def testingEnabled(self) -> bool:
        return False

    def commandOptions(self) -> Any:
        return self._commandOptions

    def exit(self, status: int = 0) -> None:
        self.exitCodes.append(status)

    def pauseRender(self) -> None:
        pass

    def resumeRender(self) -> None:
        pass

    def userSettings(self) -> Any:
        return qt.QSettings()

    def settings(self) -> Any:
        return qt.QSettings()


class qSlicerModuleManager(QObject):
    """Finds modules by their names."""

    moduleAboutToBeUnloaded = Signal(str)

    def module(self, name: str) -> Any:
        return getattr(modules, name.lower(), None)


class qSlicerModuleSelectorToolBar(QToolBar):
    """Where modules are chosen; remembers the choices for tests."""

    def __init__(self) -> None:
        super().__init__()
        self.selectedModules: list[str] = []

    def selectModule(self, name: str) -> None:
        self.selectedModules.append(name)

    @property
    def selectedModule(self) -> str:
        return self.selectedModules[-1] if self.selectedModules else ""


class qSlicerMainWindow(QMainWindow):
    """The window that slicer.util looks for by its name."""

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("qSlicerMainWindow")
        self._selector = qSlicerModuleSelectorToolBar()
        self.addToolBar(self._selector)

    def moduleSelector(self) -> qSlicerModuleSelectorToolBar:
        return self._selector


modules = SimpleNamespace()
_moduleManager: Any = None


def start(scene: Any, applicationLogic: Any, logics: dict[str, Any], folder: Path) -> Any:
    """The one application of the process, with its main window and module logics."""
    global _moduleManager  # noqa: PLW0603 - there is one application, as in Slicer
    qt.settingsFile = str(folder / "settings.ini")
    application = qSlicerApplication(scene, applicationLogic, folder)
    application.window = qSlicerMainWindow()
    _moduleManager = qSlicerModuleManager()
    for name, logic in logics.items():
        module = SimpleNamespace(name=name, logic=lambda logic=logic: logic)
        setattr(modules, name.lower(), module)
    return application
