"""Slice and 3D views of the scene without a window, as Slicer's own views would draw them.

Slice logics, displayable managers and interactors are Slicer's own. VTK renders off screen (EGL or
Mesa); where it cannot, :func:`canRender` says so.
"""

from __future__ import annotations

import functools
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import slicer
import vtk
import vtk.util.numpy_support

RgbImage = npt.NDArray[np.uint8]

_SIZE = (400, 400)
VIEWS = {"Red": "Axial", "Yellow": "Sagittal", "Green": "Coronal"}
_COLORS = {"Red": (0.95, 0.29, 0.2), "Yellow": (0.93, 0.83, 0.3), "Green": (0.43, 0.69, 0.29)}
_MANAGERS_2D = (
    "vtkMRMLSegmentationsDisplayableManager2D",
    "vtkMRMLMarkupsDisplayableManager",
    "vtkMRMLCrosshairDisplayableManager",
)
_MANAGERS_3D = (
    "vtkMRMLCameraDisplayableManager",
    "vtkMRMLViewDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager3D",
    "vtkMRMLMarkupsDisplayableManager",
)


@functools.cache
def canRender() -> bool:
    """Whether VTK can draw here; asked in a child process, as the answer may be a crash."""
    code = (
        "import vtk; w = vtk.vtkRenderWindow(); w.SetOffScreenRendering(1); w.SetSize(8, 8); "
        "w.AddRenderer(vtk.vtkRenderer()); w.Render(); assert w.SupportsOpenGL()"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    return child.returncode == 0


@dataclass
class View:
    """One view: its node, its window, and for a slice view its logic."""

    node: Any
    window: Any
    renderer: Any
    interactor: Any
    group: Any
    style: Any
    logic: Any = None
    mapper: Any = None


class SliceViews:
    """The three slice views, and a 3D view once it is asked for. Call ``close`` in the end.

    Tests use the application's own ones, through the fixture ``views``.
    """

    def __init__(self, scene: Any = None, applicationLogic: Any = None) -> None:
        self._scene = slicer.mrmlScene if scene is None else scene
        self._applicationLogic = applicationLogic or slicer.app.applicationLogic()
        self._logics = vtk.vtkCollection()
        self._views = {name: self._newSliceView(name) for name in VIEWS}
        self._view3D: View | None = None
        self._applicationLogic.SetSliceLogics(self._logics)

    @property
    def names(self) -> list[str]:
        """Names of the slice views."""
        return list(self._views)

    @property
    def logics(self) -> Any:
        """The slice logics, as a vtkCollection."""
        return self._logics

    def view(self, name: str) -> View:
        """A slice view by its name: "Red" (axial), "Yellow" (sagittal) or "Green" (coronal)."""
        return self._views[name]

    def view3D(self) -> View:
        """The 3D view."""
        if self._view3D is None:
            self._view3D = self._newView3D()
        return self._view3D

    def show(self, volumeNode: Any) -> None:
        """Put a volume into all slice views and fit it."""
        slicer.util.setSliceViewerLayers(background=volumeNode)
        for view in self._views.values():
            view.logic.FitSliceToBackground()

    def render(self, name: str, size: tuple[int, int] = _SIZE) -> RgbImage:
        """A picture of a slice view, shape (height, width, 3), row 0 on top."""
        view = self._views[name]
        if tuple(view.window.GetSize()) != size:
            self.resize(name, size)
        view.logic.UpdatePipeline()
        connection = view.logic.GetImageDataConnection()
        view.mapper.SetInputConnection(connection)
        if connection is not None:
            connection.GetProducer().Update()
        return _picture(view)

    def render3D(self, size: tuple[int, int] = _SIZE) -> RgbImage:
        """A picture of the 3D view, looking at everything in it."""
        view = self.view3D()
        view.window.SetSize(*size)
        view.renderer.ResetCamera()
        return _picture(view)

    def resize(self, name: str, size: tuple[int, int]) -> None:
        """Give a slice view another size in pixels; the millimeters per pixel stay."""
        view = self._views[name]
        view.window.SetSize(*size)
        view.interactor.UpdateSize(*size)
        view.logic.ResizeSliceNode(*size)

    def reset(self) -> None:
        """As at the start of the application."""
        for name, view in self._views.items():
            view.node.SetOrientation(VIEWS[name])
            view.node.SetSlabReconstructionEnabled(False)
            view.node.SetXYZOrigin(0.0, 0.0, 0.0)
            view.node.SetFieldOfView(250.0, 250.0, 1.0)
            self.resize(name, _SIZE)
            view.node.JumpSliceByCentering(0.0, 0.0, 0.0)

    def close(self) -> None:
        """Let go of the scene; the slice nodes stay in it."""
        views = [*self._views.values(), *([self._view3D] if self._view3D else [])]
        for view in views:
            view.group.SetMRMLDisplayableNode(None)
            view.style.SetInteractor(None)
            view.interactor.SetRenderWindow(None)
            view.window.Finalize()
            if view.logic is not None:
                view.logic.SetMRMLScene(None)
        self._logics.RemoveAllItems()
        self._views.clear()
        self._view3D = None

    def _newSliceView(self, name: str) -> View:
        logic = slicer.vtkMRMLSliceLogic()
        logic.SetMRMLApplicationLogic(self._applicationLogic)
        self._logics.AddItem(logic)
        logic.SetMRMLScene(self._scene)
        # Slice nodes are singletons that stay in a cleared scene: another one would not be in it.
        node = self._scene.GetSingletonNode(name, "vtkMRMLSliceNode") or logic.AddSliceNode(name)
        logic.SetSliceNode(node)
        node.SetOrientation(VIEWS[name])
        node.SetLayoutColor(*_COLORS[name])
        mapper = vtk.vtkImageMapper()
        # The slice is finished 8-bit color: window and level that leave it as it is.
        mapper.SetColorWindow(255)
        mapper.SetColorLevel(127.5)
        picture = vtk.vtkActor2D()
        picture.SetMapper(mapper)
        picture.GetProperty().SetDisplayLocationToBackground()
        factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
        view = self._newView(node, factory, _MANAGERS_2D, slicer.vtkMRMLSliceViewInteractorStyle())
        view.renderer.AddViewProp(picture)
        view.logic, view.mapper = logic, mapper
        logic.ResizeSliceNode(*view.window.GetSize())
        return view

    def _newView3D(self) -> View:
        node = self._scene.GetSingletonNode("1", "vtkMRMLViewNode")
        if node is None:
            node = slicer.vtkMRMLViewNode()
            node.SetSingletonTag("1")
            node.SetLayoutName("1")
            node = self._scene.AddNode(node)
        factory = slicer.vtkMRMLThreeDViewDisplayableManagerFactory.GetInstance()
        return self._newView(node, factory, _MANAGERS_3D, slicer.vtkMRMLThreeDViewInteractorStyle())

    def _newView(self, node: Any, factory: Any, managers: tuple[str, ...], style: Any) -> View:
        factory.SetMRMLApplicationLogic(self._applicationLogic)
        renderer = vtk.vtkRenderer()
        window = vtk.vtkRenderWindow()
        window.SetOffScreenRendering(1)
        window.SetSize(*_SIZE)
        window.AddRenderer(renderer)
        interactor = vtk.vtkGenericRenderWindowInteractor()
        interactor.SetRenderWindow(window)
        group = slicer.vtkMRMLDisplayableManagerGroup()
        group.SetRenderer(renderer)
        for name in managers:
            manager = getattr(slicer, name)()
            manager.SetMRMLApplicationLogic(self._applicationLogic)
            group.AddDisplayableManager(manager)
        group.SetMRMLDisplayableNode(node)
        style.SetDisplayableManagers(group)
        # As Slicer does: the style passes events on to the displayable managers, VTK's own does
        # nothing.
        interactor.SetInteractorStyle(vtk.vtkInteractorStyleUser())
        style.SetInteractor(interactor)
        interactor.UpdateSize(*_SIZE)
        interactor.Enable()
        return View(node, window, renderer, interactor, group, style)


def _picture(view: View) -> RgbImage:
    view.window.Render()
    grab = vtk.vtkWindowToImageFilter()
    grab.SetInput(view.window)
    grab.ReadFrontBufferOff()
    grab.Update()
    image = grab.GetOutput()
    width, height, _ = image.GetDimensions()
    values = vtk.util.numpy_support.vtk_to_numpy(image.GetPointData().GetScalars())
    # VTK counts rows from the bottom.
    return values.reshape(height, width, -1)[::-1, :, :3].copy()
