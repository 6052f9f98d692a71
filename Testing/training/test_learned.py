"""What the model card says that a member learned from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from training.learned import learned_from, learned_lines
from training.prepared_case import FORMAT, INFO_NAME

PROTOCOL = {
    "field_strength_t": 3.0,
    "echo_time_s": 0.020,
    "flip_angle_deg": 12.0,
    "snr": 30.0,
    "skull_stripped": True,
}


def write(folder: Path, spacing_mm: tuple[float, float, float], **more: Any) -> Path:
    info = {
        "format": FORMAT,
        "sequence": "SWI",
        "native_shape": [40, 50, 20],
        "native_affine": np.diag([*spacing_mm, 1.0]).tolist(),
        "lesions": [
            {"label": 1, "diameter_mm": 3.0, "counts": True},
            {"label": 2, "diameter_mm": 9.0, "counts": False},
        ],
        "taught": [1],
        "ignored": [2],
    }
    folder.mkdir()
    (folder / INFO_NAME).write_text(json.dumps(info | more), encoding="utf-8")
    return folder


def test_counts_and_ranges_of_simulated_scans(tmp_path: Path) -> None:
    # The second is sagittal: its slices are along the first axis.
    slow = PROTOCOL | {"field_strength_t": 1.5, "echo_time_s": 0.04, "skull_stripped": False}
    folders = [
        write(tmp_path / "a", (0.5, 0.6, 3.0), acquisition=PROTOCOL),
        write(tmp_path / "b", (4.0, 0.9, 0.9), acquisition=slow, sequence="T2*"),
    ]
    learned = learned_from(folders)
    assert learned["scans"] == {
        "sequence": {"SWI": 1, "T2*": 1},
        "field_strength_t": {"1.5": 1, "3": 1},
        "skull_stripped": 1,
    }
    assert learned["lesions"] == {"taught": 2, "too_faint": 2}
    ranges = learned["ranges"]
    assert ranges["in-plane voxel (mm)"] == pytest.approx([0.5, 0.75, 0.9])
    assert ranges["slice spacing (mm)"] == pytest.approx([3, 3.5, 4])
    assert ranges["echo time (ms)"] == pytest.approx([20, 30, 40])
    assert ranges["lesion diameter (mm)"] == [3, 3, 3]
    assert json.loads(json.dumps(learned)) == learned
    told = "\n".join(learned_lines(learned))
    assert "1 SWI, 1 T2*, 1 at 1.5 T, 1 at 3 T, 1 skull-stripped. 2 lesions were taught" in told
    assert "| echo time (ms) | 20 | 30 | 40 |" in told


def test_real_scans_have_no_protocol(tmp_path: Path) -> None:
    learned = learned_from([write(tmp_path / "a", (0.5, 0.5, 3.0), acquisition={})])
    assert learned["scans"] == {"sequence": {"SWI": 1}}
    assert "echo time (ms)" not in learned["ranges"]
    assert "SWI" in "\n".join(learned_lines(learned))
