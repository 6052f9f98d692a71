"""CMBDetector for 3D Slicer: find cerebral microbleeds, look at them, judge them, export them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import slicer
import vtk
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)

# In a source checkout the library is the sibling of this folder, which alone is on sys.path; in
# an installed extension it lies beside this file.
if importlib.util.find_spec("CMBDetectorLib") is None:
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from CMBDetectorSlicer.logic import Services
from CMBDetectorSlicer.panel import Panel
from CMBDetectorSlicer.parameters import CMBDetectorParameterNode
from CMBDetectorSlicer.sample_data import registerSampleData

HELP = """
<p>Finds suspected cerebral microbleeds (CMB) on T2*-weighted gradient-echo and
susceptibility-weighted MRI, lists them, and lets a reader accept, reject, correct and add lesions
and export the result.</p>
<p><b>Research software. Not for clinical use.</b></p>
<p>Select a scan, click <i>Detect CMBs</i>, and work through the list with the keys Y, N, U and
Space. Side and region of each lesion are read from the anatomy, which is found in the scan, or
taken from a segmentation or label map; a question mark means low confidence. The first run asks
before it installs the Python packages it needs. A sample scan is in the Sample Data module. See the
<a href="https://github.com/CMBDetector/CMBDetector/blob/main/docs/slicer.md">user's guide</a>.</p>
"""
ACKNOWLEDGEMENT = """
<p>Regions follow the Microbleed Anatomical Rating Scale (Gregoire et al., Neurology 2009), size
classes the Brain Observer Microbleed Scale (Cordonnier et al., Stroke 2009). Networks run with
PyTorch and MONAI. Each model's card names its training data.</p>
"""


class CMBDetector(ScriptedLoadableModule):
    """The module as 3D Slicer lists it."""

    def __init__(self, parent: Any) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = "CMB Detector"
        parent.categories = ["Neuroimaging"]
        parent.dependencies = []
        parent.contributors = ["CMBDetector contributors"]
        parent.helpText = HELP
        parent.acknowledgementText = ACKNOWLEDGEMENT
        # Sample data can be registered only once 3D Slicer has all its modules.
        slicer.app.connect("startupCompleted()", registerSampleData)


class CMBDetectorWidget(ScriptedLoadableModuleWidget, slicer.util.VTKObservationMixin):
    """The panel's life: set up, shown, left, and what happens in the scene meanwhile."""

    def __init__(self, parent: Any = None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        slicer.util.VTKObservationMixin.__init__(self)
        # Set before setup() to run with other processes and questions than 3D Slicer's own.
        self.services: Services | None = None

    def setup(self) -> None:
        ScriptedLoadableModuleWidget.setup(self)
        self.uiWidget = slicer.util.loadUI(self.resourcePath("UI/CMBDetector.ui"))
        self.layout.addWidget(self.uiWidget)
        self.ui = slicer.util.childWidgetVariables(self.uiWidget)
        self.uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = CMBDetectorLogic()
        self.panel = Panel(self.ui, self.logic, self.services)
        scene, events = slicer.mrmlScene, slicer.vtkMRMLScene
        self.addObserver(scene, events.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(scene, events.EndCloseEvent, self.onSceneEnd)
        self.addObserver(scene, events.EndImportEvent, self.onSceneEnd)
        self.addObserver(scene, events.NodeAddedEvent, self.onNodeAdded)
        self.addObserver(scene, events.NodeAboutToBeRemovedEvent, self.onNodeRemoved)
        self.panel.openScene()

    def cleanup(self) -> None:
        """The module is unloaded: end what runs, let go of the scene."""
        self.removeObservers()
        self.panel.close()

    def enter(self) -> None:
        self.panel.enter()

    def exit(self) -> None:
        self.panel.exit()

    def onSceneStartClose(self, _caller: Any, _event: Any) -> None:
        self.panel.closeScene()

    def onSceneEnd(self, _caller: Any, _event: Any) -> None:
        self.panel.openScene()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def onNodeAdded(self, _caller: Any, _event: Any, node: Any) -> None:
        self.panel.nodeAdded(node)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def onNodeRemoved(self, _caller: Any, _event: Any, node: Any) -> None:
        self.panel.nodeAboutToBeRemoved(node)


class CMBDetectorLogic(ScriptedLoadableModuleLogic):
    """The parameter node; the work itself is in ``CMBDetectorSlicer.logic``."""

    def getParameterNode(self) -> CMBDetectorParameterNode:
        """The choices that are kept in the scene."""
        return CMBDetectorParameterNode(super().getParameterNode())


class CMBDetectorTest(ScriptedLoadableModuleTest):
    """Does the tutorial in a full 3D Slicer."""

    def setUp(self) -> None:
        slicer.mrmlScene.Clear()

    def runTest(self) -> None:
        from CMBDetectorSlicer.tutorial import runTutorial

        self.setUp()
        runTutorial(self)
