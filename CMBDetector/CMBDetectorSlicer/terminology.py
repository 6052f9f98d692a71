"""What a segment is called in DICOM's terms, and its color by verdict."""

from __future__ import annotations

from typing import Any

import slicer

from CMBDetectorLib.reporting.terminology import VERDICT_COLORS, terminology_tag


def setTerminology(segment: Any) -> None:
    """Mark a segment as DICOM names a microbleed most closely."""
    # As a tag, not through SetTerminology(): versions differ in what that takes.
    segment.SetTag(slicer.vtkSegment.GetTerminologyEntryTagName(), terminology_tag())


def verdictColor(verdict: str) -> tuple[float, float, float]:
    """RGB, 0 to 1."""
    red, green, blue = VERDICT_COLORS[verdict]
    return red, green, blue
