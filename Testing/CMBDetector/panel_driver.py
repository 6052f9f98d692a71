"""The panel as 3D Slicer would open it, with a user's hands on it.

Processes are real: the runner is the module's own, on this Python instead of 3D Slicer's.
"""

from __future__ import annotations

import functools
import gc
import importlib.util
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import qt
import slicer
from CMBDetectorSlicer.environment import Environment, EnvironmentProbe
from CMBDetectorSlicer.logic import RunState, Services
from CMBDetectorSlicer.processes import PythonProcessRunner, qtSchedule

import CMBDetector
from CMBDetectorLib.geometry import Geometry

REPOSITORY = Path(__file__).resolve().parents[2]
DEADLINE_S = 240


@functools.cache
def installedHere() -> Environment:
    """What the module's own probe finds."""
    found: list[Environment] = []
    failed: list[Any] = []
    runner = PythonProcessRunner(Path(sys.executable), REPOSITORY, qtSchedule)
    EnvironmentProbe(runner).start(found.append, failed.append)
    end = time.monotonic() + DEADLINE_S
    while not found and not failed:
        assert time.monotonic() < end
        slicer.app.processEvents()
        time.sleep(0.005)
    assert not failed, failed[0].report
    return found[0]


class RecordingRunner:
    """The module's own runner, remembering what it started; ``environment`` is its children's."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        python = Path(sys.executable)
        self._runner = PythonProcessRunner(python, REPOSITORY, qtSchedule, environment)
        self.started: list[tuple[list[str], Any]] = []

    def start(self, arguments: Sequence[str], onLine: Any, onFinished: Any) -> Any:
        process = self._runner.start(arguments, onLine, onFinished)
        self.started.append((list(arguments), process))
        return process

    def running(self, command: str = "") -> list[Any]:
        return (
            [p for arguments, p in self.started if command in arguments[:1] and p.isRunning]
            if (command)
            else [p for _, p in self.started if p.isRunning]
        )


class RecordingInstaller:
    """Installs nothing and remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

    def install(self, requirements: Sequence[Any], *_: Any, **__: Any) -> None:
        self.asked.append(tuple(requirements))


class PanelDriver:
    """One opened panel; ``answer`` is what the user says to questions after those in ``answers``.

    What is installed is looked at once, in a real child process, and then known to all panels but
    those that are to look themselves (``looks``).
    """

    def __init__(
        self,
        runner: Any = None,
        installer: Any = None,
        answer: bool = True,
        model: str = "",
        looks: bool = False,
    ) -> None:
        self.runner = runner or RecordingRunner()
        self.installer = installer or RecordingInstaller()
        self.questions: list[str] = []
        self.answer = answer
        self.answers: list[bool] = []
        self.parent = slicer.qMRMLWidget()
        self.parent.setLayout(qt.QVBoxLayout())
        self.parent.layout().setContentsMargins(0, 0, 0, 0)
        self.parent.setMRMLScene(slicer.mrmlScene)
        self.widget = CMBDetector.CMBDetectorWidget(self.parent)
        known = None if looks else installedHere()
        self.widget.services = Services(self.runner, self.installer, self._ask, self._ask, known)
        self.widget.setup()
        self.widget.enter()
        self.ui, self.panel = self.widget.ui, self.widget.panel
        self.scanNode: Any = None
        if model:
            self.ui.modelSelector.currentIndex = self.ui.modelSelector.findData(model)
            assert self.panel.modelSection.settings().model == model
            # The scans of such models hold no head that an anatomy could be found in.
            self.ui.anatomyModeSelector.currentIndex = self.ui.anatomyModeSelector.findData("none")

    def _ask(self, text: str) -> bool:
        self.questions.append(text)
        return self.answers.pop(0) if self.answers else self.answer

    def close(self) -> None:
        """As when the module is unloaded."""
        self.widget.cleanup()
        self.waitUntil(lambda: not self.runner.running(), "all processes end")
        self.parent.delete()
        gc.collect()

    def click(self, name: str) -> None:
        slicer.app.processEvents()  # a user clicks on what is painted
        button = getattr(self.ui, name)
        assert button.enabled, f"{name} is disabled"
        button.click()

    def waitUntil(self, condition: Callable[[], Any], what: str) -> None:
        """Let the panel work until something holds."""
        end = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < end, f"waited in vain: {what}"
            slicer.app.processEvents()
            time.sleep(0.005)

    def waitForRun(self) -> None:
        self.waitUntil(lambda: not self.panel.run.isRunning, "the run ends")

    def waitForSearch(self) -> None:
        """Until the child process has told of its progress."""
        self.waitUntil(
            lambda: (
                (
                    self.panel.run.state is RunState.SEARCHING
                    and "Searching" in self.ui.stageLabel.text
                )
                or not self.panel.run.isRunning
            ),
            "the search is on its way",
        )
        assert self.panel.run.isRunning, self.ui.messageLabel.text

    def waitForCheck(self) -> None:
        slicer.app.processEvents()  # a check begins once all that belongs to a change is done
        self.waitUntil(lambda: not self.runner.running(), "checks and probes end")

    def shown(self, name: str) -> bool:
        """Whether a widget is shown, apart from the sections around it being open."""
        return not getattr(self.ui, name).isHidden()

    def text(self, name: str) -> str:
        """What a label says, without its markup; empty where it is hidden."""
        if not self.shown(name):
            return ""
        document = qt.QTextDocument()
        document.setHtml(getattr(self.ui, name).text)
        return str(document.toPlainText())


