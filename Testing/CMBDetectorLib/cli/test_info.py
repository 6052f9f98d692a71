"""The subcommand info."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import torch

from CMBDetectorLib.cli import info, main
from CMBDetectorLib.inference import device
from CMBDetectorLib.version import __version__


def test_info_names_versions_processor_and_every_device(capsys):
    assert main(["info"]) == 0
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    shown = {parts[0]: parts[1] for parts in lines if len(parts) == 2}
    assert shown["cmbdetector"] == __version__
    assert shown["numpy"] == np.__version__
    assert shown["nibabel"] == nib.__version__
    assert shown["torch"] == torch.__version__
    assert "cpu" in shown
    for index in range(torch.cuda.device_count()):
        assert torch.cuda.get_device_name(index) in shown[f"cuda:{index}"]


def test_device_that_does_not_compute_is_reported_and_gives_the_device_exit_code(
    monkeypatch, capsys
):
    broken = device.DeviceReport("cuda:0", "Old GPU", "fp32", "no kernel image is available")
    monkeypatch.setattr(device, "list_devices", lambda: (broken,))
    monkeypatch.setattr(info, "_details", lambda name: "")
    assert main(["info"]) == 5
    shown = capsys.readouterr().out
    assert "Old GPU" in shown
    assert "FAILED: no kernel image is available" in shown


def test_json_for_programs(capsys):
    assert main(["info", "--json"]) == 0
    shown = capsys.readouterr().out
    assert shown.isascii()
    told = json.loads(shown)
    assert told["software"] == __version__
    assert told["packages"]["torch"] == {"version": torch.__version__, "problem": None}
    assert told["devices"][-1]["id"] == "cpu"
    assert all(found["works"] and found["problem"] is None for found in told["devices"])
    assert len(told["devices"]) == torch.cuda.device_count() + 1
    defaults = {model["kind"]: model for model in told["models"] if model["is_default"]}
    assert defaults["detector"]["id"] == "cmb_gre_swi_unet"
    assert set(defaults) <= {"detector", "anatomy"}
    assert all(model["problem"] is None for model in defaults.values())


def test_json_of_a_device_that_does_not_compute(monkeypatch, capsys):
    broken = device.DeviceReport("mps", "Old GPU", "fp32", "no kernel image is available")
    monkeypatch.setattr(device, "list_devices", lambda: (broken,))
    assert main(["info", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["devices"]
    assert (found["id"], found["works"]) == ("mps", False)
    assert found["problem"] == "no kernel image is available"


def test_json_where_nothing_is_installed(tmp_path):
    """As in a new 3D Slicer, with one package that is damaged besides."""
    (tmp_path / "scipy.py").write_text("raise ImportError('damaged')", encoding="utf-8")
    repository = Path(info.__file__).resolve().parents[2]
    run = subprocess.run(
        # -S leaves out all installed packages.
        [sys.executable, "-S", "-m", "CMBDetectorLib", "info", "--json"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(repository), str(tmp_path)])},
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    told = json.loads(run.stdout)
    assert {state["version"] for state in told["packages"].values()} == {None}
    assert {state["problem"] for state in told["packages"].values()} == {"not installed"}
    (found,) = told["devices"]
    assert (found["id"], found["works"]) == ("cpu", False)
    assert found["problem"] == "torch: not installed"
    assert told["models"] is None
