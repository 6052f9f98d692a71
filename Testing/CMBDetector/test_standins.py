"""The stand-ins behave as PythonQt and Slicer do, where the module relies on it."""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import ctk
import numpy as np
import pytest
import qt
import slicer
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper

UI = Path(__file__).resolve().parents[2] / "CMBDetector/Resources/UI/CMBDetector.ui"


def test_properties_are_attributes(app):
    label = qt.QLabel()
    label.text = "x"
    assert (label.text, label.name, label.enabled) == ("x", "", True)
    label.setText("y")
    assert label.text == "y"


def test_the_panel_is_made_of_these(app, scene):
    widget = slicer.util.loadUI(str(UI))
    widget.setMRMLScene(scene)
    ui = slicer.util.childWidgetVariables(widget)
    assert isinstance(ui.inputVolumeSelector, slicer.qMRMLNodeComboBox)
    assert isinstance(ui.inputCollapsibleButton, ctk.ctkCollapsibleButton)
    assert ui.inputVolumeSelector.nodeTypes == ["vtkMRMLScalarVolumeNode", "vtkMRMLSequenceNode"]
    assert ui.inputVolumeSelector.mrmlScene() is scene
    assert ui.lesionTable.rowCount == 0


def test_qt_objects_take_no_new_attributes(app):
    with pytest.raises(AttributeError, match="tooltip"):
        qt.QLabel().tooltip = "x"


def test_objects_made_by_qt_behave_alike(app):
    table = qt.QTableWidget(2, 3)
    assert (table.rowCount, table.columnCount) == (2, 3)
    header = table.horizontalHeader()
    header.stretchLastSection = True
    assert header.stretchLastSection
    assert table.model().rowCount() == 2


def test_slots_get_as_many_arguments_as_they_declare(app):
    calls = []
    button = qt.QPushButton("x")
    button.checkable = True
    button.connect("clicked(bool)", lambda: calls.append("none"))
    button.connect("clicked(bool)", lambda on, more="unset": calls.append((on, more)))
    button.connect("clicked(bool)", lambda *every: calls.append(every))
    button.click()
    assert calls == ["none", (True, "unset"), (True,)]


def test_signals_of_that_signature_only(app):
    with pytest.raises(AttributeError, match=r"clicked\(bool\)"):
        qt.QPushButton().connect("clicked(int)", print)


def test_disconnect(app):
    calls = []
    spin = qt.QDoubleSpinBox()
    spin.connect("valueChanged(double)", calls.append)
    spin.value = 2
    assert spin.disconnect("valueChanged(double)", calls.append)
    spin.value = 3
    assert calls == [2.0]


def test_static_function_and_property_of_one_name(app):
    timer = qt.QTimer()
    timer.singleShot = True
    assert timer.singleShot
    calls = []
    qt.QTimer.singleShot(0, lambda: calls.append(1))
    app.processEvents()
    assert calls == [1]


def test_settings_are_the_tests_own(app):
    assert qt.QSettings().fileName().startswith(tempfile.gettempdir())
    assert qt.QSettings().allKeys() == []


def test_hidden_widgets_stay_hidden_in_a_section_that_opens(app):
    section = ctk.ctkCollapsibleButton("Title")
    layout = qt.QVBoxLayout(section)
    kept, hidden = qt.QLabel("kept"), qt.QLabel("hidden")
    layout.addWidget(kept)
    layout.addWidget(hidden)
    section.show()
    hidden.visible = False
    section.collapsed = True
    assert (kept.visible, hidden.visible, section.checked) == (False, False, False)
    section.collapsed = False
    assert (kept.visible, hidden.visible) == (True, False)


def test_a_widget_shown_in_a_closed_section_waits(app):
    section = ctk.ctkCollapsibleButton("Title")
    layout = qt.QVBoxLayout(section)
    label = qt.QLabel("x")
    layout.addWidget(label)
    label.visible = False
    section.show()
    section.collapsed = True
    label.visible = True
    assert not label.visible
    section.collapsed = False
    assert label.visible


@pytest.fixture
def combo(scene):
    combo = slicer.qMRMLNodeComboBox()
    combo.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    combo.showChildNodeTypes = False
    combo.noneEnabled = True
    combo.setMRMLScene(scene)
    return combo


def test_node_selector_lists_nodes_of_its_types(combo, scene):
    scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "scan")
    assert combo.nodes() == [node]
    assert combo.currentNode() is None
    node.SetHideFromEditors(True)
    assert combo.nodeCount() == 0


def test_node_selector_tells_of_changes(combo, scene):
    seen = []
    combo.connect("currentNodeChanged(vtkMRMLNode*)", seen.append)
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "scan")
    combo.setCurrentNode(node)
    combo.setCurrentNode(node)
    scene.RemoveNode(node)
    assert seen == [node, None]


