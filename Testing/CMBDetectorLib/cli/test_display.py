"""What a person sees."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest

from CMBDetectorLib.cli import console
from CMBDetectorLib.cli.display import ProgressBar, Tally, format_duration
from CMBDetectorLib.errors import InputError, OutputError
from CMBDetectorLib.progress import ProgressEvent
from CMBDetectorLib.reporting.tables import lesion_lines
from CMBDetectorLib.results import Detection

LESION = Detection(
    label=1,
    center_ras_mm=(-12.34, 5.0, 101.26),
    center_ijk=(1.0, 2.0, 3.0),
    axial_slice=4,
    volume_mm3=12.34,
    n_voxels=20,
    equivalent_diameter_mm=2.87,
    max_diameter_mm=3.5,
    elongation=0.8,
    mean_probability=0.7,
    peak_probability=0.9,
)


def test_table_is_aligned_and_rounded():
    large = replace(LESION, label=12, volume_mm3=1234.5, flags=("over 10 mm",))
    lines = lesion_lines([LESION, large])
    assert lines[1].split() == ["1", "-12.3", "5.0", "101.3", "4", "12.3", "2.9", "3.5", "0.80"]
    assert lines[2].endswith("0.80  over 10 mm")
    assert lines[1].index("0.80") == lines[2].index("0.80")
    assert lesion_lines([]) == []


def test_bar_shows_stage_percent_and_time_left(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    bar = ProgressBar()
    bar.draw("[1/2] ", ProgressEvent("inference", 0.5, "tile 3 of 6", 60.0, 65.4))
    shown = stream.getvalue()
    assert "[1/2] inference" in shown
    assert " 50%, 1:05 left" in shown
    drawn = re.search(r"\[([#-]+)\]", shown)
    assert drawn is not None
    assert drawn[1].count("#") == drawn[1].count("-")
    bar.clear()
    assert stream.getvalue().endswith("\r\x1b[K")


@pytest.mark.parametrize("columns", ["20", "60", "200"])
def test_bar_fits_the_terminal(columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    ProgressBar().draw("", ProgressEvent("brain mask", 0.123, "", 60.0, 600.0))
    line = stream.getvalue().replace("\r\x1b[K", "")
    assert len(line) < max(int(columns), 45)
    assert "\n" not in line


def test_duration():
    assert [format_duration(s) for s in (0, 59.6, 61, 3600)] == ["0:00", "1:00", "1:01", "60:00"]


def test_tally():
    tally = Tally(total=5)
    tally.done = 2
    tally.add_failure(OutputError("x"))
    tally.add_failure(InputError("y"))
    assert str(tally) == "2 of 5 done, 2 failed, 1 not run"
    assert tally.exit_code == OutputError.exit_code


def test_messages_are_one_visible_line():
    assert console.one_line("a\nb\r\x1b[31mc ä脳") == "a\\nb\\r\\x1b[31mc ä脳"
    assert console.error_message(InputError("bad\nname")) == "bad\\nname"
    assert console.error_message(ValueError("v")).startswith("defect in cmbdetector (ValueError: v")
