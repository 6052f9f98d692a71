"""Puts the stand-ins where the module imports them from; once in a process."""

from __future__ import annotations

import atexit
import shutil
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import slicer
from standins import application, core, ctk, parameter_nodes, qmrml, qt, scripted_modules


def install() -> Any:
    """Start the core and the application, and return ``slicer.app``."""
    folder = Path(tempfile.mkdtemp(prefix="cmbdetector-slicer-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / "cache").mkdir()
    scene, applicationLogic, logics = core.start(str(folder / "cache"))
    sys.modules["qt"], sys.modules["ctk"] = qt, ctk
    slicer.app = application.start(scene, applicationLogic, logics, folder)
    slicer.modules = application.modules
    slicer.qMRMLWidget = qmrml.qMRMLWidget
    slicer.qMRMLNodeComboBox = qmrml.qMRMLNodeComboBox
    _module("ScriptedLoadableModule", scripted_modules, scripted_modules.__all__)
    _module("parameterNodeWrapper", parameter_nodes, parameter_nodes.__all__)
    translation = ModuleType("i18n")
    translation.tr = lambda text: text  # type: ignore[attr-defined]
    translation.translate = lambda _context, text: text  # type: ignore[attr-defined]
    _module("i18n", translation, ["tr", "translate"])
    return slicer.app


def _module(name: str, source: Any, names: list[str]) -> None:
    module = ModuleType(f"slicer.{name}")
    for each in names:
        setattr(module, each, getattr(source, each))
    module.__all__ = names  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module
    setattr(slicer, name, module)
