"""The subcommand info."""

from __future__ import annotations

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
