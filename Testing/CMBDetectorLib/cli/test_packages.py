"""Packages are judged by importing them."""

from __future__ import annotations

import re
import sys

import numpy as np
import pytest

from CMBDetectorLib import preflight
from CMBDetectorLib.cli import packages
from CMBDetectorLib.cli.packages import PACKAGES, package_state, package_states
from CMBDetectorLib.errors import MissingDependencyError
from CMBDetectorLib.provenance import RECORDED_PACKAGES


def test_here_all_are_usable():
    states = package_states()
    assert all(state.problem is None and state.version for state in states.values())
    assert states["numpy"].version == np.__version__


def test_they_are_those_whose_versions_are_recorded():
    assert {*PACKAGES, "openvino"} == set(RECORDED_PACKAGES)  # nobody has to have that one
    assert set(packages.INFERENCE_PACKAGES) == set(preflight.INFERENCE_PACKAGES)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("raise ImportError('DLL load failed\\nmore')", "ImportError: DLL load failed"),
        ("raise OSError('libcudart.so: cannot open')", "OSError: libcudart.so: cannot open"),
        ("import there_is_no_such_part", "ModuleNotFoundError: No module named"),
        ("raise RuntimeError()", "RuntimeError: "),
    ],
)
def test_an_installed_package_that_cannot_be_imported(body, problem, tmp_path, monkeypatch):
    (tmp_path / "monai").mkdir()
    (tmp_path / "monai" / "__init__.py").write_text(body)
    for name in [name for name in sys.modules if name.split(".")[0] == "monai"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    state = package_state("monai")
    assert state.version is not None
    assert state.problem is not None
    assert re.match(problem, state.problem)
    assert "\n" not in state.problem


def test_what_a_package_prints_is_not_ours(tmp_path, monkeypatch, capsys):
    (tmp_path / "nrrd.py").write_text("print('hello')")
    monkeypatch.delitem(sys.modules, "nrrd", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    assert package_state("pynrrd").problem is None
    assert capsys.readouterr().out == ""


def test_a_package_that_is_not_there(monkeypatch):
    monkeypatch.setitem(PACKAGES, "there-is-no-such-package", ("there_is_no_such_package",))
    state = package_state("there-is-no-such-package")
    assert (state.version, state.problem) == (None, "not installed")


def test_what_reading_needs_is_named(monkeypatch):
    packages.require_core_packages()
    monkeypatch.setitem(packages.CORE_PACKAGES, "one-more", ("there_is_no_such_package",))
    with pytest.raises(MissingDependencyError, match="one-more is needed and not installed"):
        packages.require_core_packages()
