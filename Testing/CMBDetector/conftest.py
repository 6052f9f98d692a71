"""3D Slicer for tests: its real core, and stand-ins for what only the application has.

Loading this file makes ``import slicer, vtk, qt, ctk`` and the modules in /CMBDetector work. What
is real and what stands in is told in standins/README.md.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
MODULE = HERE.parents[1] / "CMBDetector"
for folder in (HERE, MODULE):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

import slicer  # noqa: E402 - the path comes first
from PySide6.QtCore import QCoreApplication, QEvent  # noqa: E402
from rendering import canRender  # noqa: E402
from standins import core, dialogs, install, qt  # noqa: E402

APPLICATION = install.install()
slicer.modules.cmbdetector = SimpleNamespace(
    name="CMBDetector", path=str(MODULE / "CMBDetector.py")
)


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """``slicer.app``; an error in a slot fails the test, which Qt alone would only print."""
    errors: list[Any] = []
    monkeypatch.setattr(sys, "excepthook", lambda *error: errors.append(error))
    dialogs.clear()
    qt.QSettings().clear()
    APPLICATION.exitCodes.clear()
    slicer.util.moduleSelector().selectedModules.clear()
    yield APPLICATION
    APPLICATION.processEvents()
    # Panels that are done with. The application's loop deletes them; processEvents() does not.
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    if errors:
        raise errors[0][1]


@pytest.fixture
def scene(app: Any) -> Iterator[Any]:
    """The application's scene, empty. Whatever VTK calls an error fails the test."""
    scene = slicer.mrmlScene
    _empty(scene)
    core.messages.clear()
    yield scene
    _empty(scene)
    errors = [text for kind, text in core.messages if kind == "error"]
    core.messages.clear()
    assert not errors, "\n".join(errors)


def _empty(scene: Any) -> None:
    """Close the scene as the application does, and remove the singletons that survive that."""
    scene.Clear(False)
    for name in ("vtkMRMLScriptedModuleNode", "vtkMRMLSegmentEditorNode"):
        for node in slicer.util.getNodesByClass(name):
            scene.RemoveNode(node)
    interaction = APPLICATION.applicationLogic().GetInteractionNode()
    interaction.SetCurrentInteractionMode(interaction.ViewTransform)
    if APPLICATION.hasViews:
        APPLICATION.layoutManager().views.reset()


@pytest.fixture(scope="session")
def drawing() -> None:
    """Skips where VTK cannot draw; .ci/run installs what is needed for it."""
    if not canRender():
        pytest.skip("VTK cannot draw here: no EGL, Mesa or display")


@pytest.fixture
def views(scene: Any, drawing: None) -> Any:
    """The slice views and the 3D view: see rendering.py."""
    return APPLICATION.layoutManager().views


@pytest.fixture
def messages(app: Any) -> Any:
    """What was shown to the user, and the answers to questions: see standins/dialogs.py."""
    return dialogs