@dataclass(frozen=True)
class TinyScan:
    """Bright tissue with dark balls, indexed (i, j, k), and where they are in RAS mm."""

    array: np.ndarray
    geometry: Geometry
    centers: tuple[tuple[float, float, float], ...]


def tinyScan(
    centers: tuple[tuple[float, float, float], ...] = ((10.0, 2.0, 12.0), (-3.0, 16.0, 13.0)),
    scale: int = 1,
) -> TinyScan:
    """What the library's tests search; ``scale`` makes it larger and so slower."""
    affine = np.array([[-1, 0, 0, 20], [0, 1, 0, -10], [0, 0, 1, 5], [0, 0, 0, 1]], dtype=float)
    geometry = Geometry((32 * scale, 36 * scale, 16 * scale), affine)
    return TinyScan(_library().ball_image(geometry, centers).array, geometry, centers)


def installTinyModel(folder: Path, monkeypatch: Any, isSlow: bool = False) -> str:
    """Put a model that calls dark voxels microbleeds into a user's folder; its id."""
    monkeypatch.setenv("CMBDETECTOR_MODELS", str(folder))
    name, tile = ("slow_darkness", (8, 8, 4)) if isSlow else ("darkness", (48, 48, 16))
    _library().make_bundle(folder / name, tile)
    return name


@functools.cache
def _library() -> Any:
    """Makers of models and scans from the library's own tests."""
    path = REPOSITORY / "Testing/CMBDetectorLib/conftest.py"
    spec = importlib.util.spec_from_file_location("library_conftest", path)
    module = importlib.util.module_from_spec(spec)
    # dataclasses look their module up by name.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def addVolume(array: np.ndarray, affine: np.ndarray, name: str = "scan") -> Any:
    """A scalar volume node; the array is indexed (i, j, k)."""
    matrix = slicer.util.vtkMatrixFromArray(np.asarray(affine, dtype=float))
    return slicer.util.addVolumeFromArray(np.ascontiguousarray(array.T), matrix, name)


def loadVolume(path: Path, name: str = "scan") -> Any:
    """A volume node from a NIfTI file, as 3D Slicer's own reader makes it."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    storage = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLVolumeArchetypeStorageNode")
    storage.SetFileName(str(path))
    storage.SetSingleFile(True)
    assert storage.ReadData(node), path
    node.SetAndObserveStorageNodeID(storage.GetID())
    node.CreateDefaultDisplayNodes()
    return node