def test_node_selector_without_none_takes_the_first(combo, scene):
    combo.noneEnabled = False
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "scan")
    assert combo.currentNode() is node
    assert combo.currentNodeID == node.GetID()


def test_node_selector_filters_by_attribute(combo, scene):
    combo.addAttribute("vtkMRMLScalarVolumeNode", "Kind", "a")
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "scan")
    assert combo.nodes() == []
    node.SetAttribute("Kind", "a")
    assert combo.nodes() == [node]


def test_parameters_live_in_the_node(scene):
    @parameterNodeWrapper
    class Parameters:
        volume: slicer.vtkMRMLScalarVolumeNode
        number: Annotated[int, WithinRange(1, 9)] = 3
        on: bool = True

    node = scene.AddNewNodeByClass("vtkMRMLScriptedModuleNode")
    parameters = Parameters(node)
    assert (parameters.volume, parameters.number, parameters.on) == (None, 3, True)
    volume = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    parameters.volume, parameters.number, parameters.on = volume, 5, False
    again = Parameters(node)
    assert (again.volume, again.number, again.on) == (volume, 5, False)
    with pytest.raises(ValueError, match="not within"):
        parameters.number = 10
    with pytest.raises(TypeError, match="expected int"):
        parameters.number = "4"


def test_parameters_and_widgets_follow_each_other(scene):
    @parameterNodeWrapper
    class Parameters:
        number: Annotated[int, WithinRange(1, 9)] = 3

    widget = qt.QWidget()
    spin = qt.QSpinBox(widget)
    spin.setProperty("SlicerParameterName", "number")
    parameters = Parameters(scene.AddNewNodeByClass("vtkMRMLScriptedModuleNode"))
    tag = parameters.connectGui(widget)
    assert (spin.value, spin.minimum, spin.maximum) == (3, 1, 9)
    spin.value = 7
    assert parameters.number == 7
    parameters.number = 2
    assert spin.value == 2
    parameters.disconnectGui(tag)
    spin.value = 8
    assert parameters.number == 2


def test_questions_are_recorded_and_answered(app, messages):
    messages.answers[:] = [True, False]
    assert slicer.util.confirmOkCancelDisplay("Install?", windowTitle="T")
    assert not slicer.util.confirmYesNoDisplay("Sure?")
    slicer.util.errorDisplay("Broken")
    assert [(m.text, m.icon) for m in messages.shown] == [
        ("Install?", "Question"),
        ("Sure?", "Question"),
        ("Broken", "Critical"),
    ]
    with pytest.raises(AssertionError, match="no answer"):
        slicer.util.confirmYesNoDisplay("And now?")


def test_scenes_are_saved_and_read(scene, tmp_path):
    scene.AddNewNodeByClass("vtkMRMLTextNode", "note").SetText("x" * 5000)
    path = str(tmp_path / "scene.mrb")
    assert scene.WriteToMRB(path)
    scene.Clear(False)
    assert scene.ReadFromMRB(path)
    assert slicer.util.getNode("note").GetText() == "x" * 5000


def test_slice_views_draw_volumes_and_segments(views, scene):
    volume = slicer.util.addVolumeFromArray(np.full((20, 30, 40), 100, np.int16))
    views.show(volume)
    plain = views.render("Red", (120, 100))
    assert plain.shape == (100, 120, 3)
    assert (plain[..., 0] == plain[..., 1]).all()
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    segment = node.GetSegmentation().AddEmptySegment("a", "a", (1.0, 0.0, 0.0))
    mask = np.zeros((20, 30, 40), np.uint8)
    mask[5:15, 10:20, 10:30] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, segment, volume)
    for name in views.names:
        picture = views.render(name).astype(int)
        assert (picture[..., 0] > picture[..., 1] + 50).any(), name


def test_views_start_alike(views):
    red = slicer.app.layoutManager().sliceWidget("Red")
    assert red.mrmlSliceNode().GetOrientation() == "Axial"
    assert not red.mrmlSliceNode().GetSlabReconstructionEnabled()
    assert red.sliceView().interactor().GetSize() == (400, 400)


def test_nothing_else_of_the_process_changes():
    code = (
        "import os, signal, sys; before = dict(os.environ), signal.getsignal(signal.SIGINT); "
        "sys.path.insert(0, sys.argv[1]); from standins import install; app = install.install(); "
        "assert (dict(os.environ), signal.getsignal(signal.SIGINT)) == before; "
        "assert 'matplotlib' not in sys.modules and 'torch' not in sys.modules"
    )
    here = str(Path(__file__).parent)
    subprocess.run([sys.executable, "-c", code, here], check=True, timeout=120)
