"""The module uses only what Qt, CTK and 3D Slicer have; the stand-ins offer no more than that."""

from __future__ import annotations

import ast
import builtins
import datetime
import hashlib
import importlib
import inspect
import logging
import os
import re
import subprocess
import tempfile
import unittest
from pathlib import Path
from types import ModuleType

import ctk
import numpy as np
import pytest
import qt
import slicer
import vtk
from api_use import Use, usesOfFile, usesOfUi, widgetClasses
from published_api import CLASSES, NAMESPACES, OTHER, SLICER
from PySide6 import QtCore
from standins import application, layout, pythonqt, qmrml

REPOSITORY = Path(__file__).resolve().parents[2]
MODULE = REPOSITORY / "CMBDetector"
UI = MODULE / "Resources" / "UI" / "CMBDetector.ui"
FILES = sorted(MODULE.rglob("*.py"))
BUILT_IN = (
    *(unittest.TestCase, type(hashlib.sha256())),
    *(kind for kind in vars(builtins).values() if isinstance(kind, type)),
    *(Path, os.stat_result, subprocess.Popen, tempfile.TemporaryDirectory, re.Match, re.Pattern),
    *(
        datetime.datetime,
        datetime.date,
        datetime.timezone,
        logging.Logger,
        np.ndarray,
        np.generic,
        np.linalg,
    ),
    *(inspect.Signature, type(lambda: 0), ModuleType),
)


def isQt(name: str) -> bool:
    return CLASSES[name].source == "Qt"


def problems(uses: list[Use]) -> list[str]:
    """Uses of classes in the list that the list does not have."""
    found = []
    for use in uses:
        if use.owner not in CLASSES:
            continue
        api = CLASSES[use.owner]
        known = api.allSignals() if use.isSignal else api.allNames()
        if use.name not in known:
            found.append(f"{use} is not in published_api.py; look it up ({api.source}), add it")
    return found


@pytest.fixture(scope="module")
def uses() -> list[Use]:
    widgets = widgetClasses(UI)
    return [use for path in FILES for use in usesOfFile(path, widgets)]


def test_every_widget_of_the_panel_is_listed():
    missing = set(widgetClasses(UI).values()) - set(CLASSES)
    assert not missing, f"add these classes to published_api.py: {sorted(missing)}"


def test_the_panel_file_sets_what_the_widgets_have():
    assert not problems(list(usesOfUi(UI)))


def test_the_module_uses_what_the_classes_have(uses):
    found = problems([u for u in uses if u.owner not in NAMESPACES])
    assert not found, "\n".join(found)


def test_the_module_uses_what_the_application_has(uses):
    found = []
    for use in uses:
        api = CLASSES.get(NAMESPACES.get(use.owner, ""))
        names = () if api is None else api.allSignals() if use.isSignal else api.allNames()
        if api is not None and use.name not in names:
            found.append(f"{use} is not in published_api.py ({api.source})")
    assert not found, "\n".join(found)


def test_slicer_util_is_the_real_one(uses):
    used = {u.name: u for u in uses if u.owner == "slicer.util"}
    missing = [
        str(use)
        for name, use in used.items()
        if name not in slicer.util.__all__ and not (hasattr(slicer.util, name))
    ]
    assert used
    assert not missing, "\n".join(missing)


def test_slicer_has_what_is_used_of_it(uses):
    missing = [
        str(use)
        for use in uses
        if use.owner == "slicer"
        and use.name not in SLICER
        and use.name not in CLASSES
        and not (use.name.startswith("vtk") and hasattr(slicer, use.name))
    ]
    assert not missing, "\n".join(missing)


def test_qt_and_ctk_classes_are_listed(uses):
    missing = [str(u) for u in uses if u.owner in ("qt", "ctk") and u.name not in CLASSES]
    assert not missing, "\n".join(missing)


def test_signals_of_unknown_senders_exist_somewhere(uses):
    signals = {signal for api in CLASSES.values() for signal in api.signals.split()}
    missing = [str(u) for u in uses if u.isSignal and not u.owner and u.name not in signals]
    assert not missing, "\n".join(missing)


def test_every_other_name_is_from_somewhere(uses):
    """A misspelled name of an object whose class is not known is one that nothing else has."""
    known = set(OTHER) | {n for api in CLASSES.values() for n in api.names.split()}
    known |= {name for kind in BUILT_IN for name in dir(kind)}
    for package in (MODULE, REPOSITORY / "CMBDetectorLib"):
        for path in package.rglob("*.py"):
            known |= definedNames(path)
    for path in FILES:
        known |= importedNames(path)
    known |= vtkNames()
    missing = sorted(
        {f"{u}" for u in uses if not u.owner and not u.isSignal}
        - {f"{u}" for u in uses if u.name in known}
    )
    assert not missing, "not known (add to published_api.OTHER with its source):\n" + "\n".join(
        missing
    )


