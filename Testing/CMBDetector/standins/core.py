"""Starts 3D Slicer's real core (MRML, segmentations, markups, subject hierarchy) without Qt."""

from __future__ import annotations

from typing import Any

import slicer
import vtk
import vtk.util.numpy_support  # slicer.util and modules use it as an attribute

LOGICS = {
    "Colors": "vtkMRMLColorLogic",
    "Terminologies": "vtkSlicerTerminologiesModuleLogic",
    "Segmentations": "vtkSlicerSegmentationsModuleLogic",
    "Volumes": "vtkSlicerVolumesLogic",
    "Markups": "vtkSlicerMarkupsLogic",
    "Tables": "vtkSlicerTablesLogic",
    "Texts": "vtkSlicerTextsLogic",
    "Sequences": "vtkSlicerSequencesLogic",
    "SegmentEditor": "vtkSlicerSegmentEditorLogic",
    "SubjectHierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
}
messages: list[tuple[str, str]] = []
"""("error" or "warning", text) of everything that VTK reported."""


def start(cacheFolder: str) -> tuple[Any, Any, dict[str, Any]]:
    """The scene, the application logic and the module logics by name; once in a process.

    ``cacheFolder`` exists.

    The order matters: colors before volumes, segmentations' logic before any segmentation.
    """
    catchMessages()
    scene = slicer.vtkMRMLScene()
    application = slicer.vtkSlicerApplicationLogic()
    application.SetMRMLScene(scene)
    application.GetColorLogic().SetMRMLScene(scene)
    application.GetColorLogic().AddDefaultColorNodes()
    logics: dict[str, Any] = {}
    for name, className in LOGICS.items():
        logic = getattr(slicer, className)()
        logic.SetMRMLScene(scene)
        logic.SetMRMLApplicationLogic(application)
        application.SetModuleLogic(name, logic)
        logics[name] = logic
    slicer.mrmlScene = scene
    logics["RemoteIO"], logics["DataIOManager"] = _dataIO(scene, application, cacheFolder)
    # The core looks for lists of terms in Slicer's own folders, which the package lacks.
    messages.clear()
    return scene, application, logics


def _dataIO(scene: Any, application: Any, cacheFolder: str) -> tuple[Any, Any]:
    """Reading a scene's files goes through a cache, even where they are local."""
    remote = slicer.vtkMRMLRemoteIOLogic()
    remote.GetCacheManager().SetRemoteCacheDirectory(cacheFolder)
    remote.SetMRMLScene(scene)
    remote.AddDataIOToScene()
    logic = slicer.vtkDataIOManagerLogic()
    logic.SetMRMLApplicationLogic(application)
    logic.SetAndObserveDataIOManager(remote.GetDataIOManager())
    return remote, logic


def catchMessages() -> None:
    """Collect what VTK reports instead of printing it."""
    window = vtk.vtkStringOutputWindow()
    for event, kind in (("ErrorEvent", "error"), ("WarningEvent", "warning")):
        window.AddObserver(event, _collector(kind))
    vtk.vtkOutputWindow.SetInstance(window)
    vtk.vtkLogger.SetStderrVerbosity(vtk.vtkLogger.VERBOSITY_OFF)


def _collector(kind: str) -> Any:
    def collect(_window: Any, _event: str, text: str) -> None:
        messages.append((kind, text))

    collect.CallDataType = vtk.VTK_STRING  # type: ignore[attr-defined]
    return collect