@pytest.mark.parametrize("name", [name for name in CLASSES if isQt(name)])
def test_the_list_agrees_with_qt(name, app):
    cls = getattr(qt, name)
    api = CLASSES[name]
    if api.base:
        assert issubclass(cls, getattr(qt, api.base))
    properties, signals = declared(cls)
    ofPythonQt = {"name", "connect", "disconnect", "delete", "className"}
    for each in set(api.names.split()) - ofPythonQt:
        assert each in properties or hasattr(cls, each), f"{name} has no {each}"
    for signal in api.signals.split():
        assert signal in signals, f"{name} has no signal {signal}"


def declared(cls) -> tuple[frozenset[str], frozenset[str]]:
    """Properties and signals, those with default arguments in all forms, that Qt knows of."""
    known = (pythonqt.DECLARED[base] for base in cls.__mro__ if base in pythonqt.DECLARED)
    return next(known, (frozenset(), frozenset()))


def standIns() -> dict[str, type]:
    modules = (ctk, qmrml, application, layout)
    return {
        name: cls
        for module in modules
        for name, cls in vars(module).items()
        if inspect.isclass(cls) and cls.__module__ == module.__name__
    }


@pytest.mark.parametrize("name", [n for n in standIns() if n not in ("ctkMessageBox",)])
def test_stand_ins_offer_no_more_than_is_listed(name):
    cls = standIns()[name]
    assert name in CLASSES, f"{name} is not in published_api.py"
    api = CLASSES[name]
    signals = {signal.split("(")[0] for signal in api.allSignals()}
    aliases = set(getattr(cls, "SIGNALS", {}).values())
    inherited = set(dir(qt.QMainWindow)) | set(dir(qt.QAbstractButton))
    offered = {n for n in vars(cls) if not n.startswith("_")} - inherited
    extra = offered - api.allNames() - signals - aliases - TEST_ONLY - {"staticMetaObject"}
    assert not extra, f"{name}: {sorted(extra)} are not in published_api.py"


@pytest.mark.parametrize("name", [n for n in CLASSES if not isQt(n)])
def test_stand_ins_have_what_is_listed(name, app):
    assert name in standIns(), f"there is no stand-in for {name}"
    cls = standIns()[name]
    _, signals = declared(cls)
    for each in CLASSES[name].names.split():
        isSet = name == "qSlicerApplication" and hasattr(slicer.app, each)
        assert isSet or hasattr(cls, each), f"the stand-in {name} has no {each}"
    for signal in CLASSES[name].signals.split():
        own = inspect.getattr_static(cls, signal.split("(")[0], None)
        isOwn = type(own) is QtCore.Signal and signal in str(own)
        isThere = signal in getattr(cls, "SIGNALS", {}) or signal in signals or isOwn
        assert isThere, f"the stand-in {name} has no signal {signal}"


TEST_ONLY = {"SIGNALS", "hasViews", "views", "selectedModules"}


def definedNames(path: Path) -> set[str]:
    """Functions, classes, attributes and fields that a file defines."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Attribute | ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.attr if isinstance(node, ast.Attribute) else node.id)
    return names


def importedNames(path: Path) -> set[str]:
    """Names in the modules that a file imports, as far as these are installed here."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            modules = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in modules:
            if name.split(".")[0] in ("qt", "ctk", "slicer", "CMBDetector", "PyTorchUtils"):
                continue
            try:
                names |= set(dir(importlib.import_module(name)))
            except ModuleNotFoundError:  # a function, or a module of another system
                continue
    return names


def vtkNames() -> set[str]:
    """Functions of all VTK and MRML classes."""
    classes = [c for m in (slicer, vtk) for c in vars(m).values() if inspect.isclass(c)]
    return {name for cls in classes for name in dir(cls)} | set(dir(vtk))


@pytest.mark.parametrize(
    "code",
    [
        "ui.detectButton.enabeld = True",
        "button = ui.detectButton\n    button.setTextt('x')",
        "for box, t in ((ui.tableCheckBox, 1), (ui.labelsCheckBox, 2)):\n        box.txt = t",
        "ui.lesionTable.connect('cellChanged(int)', print)",
        "ui.lesionTable.item(0, 0).setColour('red')",
        "ui.lesionTable.horizontalHeader().connect('sectionPressed()', print)",
        "slicer.app.layoutManager().sliceWidget('Red').zoom()",
        "item = qt.QTableWidgetItem()\n    item.bold = True",
    ],
)
def test_what_does_not_exist_is_found(code, tmp_path):
    path = tmp_path / "module.py"
    path.write_text(f"def f(ui):\n    {code}\n", encoding="utf-8")
    found = problems(usesOfFile(path, widgetClasses(UI)))
    assert len(found) == 1, found
    assert "published_api.py" in found[0]
